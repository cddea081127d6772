// <x86-console>: a serial terminal. xterm.js is fetched when the console first opens, not before.
// Guest output reaches the page only through xterm, which draws text and never HTML.

import { CONSOLE_ACK } from './console-window.js';
import { el } from './dom.js';

/**
 * The part of xterm.js this file uses.
 * @typedef {object} Terminal
 * @property {number} rows
 * @property {number} cols
 * @property {Record<string, unknown>} options
 * @property {{active: {length: number, baseY: number, cursorY: number, getLine(y: number): TerminalLine | undefined}}} buffer
 * @property {HTMLTextAreaElement | undefined} textarea
 * @property {(parent: HTMLElement) => void} open
 * @property {(data: Uint8Array | string, done?: () => void) => void} write
 * @property {(addon: unknown) => void} loadAddon
 * @property {(listener: (data: string) => void) => void} onData
 * @property {(listener: (data: string) => void) => void} onBinary
 * @property {(handler: (event: KeyboardEvent) => boolean) => void} attachCustomKeyEventHandler
 * @property {() => string} getSelection
 * @property {() => void} clearSelection
 * @property {() => void} focus
 * @property {() => void} blur
 * @property {() => void} reset
 * @property {() => void} dispose
 */
/** @typedef {{isWrapped: boolean, translateToString(trim: boolean): string}} TerminalLine */

const FONT = 'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", "Roboto Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

/** The sixteen colours for either theme; the rest of the palette is xterm's. */
const THEMES = {
  dark: {
    background: '#0e1113', foreground: '#d9dee2', cursor: '#7fc4b8', cursorAccent: '#0e1113', selectionBackground: '#31525080',
    scrollbarSliderBackground: '#9aa5ac2e', scrollbarSliderHoverBackground: '#9aa5ac55', scrollbarSliderActiveBackground: '#9aa5ac77',
    black: '#2a3035', red: '#ec7f76', green: '#8fc88a', yellow: '#dcbf74', blue: '#82aee8', magenta: '#c99be0', cyan: '#74c5c5', white: '#ccd2d6',
    brightBlack: '#7b868e', brightRed: '#ff9d94', brightGreen: '#a9dda4', brightYellow: '#f0d48c', brightBlue: '#a0c4f5', brightMagenta: '#dcb6ef', brightCyan: '#93dcdc', brightWhite: '#f4f6f7',
  },
  light: {
    background: '#fdfdfb', foreground: '#22292d', cursor: '#0d6e63', cursorAccent: '#fdfdfb', selectionBackground: '#b7dcd680',
    scrollbarSliderBackground: '#5b656b26', scrollbarSliderHoverBackground: '#5b656b4d', scrollbarSliderActiveBackground: '#5b656b70',
    black: '#22292d', red: '#b3362c', green: '#34732f', yellow: '#835f06', blue: '#2459a6', magenta: '#80409e', cyan: '#11696c', white: '#737b80',
    brightBlack: '#5f686e', brightRed: '#c4473c', brightGreen: '#3f8239', brightYellow: '#946c0c', brightBlue: '#3369ba', brightMagenta: '#9151b0', brightCyan: '#1d797c', brightWhite: '#3a4247',
  },
};

/** The terminal and what makes it fit. */
const VENDOR = ['xterm.mjs', 'addon-fit.mjs'].map((name) => new URL(`./vendor/${name}`, import.meta.url).href);

/** Keys a touch keyboard lacks, and what they send. */
const TOUCH_KEYS = [
  ['Esc', '\x1b'],
  ['Tab', '\t'],
  ['Ctrl', 'ctrl'],
  ['Alt', 'alt'],
  ['↑', '\x1b[A'],
  ['↓', '\x1b[B'],
  ['←', '\x1b[D'],
  ['→', '\x1b[C'],
  ['^C', '\x03'],
];

/**
 * Events: `leave` when the visitor asks to get out with the keyboard.
 */
export class X86Console extends HTMLElement {
  constructor() {
    super();
    /** @type {(bytes: Uint8Array) => void} where typed bytes go */
    this.ontyped = () => {};
    /** @type {(bytes: number) => void} told what has been drawn */
    this.ondrawn = () => {};
    /** @type {(text: string) => void} told the decoded text, for stage recognition */
    this.ontext = () => {};
    /** @type {Terminal | null} */
    this.terminal = null;
    /** @type {{fit(): void} | null} */
    this.fitter = null;
    /** @type {Promise<void> | null} */
    this.opening = null;
    this.fetching = false;
    this.sticky = { ctrl: false, alt: false };
    this.drawn = 0;
    this.decoder = new TextDecoder();
    this.encoder = new TextEncoder();
    const root = this.attachShadow({ mode: 'open', delegatesFocus: true });
    this.screen = el('div', { class: 'screen' });
    this.keys = this.keyRow();
    const here = (/** @type {string} */ path) => new URL(path, import.meta.url).href;
    root.append(
      el('link', { rel: 'stylesheet', href: here('./tokens.css') }),
      el('link', { rel: 'stylesheet', href: here('./vendor/xterm.css') }),
      el('link', { rel: 'stylesheet', href: here('./x86-console.css') }),
      this.screen,
      this.keys,
    );
    this.resizes = new ResizeObserver(() => this.fit());
    this.darkness = matchMedia('(prefers-color-scheme: dark)');
    this.retheme = () => {
      if (this.terminal) this.terminal.options.theme = this.darkness.matches ? THEMES.dark : THEMES.light;
    };
  }

  connectedCallback() {
    this.resizes.observe(this.screen);
    this.darkness.addEventListener('change', this.retheme);
  }

  disconnectedCallback() {
    this.resizes.disconnect();
    this.darkness.removeEventListener('change', this.retheme);
  }

