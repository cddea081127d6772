// What the page asks of a domain's guest: to give memory back and take it again, to start again, to shut down.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine. */
const BOOT_LIMIT = 300_000;

/** @param {import('./harness.mjs').Visitor} visitor @returns {Promise<number>} kB that the guest says it has */
async function total(visitor) {
  const after = (await visitor.consoleText()).length;
  await visitor.type('grep MemTotal /proc/meminfo; echo =done=\n');
  const [, kb] = await visitor.waitForText(/MemTotal: +(\d+) kB\s+=done=/, { after });
  return Number(kb);
}

for (const mode of ['pv', 'pvh']) {
  test(`a guest as ${mode} does what the page asks of it`, async (t) => {
    const visitor = await visit(t);
    assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
    await visitor.boot('linux64', mode);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    const { machine } = visitor;
    const [slider, memory] = [machine.getByLabel('Memory of the guest in MiB'), machine.locator('.balloon output')];
    await slider.waitFor();
    const most = Number(await slider.getAttribute('max'));
    const before = await total(visitor);
    for (const target of [most - 64, most]) {
      await slider.fill(String(target));
      await memory.getByText(`${target} MiB`, { exact: true }).waitFor();
      const now = await total(visitor);
      assert.ok(Math.abs(before - now - (most - target) * 1024) < 2048, `${now} kB of ${before} at ${target} of ${most} MiB`);
      if (target < most) await visitor.screenshots(`control-${mode}`);
    }
    const after = (await visitor.consoleText()).length;
    await machine.getByRole('button', { name: 'Restart', exact: true }).click();
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT, after });
    await machine.getByRole('button', { name: 'Shut down', exact: true }).click();
    await visitor.waitForState('off', 60_000);
    await slider.waitFor({ state: 'hidden' });
    assert.deepEqual(visitor.complaints, []);
  });
}
