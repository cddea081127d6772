// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { SECTOR, collect, over, patch, size, together } from '../written.js';

/** @typedef {import('../written.js').Written} Written */

/** @param {number} first @param {number[]} sectors what each is full of @returns {Written} */
function run(first, sectors) {
  return { first, count: sectors.length, data: new Blob(sectors.map((byte) => new Uint8Array(SECTOR).fill(byte))) };
}

/** @param {Blob} blob @returns {Promise<number[]>} what each of its sectors begins and ends with */
async function sectors(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return Array.from({ length: Math.ceil(bytes.length / SECTOR) }, (_, n) => {
    const sector = bytes.subarray(n * SECTOR, (n + 1) * SECTOR);
    assert.ok(sector.every((byte) => byte === sector[0]));
    return sector[0];
  });
}

test('what a machine tells in portions becomes runs', async () => {
  const all = [[run(2, [5, 6]), run(9, [7])], [run(2 ** 40, [8])]];
  /** @type {Uint8Array[]} */
  const portions = [];
  for (const runs of all) {
    const parts = [];
    for (const { first, count, data } of runs) parts.push(BigUint64Array.of(BigInt(first), BigInt(count)), data);
    portions.push(new Uint8Array(await new Blob(parts).arrayBuffer()));
  }
  /** @type {number[][]} */
  const asked = [];
  const runs = collect({ written: (disk, from) => (asked.push([disk, from]), portions.shift() ?? new Uint8Array(0)) }, 3);
  assert.deepEqual(asked, [[3, 0], [3, 10], [3, 2 ** 40 + 1]]);
  assert.deepEqual(runs.map(({ first, count }) => [first, count]), [[2, 2], [9, 1], [2 ** 40, 1]]);
  assert.deepEqual(await Promise.all(runs.map(({ data }) => sectors(data))), [[5, 6], [7], [8]]);
  assert.equal(size(runs), 4 * SECTOR);
});

test('whatever is written over whatever, a disk has what was written last', async () => {
  const base = new Blob([new Uint8Array(19 * SECTOR), new Uint8Array(100)]);
  let x = 7;
  const random = (/** @type {number} */ n) => (x = (x * 48271) % 2147483647) % n;
  /** @type {Written[]} */
  let written = [];
  const model = Array(20).fill(0);
  for (let round = 1; round < 60; round++) {
    const first = random(10);
    const later = [run(first, Array(1 + random(4)).fill(round)), run(14 + random(3), Array(1 + random(3)).fill(round + 100))];
    for (const { first, count, data } of later) model.splice(first, count, ...(await sectors(data)));
    written = over(written, later);
    assert.ok(written.every(({ first, count }, n) => n + 1 === written.length || first + count <= written[n + 1].first));
    assert.deepEqual(await sectors(together(base, written)), model);
    const [from, count] = [random(10), 1 + random(9)];
    const bytes = new Uint8Array(count * SECTOR);
    assert.deepEqual(await sectors(new Blob([await patch(written, from * SECTOR, bytes)])), model.slice(from, from + count));
    assert.ok(bytes.every((byte) => byte === 0), 'the bytes may be somebody else’s');
  }
});

test('a last sector that is not whole becomes whole when it is written', async () => {
  const base = new Blob([new Uint8Array(SECTOR + 10)]);
  assert.equal(together(base, [run(0, [1])]).size, SECTOR + 10);
  assert.deepEqual(await sectors(together(base, [run(1, [1])])), [0, 1]);
});
