// What is shown of a machine that runs under the hypervisor, beside what any machine shows: its screen, what it has asked
// for, its disks and network. Loaded with the first of them.

import { KINDS, Rate, countsOf, sum } from './counts.js';
import { ControlSection } from './control-section.js';
import { el, setText } from './dom.js';
import { count } from './format.js';
import { OutsideSection } from './outside-section.js';
import { asProblem } from './problem.js';
import { LAST_LINES } from './report.js';
import { ShareSection } from './share-section.js';

/** @typedef {import('./machine-view.js').MachineModel} MachineModel */
/** @typedef {import('./x86-machine.js').X86Machine} X86Machine */

/** The terminal needs so long to read what came last. */
const TERMINAL_MS = 200;

export class DomainView {
  /** @param {X86Machine} machine */
  constructor(machine) {
    this.machine = machine;
    this.outside = new OutsideSection(machine);
    this.counts = el('section', { class: 'counts', hidden: true }, el('h3', {}, 'Hypervisor'));
    this.groups = KINDS.map(({ kind, label, title }) => {
      const [rate, total, list] = [el('span', { class: 'rate' }), el('b'), el('dl', { class: 'pairs' })];
      this.counts.append(el('details', { open: kind === 'h' }, el('summary', { title }, el('span', {}, label), rate, total), list));
      return { kind, rate, total, list, speed: new Rate() };
    });
    /** The figures that are shown. @type {import('./protocol.js').Stats | null} */
    this.counted = null;
    const { view } = machine;
    this.sheet = el('link', { rel: 'stylesheet', href: new URL('./domain-view.css', import.meta.url).href });
    this.control = new ControlSection(machine);
    this.share = machine.config.share ? new ShareSection(machine) : null;
    this.sections = [this.control.element, ...(this.share ? [this.share.element] : []), this.outside.element, this.counts];
    view.rail.querySelector('.parts')?.before(...this.sections);
    view.element.before(this.sheet);
    view.more = this;
    /** @type {import('./screen-tab.js').ScreenTab | null} */
    this.screen = null;
    this.closed = false;
    /** What the guest's kernel said when it was in trouble. */
    this.lastWords = '';
    this.heard = (/** @type {Event} */ event) => this.problem(/** @type {CustomEvent<import('./protocol.js').Problem>} */ (event).detail);
    machine.addEventListener('problem', this.heard);
    const { display } = machine.config;
    /** Portions of a picture for a screen that is not there yet wait here. @type {Promise<void>} */
    this.ready = display ? this.openScreen() : Promise.resolve();
  }

  async openScreen() {
    try {
      const { ScreenTab } = await import('./screen-tab.js');
      if (this.closed) return;
      this.screen = new ScreenTab(this.machine);
      this.machine.update({});
    } catch (error) {
      this.machine.fail(asProblem(error, 'The screen could not be loaded.'));
    }
  }

  /** @param {import('./protocol.js').FromWorker} message that only a domain has */
  receive(message) {
    if (message.kind === 'picture') this.ready.then(() => this.screen?.show(message.bytes));
    else if (message.kind === 'disk') this.outside.arrived(message);
    else this.share?.arrived(message);
  }

  close() {
    this.closed = true;
    this.screen?.close();
    this.machine.removeEventListener('problem', this.heard);
    for (const node of [...this.sections, this.sheet]) node.remove();
    if (this.machine.view.more === this) this.machine.view.more = null;
  }

  /** @param {MachineModel} m */
  render(m) {
    this.renderCounts(m.stats);
    this.control.render(m);
    this.share?.render(m);
    this.outside.render(m.stats?.disk ?? null, m.link);
    this.screen?.render(m);
    this.renderCrash(m);
  }

  /** @param {import('./protocol.js').Problem} problem that the machine has just shown */
  problem(problem) {
    const { model } = this.machine;
    if (model.state !== 'crashed') this.lastWords = problem.why;
    else if (this.lastWords) this.machine.update({ problem: { ...problem, why: `${problem.why} ${this.lastWords}` } });
  }

  /** A crash is part of the story: where the processor stood, and what was said last. @param {MachineModel} m */
  renderCrash({ problem, state }) {
    const card = this.machine.view.problem;
    if (state !== 'crashed' || !problem?.details || card.querySelector('.crash')) return;
    const lines = problem.details.split('\n');
    const [from, to] = ['rip ', 'cr0 '].map((name) => lines.findIndex((line) => line.startsWith(name)));
    const part = (/** @type {string} */ title, /** @type {Node | string} */ text) => el('section', {}, el('h4', {}, title), el('pre', { tabindex: '0' }, text));
    const end = part('Last lines', '');
    card.append(el('div', { class: 'crash' }, from >= 0 && to >= from ? part('Registers', lines.slice(from, to + 1).join('\n')) : null, end));
    // The terminal may still be busy with them.
    setTimeout(() => {
      const place = /** @type {HTMLElement} */ (end.lastElementChild);
      setText(place, this.machine.console.text().split('\n').slice(-LAST_LINES).join('\n'));
      place.scrollTo(0, place.scrollHeight);
    }, TERMINAL_MS);
  }

  /** @param {import('./protocol.js').Stats | null} stats */
  renderCounts(stats) {
    if (stats === this.counted) return;
    this.counted = stats;
    this.counts.hidden = !stats?.counts;
    const now = performance.now();
    for (const { kind, rate, total, list, speed } of this.groups) {
      const all = countsOf(stats?.counts ?? '', kind);
      speed.look(sum(all), now);
      setText(rate, `${count(Math.round(speed.perSecond))}/s`);
      setText(total, count(sum(all)));
      while (list.children.length < 2 * all.length) list.append(el('dt'), el('dd'));
      while (list.children.length > 2 * all.length) list.lastChild?.remove();
      all.forEach(({ n, name }, at) => {
        setText(list.children[2 * at], name);
        setText(list.children[2 * at + 1], count(n));
      });
    }
  }
}
