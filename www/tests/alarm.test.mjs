// When a machine's worker goes on.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Alarm } from '../alarm.js';

const real = { setTimeout: globalThis.setTimeout, wait: Atomics.wait };
/** Milliseconds of time-outs, and of waits in place. @type {{later: number[], here: number[]}} */
let asked;

beforeEach(() => {
  asked = { later: [], here: [] };
  globalThis.setTimeout = /** @type {any} */ ((/** @type {() => void} */ action, /** @type {number} */ ms) => {
    asked.later.push(ms);
    return real.setTimeout(action, 0);
  });
  Atomics.wait = /** @type {any} */ ((/** @type {Int32Array} */ bed, /** @type {number} */ at, /** @type {number} */ is, /** @type {number} */ ms) => {
    if (bed[at] !== is) return 'not-equal';
    asked.here.push(ms);
    return 'timed-out';
  });
});
afterEach(() => Object.assign(globalThis, { setTimeout: real.setTimeout }) && Object.assign(Atomics, { wait: real.wait }));

/** An alarm, and a promise of its next action. Its channel has to be closed: it keeps node alive. */
function alarm() {
  /** @type {() => void} */
  let rang = () => {};
  const it = new Alarm(() => rang());
  return { it, rings: () => new Promise((resolve) => (rang = () => resolve(true))) };
}

test('less than a browser makes of a time-out is waited for in place, then messages come first', async () => {
  const { it, rings } = alarm();
  const rang = rings();
  it.after(0.25);
  assert.deepEqual(asked, { later: [], here: [0.25] });
  assert.equal(it.armed, true);
  await rang;
  assert.equal(it.armed, false);
  it.kick.close();
});

test('short waits follow one another until messages have their turn', async () => {
  const { it } = alarm();
  const { now } = performance;
  let ms = 0;
  performance.now = () => ms;
  /** Actions after each message that the alarm sent to itself. @type {number[]} */
  const turns = [];
  const send = it.kick.postMessage.bind(it.kick);
  it.kick.postMessage = (/** @type {unknown} */ data) => {
    turns.push(0);
    send(data);
  };
  const over = new Promise((resolve) => {
    it.action = () => {
      ms += 3;
      turns[turns.length - 1] += 1;
      if (asked.here.length < 7) it.after(0.25);
      else resolve(true);
    };
  });
  it.soon();
  await over;
  performance.now = now;
  assert.deepEqual(turns, [3, 3, 2]);
  assert.equal(asked.later.length, 0);
  it.kick.close();
});

test('a longer time is waited for outside, to the next millisecond and with an end', async () => {
  const { it, rings } = alarm();
  for (const [ms, becomes] of [[4, 4], [7.2, 8], [Infinity, 500]]) {
    asked.later = [];
    const rang = rings();
    it.after(ms);
    assert.deepEqual(asked, { later: [becomes], here: [] });
    await rang;
  }
  it.kick.close();
});

test('where waiting in place is not allowed it is a time-out', async () => {
  const { it, rings } = alarm();
  assert.ok(it.bed);
  it.bed = undefined;
  const rang = rings();
  it.after(0.25);
  assert.deepEqual(asked, { later: [1], here: [] });
  await rang;
  it.kick.close();
});

test('what is cancelled does not ring', async () => {
  const { it } = alarm();
  it.action = () => assert.fail('rang');
  it.after(0.25);
  it.cancel();
  it.after(9);
  it.cancel();
  await new Promise((resolve) => real.setTimeout(resolve, 20));
  it.kick.close();
});