  /** Load and show the terminal; later calls return the same promise. @returns {Promise<void>} */
  open() {
    this.opening ??= this.load();
    return this.opening;
  }

  /** The terminal will be wanted soon: the browser may fetch it. */
  prefetch() {
    if (this.fetching) return;
    this.fetching = true;
    document.head.append(...VENDOR.map((href) => el('link', { rel: 'modulepreload', href })));
  }

  async load() {
    const [xterm, fit] = await Promise.all(VENDOR.map((href) => import(href)));
    /** @type {Terminal} */
    const terminal = new xterm.Terminal({
      fontFamily: FONT,
      fontSize: this.clientWidth < 520 ? 11 : 14,
      lineHeight: 1.2,
      scrollback: 5000,
      // A blinking cursor keeps the page's compositor awake: 7 % of a core beside an idle guest's 0.4 %.
      cursorBlink: false,
      minimumContrastRatio: 4.5,
      theme: this.darkness.matches ? THEMES.dark : THEMES.light,
    });
    this.fitter = new fit.FitAddon();
    terminal.loadAddon(this.fitter);
    terminal.open(this.screen);
    terminal.onData((data) => this.send(this.withSticky(data)));
    terminal.onBinary((data) => this.ontyped(Uint8Array.from(data, (c) => c.charCodeAt(0))));
    terminal.attachCustomKeyEventHandler((event) => this.key(event));
    terminal.textarea?.setAttribute('aria-label', 'Serial console of the guest. Control Shift X leaves it.');
    this.terminal = terminal;
    this.fit();
  }

  /** @param {Uint8Array} bytes guest output */
  async write(bytes) {
    this.ontext(this.decoder.decode(bytes, { stream: true }));
    try {
      await this.open();
    } catch {
      return; // Whoever opened the console has been told; the guest runs on without a picture.
    }
    this.terminal?.write(bytes, () => {
      this.drawn += bytes.length;
      // Small portions are reported together: what is left over is far below the window.
      if (this.drawn < CONSOLE_ACK) return;
      this.ondrawn(this.drawn);
      this.drawn = 0;
    });
  }

  /** Type text into the guest. @param {string} text */
  send(text) {
    this.ontyped(this.encoder.encode(text));
  }

  /** @returns {string} everything on the console, scrollback included, wrapped lines joined */
  text() {
    const buffer = this.terminal?.buffer.active;
    if (!buffer) return '';
    let text = '';
    for (let y = 0; y < buffer.length; y++) {
      const line = buffer.getLine(y);
      if (!line) continue;
      const wrapsOn = buffer.getLine(y + 1)?.isWrapped ?? false;
      if (y > 0 && !line.isWrapped) text += '\n';
      text += line.translateToString(!wrapsOn);
    }
    return text.trimEnd();
  }

  /** @param {number} rows @param {number} cols @returns {string} the last lines, cut to a picture's size */
  thumbnail(rows, cols) {
    return this.text().split('\n').slice(-rows).map((line) => line.slice(0, cols)).join('\n');
  }

  /** A line of ours between the guest's, at a reset. @param {string} label */
  rule(label) {
    this.terminal?.write(`\x1b[0m\r\n\x1b[2m──── ${label} ────\x1b[0m\r\n`);
  }

  clear() {
    this.terminal?.reset();
  }

  focus() {
    if (this.terminal) this.terminal.focus();
    else this.opening?.then(() => this.terminal?.focus(), () => {});
  }

  fit() {
    if (this.terminal && this.screen.clientWidth > 0 && this.screen.clientHeight > 0) this.fitter?.fit();
  }

  /** @param {KeyboardEvent} event @returns {boolean} false: not for the guest */
  key(event) {
    if (event.ctrlKey && event.shiftKey && event.code === 'KeyX') {
      if (event.type === 'keydown') {
        event.preventDefault();
        this.terminal?.blur();
        this.dispatchEvent(new CustomEvent('leave'));
      }
      return false;
    }
    if (event.ctrlKey && event.shiftKey && event.code === 'KeyC') {
      if (event.type === 'keydown' && this.terminal) {
        event.preventDefault();
        navigator.clipboard?.writeText(this.terminal.getSelection()).catch(() => {});
      }
      return false;
    }
    // Ctrl+Shift+V is the browser's own paste; xterm receives the text as a paste event.
    if (event.ctrlKey && event.shiftKey && event.code === 'KeyV') return false;
    return true;
  }

  /** @param {string} data @returns {string} with Ctrl or Alt of the touch row applied */
  withSticky(data) {
    const { ctrl, alt } = this.sticky;
    if ((!ctrl && !alt) || data.length !== 1) return data;
    this.sticky = { ctrl: false, alt: false };
    this.showSticky();
    const code = data.toUpperCase().charCodeAt(0);
    const controlled = ctrl && code >= 0x40 && code < 0x60 ? String.fromCharCode(code & 0x1f) : data;
    return alt ? `\x1b${controlled}` : controlled;
  }

  keyRow() {
    const row = el('div', { class: 'keys', role: 'toolbar', 'aria-label': 'Keys a touch keyboard lacks' });
    for (const [label, sends] of TOUCH_KEYS) {
      const press = () => {
        if (sends === 'ctrl' || sends === 'alt') {
          this.sticky[sends] = !this.sticky[sends];
          this.showSticky();
        } else {
          this.send(sends);
        }
        this.focus();
      };
      row.append(el('button', { type: 'button', 'data-key': sends, click: press }, label));
    }
    return row;
  }

  showSticky() {
    for (const name of /** @type {const} */ (['ctrl', 'alt'])) {
      this.keys.querySelector(`[data-key=${name}]`)?.setAttribute('aria-pressed', String(this.sticky[name]));
    }
  }
}

customElements.define('x86-console', X86Console);
