// The project's own guest: every button of the machine, and what the page says when files are wrong.

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

test('a kernel that is not there is named, with what to do', async (t) => {
  const visitor = await visit(t, { path: '#machine=hello' });
  await visitor.machine.waitFor();
  await visitor.machine.evaluate((element) => {
    const machine = /** @type {any} */ (element);
    machine.config = { ...machine.config, files: [{ role: 'kernel', name: 'gone.bin', url: new URL('no-such-kernel', location.href).href }] };
    machine.boot();
  });
  const card = visitor.machine.getByRole('alert');
  await card.waitFor({ timeout: 20_000 });
  assert.match(await card.innerText(), /404|not found|not there/i);
  assert.match(await card.innerText(), /no-such-kernel|gone\.bin/);
});
