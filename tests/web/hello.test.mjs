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
