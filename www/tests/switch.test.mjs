// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { Switch } from '../switch.js';

/** @param {string} to @param {string} from @param {number} [length] @returns {number[]} a frame with its head; addresses are one hexadecimal byte */
function frame(to, from, length = 60) {
  const mac = (/** @type {string} */ a) => (a === '*' ? Array(6).fill(0xff) : [0, 0x16, 0x3e, 0, 0, Number.parseInt(a, 16)]);
  const bytes = [...mac(to), ...mac(from)];
  return [0, length & 0xff, length >> 8, ...bytes, ...Array(length - bytes.length).fill(7)];
}

/** A switch with so many machines, and what each got. @param {number} count */
function bench(count) {
  const sw = new Switch();
  const got = Array.from({ length: count }, () => /** @type {number[]} */ ([]));
  const ports = got.map((all) => sw.plug((batch) => all.push(...batch)));
  const take = () => got.map((all) => all.splice(0));
  return { sw, ports, take };
}

test('a frame goes to all until its receiver is known, then to that one', () => {
  const { ports, take } = bench(3);
  const hello = frame('b', 'a');
  ports[0].send(Uint8Array.from(hello));
  assert.deepEqual(take(), [[], hello, hello]);
  const answer = frame('a', 'b');
  ports[1].send(Uint8Array.from(answer));
  assert.deepEqual(take(), [answer, [], []]);
  const both = [...hello, ...frame('*', 'a')];
  ports[0].send(Uint8Array.from(both));
  assert.deepEqual(take(), [[], both, frame('*', 'a')]);
  assert.deepEqual([ports[0].stats.framesOut, ports[0].stats.bytesOut, ports[1].stats.framesIn], [3, 180, 3]);
});

test('who moves is found again, and who is unplugged gets nothing', () => {
  const { ports, take } = bench(3);
  ports[0].send(Uint8Array.from(frame('*', 'a')));
  ports[2].send(Uint8Array.from(frame('*', 'a')));
  take();
  ports[1].send(Uint8Array.from(frame('a', 'b')));
  assert.deepEqual(take(), [[], [], frame('a', 'b')]);
  ports[2].unplug();
  ports[1].send(Uint8Array.from(frame('a', 'b')));
  assert.deepEqual(take(), [frame('a', 'b'), [], []]);
});

test('a machine that takes nothing loses frames, and the switch keeps no more for it', () => {
  const { ports, take } = bench(2);
  const big = Uint8Array.from(frame('b', 'a', 1500));
  for (let k = 0; k < 1000; k++) ports[0].send(big);
  const held = take()[1].length;
  assert.ok(held <= 1 << 20 && ports[1].stats.lost > 0);
  ports[1].taken(held);
  ports[0].send(big);
  assert.equal(take()[1].length, big.length);
});

test('what is no frame is dropped', () => {
  const { ports, take } = bench(2);
  const short = [0, 5, 0, 1, 2, 3, 4, 5];
  const cut = frame('b', 'a').slice(0, 40);
  ports[0].send(Uint8Array.from([...short, ...frame('b', 'a'), ...cut]));
  assert.deepEqual(take(), [[], frame('b', 'a')]);
  for (const odd of [[], [1], [0, 255, 255]]) ports[0].send(Uint8Array.from(odd));
  assert.deepEqual(take(), [[], []]);
});
