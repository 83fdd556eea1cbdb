// What `broadside curvature` measured: spectral density, landscape of the loss, eigenvalues.

import { h, s, swatch, short, known, fixed } from './format.js';
import { Chart } from './chart.js';

const MAX_CELLS = 61;
const FLOOR = 1e-7; // of the density, where it is drawn: below is smoothing

// CurvaturePanel shows the measurements of runs.
export class CurvaturePanel {
  constructor(plots, landscapes, card, table, note) {
    Object.assign(this, { plots, planes: landscapes, card, table, note });
    this.density = new Chart('Density of the eigenvalues');
    this.slice = new Chart('Loss along the top eigenvector');
    this.maps = new Map();
  }

  // update takes [{ name, slot, measurements }].
  update(runs) {
    const all = runs.flatMap((run) => (run.measurements || []).map((m) => ({ ...m, run, label: run.measurements.length > 1 ? `${run.name} (${m.file})` : run.name })));
    this.card.hidden = all.length === 0;
    this.note.textContent = all.length > 0 ? '' : 'No measurement here yet. Make one: broadside curvature RUN --density --landscape';
    this.note.hidden = all.length > 0;
    this.place(this.density, this.density.update({ unit: 'share, logarithmic', over: 'eigenvalue', xFormat: (v) => short(v), format: (v) => short(v, 3),
      xScale: {}, yScale: { log: 10 }, series: all.filter((m) => m.density).map((m) => densityLine(m)) }));
    this.place(this.slice, this.slice.update({ unit: 'cross-entropy (nats)', over: 'offset', xFormat: (v) => `offset ${short(v, 3)}`, format: fixed(4), xScale: {}, yScale: {},
      series: all.filter((m) => m.landscape?.losses.length === 1).map((m) => ({ name: m.label, slot: m.run.slot, xs: m.landscape.offsets, ys: m.landscape.losses[0] })) }));
    this.landscapes(all.filter((m) => m.landscape && m.landscape.losses.length > 1));
    this.tabulate(all);
  }

  place(chart, shown) {
    if (!shown) chart.figure.remove();
    else if (!chart.figure.isConnected) this.plots.append(chart.figure);
  }

  landscapes(all) {
    const wanted = new Map(all.map((m) => [`${m.run.name}\n${m.file}`, m]));
    for (const [key, figure] of this.maps) {
      if (!wanted.has(key)) {
        figure.remove();
        this.maps.delete(key);
      }
    }
    for (const [key, m] of wanted) {
      const old = this.maps.get(key);
      if (old && old.losses === m.landscape) continue;
      const figure = heatMap(m);
      figure.losses = m.landscape;
      if (old) old.replaceWith(figure);
      else this.planes.append(figure);
      this.maps.set(key, figure);
    }
  }

  tabulate(all) {
    const cells = (m) => (m.error ? [h('td', { colspan: 4, class: 'text' }, m.error)] : [
      h('td', {}, m.checkpoint || ''), h('td', {}, `${short(m.samples)} samples, BN ${m.batch_norm}`),
      h('td', {}, (m.eigenvalues || []).map((e) => short(e.value) + (e.converged ? '' : '?')).join(', ')),
      h('td', {}, m.trace ? `${short(m.trace.mean)} ± ${short(m.trace.standard_error, 2)}` : '')]);
    this.table.replaceChildren(h('caption', { class: 'unseen' }, 'Measurements of curvature'),
      h('thead', {}, h('tr', {}, ['run', 'checkpoint', 'on', 'top eigenvalues', 'trace'].map((t, i) => h('th', { scope: 'col', class: i === 0 ? 'text' : false }, t)))),
      h('tbody', {}, all.map((m) => h('tr', {}, h('th', { scope: 'row', class: 'text' }, swatch(m.run.slot), ' ', m.label), cells(m)))));
  }
}

function densityLine(m) {
  const { eigenvalue, density } = m.density;
  const floor = FLOOR * density.reduce((a, b) => Math.max(a, b ?? 0), 0);
  return { name: m.label, slot: m.run.slot, xs: eigenvalue, ys: density.map((v) => Math.max(v, floor)) };
}

