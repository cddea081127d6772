// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { readingAhead } from '../disk.js';

const SIZE = 5_000_000;
const MIB = 1 << 20;

/** What is at a place. @param {number} from @param {number} end */
function bytes(from, end) {
  return Uint8Array.from({ length: end - from }, (_, k) => (from + k) % 251);
}

/** A disk that notes what it is asked for. */
function disk() {
  /** @type {[number, number][]} */
  const asked = [];
  const state = { broken: false };
  const read = readingAhead(SIZE, async (from, length) => {
    asked.push([from, length]);
    if (state.broken) throw new Error('gone');
    return bytes(from, from + length);
  });
  return { asked, read, state };
}

test('reads here and there are what they were', async () => {
  const { asked, read } = disk();
  for (const [from, length] of [[0, 4096], [65536, 4096], [8192, 100]]) assert.deepEqual(await read(from, length), bytes(from, from + length));
  assert.deepEqual(asked, [[0, 4096], [65536, 4096], [8192, 100]]);
});

test('reads in a row are fewer and longer, and deliver the same', async () => {
  const { asked, read } = disk();
  for (let from = 0; from < SIZE; from += 131072) assert.deepEqual(await read(from, 131072), bytes(from, Math.min(from + 131072, SIZE)));
  assert.equal(asked.reduce((sum, [, length]) => sum + length, 0), SIZE);
  assert.equal(asked.length, 6);
  assert.deepEqual(asked.slice(0, 3), [[0, 131072], [131072, MIB], [131072 + MIB, MIB]]);
});

test('a failure is told to whoever waits, and is not kept', async () => {
  const { read, state } = disk();
  await read(0, 131072);
  state.broken = true;
  await assert.rejects(read(131072, 131072), /gone/);
  state.broken = false;
  assert.deepEqual(await read(131072, 131072), bytes(131072, 262144));
});
