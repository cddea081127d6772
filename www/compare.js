// Two ways to run the same guest, side by side, with what each of them takes. Loaded when someone wants to compare.

import { Watch } from './counts.js';
import { el, setText } from './dom.js';
import { count, duration, bytes as formatBytes, mips as formatMips } from './format.js';
import { icon } from './icons.js';
import { MODES } from './machine-view.js';

/** @typedef {import('./x86-machine.js').X86Machine} X86Machine */
/** @typedef {import('./protocol.js').Mode} Mode */

// Nothing of it is shown without its style.
const sheet = el('link', { rel: 'stylesheet', href: new URL('./compare.css', import.meta.url).href });
const styled = new Promise((resolve) => ['load', 'error'].forEach((kind) => sheet.addEventListener(kind, resolve)));
document.head.append(sheet);
await styled;

/** The figures are looked at this often, which is as often as machines tell theirs. */
const LOOK_MS = 500;

/**
 * A line of the comparison.
 * @typedef {object} Line
 * @property {string} label
 * @property {string} title
 * @property {(machine: X86Machine, watch: Watch) => number | undefined} value undefined: not known yet
 * @property {(value: number) => string} show
 * @property {number} [full] the least value whose bar has all its place: what a machine at rest does is not much of anything
 */

/** @type {Line[]} */
const LINES = [
  {
    label: 'Boot to prompt',
    title: 'From the click until the guest waits for input, downloads included',
    value: ({ model }) => model.stages.get('ready'),
    show: duration,
  },
  {
    label: 'in the guest',
    title: 'From the first instruction of the guest until it waits for input',
    value: ({ model: { stages } }) => (stages.has('ready') ? /** @type {number} */ (stages.get('ready')) - (stages.get('cpu') ?? 0) : undefined),
    show: duration,
  },
  {
    label: 'Instructions for it',
    title: 'Guest instructions until the prompt',
    value: (_, watch) => watch.prompt?.instructions,
    show: count,
  },
  {
    label: 'Exits for it',
    title: 'How often the processor left the guest’s code until the prompt: a PC for its emulated devices, a domain for its hypervisor',
    value: (_, watch) => watch.prompt?.exits,
    show: count,
  },
  {
    label: 'MIPS now',
    title: 'Million guest instructions per second; a guest that waits has nothing to execute',
    value: ({ model }) => (model.state === 'running' || model.state === 'idle' ? model.stats?.mips : undefined),
    show: formatMips,
    full: 100,
  },
  {
    label: 'Exits per second',
    title: 'The same, now',
    value: ({ model }, watch) => (model.state === 'running' || model.state === 'idle' ? watch.exits.perSecond : undefined),
    show: (n) => count(Math.round(n)),
    full: 10_000,
  },
  { label: 'Memory', title: 'WebAssembly memory: guest RAM, translation tables, devices', value: ({ model }) => model.stats?.heapBytes, show: formatBytes },
];

export class Comparison {
  /**
   * @param {HTMLElement} place where the two machines are
   * @param {X86Machine[]} machines two of them
   * @param {Mode[]} modes that the guest can run as
   * @param {(modes: Mode[] | '') => void} go shows two others, or the home page
   */
  constructor(place, machines, modes, go) {
    this.place = place;
    this.machines = machines;
    this.watches = machines.map(() => new Watch());
    /** Ends what waits for a prompt. @type {AbortController | null} */
    this.turns = null;
    this.rows = LINES.map((line) => {
      const cells = machines.map((_, n) => ({ bar: el('i'), text: el('b'), side: n === 0 ? 'left' : 'right' }));
      const [left, right] = cells.map(({ bar, text, side }) => el('span', { class: side }, bar, text));
      return { line, cells, element: el('div', { class: 'compare-line', title: line.title }, left, el('span', { class: 'label' }, line.label), right) };
    });
    const pick = (/** @type {number} */ n) =>
      el(
        'select',
        {
          'aria-label': n === 0 ? 'Left machine' : 'Right machine',
          change: (/** @type {Event} */ { target }) => {
            const chosen = machines.map(({ config }) => config.mode);
            chosen[n] = /** @type {Mode} */ (/** @type {HTMLSelectElement} */ (target).value);
            go(chosen);
          },
        },
        ...modes.map((mode) =>
          el('option', { value: mode, selected: mode === machines[n].config.mode, disabled: mode === machines[1 - n].config.mode, title: MODES[mode].explain }, MODES[mode].label),
        ),
      );
    this.element = el(
      'section',
      { class: 'compare', 'aria-label': 'Comparison' },
      el(
        'header',
        {},
        el('button', { type: 'button', class: 'back', click: () => go('') }, icon('back'), 'Machines'),
        el('h2', {}, 'Side by side'),
        el(
          'div',
          { class: 'compare-actions' },
          el('button', { type: 'button', class: 'primary', click: () => this.bootTogether() }, icon('boot'), 'Boot both'),
          el('button', { type: 'button', title: 'Each has your computer for itself until its prompt', click: () => this.bootInTurn() }, 'One after the other'),
        ),
      ),
      el('div', { class: 'compare-lines' }, el('div', { class: 'compare-line picks' }, el('span', { class: 'left' }, pick(0)), el('span', { class: 'label' }, 'and'), el('span', { class: 'right' }, pick(1))), ...this.rows.map((row) => row.element)),
      (this.note = el('p', {})),
    );
    machines.forEach((machine, n) => (machine.style.order = String(n)));
    place.classList.add('comparing');
    place.prepend(this.element);
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.say('together');
    this.look();
  }

  /** @param {'together' | 'turn'} how */
  say(how) {
    setText(
      this.note,
      how === 'together'
        ? 'The same kernel and the same processor. Both run at once, so they share the cores of your computer; boot them one after the other for what each takes alone.'
        : 'The same kernel and the same processor, one after the other: the first pauses at its prompt until the second has its own.',
    );
  }

  bootTogether() {
    this.turns?.abort();
    this.say('together');
    for (const machine of this.machines) machine.boot();
  }

  /** The second begins when the first has its prompt, and stands still. */
  bootInTurn() {
    this.turns?.abort();
    this.turns = new AbortController();
    const { signal } = this.turns;
    this.say('turn');
    const [first, second] = this.machines;
    second.powerOff();
    const atPrompt = (/** @type {X86Machine} */ machine, /** @type {() => void} */ then) => {
      machine.addEventListener(
        'stage',
        (event) => {
          if (/** @type {CustomEvent} */ (event).detail.id === 'ready') then();
        },
        { signal },
      );
    };
    atPrompt(first, () => {
      first.pause();
      atPrompt(second, () => {
        this.turns?.abort();
        first.resume();
      });
      second.boot();
    });
    first.boot();
  }

  look() {
    const now = performance.now();
    this.machines.forEach((machine, n) => this.watches[n].look(machine.model, now));
    for (const { line, cells } of this.rows) {
      const values = this.machines.map((machine, n) => line.value(machine, this.watches[n]));
      const most = Math.max(line.full ?? 0, ...values.map((v) => v ?? 0));
      cells.forEach(({ bar, text }, n) => {
        const value = values[n];
        setText(text, value === undefined ? '–' : line.show(value));
        bar.style.width = `${most > 0 ? (100 * (value ?? 0)) / most : 0}%`;
      });
    }
  }

  close() {
    clearInterval(this.timer);
    this.turns?.abort();
    this.place.classList.remove('comparing');
    this.element.remove();
  }
}
