// Two modes of one guest side by side: one click from home, each with its own worker and its own figures.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds until both have their prompts, on a busy machine. */
const BOOT_LIMIT = 300_000;

/** The lines of the comparison, by label. @param {import('./harness.mjs').Visitor} visitor @returns {Promise<Record<string, string[]>>} */
function lines({ page }) {
  return page.locator('.compare-line').evaluateAll((all) =>
    Object.fromEntries(all.map((line) => [line.querySelector('.label')?.textContent ?? '', [...line.querySelectorAll('b')].map((b) => b.textContent ?? '')])),
  );
}

/**
 * Waits until each machine's console ends with a prompt.
 * @param {import('./harness.mjs').Visitor} visitor @returns {Promise<void>}
 */
async function prompts({ page }) {
  const end = performance.now() + BOOT_LIMIT;
  for (;;) {
    const texts = await page.locator('x86-machine:not([hidden])').evaluateAll((all) => all.map((machine) => /** @type {any} */ (machine).console.text()));
    if (texts.length === 2 && texts.every((text) => PROMPT.test(text))) return;
    assert.ok(performance.now() < end, texts.map((text) => text.slice(-500)).join('\n────\n'));
    await page.waitForTimeout(100);
  }
}

/** "5.6 s", "1.92 G", "71.8 k" as a number. @param {string} text */
function number(text) {
  const scale = /** @type {Record<string, number>} */ ({ k: 1e3, M: 1e6, G: 1e9 });
  const [, n, unit] = /^([\d.]+) ?([kMG]?)/.exec(text) ?? [];
  return Number(n) * (scale[unit] ?? 1);
}

test('a PC and a PV domain boot the same kernel side by side', async (t) => {
  const visitor = await visit(t);
  const { page } = visitor;
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  await page.locator('[data-guest="linux64"]').getByRole('button', { name: 'Compare PC and PV' }).click();
  await prompts(visitor);
  await page.waitForTimeout(1200);
  assert.deepEqual(await page.locator('x86-machine:not([hidden])').evaluateAll((all) => all.map((m) => /** @type {any} */ (m).config.mode)), ['pc', 'pv']);
  const together = await lines(visitor);
  t.diagnostic(`together: ${JSON.stringify(together)}`);
  for (const label of ['Boot to prompt', 'in the guest', 'Instructions for it', 'Exits for it']) {
    assert.ok(together[label]?.every((text) => number(text) > 0), `${label}: ${together[label]}`);
  }
  // Each left its guest more than a few times.
  const [pc, pv] = together['Exits for it'].map(number);
  assert.ok(pc > 10_000 && pv > 10_000, `${pc} ${pv}`);
  await visitor.screenshots('compare');

  await page.getByRole('button', { name: 'One after the other' }).click();
  const [left, right] = [0, 1].map((n) => page.locator('x86-machine:not([hidden])').nth(n));
  const state = (/** @type {import('playwright-core').Locator} */ machine) => machine.evaluate((m) => /** @type {any} */ (m).state);
  const until = async (/** @type {() => Promise<boolean>} */ done) => {
    const end = performance.now() + BOOT_LIMIT;
    while (!(await done())) {
      assert.ok(performance.now() < end, `${await state(left)}, ${await state(right)}`);
      await page.waitForTimeout(50);
    }
  };
  await until(async () => (await state(left)) === 'running');
  assert.equal(await state(right), 'off', 'the second does not wait for its turn');
  await until(async () => (await state(left)) === 'paused');
  await until(async () => ['running', 'idle'].includes(await state(left)));
  await page.waitForTimeout(1200);
  t.diagnostic(`one after the other: ${JSON.stringify(await lines(visitor))}`);

  // Another pair, then home: both machines are still there.
  await page.getByLabel('Left machine').selectOption('pvh');
  await page.locator('x86-machine:not([hidden])').nth(1).waitFor();
  assert.match(decodeURIComponent(page.url()), /#compare=linux64@pvh,linux64@pv$/);
  await page.locator('.compare').getByRole('button', { name: 'Machines' }).click();
  await page.locator('#home').waitFor();
  assert.equal(await page.locator('.open-machine').count(), 3);
  assert.deepEqual(visitor.complaints, []);
});

test('nothing of a comparison sticks out at 360 pixels', async (t) => {
  const visitor = await visit(t, { view: { width: 360, height: 640 }, path: '#compare=linux64,linux64@pv' });
  await visitor.page.locator('.compare').waitFor();
  assert.equal(await visitor.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
  assert.equal(await visitor.page.locator('x86-machine:not([hidden])').count(), 2);
});
