// A chart of lines that can be read by eye, pointer, keyboard and screen reader.

import { h, s, swatch, dashes, COLORS, short } from './format.js';
import { scaleOf } from './scale.js';

const HEIGHT = 232;
const TABLE_ROWS = 120;
let made = 0;

// Chart draws series over each other. update() takes
//   { unit, over, xFormat, format, xScale, yScale, series: [{ name, slot, xs, ys, steps, live, ghost }] }
// where ghost is a line that is no measurement, such as a fit.
export class Chart {
  constructor(title) {
    this.title = title;
    this.svg = s('svg', { role: 'img', class: 'chart' });
    this.tip = h('div', { class: 'tip', 'aria-hidden': 'true', hidden: true });
    this.reader = h('input', { type: 'range', class: 'reader', min: 0, max: 0, value: 0, 'aria-label': `Read ${title}` });
    this.plot = h('div', { class: 'plot' }, this.svg, this.tip, this.reader);
    this.unit = h('small', {});
    this.table = h('div', { class: 'values', role: 'group', tabindex: 0, 'aria-label': `Values of ${title}` });
    this.details = h('details', { class: 'data' }, h('summary', {}, 'Values', h('span', { class: 'unseen' }, ` of ${title} as a table`)), this.table);
    const caption = `chart-${++made}`;
    this.figure = h('figure', { 'aria-labelledby': caption }, h('figcaption', { id: caption }, title, ' ', this.unit), this.plot, this.details);
    this.details.addEventListener('toggle', () => this.tabulate());
    this.plot.addEventListener('pointermove', (e) => this.point(e));
    this.plot.addEventListener('pointerdown', (e) => this.point(e));
    this.plot.addEventListener('pointerleave', () => this.mark(null));
    this.reader.addEventListener('input', () => this.read());
    this.reader.addEventListener('focus', () => this.read());
    this.reader.addEventListener('blur', () => this.mark(null));
    this.reader.addEventListener('keydown', (e) => { if (e.key === 'Escape') this.mark(null); });
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  // update draws a specification, and reports whether it has anything to show.
  update(spec) {
    this.spec = spec;
    this.series = spec.series.map((line) => ({ ...line, points: points(line) })).filter((line) => line.points.length > 0);
    this.unit.textContent = spec.unit;
    const xs = new Set();
    for (const line of this.series) if (!line.ghost) for (const p of line.points) xs.add(p[0]);
    this.stops = [...xs].sort((a, b) => a - b);
    this.reader.max = Math.max(0, this.stops.length - 1);
    this.draw();
    this.tabulate();
    return this.stops.length > 0;
  }

  draw() {
    const width = Math.round(this.plot.clientWidth);
    if (!this.spec || width === 0 || this.stops.length === 0) return;
    const all = (i) => this.series.flatMap((line) => line.points.map((p) => p[i]));
    this.x = scaleOf(all(0), { count: Math.max(2, Math.floor(width / 60)), ...this.spec.xScale });
    this.y = scaleOf(all(1), { share: 0.06, ...this.spec.yScale });
    this.svg.setAttribute('aria-label', this.summary());
    if (!this.x || !this.y) return;
    const labels = this.y.ticks.map((v) => this.y.label(v));
    const left = 14 + 6.7 * Math.max(2, ...labels.map((text) => text.length));
    this.box = { left, right: width - 14, top: 10, bottom: HEIGHT - 40, width };
    this.reader.style.left = `${left - 8}px`;
    this.reader.style.right = '6px';
    this.cross = s('g', { class: 'cross' });
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute('height', HEIGHT);
    this.svg.replaceChildren(this.axes(labels), ...this.series.map((line) => this.line(line)), this.cross);
    this.mark(this.marked ?? null);
  }

  px(v) { return this.box.left + this.x.at(v) * (this.box.right - this.box.left); }

  py(v) { return this.box.bottom - this.y.at(v) * (this.box.bottom - this.box.top); }

  axes(labels) {
    const { left, right, top, bottom } = this.box;
    const g = s('g', { class: 'axes' });
    this.y.ticks.forEach((v, i) => {
      const y = this.py(v);
      g.append(s('line', { class: 'grid', x1: left, x2: right, y1: y, y2: y }), s('text', { x: left - 7, y: y + 4, 'text-anchor': 'end' }, labels[i]));
    });
    let free = -Infinity;
    for (const v of this.x.ticks) {
      const x = this.px(v);
      const text = this.x.label(v);
      const half = 3.4 * text.length;
      g.append(s('line', { class: 'tick', x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      if (x - half < free) continue; // it would run into its neighbour
      free = x + half + 6;
      g.append(s('text', { x: Math.min(x, right + 12 - half), y: bottom + 17, 'text-anchor': 'middle' }, text));
    }
    g.append(s('line', { class: 'axis', x1: left, x2: right, y1: bottom, y2: bottom }),
      s('text', { class: 'over', x: (left + right) / 2, y: bottom + 34, 'text-anchor': 'middle' }, this.spec.over));
    return g;
  }

  line(line) {
    const at = line.points.filter((p) => this.x.drawable(p[0]) && this.y.drawable(p[1])).map((p) => [this.px(p[0]), this.py(p[1])]);
    let path = '';
    at.forEach(([x, y], i) => {
      if (i === 0) path = `M${x.toFixed(1)} ${y.toFixed(1)}`;
      else path += line.steps ? `V${y.toFixed(1)}H${x.toFixed(1)}` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    const g = s('g', { class: `line c${line.slot % COLORS}${line.ghost ? ' ghost' : ''}${at.length > 150 && !line.steps ? ' dense' : ''}` });
    g.append(s('path', { d: path, 'stroke-dasharray': line.ghost ? '2 4' : dashes(line.slot) }));
    if (line.ghost) return g;
    if (at.length <= 30) for (const [x, y] of at) g.append(s('circle', { cx: x, cy: y, r: 2.4 }));
    if (line.live && at.length > 0) g.append(s('circle', { class: 'pulse', cx: at.at(-1)[0], cy: at.at(-1)[1], r: 4 }));
    return g;
  }

  // summary says in words what the lines do.
  summary() {
    const format = this.spec.format || short;
    const lines = this.series.filter((line) => !line.ghost).map((line) => {
      const ys = line.points.map((p) => p[1]);
      const last = line.points.at(-1);
      const low = ys.reduce((a, b) => Math.min(a, b));
      const high = ys.reduce((a, b) => Math.max(a, b));
      return `${line.name}: ${format(last[1])} at ${this.spec.xFormat(last[0])}, from ${format(low)} to ${format(high)}`;
    });
    return `${this.title} over ${this.spec.over}. ${lines.join('; ')}.`;
  }

  // at returns what each line has nearest to x.
  at(x) {
    const rows = [];
    for (const line of this.series) {
      if (line.ghost) continue;
      let best = line.points[0];
      for (const p of line.points) if (Math.abs(p[0] - x) <= Math.abs(best[0] - x)) best = p;
      const [first, last] = [line.points[0][0], line.points.at(-1)[0]];
      if (x >= first - 1e-9 && x <= last + 1e-9) rows.push({ line, p: best });
    }
    return rows;
  }

  point(e) {
    if (!this.box || e.target === this.reader) return;
    const share = (e.clientX - this.plot.getBoundingClientRect().left - this.box.left) / (this.box.right - this.box.left);
    if (share < -0.05 || share > 1.05) return this.mark(null);
    const x = this.x.of(Math.min(1, Math.max(0, share)));
    let best = 0;
    this.stops.forEach((v, i) => { if (Math.abs(this.x.at(v) - this.x.at(x)) < Math.abs(this.x.at(this.stops[best]) - this.x.at(x))) best = i; });
    this.mark(best);
  }

  // read says what is marked with the keyboard.
  read() {
    const stop = Number(this.reader.value);
    this.mark(stop);
    const x = this.stops[stop];
    if (x === undefined) return;
    const format = this.spec.format || short;
    this.reader.setAttribute('aria-valuetext', `${this.spec.xFormat(x)}: ${this.at(x).map(({ line, p }) => `${line.name} ${format(p[1])}`).join(', ')}`);
  }

  // mark shows the values at a stop; null hides them.
  mark(stop) {
    this.marked = stop;
    const x = stop === null ? undefined : this.stops[Math.min(stop, this.stops.length - 1)];
    this.tip.hidden = x === undefined;
    if (!this.cross) return;
    this.cross.replaceChildren();
    if (x === undefined) return;
    const { left, right, top, bottom, width } = this.box;
    const px = this.px(x);
    const rows = this.at(x);
    this.cross.append(s('line', { x1: px, x2: px, y1: top, y2: bottom }));
    for (const { line, p } of rows) {
      if (this.y.drawable(p[1])) this.cross.append(s('circle', { class: `c${line.slot % COLORS}`, cx: this.px(p[0]), cy: this.py(p[1]), r: 4 }));
    }
    const format = this.spec.format || short;
    this.tip.replaceChildren(h('strong', {}, this.spec.xFormat(x)),
      ...rows.map(({ line, p }) => h('div', {}, swatch(line.slot), h('span', {}, line.name), h('b', {}, format(p[1])))));
    const toRight = px < (left + right) / 2;
    this.tip.style.left = toRight ? `${px + 12}px` : 'auto';
    this.tip.style.right = toRight ? 'auto' : `${width - px + 12}px`;
  }

  // tabulate fills the table while it is open.
  tabulate() {
    if (!this.details.open || !this.spec) return;
    const format = this.spec.format || short;
    const lines = this.series.filter((line) => !line.ghost);
    const every = Math.ceil(this.stops.length / TABLE_ROWS);
    const shown = this.stops.filter((_, i) => i % every === 0 || i === this.stops.length - 1);
    const values = lines.map((line) => new Map(line.points));
    const head = h('tr', {}, h('th', { scope: 'col' }, this.spec.over), lines.map((line) => h('th', { scope: 'col' }, line.name)));
    const body = shown.map((x) => h('tr', {}, h('th', { scope: 'row' }, this.spec.xFormat(x, true)), values.map((v) => h('td', {}, v.has(x) ? format(v.get(x)) : ''))));
    this.table.replaceChildren(h('table', {}, h('caption', { class: 'unseen' }, this.title), h('thead', {}, head), h('tbody', {}, body)));
    if (every > 1) this.table.append(h('p', {}, `Every ${every}th of ${this.stops.length} points.`));
  }
}

// points pairs up what is known.
function points({ xs, ys }) {
  const out = [];
  for (let i = 0; i < xs.length; i++) if (Number.isFinite(xs[i]) && Number.isFinite(ys[i])) out.push([xs[i], ys[i]]);
  return out.sort((a, b) => a[0] - b[0]);
}
