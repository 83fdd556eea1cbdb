// What the curves are, and over what.

import { short, percent, fixed, whole, duration } from './format.js';

const nats = { unit: 'cross-entropy (nats)', format: fixed(4), zero: true, loss: true };

// METRICS are the charts that are always offered, in order.
export const METRICS = {
  test_accuracy: { title: 'Test accuracy', unit: 'correct (%)', format: (v) => `${v.toFixed(2)}%`, scale: 100 },
  test_loss: { title: 'Test loss', ...nats },
  train_accuracy: { title: 'Train accuracy', unit: 'correct (%)', format: (v) => `${v.toFixed(2)}%`, scale: 100 },
  train_loss: { title: 'Train loss', ...nats },
  batch: { title: 'Batch size', unit: 'samples', format: whole, log: 2, steps: true },
  lr: { title: 'Learning rate', unit: '', log: 10, steps: true },
  gradient_norm: { title: 'Gradient norm', unit: 'of the mean gradient', zero: true },
  eigenvalue: { title: 'Top eigenvalue of the Hessian', unit: '', zero: true },
  gradient_noise_scale: { title: 'Gradient noise scale', unit: 'samples', log: 10 },
  images_per_second: { title: 'Speed', unit: 'images/s', format: whole, zero: true },
};

// metric describes any value that a method reports.
export const metric = (name) => METRICS[name] || { title: name.charAt(0).toUpperCase() + name.slice(1).replaceAll('_', ' '), unit: '' };

// AXES are what curves are drawn over.
export const AXES = {
  epoch: { over: 'epochs', format: (v, bare) => (bare ? short(v) : `epoch ${short(v)}`), scale: { whole: true } },
  updates: { over: 'updates', format: (v, bare) => (bare ? whole(v) : `update ${whole(v)}`), scale: { whole: true } },
  samples: { over: 'samples seen', format: (v, bare) => (bare ? whole(v) : `${whole(v)} samples`), scale: { whole: true } },
  seconds: { over: 'training time', format: (v) => duration(v), scale: { time: true } },
};

// COLUMNS are the table of results. best says which end of a column is good.
export const COLUMNS = [
  { key: 'test_accuracy', title: 'test acc', format: percent, best: 'most' },
  { key: 'best_test_accuracy', title: 'best', format: percent },
  { key: 'test_loss', title: 'test loss', format: fixed(4) },
  { key: 'updates', title: 'updates', format: whole, best: 'fewest' },
  { key: 'epochs', title: 'epochs', format: whole },
  { key: 'final_batch', title: 'batch', format: whole },
  { key: 'wall_seconds', title: 'time', format: duration },
  { key: 'images_per_second', title: 'images/s', format: whole },
  { key: 'samples_seen', title: 'samples', format: whole },
  { key: 'grad_passes', title: 'gradient passes', format: whole },
  { key: 'hvps', title: 'HVPs', format: whole },
];
