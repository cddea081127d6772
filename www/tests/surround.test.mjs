// node --test www/tests
// What surrounds a domain in its worker, with a machine made of a few lines: its screen, and the story of its end.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Outside, displaySize } from '../outside.js';

/** A machine whose picture changes when its test says so. */
class Toy {
  /** @type {Uint8Array[]} */
  portions = [];
  /** @type {number[]} */
  played = [];
  size = [0, 0];
  picture = () => this.portions.shift() ?? new Uint8Array(0);
  play = (/** @type {Int32Array} */ events) => void this.played.push(...events);
  display = (/** @type {number} */ width, /** @type {number} */ height) => void (this.size = [width, height]);
  requests = () => new Float64Array(0);
  frames = () => new Uint8Array(0);
  counts = () => 'x 1 hypercall\n';
  memory = () => Float64Array.of(192, 200, 256);
  /** @type {string[]} */
  told = [];
  /** @param {string} what */
  tell = (what) => this.told.push(what);
}

/** @param {[number, number] | null} display */
function surround(display) {
  /** @type {any[]} */
  const posted = [];
  let woken = 0;
  const outside = new Outside([], { display }, { post: (message) => posted.push(message), wake: () => (woken += 1), fail: assert.fail });
  const vm = new Toy();
  outside.attach(/** @type {any} */ (vm));
  return { outside, vm, posted, woken: () => woken };
}

/** @param {number} more @returns {Uint8Array} a portion */
const portion = (more = 0) => Uint8Array.of(1, 0, 1, 0, more, 0, 0, 0);

test('the page gets no more pictures than it can draw', () => {
  const { outside, vm, posted } = surround([800, 600]);
  assert.deepEqual(vm.size, [800, 600]);
  outside.serve();
  assert.equal(posted.length, 0, 'nothing has changed');
  vm.portions = [portion(), portion(1), portion()];
  outside.serve();
  outside.serve();
  outside.serve();
  assert.equal(posted.length, 1, 'the first is not drawn yet');
  outside.receive({ kind: 'pictureTaken' });
  assert.equal(posted.length, 2, 'there was more');
  outside.receive({ kind: 'pictureTaken' });
  assert.equal(posted.length, 3, 'that one said so itself');
  outside.receive({ kind: 'pictureTaken' });
  assert.equal(posted.length, 3);
  // A guest that sleeps is not asked again and again.
  vm.portions = [portion()];
  outside.receive({ kind: 'pictureTaken' });
  assert.equal(posted.length, 3);
  outside.serve();
  assert.deepEqual(posted.map(({ kind }) => kind), Array(4).fill('picture'));
});

test('keys wake the guest', () => {
  const { outside, vm, woken } = surround([800, 600]);
  outside.receive({ kind: 'play', events: [0, 30, 1] });
  assert.deepEqual([vm.played, woken()], [[0, 30, 1], 1]);
});

test('a machine without a screen is not asked for pictures', () => {
  const { outside, vm, posted } = surround(null);
  vm.portions = [portion()];
  outside.serve();
  assert.deepEqual([posted, vm.size], [[], [0, 0]]);
  assert.deepEqual(outside.stats(), { counts: 'x 1 hypercall\n', memory: [192, 200, 256], disk: null });
});

test('what the page asks of a guest is passed on, and wakes it', () => {
  const { outside, vm, woken } = surround(null);
  outside.receive({ kind: 'tell', what: 'memory 200' });
  assert.deepEqual([vm.told, woken()], [['memory 200'], 1]);
});

test('sizes of screens', () => {
  assert.equal(displaySize(undefined), null);
  assert.deepEqual(displaySize('1024x768'), [1024, 768]);
  for (const bad of ['1024', '1024x', 'axb', '1024x768x1', '123456x1']) assert.throws(() => displaySize(bad), /cannot have such a screen/);
});

test('who gave up, the guest or its hypervisor, is told apart', () => {
  const { outside } = surround(null);
  assert.match(outside.crash("the guest's kernel says that it has crashed\nrip 0").why ?? '', /SHUTDOWN_crash/);
  const stopped = outside.crash('the hypervisor has stopped the guest: no stack at 0x10\nrip 0');
  assert.match(stopped.what ?? '', /hypervisor has stopped/);
  assert.equal(stopped.why, 'No stack at 0x10.');
  assert.deepEqual(outside.crash('triple fault\nrip 0'), { why: 'Triple fault.' });
});
