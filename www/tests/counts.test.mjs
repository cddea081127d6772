// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { Rate, Watch, countsOf, exitsOf, sum } from '../counts.js';

const LINES = 'x 900 hypercall\nh 600 mmu_update\nx 400 page fault passed on\nh 300 iret\ne 7 timer\n';

/** @param {Partial<import('../protocol.js').Stats>} more @returns {import('../protocol.js').Stats} */
function stats(more) {
  return { instructions: 0, guestMs: 0, mips: 0, busy: 0, heapBytes: 0, visits: 0, disk: null, code: null, ...more };
}

test('lines of counts are told apart by their kind', () => {
  assert.deepEqual(countsOf(LINES, 'h'), [{ n: 600, name: 'mmu_update' }, { n: 300, name: 'iret' }]);
  assert.deepEqual(countsOf(LINES, 'e'), [{ n: 7, name: 'timer' }]);
  assert.equal(sum(countsOf(LINES, 'x')), 1300);
  assert.deepEqual(countsOf('', 'x'), []);
});

test('a PC leaves its guest for devices, a domain for whatever it counts', () => {
  assert.equal(exitsOf(stats({ visits: 42 })), 42);
  assert.equal(exitsOf(stats({ visits: 42, counts: LINES })), 1300);
});

test('figures of the prompt are those of the first look after it, until the next boot', () => {
  const watch = new Watch();
  const model = { stats: stats({ instructions: 1000, visits: 10 }), stages: new Map([['cpu', 5]]) };
  watch.look(model, 1000);
  assert.equal(watch.prompt, null);
  model.stages.set('ready', 900);
  watch.look(model, 1500);
  assert.equal(watch.prompt, null, 'these figures are from before the prompt');
  model.stats = stats({ instructions: 3000, visits: 40 });
  watch.look(model, 2000);
  assert.deepEqual(watch.prompt, { instructions: 3000, exits: 40 });
  assert.equal(watch.exits.perSecond, 30);
  model.stats = stats({ instructions: 4000, visits: 50 });
  watch.look(model, 2500);
  assert.deepEqual([watch.prompt, watch.exits.perSecond], [{ instructions: 3000, exits: 40 }, 20]);

  model.stages = new Map([['cpu', 5]]);
  model.stats = stats({ instructions: 100, visits: 5 });
  watch.look(model, 3000);
  assert.deepEqual([watch.prompt, watch.exits.perSecond], [null, 10]);
});

test('a count that starts anew has no negative rate', () => {
  const rate = new Rate();
  rate.look(500, 1000);
  assert.equal(rate.perSecond, 0, 'one look tells no rate');
  rate.look(600, 1500);
  assert.equal(rate.perSecond, 200);
  rate.look(50, 2000);
  assert.equal(rate.perSecond, 100);
  rate.look(60, 2000);
  assert.equal(rate.perSecond, 0, 'no time has passed');
});
