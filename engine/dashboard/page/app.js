// The page: what is chosen, what the server tells, and what is drawn of it.

import { h, swatch, known } from './format.js';
import { Chart } from './chart.js';
import { METRICS, AXES, metric } from './metrics.js';
import { RunList } from './runs.js';
import * as tables from './tables.js';
import { CurvaturePanel } from './curvature.js';
import { DistancePanel } from './distance.js';

const $ = (id) => document.getElementById(id);
const FIRST = 4; // runs chosen at first
const MOST = 24; // and at most

const state = {
  entries: new Map(),
  slots: new Map(), // id of a chosen run -> its colour
  details: new Map(), // id -> { table, updates, notes, checkpoints, version }: a table of epochs, and one of updates
  curvature: new Map(), // id -> { stamp, list }
  differences: { of: '', list: null },
  axis: 'epoch',
  logLoss: false,
  extra: new Set(),
  own: false, // the reader has chosen runs
  filter: '',
};

// ---- what the server tells

async function get(path) {
  const answer = await fetch(path, { credentials: 'same-origin' });
  if (answer.status === 401) location.assign('login.html');
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

let stream = null;
let retry = 0;

function connect() {
  clearTimeout(retry);
  if (stream || document.hidden) return;
  stream = new EventSource('api/events');
  stream.addEventListener('open', () => link('live'));
  stream.addEventListener('runs', (e) => takeList(JSON.parse(e.data)));
  stream.addEventListener('run', (e) => takeEntry(JSON.parse(e.data)));
  stream.addEventListener('error', () => {
    link('lost');
    if (stream?.readyState !== EventSource.CLOSED) return; // it tries again by itself
    disconnect();
    get('api/runs').catch(() => {}); // leads to the login where that is what is missing
    retry = setTimeout(connect, 5000);
  });
}

function disconnect() {
  stream?.close();
  stream = null;
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return connect();
  disconnect();
  link('wait');
});

function link(how) {
  $('link').dataset.link = how;
  $('link-text').textContent = { live: 'live', lost: 'connection lost, trying again', wait: 'paused' }[how];
}

function takeList({ runs, notice }) {
  const old = state.entries;
  state.entries = new Map(runs.map((e) => [e.id, e]));
  for (const e of runs) changed(old.get(e.id), e, old.size > 0);
  for (const id of state.slots.keys()) if (!state.entries.has(id)) drop(id);
  $('notice').hidden = !notice;
  $('notice').textContent = notice || '';
  if (!state.own) chooseFirst();
  render();
}

function takeEntry(entry) {
  changed(state.entries.get(entry.id), entry, true);
  state.entries.set(entry.id, entry);
  if (!state.own) chooseFirst();
  render();
}

// changed says in words what a reader who does not see the page would miss.
function changed(before, now, tell) {
  if (!tell) return;
  if (!before) say(`New run ${now.id}, ${now.state}.`);
  else if (before.state !== now.state) say(`Run ${now.id} is ${now.state}.`);
}

const words = [];
let saying = 0;

function say(text) {
  words.push(text);
  saying ||= setTimeout(() => {
    $('said').textContent = words.length > 3 ? `${words.length} runs have changed.` : words.join(' ');
    words.length = 0;
    saying = 0;
  }, 2000);
}

// refresh fetches what is missing of a chosen run; one request at a time for each.
const under = new Set();

