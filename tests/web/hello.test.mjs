// The project's own guest: every button of the machine.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

test('hello boots, answers, pauses, restarts and switches itself off', async (t) => {
  const visitor = await visit(t);
  await visitor.boot('hello');
  await visitor.waitForText(PROMPT);
  const help = await visitor.command('help');
  for (const word of ['mem', 'time', 'bench', 'off']) assert.match(help, new RegExp(`\\b${word}\\b`));
  await visitor.screenshots('hello');

  await visitor.button('Pause').click();
  await visitor.waitForState('paused');
  const paused = (await visitor.consoleText()).length;
  await visitor.type('help\n');
  await visitor.page.waitForTimeout(300);
  assert.equal((await visitor.consoleText()).length, paused, 'a paused machine printed something');
  await visitor.button('Resume').click();
  await visitor.waitForText(/\bbench\b/, { after: paused });

  const before = (await visitor.consoleText()).length;
  await visitor.button('Reset').click();
  await visitor.waitForText(PROMPT, { after: before });
  await visitor.type('off\n');
  await visitor.waitForState('off');
  await visitor.button('Boot again').click();
  await visitor.waitForText(PROMPT);
  await visitor.button('Power off').click();
  await visitor.waitForState('off');
  assert.deepEqual(visitor.complaints, []);
});

test('an address starts hello before the page, which takes it over with all it said', async (t) => {
  const visitor = await visit(t, {
    path: '#boot=hello',
    before: () => {
      const self = /** @type {any} */ (globalThis);
      self.workers = 0;
      const { Worker } = self;
      self.Worker = class extends Worker {
        constructor(/** @type {any[]} */ ...args) {
          super(...args);
          self.workers += 1;
        }
      };
    },
  });
  await visitor.waitForText(PROMPT);
  const seen = await visitor.machine.evaluate((/** @type {any} */ machine) => {
    const self = /** @type {any} */ (globalThis);
    return { workers: self.workers, ahead: self.ahead.began - machine.bootAt, files: machine.model.files.size, text: machine.console.text() };
  });
  assert.deepEqual({ ...seen, text: '' }, { workers: 1, ahead: 0, files: 1, text: '' });
  assert.match(seen.text, /^\s*\S.*hello/is, 'the beginning of the console is there');
  await visitor.button('Power off').click();
  await visitor.waitForState('off');
  await visitor.button('Boot again').click();
  await visitor.waitForText(PROMPT);
  assert.deepEqual(visitor.complaints, []);
});

test('a machine may have 3 GiB of memory', async (t) => {
  const visitor = await visit(t, { path: '#machine=hello' });
  await visitor.machine.evaluate((element) => {
    const machine = /** @type {any} */ (element);
    machine.config = { ...machine.config, memoryMiB: 3072 };
    machine.boot();
  });
  await visitor.waitForText(PROMPT);
  assert.match(await visitor.command('mem'), /0x00c0000000[^\n]*RAM[^]*3071 MiB/);
  assert.deepEqual(visitor.complaints, []);
});
