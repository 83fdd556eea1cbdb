// Scales and ticks of the charts.

import { short, duration } from './format.js';

// nice rounds up to 1, 2 or 5 times a power of ten.
function nice(raw) {
  if (!(raw > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  for (const m of [1, 2, 5]) if (m * power >= raw * 0.999999) return m * power;
  return 10 * power;
}

function evenTicks(lo, hi, step) {
  const out = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9 && out.length < 30; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

// timeTicks go by seconds, minutes or hours.
function timeTicks(lo, hi, count) {
  const raw = (hi - lo) / count;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  return evenTicks(lo, hi, steps.find((v) => v >= raw) || nice(raw / 86400) * 86400);
}

function logTicks(lo, hi, base, count) {
  let out = [];
  const mantissas = base === 2 ? [1] : [1, 2, 5];
  for (let e = Math.floor(Math.log(lo) / Math.log(base)); base ** e <= hi * 1.000001 && out.length < 200; e++) {
    for (const m of mantissas) if (m * base ** e >= lo * 0.999999 && m * base ** e <= hi * 1.000001) out.push(m * base ** e);
  }
  if (base === 10 && out.length > count) {
    const decades = out.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
    if (decades.length > 1) out = decades;
  }
  const every = Math.ceil(out.length / count);
  return out.filter((_, i) => i % every === 0);
}

function pad(lo, hi, { zero, share }) {
  if (zero) lo = Math.min(lo, 0);
  if (hi - lo < 1e-12 * Math.max(1, Math.abs(hi))) {
    const by = zero && hi > 0 ? 0 : 0.5 * Math.max(hi === 0 ? 1 : Math.abs(hi) * 0.2, 1e-9);
    return [lo - by, hi + (by || 0.2 * Math.abs(hi) || 1)];
  }
  const by = share * (hi - lo);
  return [zero && lo === 0 ? 0 : lo - by, hi + by];
}

// scaleOf makes a scale for values and a range that it has to cover: { at(v) in 0..1, of(share), ticks, label(v), drawable(v) }.
export function scaleOf(values, { log = 0, zero = false, time = false, share = 0, count = 6, whole = false, range = [] } = {}) {
  const drawable = (v) => Number.isFinite(v) && (!log || v > 0);
  let lo = Infinity;
  let hi = -Infinity;
  for (const v of [...values, ...range]) {
    if (drawable(v)) {
      lo = Math.min(lo, v);
      hi = Math.max(hi, v);
    }
  }
  if (lo > hi) return null;
  if (log) {
    const room = lo === hi ? 1.5 : (hi / lo) ** share;
    lo /= room;
    hi *= room;
    const span = Math.log(hi / lo) || 1;
    let ticks = logTicks(lo, hi, log, count);
    if (ticks.length < 2) ticks = evenTicks(lo, hi, nice((hi - lo) / count));
    return { lo, hi, drawable, ticks, at: (v) => Math.log(v / lo) / span, of: (p) => lo * Math.exp(p * span), label: (v) => short(v, 3) };
  }
  [lo, hi] = pad(lo, hi, { zero, share });
  const step = whole ? Math.max(1, nice((hi - lo) / count)) : nice((hi - lo) / count);
  const ticks = time ? timeTicks(lo, hi, count) : evenTicks(lo, hi, step);
  const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 2 });
  const label = time ? (v) => (v === 0 ? '0' : duration(v)) : (v) => (Math.abs(v) >= 10000 ? compact.format(v) : short(v, 6));
  return { lo, hi, drawable, ticks, at: (v) => (v - lo) / (hi - lo), of: (p) => lo + p * (hi - lo), label };
}