async function refresh(id) {
  const entry = state.entries.get(id);
  const had = state.details.get(id);
  if (!entry || under.has(id) || (had && had.version >= entry.version)) return;
  under.add(id);
  try {
    const since = (table, prefix) => (table ? `&${prefix}generation=${table.generation}&${prefix}from=${Math.max(0, table.rows - 1)}` : '');
    const new_ = await get(`api/run?id=${encodeURIComponent(id)}${since(had?.table, '')}${since(had?.updates, 'updates_')}`);
    if (state.slots.has(id)) {
      new_.table = joined(had?.table, new_.table);
      new_.updates = joined(had?.updates, new_.updates);
      new_.version = Math.max(new_.version, entry.version);
      state.details.set(id, new_);
    }
  } catch {
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
  under.delete(id);
  render();
}

// joined puts rows that came after those that are there.
function joined(old, add) {
  if (!old || add.from === 0 || old.generation !== add.generation) return add;
  const join = (a, b) => [...(a || new Array(add.from).fill(null)).slice(0, add.from), ...b];
  const out = { ...add, values: {} };
  for (const axis of Object.keys(AXES)) out[axis] = join(old[axis], add[axis]);
  for (const name of Object.keys(add.values)) out.values[name] = join(old.values[name], add.values[name]);
  return out;
}

async function refreshCurvature(id) {
  const stamp = state.entries.get(id)?.curvature || 0;
  const had = state.curvature.get(id);
  if (had?.stamp === stamp) return;
  const next = { stamp, list: had?.list || [] };
  state.curvature.set(id, next);
  if (stamp === 0) {
    next.list = [];
    return;
  }
  try {
    next.list = await get(`api/curvature?id=${encodeURIComponent(id)}`);
  } catch {
    state.curvature.delete(id); // the next change asks again
    return;
  }
  render();
}

async function refreshDifferences() {
  const ids = [...state.slots.keys()];
  const of = JSON.stringify(ids);
  if (state.differences.of === of) return;
  state.differences = { of, list: null };
  if (ids.length < 2) return;
  try {
    const answer = await get(`api/differences?${ids.map((id) => `run=${encodeURIComponent(id)}`).join('&')}`);
    if (state.differences.of === of) state.differences.list = answer.recipe_differences;
  } catch {
    state.differences.of = '';
    return;
  }
  render();
}

// ---- what is chosen

function choose(id) {
  if (state.slots.has(id) || state.slots.size >= MOST) return;
  const taken = new Set(state.slots.values());
  let slot = 0;
  while (taken.has(slot)) slot++;
  state.slots.set(id, slot);
}

function drop(id) {
  state.slots.delete(id);
  state.details.delete(id);
  state.curvature.delete(id);
}

function chooseFirst() {
  const fit = [...state.entries.values()].filter((e) => e.rows > 0 && e.state !== 'broken');
  const wanted = [...fit.filter((e) => e.state === 'running'), ...fit.filter((e) => e.state !== 'running')];
  for (const e of wanted) if (state.slots.size < FIRST || e.state === 'running') choose(e.id);
}

function toggle(id, on) {
  state.own = true;
  if (on) choose(id);
  else drop(id);
  remember();
  render();
}

// remember keeps the choice in the address, so that it can be shared and survives a reload.
function remember() {
  const q = new URLSearchParams();
  for (const id of state.slots.keys()) q.append('run', id);
  if (state.axis !== 'epoch') q.set('over', state.axis);
  if (state.logLoss) q.set('log', '1');
  for (const name of state.extra) q.append('value', name);
  history.replaceState(null, '', `?${q}`);
}

function recall() {
  const q = new URLSearchParams(location.search);
  for (const id of q.getAll('run')) {
    choose(id);
    state.own = true;
  }
  if (AXES[q.get('over')]) state.axis = q.get('over');
  state.logLoss = q.get('log') === '1';
  for (const name of q.getAll('value')) state.extra.add(name);
  document.querySelector(`input[name=axis][value=${state.axis}]`).checked = true;
  $('log-loss').checked = state.logLoss;
}

// ---- what is drawn

let drawing = false;

function render() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

const list = new RunList($('runs'), toggle);
const charts = new Map();
const curvature = new CurvaturePanel($('curvature-plots'), $('landscapes'), $('curvature-card'), $('curvature-table'), $('curvature-note'));
const distance = new DistancePanel($('distance-plots'), $('distance-card'), $('distance-table'), $('distance-note'));

// chosen are the runs to draw, with what is known of them.
function chosen() {
  return [...state.slots].filter(([id]) => state.entries.has(id)).map(([id, slot]) => {
    const entry = state.entries.get(id);
    const details = state.details.get(id) || { table: null, updates: null, notes: [], checkpoints: [] };
    return { id, name: id, slot, entry, live: entry.state === 'running', ...details, measurements: state.curvature.get(id)?.list };
  });
}

function draw() {
  const entries = [...state.entries.values()];
  const running = entries.filter((e) => e.state === 'running').length;
  document.title = running > 0 ? `(${running}) Broadside: runs` : 'Broadside: runs';
  const shown = list.update(entries, state.slots, state.filter);
  $('runs-count').textContent = entries.length === shown ? `${entries.length}${running > 0 ? `, ${running} running` : ''}` : `${shown} of ${entries.length}`;
  $('no-runs').hidden = entries.length > 0;
  for (const id of state.slots.keys()) {
    refresh(id);
    refreshCurvature(id);
  }
  refreshDifferences();
  const runs = chosen();
  $('legend').replaceChildren(...runs.map((r) => h('li', {}, swatch(r.slot), ' ', r.name)));
  drawCurves(runs);
  tables.results($('results-table'), runs, render);
  drawDifferences(runs);
  curvature.update(runs);
  distance.update(runs);
  tables.events($('log-table'), runs);
  tables.checkpoints($('checkpoints-table'), runs);
  for (const section of document.querySelectorAll('main section')) section.hidden = runs.length === 0 && section !== $('curves').closest('section');
}

function drawCurves(runs) {
  const names = new Set(runs.flatMap((r) => (r.table ? [...Object.keys(r.table.values), ...Object.keys(r.updates.values)] : [])));
  const others = [...names].filter((name) => !METRICS[name]).sort();
  drawChoices(others);
  const wanted = [...Object.keys(METRICS), ...others.filter((name) => state.extra.has(name))];
  const range = extent(runs);
  let last = null;
  let drawn = 0;
  for (const name of wanted) {
    if (!charts.has(name)) charts.set(name, new Chart(metric(name).title));
    const chart = charts.get(name);
    if (!names.has(name) || !chart.update(curve(name, runs, range))) {
      chart.figure.remove();
      continue;
    }
    const next = last ? last.nextSibling : $('plots').firstChild;
    if (chart.figure !== next) $('plots').insertBefore(chart.figure, next);
    chart.draw();
    last = chart.figure;
    drawn++;
  }
  for (const [name, chart] of charts) if (!wanted.includes(name)) chart.figure.remove();
  $('no-curves').hidden = drawn > 0;
  $('no-curves').textContent = runs.length === 0 ? 'Choose runs to see their curves.' : 'Nothing is recorded yet.';
}

// extent is how far the runs have come: all charts span it, so that what lies above each other is of one time.
function extent(runs) {
  const ends = runs.flatMap((r) => (r.table ? [...r.table[state.axis], ...r.updates[state.axis]].filter(known) : []));
  return ends.length === 0 ? [] : [ends.reduce((a, b) => Math.min(a, b)), ends.reduce((a, b) => Math.max(a, b))];
}

// valuesOf are a run's places and values: those of updates where they were recorded, of epochs before and where they were not.
function valuesOf(r, name) {
  const within = r.updates.values[name] ? r.updates : { updates: [], [state.axis]: [], values: { [name]: [] } };
  const whole = r.table.values[name] || [];
  const first = within.updates[0] ?? Infinity;
  const before = whole.length > 0 ? r.table.updates.findIndex((u) => u >= first) : 0;
  const kept = before < 0 ? whole.length : before;
  return { xs: [...r.table[state.axis].slice(0, kept), ...within[state.axis]], ys: [...whole.slice(0, kept), ...within.values[name]] };
}

// curve is what a chart draws of a value.
function curve(name, runs, range) {
  const m = metric(name);
  const axis = AXES[state.axis];
  const log = m.log || (m.loss && state.logLoss ? 10 : 0);
  return {
    unit: m.unit, over: axis.over, xFormat: axis.format, format: m.format, xScale: { ...axis.scale, range }, yScale: { log, zero: m.zero && !log },
    series: runs.filter((r) => r.table?.values[name] || r.updates?.values[name]).map((r) => {
      const { xs, ys } = valuesOf(r, name);
      return { name: r.name, slot: r.slot, steps: m.steps, live: r.live, xs: xs.map((v) => v ?? NaN), ys: ys.map((v) => (v === null ? NaN : v * (m.scale || 1))) };
    }),
  };
}

// drawChoices offers the values that only some methods report.
function drawChoices(names) {
  $('more').hidden = names.length === 0;
  const key = names.join('\n');
  if ($('more-values').dataset.key === key) return;
  $('more-values').dataset.key = key;
  $('more-values').replaceChildren(...names.map((name) => {
    const box = h('input', { type: 'checkbox', checked: state.extra.has(name), onchange: () => {
      if (box.checked) state.extra.add(name);
      else state.extra.delete(name);
      remember();
      render();
    } });
    return h('li', {}, h('label', {}, box, ' ', metric(name).title));
  }));
}

function drawDifferences(runs) {
  const found = state.differences.list;
  const fits = found && found.every((d) => d.values.length === runs.length);
  $('differences-card').hidden = !fits || found.length === 0;
  $('differences-note').hidden = !$('differences-card').hidden;
  $('differences-note').textContent = runs.length < 2 ? 'Choose two runs or more.' : 'The recipes are the same.';
  if (fits && found.length > 0) tables.differences($('differences-table'), runs, found);
}

// ---- what the reader does

$('filter').addEventListener('input', () => {
  state.filter = $('filter').value;
  render();
});
$('choose-none').addEventListener('click', () => {
  state.own = true;
  for (const id of [...state.slots.keys()]) drop(id);
  remember();
  render();
});
$('axis').addEventListener('change', (e) => {
  state.axis = e.target.value;
  remember();
  render();
});
$('log-loss').addEventListener('change', () => {
  state.logLoss = $('log-loss').checked;
  remember();
  render();
});
if (matchMedia('(max-width: 50rem)').matches) $('runs-panel').open = false;

recall();
connect();
