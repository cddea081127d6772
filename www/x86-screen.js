// <x86-screen>: what a machine's graphics device shows, with its keyboard and pointer. It knows nothing of machines:
// whoever has one hands it portions of the picture (picture.js) and takes what is typed and pointed.
//
// Attribute scale: "integer" (if not given: each pixel of the guest is a whole number of yours, as large as there is room
// for) or "fit". Events: `leave` when the visitor asks to get out with the keyboard, `layout` when size or scale changes.

import { el, setText } from './dom.js';
import { KEY_CODES } from './key-codes.js';
import { PLAY, portion } from './picture.js';

/** Largest number of a position. */
const FAR = 65535;
/** A step of a wheel that turns by pixels, and one that turns by lines. */
const STEP = { pixels: 100, lines: 3 };
/** How long a full screen says how to leave it. */
const HINT_MS = 4000;

export class X86Screen extends HTMLElement {
  static observedAttributes = ['scale'];

  constructor() {
    super();
    /** @type {(events: number[]) => void} what was typed and pointed, as `PLAY` says */
    this.onplayed = () => {};
    /** @type {() => void} told when a portion is drawn, and the browser has had time to show it */
    this.ondrawn = () => {};
    /** Of the picture, in its own pixels; 0: there is none. */
    this.size = { width: 0, height: 0 };
    /** The browser's device pixels for one of the picture's. */
    this.factor = 1;
    /** Keys and buttons the guest believes to be pressed. @type {Set<number>} */
    this.held = new Set();
    this.buttons = 0;
    this.turned = 0;
    const root = this.attachShadow({ mode: 'open', delegatesFocus: true });
    this.canvas = el('canvas', {
      tabindex: '0',
      role: 'application',
      'aria-label': 'Screen of the guest. Control Shift X leaves it.',
      keydown: (event) => this.key(event, true),
      keyup: (event) => this.key(event, false),
      blur: () => this.release(),
      pointerdown: (event) => this.point(event),
      pointerup: (event) => this.point(event),
      pointermove: (event) => this.point(event),
      pointercancel: (event) => this.point(event),
      contextmenu: (event) => event.preventDefault(),
    });
    // Whoever only passes by scrolls the page; so the browser has to be told that this may be stopped.
    this.canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext('2d', { alpha: false }));
    this.note = el('p', { class: 'note' });
    this.hint = el('p', { class: 'hint', hidden: true }, el('kbd', {}, 'Ctrl'), el('kbd', {}, 'Shift'), el('kbd', {}, 'X'), ' leaves the full screen');
    const here = (/** @type {string} */ path) => new URL(path, import.meta.url).href;
    const sheets = ['./tokens.css', './controls.css', './x86-screen.css'].map((href) => el('link', { rel: 'stylesheet', href: here(href) }));
    root.append(...sheets, this.canvas, this.note, this.hint);
    /** A row of keys, where there are only fingers. @type {import('./touch-keys.js').TouchKeys | null} */
    this.keys = null;
    if (matchMedia('(pointer: coarse)').matches) this.addKeys();
    this.resizes = new ResizeObserver(() => this.layout());
    this.full = () => this.fullscreenChanged();
    this.blank('The guest shows no picture yet.');
  }

  async addKeys() {
    const { TouchKeys } = await import('./touch-keys.js');
    this.keys = new TouchKeys((codes) => {
      const event = (/** @type {number} */ code, /** @type {number} */ pressed) => [PLAY.key, code, pressed];
      this.onplayed([...codes.flatMap((code) => event(code, 1)), ...codes.toReversed().flatMap((code) => event(code, 0))]);
    });
    this.shadowRoot?.append(this.keys.element);
    this.layout();
  }

  connectedCallback() {
    this.resizes.observe(this);
    this.addEventListener('fullscreenchange', this.full);
  }

  disconnectedCallback() {
    this.resizes.disconnect();
    this.removeEventListener('fullscreenchange', this.full);
  }

  attributeChangedCallback() {
    this.layout();
  }

  /** @param {Uint8Array} bytes a portion of the picture, which is nobody else's from now on */
  show(bytes) {
    const { width, height, parts } = portion(bytes);
    if (width === 0) this.blank('The guest shows no picture.');
    else if (width !== this.size.width || height !== this.size.height || this.canvas.hidden) this.resize(width, height);
    for (const { x, y, image } of parts) this.context.putImageData(image, x, y);
    // A page that nobody sees draws no frames, and gets no pictures meanwhile.
    requestAnimationFrame(() => this.ondrawn());
  }

  /** @param {string} why there is no picture */
  blank(why) {
    this.canvas.hidden = true;
    this.note.hidden = false;
    setText(this.note, why);
    this.size = { width: 0, height: 0 };
    this.held.clear();
    this.buttons = 0;
    this.layout();
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    this.size = { width, height };
    Object.assign(this.canvas, { width, height, hidden: false });
    this.note.hidden = true;
    this.layout();
  }

  layout() {
    const { width, height } = this.size;
    if (width === 0 || this.clientWidth === 0 || this.clientHeight === 0) return;
    const ratio = devicePixelRatio || 1;
    const below = this.keys?.element.offsetHeight ?? 0;
    const room = Math.min((this.clientWidth * ratio) / width, ((this.clientHeight - below) * ratio) / height);
    // A picture that is larger than its place is made smaller all the same: nobody likes to scroll a screen.
    this.factor = this.getAttribute('scale') === 'fit' || room < 1 ? room : Math.floor(room);
    const whole = Number.isInteger(this.factor);
    Object.assign(this.canvas.style, {
      width: `${(width * this.factor) / ratio}px`,
      height: `${(height * this.factor) / ratio}px`,
      imageRendering: whole ? 'pixelated' : 'auto',
    });
    this.dispatchEvent(new CustomEvent('layout'));
  }

  focus() {
    this.canvas.focus({ preventScroll: true });
  }

  /** Is what is typed and pointed for the guest? */
  get captured() {
    const active = this.shadowRoot?.activeElement;
    return active === this.canvas || (active !== null && active === this.keys?.text);
  }

  /** Leaves the keyboard to the page again. */
  leave() {
    this.canvas.blur();
    if (this.matches(':fullscreen')) document.exitFullscreen();
    this.dispatchEvent(new CustomEvent('leave'));
  }

  /** @param {KeyboardEvent} event @param {boolean} pressed */
  key(event, pressed) {
    if (pressed && event.ctrlKey && event.shiftKey && event.code === 'KeyX') {
      event.preventDefault();
      this.leave();
      return;
    }
    const code = KEY_CODES.get(event.code);
    if (code === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    // Released outside, or pressed there: nothing to tell.
    if (!pressed && !this.held.has(code)) return;
    if (pressed) this.held.add(code);
    else this.held.delete(code);
    this.onplayed([PLAY.key, code, Number(pressed)]);
    // While Command is held macOS does not say that other keys are released.
    if (!pressed && event.code.startsWith('Meta')) this.release();
  }

  /** Nothing is pressed any more. */
  release() {
    const keys = [...this.held].flatMap((code) => [PLAY.key, code, 0]);
    const events = [...keys, ...this.buttonsTo(0)];
    this.held.clear();
    if (events.length > 0) this.onplayed(events);
  }

  /** @param {number} now bits as in `PointerEvent.buttons` @returns {number[]} events that lead there */
  buttonsTo(now) {
    const events = [];
    for (let n = 0; n < 5; n++) {
      const bit = 1 << n;
      if ((now ^ this.buttons) & bit) events.push(PLAY.button, n, Number((now & bit) !== 0));
    }
    this.buttons = now;
    return events;
  }

  /** @param {PointerEvent} event */
  point(event) {
    if (!event.isPrimary) return;
    if (event.type === 'pointerdown') {
      if (!this.captured) this.focus();
      // A keyboard of glass stays open.
      event.preventDefault();
      this.canvas.setPointerCapture(event.pointerId);
    }
    if (!this.captured) return;
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.size;
    const place = (/** @type {number} */ at, /** @type {number} */ length, /** @type {number} */ pixels) => {
      const pixel = Math.min(Math.max(Math.floor((at / length) * pixels), 0), pixels - 1);
      return Math.round((pixel * FAR) / Math.max(1, pixels - 1));
    };
    const [x, y] = [place(event.clientX - box.left, box.width, width), place(event.clientY - box.top, box.height, height)];
    const pressed = event.type === 'pointercancel' ? 0 : event.buttons;
    this.onplayed([PLAY.position, x, y, ...this.buttonsTo(pressed)]);
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (!this.captured) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / STEP.pixels : event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY / STEP.lines : event.deltaY;
    this.turned -= lines;
    const steps = Math.trunc(this.turned);
    if (steps === 0) return;
    this.turned -= steps;
    this.onplayed([PLAY.wheel, steps, 0]);
  }

  async fullscreen() {
    try {
      await this.requestFullscreen();
      // Escape, Alt+Tab and their like go to the guest, in browsers that offer it.
      await /** @type {any} */ (navigator).keyboard?.lock?.();
    } catch {
      // A browser, or a page around this one, may forbid either.
    }
    this.focus();
  }

  fullscreenChanged() {
    const full = this.matches(':fullscreen');
    if (!full) /** @type {any} */ (navigator).keyboard?.unlock?.();
    this.hint.hidden = !full;
    if (full) setTimeout(() => (this.hint.hidden = true), HINT_MS);
    this.layout();
  }
}

customElements.define('x86-screen', X86Screen);
