// A machine's screen beside its console: two tabs over the place of the console, and how the picture is shown.

import './x86-screen.js';
import { el, setText } from './dom.js';
import { icon } from './icons.js';

/** @typedef {import('./x86-machine.js').X86Machine} X86Machine */
/** @typedef {import('./x86-screen.js').X86Screen} X86Screen */

/** What the visitor chose last is likely to be right for the next machine. */
const SCALE = 'tabvisor.scale';

let serial = 0;

export class ScreenTab {
  /** @param {X86Machine} machine */
  constructor(machine) {
    this.machine = machine;
    this.screen = /** @type {X86Screen} */ (document.createElement('x86-screen'));
    this.screen.id = `screen-${++serial}`;
    this.screen.setAttribute('scale', remembered());
    this.screen.onplayed = (events) => machine.vm?.send({ kind: 'play', events });
    this.screen.ondrawn = () => machine.vm?.send({ kind: 'pictureTaken' });
    /** The visitor has chosen one; from then on nothing else does. */
    this.chosen = false;
    /** There has been a picture since power-on. */
    this.lit = false;
    const tab = (/** @type {string} */ label, /** @type {boolean} */ screen) =>
      el('button', { type: 'button', role: 'tab', click: () => this.choose(screen), keydown: (event) => this.arrow(event, screen) }, label);
    this.tabs = [tab('Screen', true), tab('Console', false)];
    this.scale = el('span', { class: 'scale' });
    this.fit = el('button', { type: 'button', class: 'quiet', title: 'Fill the place there is, with soft edges, instead of whole pixels', click: () => this.toggleFit() }, 'Fit');
    this.full = el('button', { type: 'button', class: 'quiet', title: 'Only the screen; Escape and its like go to the guest where the browser allows it', click: () => this.screen.fullscreen() }, icon('full'), 'Only the screen');
    this.tools = el('div', { class: 'tools' }, this.scale, this.fit, this.full);
    this.bar = el('div', { class: 'tabs' }, el('div', { role: 'tablist', 'aria-label': 'Screen or console' }, ...this.tabs), this.tools);
    const { stage } = machine.view;
    stage.classList.add('tabbed');
    stage.prepend(this.bar, this.screen);
    this.screen.addEventListener('leave', () => this.tabs[0].focus());
    this.screen.addEventListener('layout', () => this.renderScale());
    this.screen.addEventListener('focusin', () => machine.update({ focused: true }));
    this.screen.addEventListener('focusout', () => machine.update({ focused: false }));
    this.showFit();
    this.select(false);
  }

  /** @param {Uint8Array} bytes a portion of the picture */
  show(bytes) {
    this.screen.show(bytes);
    if (this.lit || this.screen.size.width === 0) return;
    this.lit = true;
    if (this.chosen) return;
    const typing = this.machine.model.focused;
    this.select(true);
    if (typing) this.screen.focus();
  }

  /** @param {boolean} screen */
  choose(screen) {
    this.chosen = true;
    this.select(screen);
    if (screen) this.screen.focus();
    else this.machine.console.focus();
  }

  /** @param {boolean} screen or the console */
  select(screen) {
    const { stage } = this.machine.view;
    stage.toggleAttribute('data-screen', screen);
    this.tools.hidden = !screen;
    this.tabs.forEach((tab, n) => {
      const on = screen === (n === 0);
      tab.setAttribute('aria-selected', String(on));
      tab.tabIndex = on ? 0 : -1;
    });
  }

  /** @param {KeyboardEvent} event @param {boolean} screen the tab it comes from */
  arrow(event, screen) {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    this.chosen = true;
    this.select(!screen);
    this.tabs[screen ? 1 : 0].focus();
  }

  toggleFit() {
    const fit = this.screen.getAttribute('scale') !== 'fit';
    this.screen.setAttribute('scale', fit ? 'fit' : 'integer');
    try {
      localStorage.setItem(SCALE, fit ? 'fit' : 'integer');
    } catch {
      // Then it is forgotten.
    }
    this.showFit();
  }

  showFit() {
    this.fit.setAttribute('aria-pressed', String(this.screen.getAttribute('scale') === 'fit'));
  }

  renderScale() {
    const { size, factor } = this.screen;
    const times = Number.isInteger(factor) ? factor : factor.toFixed(2);
    setText(this.scale, size.width > 0 ? `${size.width} × ${size.height}, ${times}×` : '');
  }

  /** @param {import('./machine-view.js').MachineModel} m */
  render({ state, stages }) {
    if (state === 'off' && stages.size > 0 && this.lit) {
      this.lit = false;
      this.screen.blank('The machine is switched off.');
    }
  }

  close() {
    const { stage } = this.machine.view;
    stage.classList.remove('tabbed');
    stage.removeAttribute('data-screen');
    this.bar.remove();
    this.screen.remove();
  }
}

/** @returns {string} how the picture is shown at first: a phone has no room to give away, and pixels too small to be seen */
function remembered() {
  const usual = matchMedia('(pointer: coarse)').matches ? 'fit' : 'integer';
  try {
    return localStorage.getItem(SCALE) ?? usual;
  } catch {
    return usual;
  }
}
