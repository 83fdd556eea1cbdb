// Elements, and numbers as people read them.

const SVG = 'http://www.w3.org/2000/svg';

function fill(e, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ''));
  return e;
}

// h makes an HTML element. Text goes in as text: names of runs are not trusted.
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

// s makes an SVG element.
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// DASHES tell lines apart without their colour.
const DASHES = ['', '5 3', '1.5 2.5', '8 3 1.5 3'];
export const COLORS = 8;
export const dashes = (slot) => DASHES[(slot + Math.floor(slot / COLORS)) % DASHES.length];

// swatch draws the line that a run has in every chart.
export function swatch(slot) {
  return s('svg', { class: `swatch c${slot % COLORS}`, viewBox: '0 0 28 8', 'aria-hidden': 'true' },
    s('line', { x1: 0, y1: 4, x2: 28, y2: 4, 'stroke-dasharray': dashes(slot) }));
}

export const known = (v) => typeof v === 'number' && Number.isFinite(v);

// short writes a number with few digits: 0.0125, 1,024, 3.1e-7.
export function short(v, digits = 4) {
  if (!known(v)) return '';
  const size = Math.abs(v);
  if (v !== 0 && (size < 1e-3 || size >= 1e7)) return v.toExponential(Math.min(digits, 3) - 1).replace('e+', 'e').replace(/\.?0+e/, 'e');
  if (Number.isInteger(v)) return v.toLocaleString('en-US');
  return Number(v.toPrecision(digits)).toLocaleString('en-US', { maximumFractionDigits: 8 });
}

export const whole = (v) => (known(v) ? Math.round(v).toLocaleString('en-US') : '');
export const fixed = (digits) => (v) => (known(v) ? v.toFixed(digits) : '');
export const percent = (v) => (known(v) ? `${(100 * v).toFixed(2)}%` : '');

// duration writes 75 as 1m15s, and leaves out the seconds of hours.
export function duration(seconds) {
  if (!known(seconds)) return '';
  const t = Math.round(seconds);
  const two = (n) => String(n).padStart(2, '0');
  if (t >= 3600) return `${Math.floor(t / 3600)}h${two(Math.floor((t % 3600) / 60))}m`;
  if (t >= 60) return `${Math.floor(t / 60)}m${two(t % 60)}s`;
  return seconds < 10 && seconds > 0 && seconds !== t ? `${seconds.toFixed(1)}s` : `${t}s`;
}

export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

// when writes a time in the reader's zone.
export function when(text) {
  const t = new Date(text);
  if (Number.isNaN(t.getTime()) || t.getFullYear() < 1971) return '';
  const two = (n) => String(n).padStart(2, '0');
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}
