// The page itself: it opens, is isolated, asks nobody else, works narrow and by keyboard.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { visit } from './harness.mjs';

test('the page opens without a complaint and offers its own guest', async (t) => {
  const visitor = await visit(t);
  assert.ok(await visitor.offers('hello'), 'there is no card for hello');
  assert.ok(await visitor.page.evaluate(() => crossOriginIsolated), 'the page is not cross-origin isolated');
  await visitor.screenshots('home');
  assert.deepEqual(visitor.foreign, [], 'the page asked another server');
  assert.deepEqual(visitor.complaints, []);
});

test('nothing sticks out at 360 pixels', async (t) => {
  const visitor = await visit(t, { view: { width: 360, height: 640 } });
  await visitor.offers('hello');
  const overflow = () => visitor.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(await overflow(), 0, 'the home view scrolls sideways');
  await visitor.page.goto(`${visitor.url}#machine=hello`);
  await visitor.machine.waitFor();
  assert.equal(await overflow(), 0, 'the machine view scrolls sideways');
});

test('a guest boots by keyboard alone', async (t) => {
  const visitor = await visit(t);
  await visitor.offers('hello');
  for (let presses = 0; ; presses++) {
    assert.ok(presses < 40, 'Tab never reached a Boot button');
    await visitor.page.keyboard.press('Tab');
    const label = await visitor.page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? '');
    if (label.startsWith('Boot ')) break;
  }
  await visitor.page.keyboard.press('Enter');
  await visitor.machine.waitFor();
  await visitor.waitForText(/\S/);
});