// heatMap draws the loss over the plane of two eigenvectors.
function heatMap(m) {
  const { offsets, losses } = m.landscape;
  const every = Math.ceil(offsets.length / MAX_CELLS);
  const at = offsets.map((_, i) => i).filter((i) => i % every === 0);
  let [low, high, where] = [Infinity, -Infinity, [0, 0]];
  losses.forEach((row, j) => row.forEach((v, i) => {
    if (v < low) [low, where] = [v, [i, j]];
    high = Math.max(high, v);
  }));
  const level = (v) => (low > 0 && high > 4 * low ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low || 1)); // wide ranges by their logarithm
  const size = 240 / at.length;
  const cells = s('g', {});
  at.forEach((j, row) => at.forEach((i, column) => {
    const cell = s('rect', { x: column * size, y: 240 - (row + 1) * size, width: size + 0.3, height: size + 0.3 });
    cell.style.setProperty('--level', `${(100 * level(losses[j][i])).toFixed(1)}%`);
    cell.append(s('title', {}, `loss ${losses[j][i].toFixed(4)} at ${short(offsets[i], 3)}, ${short(offsets[j], 3)}`));
    cells.append(cell);
  }));
  const middle = at.length % 2 === 1 ? 120 : (Math.floor(at.length / 2) + 0.5) * size;
  const words = `Loss of ${m.label} over the plane of the top two eigenvectors, offsets ${short(offsets[0])} to ${short(offsets.at(-1))}: ` +
    `from ${low.toFixed(4)} at ${short(offsets[where[0]], 3)}, ${short(offsets[where[1]], 3)} to ${high.toFixed(4)}.`;
  const svg = s('svg', { class: 'heat', viewBox: '-50 -8 308 292', role: 'img', 'aria-label': words }, cells,
    s('path', { class: 'here', d: `M${middle - 5} ${middle}h10M${middle} ${middle - 5}v10` }),
    [0, 0.5, 1].flatMap((share) => {
      const v = short(offsets[0] + share * (offsets.at(-1) - offsets[0]), 2);
      return [s('text', { x: 240 * share, y: 257, 'text-anchor': 'middle' }, v), s('text', { x: -6, y: 244 - 240 * share, 'text-anchor': 'end' }, v)];
    }),
    s('text', { x: 120, y: 277, 'text-anchor': 'middle' }, 'along eigenvector 1'),
    s('text', { x: -38, y: 120, 'text-anchor': 'middle', transform: 'rotate(-90 -38 120)' }, 'eigenvector 2'));
  const legend = h('p', { class: 'ramp' }, h('span', {}, low.toFixed(4)), h('i', { 'aria-hidden': 'true' }), h('span', {}, high.toFixed(4)));
  const title = [swatch(m.run.slot), ' ', m.label, ' ', h('small', {}, 'loss landscape')];
  return h('figure', { class: 'landscape', 'aria-label': `Loss landscape of ${m.label}` }, h('figcaption', {}, title), svg, legend, landscapeTable(m, at));
}

function landscapeTable(m, at) {
  const { offsets, losses } = m.landscape;
  const body = h('div', { class: 'values', role: 'group', tabindex: 0, 'aria-label': `Losses of ${m.label}` });
  const details = h('details', { class: 'data' }, h('summary', {}, 'Values', h('span', { class: 'unseen' }, ` of the landscape of ${m.label} as a table`)), body);
  details.addEventListener('toggle', () => {
    if (!details.open || body.firstChild) return;
    body.append(h('table', {}, h('caption', { class: 'unseen' }, 'Loss by offset along eigenvector 1, rightwards, and 2, downwards'),
      h('thead', {}, h('tr', {}, h('td', {}), at.map((i) => h('th', { scope: 'col' }, short(offsets[i], 3))))),
      h('tbody', {}, at.map((j) => h('tr', {}, h('th', { scope: 'row' }, short(offsets[j], 3)), at.map((i) => h('td', {}, known(losses[j][i]) ? losses[j][i].toFixed(4) : '')))))));
  });
  return details;
}
