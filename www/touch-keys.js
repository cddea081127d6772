// A screen's keys where there are only fingers: a keyboard of glass types text, which becomes strokes on a US keyboard, and a
// row has the keys it lacks. Loaded where the pointer is a finger.

import { el } from './dom.js';
import { KEY_CODES } from './key-codes.js';

/** What keys of a US keyboard type, alone and with Shift; letters apart. */
const SIGNS = {
  Backquote: '`~',
  Digit1: '1!',
  Digit2: '2@',
  Digit3: '3#',
  Digit4: '4$',
  Digit5: '5%',
  Digit6: '6^',
  Digit7: '7&',
  Digit8: '8*',
  Digit9: '9(',
  Digit0: '0)',
  Minus: '-_',
  Equal: '=+',
  BracketLeft: '[{',
  BracketRight: ']}',
  Backslash: '\\|',
  Semicolon: ';:',
  Quote: '\'"',
  Comma: ',<',
  Period: '.>',
  Slash: '/?',
  Space: ' ',
  Enter: '\n',
  Tab: '\t',
};

/** The row: what is on a key, and which it is. Those that are held are held until the next stroke. */
const ROW = /** @type {const} */ ([
  ['Esc', 'Escape'],
  ['Tab', 'Tab'],
  ['Ctrl', 'ControlLeft'],
  ['Alt', 'AltLeft'],
  ['↑', 'ArrowUp'],
  ['↓', 'ArrowDown'],
  ['←', 'ArrowLeft'],
  ['→', 'ArrowRight'],
]);
const HELD = ['ControlLeft', 'AltLeft'];

/** What deleting and breaking a line are on a keyboard, by `InputEvent.inputType`. @type {Record<string, string>} */
const EDITS = { deleteContentBackward: 'Backspace', deleteWordBackward: 'Backspace', deleteContentForward: 'Delete', insertLineBreak: 'Enter', insertParagraph: 'Enter' };

/** @param {string} text @returns {string[][]} strokes, each of keys pressed together; what no key types is left out */
export function strokes(text) {
  return [...text].flatMap((c) => {
    if (/[a-z]/.test(c)) return [[`Key${c.toUpperCase()}`]];
    if (/[A-Z]/.test(c)) return [['ShiftLeft', `Key${c}`]];
    const found = Object.entries(SIGNS).find(([, signs]) => signs.includes(c));
    if (!found) return [];
    return [found[1].indexOf(c) === 1 ? ['ShiftLeft', found[0]] : [found[0]]];
  });
}

export class TouchKeys {
  /** @param {(keys: number[]) => void} stroke presses keys together, and lets them go */
  constructor(stroke) {
    this.stroke = stroke;
    /** Names of keys that wait for the next one. @type {Set<string>} */
    this.held = new Set();
    // The browser deletes nothing where there is nothing.
    this.text = el('textarea', { 'aria-label': 'Keyboard of the guest', autocapitalize: 'off', autocomplete: 'off', autocorrect: 'off', spellcheck: 'false' }, ' ');
    this.text.addEventListener('beforeinput', (event) => this.typed(event));
    // Text that is still being put together cannot be held back; it is taken as a whole, when it is done.
    this.text.addEventListener('compositionend', ({ data }) => {
      this.text.value = ' ';
      for (const keys of strokes(data)) this.press(keys);
    });
    this.buttons = ROW.map(([label, name]) => el('button', { type: 'button', click: () => this.button(name) }, label));
    const open = el('button', { type: 'button', click: () => this.text.focus({ preventScroll: true }) }, 'Keyboard');
    this.element = el('div', { class: 'keys', role: 'toolbar', 'aria-label': 'Keys' }, ...this.buttons, open, this.text);
    // The keyboard stays as it is, open or not.
    this.element.addEventListener('pointerdown', (event) => event.target !== open && event.preventDefault());
  }

  /** @param {InputEvent} event */
  typed(event) {
    if (event.isComposing) return;
    event.preventDefault();
    const edit = EDITS[event.inputType];
    for (const keys of edit ? [[edit]] : strokes(event.data ?? '')) this.press(keys);
  }

  /** @param {string} name */
  button(name) {
    if (!HELD.includes(name)) this.press([name]);
    else if (!this.held.delete(name)) this.held.add(name);
    this.show();
  }

  /** @param {string[]} names */
  press(names) {
    const all = [...this.held, ...names];
    this.held.clear();
    this.show();
    this.stroke(all.flatMap((name) => KEY_CODES.get(name) ?? []));
  }

  show() {
    this.buttons.forEach((button, n) => {
      const [, name] = ROW[n];
      if (HELD.includes(name)) button.setAttribute('aria-pressed', String(this.held.has(name)));
    });
  }
}
