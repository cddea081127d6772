// What reaches a machine's worker from a page that somebody else has written.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine. */
const BOOT_LIMIT = 300_000;

test('what nobody can make sense of is refused, and the machine goes on', async (t) => {
  const visitor = await visit(t);
  const { machine } = visitor;
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  await visitor.boot('linux64', 'pvh');
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  /** Messages that are answered with a card, and those that are of no effect. @type {[unknown, RegExp | null][]} */
  const messages = [
    [{ kind: 'tell', what: 'dance' }, /"dance" cannot be asked of a domain/],
    [{ kind: 'tell' }, /"undefined" cannot be asked/],
    [{ kind: 'tell', what: { toString: 1 } }, /cannot do/],
    [{ kind: 'disk', disk: 7, whole: true }, /there is no disk 7/],
    [{ kind: 'share', add: [] }, /no shared folder/],
    [{ kind: 'play', events: { length: 1e9 } }, /no list/],
    [{ kind: 'input', bytes: 'text' }, /no bytes/],
    [{ kind: 'input' }, /no bytes/],
    [{ kind: 'frames', bytes: { length: 1e12 } }, /no bytes/],
    [{ kind: 'frames' }, /cannot do/],
    [null, /cannot do/],
    [{ kind: 'consumed', bytes: 'many' }, null],
    [{ kind: 'consumed', bytes: -Infinity }, null],
    [{ kind: 'framesTaken', bytes: {} }, null],
    [{ kind: 'start', config: null }, null],
    [{ kind: 'start', config: 'hello' }, null],
    [{ kind: 'engine', module: 5 }, null],
    [{ kind: 'unheard of' }, null],
    [{}, null],
    [7, null],
  ];
  for (const [message, says] of messages) {
    const text = await machine.evaluate(async (element, { message, wait }) => {
      const it = /** @type {any} */ (element);
      const told = new Promise((resolve) => it.addEventListener('problem', (/** @type {any} */ e) => resolve(`${e.detail.what} ${e.detail.why}`), { once: true }));
      it.vm.send(message);
      const text = await Promise.race([told, new Promise((resolve) => setTimeout(resolve, wait ? 10_000 : 100))]);
      it.update({ problem: null });
      return text;
    }, { message, wait: says !== null });
    if (says) assert.match(String(text), says, JSON.stringify(message));
    else assert.equal(text, undefined, JSON.stringify(message));
    assert.match(await visitor.state(), /running|idle/, JSON.stringify(message));
  }
  assert.equal(await visitor.command('echo $((6 * 7))'), '42');
  // Asking what cannot be answered is the asker's affair.
  const refused = await machine.evaluate((element) => /** @type {any} */ (element).vm.ask(undefined).catch((/** @type {any} */ e) => e.problem.what));
  assert.equal(refused, 'The question could not be answered.');
  assert.equal(await visitor.command('echo $((7 * 7))'), '49');
  assert.deepEqual(visitor.complaints, []);
});
