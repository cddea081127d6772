// What the page asks of a domain's guest: to give memory back and take it again, to start again, to shut down.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine. */
const BOOT_LIMIT = 300_000;
/** MiB that the guest may come to have, more than it boots with. */
const MOST = 384;

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
    const card = await visitor.options('linux64', mode);
    await card.getByLabel('At most, while it runs').fill(String(MOST));
    await visitor.boot('linux64');
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    const { machine } = visitor;
    const [slider, memory] = [machine.getByLabel('Memory of the guest in MiB'), machine.locator('.balloon output')];
    await slider.waitFor();
    assert.equal(Number(await slider.getAttribute('max')), MOST);
    const boot = Number(await slider.inputValue());
    const before = await total(visitor);
    for (const target of [boot - 64, MOST]) {
      await slider.fill(String(target));
      await memory.getByText(`${target} MiB`, { exact: true }).waitFor();
      const now = await total(visitor);
      assert.ok(Math.abs(before - now - (boot - target) * 1024) < 2048, `${now} kB of ${before} at ${target} of ${boot} MiB`);
      if (target < boot) await visitor.screenshots(`control-${mode}`);
    }
    // What it did not boot with is memory like any other.
    await visitor.command('mkdir /m; mount -t tmpfs -o size=95% m /m');
    await visitor.command('dd if=/dev/zero of=/m/x bs=1M count=250', { timeout: 120_000 });
    assert.equal(await visitor.command('stat -c %s /m/x; rm /m/x'), '262144000');
    // Nothing is shown of it, as only a script has a use for it.
    const tell = (/** @type {string} */ what) => machine.evaluate((element, what) => /** @type {any} */ (element).vm.send({ kind: 'tell', what }), what);
    await tell('suspend');
    await visitor.page.waitForTimeout(3000);
    const still = (await visitor.consoleText()).length;
    await visitor.type('echo awake\n');
    await visitor.page.waitForTimeout(1000);
    assert.equal((await visitor.consoleText()).length, still, 'a suspended guest says nothing');
    await tell('resume');
    await visitor.waitForText(/\nawake\n/, { after: still });
    const after = (await visitor.consoleText()).length;
    await machine.getByRole('button', { name: 'Restart', exact: true }).click();
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT, after });
    await machine.getByRole('button', { name: 'Shut down', exact: true }).click();
    await visitor.waitForState('off', 60_000);
    await slider.waitFor({ state: 'hidden' });
    assert.deepEqual(visitor.complaints, []);
  });
}

test('more memory than there can be is a card', async (t) => {
  const visitor = await visit(t);
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  await visitor.page.goto(new URL('#machine=linux64@pv', visitor.url).href);
  await visitor.machine.waitFor();
  for (const mostMiB of [1e9, 2 ** 40, '1e99']) {
    await visitor.machine.evaluate((element, mostMiB) => {
      const machine = /** @type {any} */ (element);
      machine.config = { ...machine.config, mostMiB };
      machine.boot();
    }, mostMiB);
    await visitor.machine.getByRole('alert').filter({ hasText: /did not start[^]*(RAM|memory)/i }).waitFor({ timeout: 60_000 });
    assert.equal(await visitor.state(), 'off');
  }
});
