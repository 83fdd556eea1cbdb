// The tables: results, differences of recipes, events, checkpoints.

import { h, swatch, known, whole, bytes, when } from './format.js';
import { COLUMNS } from './metrics.js';

const head = (...titles) => h('thead', {}, h('tr', {}, titles.map((t) => h('th', { scope: 'col', class: TEXT.has(t) ? 'text' : false }, t))));
const TEXT = new Set(['run', 'what', 'file']); // columns of words
const runCell = (run) => h('th', { scope: 'row', class: 'text' }, swatch(run.slot), ' ', run.name);
const caption = (text) => h('caption', { class: 'unseen' }, text);

const sorted = { key: '', down: true };

// results compares runs: [{ name, slot, entry }].
export function results(table, runs, again) {
  const best = {};
  for (const { key, best: which } of COLUMNS) {
    const values = runs.filter((r) => which === 'most' || r.entry.state === 'ended').map((r) => r.entry.summary[key]).filter(known);
    if (which && values.length > 1) best[key] = which === 'most' ? Math.max(...values) : Math.min(...values);
  }
  const rows = runs.slice();
  if (sorted.key) {
    const value = (r) => (known(r.entry.summary[sorted.key]) ? r.entry.summary[sorted.key] : -Infinity);
    rows.sort((a, b) => (sorted.down ? -1 : 1) * (value(a) - value(b)) || 0);
  }
  const body = h('tbody', {}, rows.map((r) => h('tr', {}, runCell(r), h('td', {}, badge(r.entry.state)), COLUMNS.map(({ key, format }) => {
    const v = r.entry.summary[key];
    const text = format(v);
    const marked = best[key] !== undefined && v === best[key] && (key !== 'updates' || r.entry.state === 'ended');
    return h('td', {}, marked ? h('strong', {}, text) : text);
  }))));
  if (!table.tHead) {
    const click = (key) => () => {
      sorted.down = sorted.key === key ? !sorted.down : true;
      sorted.key = key;
      again();
    };
    table.append(caption('Results of the chosen runs'), h('thead', {}, h('tr', {}, h('th', { scope: 'col', class: 'text' }, 'run'), h('th', { scope: 'col' }, 'state'),
      COLUMNS.map(({ key, title }) => h('th', { scope: 'col', 'data-key': key }, h('button', { type: 'button', class: 'sort', onclick: click(key) }, title))))), h('tbody'));
  }
  for (const th of table.querySelectorAll('th[data-key]')) {
    if (th.dataset.key === sorted.key) th.setAttribute('aria-sort', sorted.down ? 'descending' : 'ascending');
    else th.removeAttribute('aria-sort');
  }
  table.tBodies[0].replaceWith(body);
}

export const badge = (state) => h('span', { class: `badge ${state}` }, state);

// differences shows where recipes differ: [{ key, values }] in the order of the runs.
export function differences(table, runs, list) {
  table.replaceChildren(caption('Keys in which the recipes of the chosen runs differ'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col', class: 'text' }, 'key'), runs.map((r) => h('th', { scope: 'col' }, swatch(r.slot), ' ', r.name)))),
    h('tbody', {}, list.map((d) => h('tr', {}, h('th', { scope: 'row', class: 'text' }, d.key), d.values.map((v) => h('td', {}, v || h('span', { class: 'none' }, 'none')))))));
}

const SHOWN_NOTES = 60;

// events shows what happened in the runs, newest first: [{ name, slot, notes }].
export function events(table, runs) {
  const all = runs.flatMap((run) => run.notes.map((note) => ({ run, note })));
  all.sort((a, b) => Date.parse(b.note.time) - Date.parse(a.note.time));
  table.replaceChildren(caption('Events of the chosen runs, newest first'), head('run', 'time', 'epoch', 'update', 'what'),
    h('tbody', {}, all.slice(0, SHOWN_NOTES).map(({ run, note }) => h('tr', {}, runCell(run), h('td', {}, when(note.time)), h('td', {}, whole(note.epoch)),
      h('td', {}, whole(note.updates)), h('td', { class: 'text' }, note.text)))));
}

// checkpoints lists the checkpoints of the runs: [{ name, slot, checkpoints }].
export function checkpoints(table, runs) {
  table.replaceChildren(caption('Checkpoints of the chosen runs, newest first'), head('run', 'file', 'update', 'size', 'written'),
    h('tbody', {}, runs.flatMap((run) => run.checkpoints.map((c) => h('tr', {}, runCell(run), h('td', { class: 'file' }, c.name), h('td', {}, whole(c.updates)),
      h('td', {}, bytes(c.bytes)), h('td', {}, when(c.time)))))));
}
