// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { KEY_CODES } from '../key-codes.js';
import { strokes } from '../touch-keys.js';
import { hasMore, portion } from '../picture.js';

// Node has no such class; this is all that is used of it.
globalThis.ImageData ??= /** @type {any} */ (
  class {
    constructor(/** @type {Uint8ClampedArray} */ data, /** @type {number} */ width, /** @type {number} */ height) {
      assert.equal(data.length, width * height * 4);
      Object.assign(this, { data, width, height });
    }
  }
);

test('keys have the numbers that Linux gives them', () => {
  // One of each run and each end, read from input-event-codes.h by eye.
  const some = {
    Escape: 1, Backspace: 14, Tab: 15, Enter: 28, ControlLeft: 29, KeyA: 30, Backquote: 41, ShiftLeft: 42, NumpadMultiply: 55, AltLeft: 56, Space: 57,
    F10: 68, ScrollLock: 70, Numpad7: 71, NumpadDecimal: 83, Lang5: 85, IntlBackslash: 86, F11: 87, F12: 88, IntlRo: 89, NonConvert: 94, NumpadEnter: 96,
    ControlRight: 97, PrintScreen: 99, AltRight: 100, Home: 102, Delete: 111, AudioVolumeMute: 113, NumpadEqual: 117, Pause: 119, NumpadComma: 121,
    IntlYen: 124, MetaLeft: 125, ContextMenu: 127, Undo: 131, Help: 138, LaunchApp2: 140, Sleep: 142, LaunchApp1: 144, LaunchMail: 155, BrowserBack: 158,
    Eject: 161, MediaTrackNext: 163, MediaStop: 166, MediaSelect: 171, BrowserRefresh: 173, NumpadParenLeft: 179, F13: 183, F24: 194, BrowserSearch: 217,
    BrightnessDown: 224, Fn: 464, OSLeft: 125,
  };
  for (const [name, code] of Object.entries(some)) assert.equal(KEY_CODES.get(name), code, name);
  // Aliases apart, each number is one key's.
  const own = [...KEY_CODES].filter(([name]) => !/^(OS|Volume)/.test(name)).map(([, code]) => code);
  assert.equal(new Set(own).size, own.length);
  assert.ok(KEY_CODES.size > 150 && own.every((code) => code > 0 && code < 0x300));
});

test('every letter, digit and function key is there', () => {
  const names = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'].map((c) => `Key${c}`).concat([...'0123456789'].flatMap((d) => [`Digit${d}`, `Numpad${d}`]));
  for (let n = 1; n <= 24; n++) names.push(`F${n}`);
  assert.deepEqual(names.filter((name) => !KEY_CODES.has(name)), []);
});

test('a portion is the picture’s size and rectangles that share its memory', () => {
  const words = (/** @type {number[]} */ ...n) => n.flatMap((w) => [w & 255, w >> 8]);
  const bytes = Uint8Array.from([...words(800, 600, 1, 0), ...words(300, 2, 2, 1), 1, 2, 3, 255, 4, 5, 6, 255, ...words(0, 599, 1, 1), 7, 8, 9, 255]);
  const { width, height, parts } = portion(bytes);
  assert.deepEqual([width, height, hasMore(bytes), parts.length], [800, 600, true, 2]);
  assert.deepEqual(parts.map(({ x, y, image }) => [x, y, image.width, image.height, [...image.data]]), [
    [300, 2, 2, 1, [1, 2, 3, 255, 4, 5, 6, 255]],
    [0, 599, 1, 1, [7, 8, 9, 255]],
  ]);
  assert.equal(parts[0].image.data.buffer, bytes.buffer);
  assert.deepEqual(portion(new Uint8Array(8)), { width: 0, height: 0, parts: [] });
});

test('what text there is on a US keyboard becomes strokes of keys that exist', () => {
  assert.deepEqual(strokes('aB1!\n~\''), [['KeyA'], ['ShiftLeft', 'KeyB'], ['Digit1'], ['ShiftLeft', 'Digit1'], ['Enter'], ['ShiftLeft', 'Backquote'], ['Quote']]);
  assert.deepEqual(strokes('äß€'), []);
  const printable = Array.from({ length: 95 }, (_, n) => String.fromCharCode(0x20 + n)).join('');
  const all = strokes(printable);
  assert.equal(new Set(all.map((keys) => keys.join())).size, 95);
  assert.ok(all.flat().every((name) => KEY_CODES.has(name)));
});
