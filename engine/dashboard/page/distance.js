// How far the weights have gone from their start, and which law that follows (method `distance`).

import { h, swatch, short, known, fixed, whole } from './format.js';
import { Chart } from './chart.js';

const last = (column) => (column || []).findLast(known);

// DistancePanel shows the distance of runs over the logarithm of updates, with the fitted logarithm.
export class DistancePanel {
  constructor(plots, card, table, note) {
    Object.assign(this, { plots, card, table, note });
    this.chart = new Chart('Distance from the start');
  }

  // update takes [{ name, slot, live, table }].
  update(runs) {
    const measured = runs.filter((r) => r.table && (r.table.values.distance || []).some(known));
    this.note.hidden = this.card.hidden = false;
    if (measured.length === 0) {
      this.card.hidden = true;
      this.chart.figure.remove();
      this.note.textContent = 'No chosen run measures it. Add the method to a recipe: methods: [distance]';
      return;
    }
    this.note.textContent = 'Dotted: the fit of slope log t + offset over the measured updates t. Ultra-slow diffusion follows the logarithm, ordinary diffusion a power of t.';
    const series = measured.flatMap((r) => {
      const line = { name: r.name, slot: r.slot, live: r.live, xs: r.table.updates, ys: r.table.values.distance };
      return [line, ...fit(r)];
    });
    if (this.chart.update({ unit: '|w − w₀|', over: 'updates, logarithmic', xFormat: (v, bare) => (bare ? whole(v) : `update ${whole(v)}`), format: (v) => short(v), xScale: { log: 10 }, yScale: {}, series }) && !this.chart.figure.isConnected) {
      this.plots.append(this.chart.figure);
    }
    const value = (r, name, format) => h('td', {}, format(last(r.table.values[name])));
    this.table.replaceChildren(h('caption', { class: 'unseen' }, 'Fits of the distance'),
      h('thead', {}, h('tr', {}, ['run', 'distance', 'log slope', 'log R²', 'power exponent', 'power R²', 'measured', 'fits better'].map((t, i) => h('th', { scope: 'col', class: i === 0 ? 'text' : false }, t)))),
      h('tbody', {}, measured.map((r) => h('tr', {}, h('th', { scope: 'row', class: 'text' }, swatch(r.slot), ' ', r.name), value(r, 'distance', short), value(r, 'distance_log_slope', short),
        value(r, 'distance_log_r2', fixed(4)), value(r, 'distance_power_exponent', short), value(r, 'distance_power_r2', fixed(4)), value(r, 'distance_measurements', whole), h('td', {}, better(r))))));
  }
}

function better(r) {
  const [log, power] = [last(r.table.values.distance_log_r2), last(r.table.values.distance_power_r2)];
  if (!known(log) || !known(power)) return '';
  return log >= power ? 'logarithm' : 'power';
}

// fit is the fitted line over the measured updates.
function fit(r) {
  const [slope, offset] = [last(r.table.values.distance_log_slope), last(r.table.values.distance_log_offset)];
  const xs = r.table.updates.filter((v) => v > 0);
  if (!known(slope) || !known(offset) || xs.length < 2) return [];
  return [{ name: `${r.name}, fit`, slot: r.slot, ghost: true, xs, ys: xs.map((t) => slope * Math.log(t) + offset) }];
}
