// The list of runs.

import { h, swatch, percent, duration, whole, known, fixed } from './format.js';
import { badge } from './tables.js';

// RunList shows entries and lets some be chosen. It changes its lines in place, so that focus stays where it is.
export class RunList {
  constructor(list, choose) {
    this.list = list;
    this.choose = choose;
    this.lines = new Map();
  }

  // update shows entries in their order; slots has the places of those that are chosen.
  update(entries, slots, filter) {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = entries.filter((e) => words.every((w) => `${e.id} ${e.model} ${e.data} ${e.state}`.toLowerCase().includes(w)));
    const ids = new Set(shown.map((e) => e.id));
    for (const [id, line] of this.lines) {
      if (!ids.has(id)) {
        line.item.remove();
        this.lines.delete(id);
      }
    }
    shown.forEach((entry, i) => {
      const line = this.line(entry.id);
      if (this.list.children[i] !== line.item) this.list.insertBefore(line.item, this.list.children[i] || null);
      fillLine(line, entry, slots.get(entry.id));
    });
    return shown.length;
  }

  line(id) {
    let line = this.lines.get(id);
    if (!line) {
      const box = h('input', { type: 'checkbox', onchange: () => this.choose(id, box.checked) });
      line = { box, swatch: h('span', { class: 'hold' }), name: h('span', { class: 'name' }, id), state: h('span', {}), facts: h('p', { class: 'facts-line' }), bar: h('progress', { max: 1, value: 0 }) };
      line.item = h('li', {}, h('label', {}, box, line.swatch, line.name, line.state), line.facts, line.bar);
      this.lines.set(id, line);
    }
    return line;
  }
}

function fillLine(line, entry, slot) {
  const { summary, state } = entry;
  const wanted = Number(entry.epochs_wanted);
  line.item.className = `run ${state}${slot === undefined ? '' : ' chosen'}`;
  line.box.checked = slot !== undefined;
  const look = String(slot);
  if (line.look !== look) {
    line.look = look;
    line.swatch.replaceChildren(...(slot === undefined ? [] : [swatch(slot)]));
  }
  if (line.stateName !== state) {
    line.stateName = state;
    line.state.replaceChildren(badge(state));
  }
  const facts = [];
  if (state === 'broken') facts.push(entry.error);
  else {
    if (wanted > 0) facts.push(`epoch ${summary.epochs}/${wanted}`);
    else facts.push(`epoch ${summary.epochs}`);
    if (known(summary.test_accuracy)) facts.push(percent(summary.test_accuracy));
    else if (known(entry.train_loss)) facts.push(`loss ${fixed(4)(entry.train_loss)}`);
    if (summary.final_batch) facts.push(`batch ${whole(summary.final_batch)}`);
    if (state === 'running' && wanted > 0 && entry.at > 0) facts.push(`${duration(Math.round((wanted - entry.at) * entry.seconds / entry.at))} left`);
    else if (summary.wall_seconds > 0) facts.push(duration(summary.wall_seconds));
  }
  const text = facts.join(' · ');
  if (line.facts.textContent !== text) line.facts.textContent = text;
  const going = state === 'running' && wanted > 0;
  line.bar.hidden = !going;
  line.bar.setAttribute('aria-label', `Progress of ${entry.id}`);
  if (going) line.bar.value = Math.min(1, entry.at / wanted);
}
