// What can be asked of a domain's guest, which decides itself whether it obeys: to switch itself off, to start again, and to
// give memory back or take it.

import { el, setText } from './dom.js';

/** A guest that has less than this share of its memory, or of so many MiB, is likely to kill its processes. */
const LEAST = { share: 1 / 4, mib: 96 };
const MIB = 1 << 20;

export class ControlSection {
  /** @param {import('./x86-machine.js').X86Machine} machine */
  constructor(machine) {
    const tell = (/** @type {string} */ what) => machine.vm?.send({ kind: 'tell', what });
    const button = (/** @type {string} */ text, /** @type {string} */ what, /** @type {string} */ title) => el('button', { type: 'button', title, click: () => tell(what) }, text);
    this.memory = el('output');
    this.slider = /** @type {HTMLInputElement} */ (el('input', { type: 'range', step: '8', 'aria-label': 'Memory of the guest in MiB' }));
    this.slider.addEventListener('input', () => this.show(Number(this.slider.value)));
    this.slider.addEventListener('change', () => tell(`memory ${this.slider.value}`));
    this.balloon = el('label', { class: 'balloon', title: 'The guest’s balloon driver gives memory back, or takes it. What it has a moment later is shown here.' }, el('span', {}, 'Memory'), this.memory, this.slider);
    this.element = el(
      'section',
      { class: 'control', hidden: true },
      el('h3', {}, 'Guest'),
      el('div', { class: 'control-actions' }, button('Shut down', 'poweroff', 'Asks the guest to shut down, as a toolstack does (control/shutdown)'), button('Restart', 'reboot', 'Asks the guest to start again')),
      this.balloon,
    );
    /** What the guest has. @type {number[]} */
    this.figures = [];
  }

  /** @param {number} target MiB */
  show(target) {
    const now = Math.round(this.figures[0] / MIB);
    // To a guest with its own paging, the hole below 1 MiB is no memory.
    setText(this.memory, Math.abs(now - target) <= 1 ? `${target} MiB` : `${now} → ${target} MiB`);
  }

  /** @param {import('./machine-view.js').MachineModel} m */
  render({ state, stats, config }) {
    const memory = stats?.memory ?? [];
    this.element.hidden = memory.length === 0 || (state !== 'running' && state !== 'idle');
    if (this.element.hidden || this.figures.join() === memory.join()) return;
    this.figures = memory;
    const [target, most] = memory.slice(1).map((bytes) => Math.round(bytes / MIB));
    // It may come to have more than it booted with.
    const boot = Math.min(most, config.memoryMiB);
    this.slider.max = String(most);
    this.slider.min = String(Math.min(boot, Math.max(LEAST.mib, Math.ceil(boot * LEAST.share))));
    // A hand on the slider is not moved.
    if (!this.slider.matches(':active')) this.slider.value = String(target);
    this.show(Number(this.slider.value));
  }
}
