// The screen of a domain: its console on the canvas, keys and pointer through the canvas into the guest.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine. */
const BOOT_LIMIT = 300_000;
/** Pixels of a letter of Linux's console. */
const LETTER = { width: 8, height: 16 };

/**
 * Pixels of the picture, as the canvas has them.
 * @param {import('./harness.mjs').Visitor} visitor @param {number} x @param {number} y @param {number} width @param {number} height
 * @returns {Promise<number[]>} red, green, blue, alpha
 */
function pixels(visitor, x, y, width, height) {
  return visitor.page.locator('x86-screen canvas').evaluate(
    (canvas, [x, y, w, h]) => [.../** @type {HTMLCanvasElement} */ (canvas).getContext('2d')?.getImageData(x, y, w, h).data ?? []],
    [x, y, width, height],
  );
}

/** @param {import('./harness.mjs').Visitor} visitor @param {number} column @param {number} line */
function cell(visitor, column, line) {
  return pixels(visitor, column * LETTER.width, line * LETTER.height, LETTER.width, LETTER.height);
}

/** Waits until a picture has come to rest. @param {import('./harness.mjs').Visitor} visitor */
async function settled(visitor) {
  let last = '';
  for (let n = 0; n < 50; n++) {
    await visitor.page.waitForTimeout(200);
    const now = (await pixels(visitor, 0, 0, 800, 64)).join();
    if (now === last) return;
    last = now;
  }
}

/**
 * Presses keys as hands do on a US keyboard, Shift included: what the guest makes of them is its own matter.
 * @param {import('./harness.mjs').Visitor} visitor @param {string} text
 */
async function hands({ page }, text) {
  const shifted = '~!@#$%^&*()_+{}|:"<>?';
  const plain = "`1234567890-=[]\\;',./";
  for (const c of text) {
    const at = shifted.indexOf(c);
    const key = c === '\n' ? 'Enter' : c === '\t' ? 'Tab' : at >= 0 ? plain[at] : c.toLowerCase();
    const shift = at >= 0 || /[A-Z]/.test(c);
    if (shift) await page.keyboard.down('Shift');
    await page.keyboard.press(key);
    if (shift) await page.keyboard.up('Shift');
  }
}

for (const mode of ['pv', 'pvh']) {
  test(`linux64 as ${mode} has a console on its screen`, async (t) => {
    const visitor = await visit(t);
    const { page, machine } = visitor;
    assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
    const card = await visitor.options('linux64', mode);
    await card.getByLabel('Screen').selectOption('800x600');
    await visitor.boot('linux64', mode);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    const [screenTab, consoleTab] = ['Screen', 'Console'].map((name) => machine.getByRole('tab', { name }));
    // The picture comes to the front by itself: nobody has chosen.
    assert.equal(await screenTab.getAttribute('aria-selected'), 'true');
    const canvas = page.locator('x86-screen canvas');
    assert.ok(await canvas.isVisible());
    const size = await canvas.evaluate((c) => [/** @type {any} */ (c).width, /** @type {any} */ (c).height, c.clientWidth, c.clientHeight]);
    assert.deepEqual(size, [800, 600, 800, 600], 'each pixel is one of the visitor’s');

    await consoleTab.click();
    assert.match(await visitor.command('cat /sys/class/graphics/fb0/name'), /xen/);
    await visitor.command("printf '\\033[2J\\033[?25l\\033[HHHI' >/dev/tty1");
    await screenTab.click();
    await settled(visitor);
    // The same letters look the same, and what is erased is black.
    const [h, other, i, blank] = await Promise.all([0, 1, 2, 3].map((column) => cell(visitor, column, 0)));
    assert.deepEqual(h, other);
    assert.notDeepEqual(h, i);
    assert.ok(h.some((v, n) => n % 4 !== 3 && v > 100), 'the letter is dark');
    assert.ok(blank.every((v, n) => v === (n % 4 === 3 ? 255 : 0)), 'what is erased is not black');

    // Keys: letters, signs with Shift, and Tab, which stays with the guest.
    await canvas.click();
    await hands(visitor, '\necho "Typed_by: $HOME" >/tm\ttyped\nuname -a; ls /sys\n');
    await settled(visitor);
    assert.ok((await pixels(visitor, 0, 32, 800, 400)).some((v, n) => n % 4 !== 3 && v > 100), 'nothing was typed');
    const hint = machine.locator('.hint').first();
    assert.match(await hint.innerText(), /Ctrl\s*Shift\s*X/);
    await visitor.screenshots(`screen-${mode}`);
    await page.keyboard.press('Control+Shift+X');
    assert.ok(await screenTab.evaluate((tab) => /** @type {any} */ (tab.getRootNode()).activeElement === tab), 'the keyboard is not the page’s again');
    await consoleTab.click();
    assert.match(await visitor.command('cat /tmp/typed'), /^Typed_by: \//);

    // The pointer, as Linux's old protocol of mice has it: buttons in the first byte, then how far to the right, and up.
    await visitor.command('cat /dev/input/mice >/tmp/m &');
    await screenTab.click();
    const box = await canvas.boundingBox();
    assert.ok(box);
    for (const [x, y] of [[400, 300], [410, 300]]) await page.mouse.move(box.x + x, box.y + y);
    await page.mouse.down({ button: 'left' });
    await page.mouse.move(box.x + 440, box.y + 280);
    await page.mouse.up({ button: 'left' });
    await consoleTab.click();
    const mice = await visitor.command("kill %%; wait; hexdump -v -e '3/1 \"%02x \" \"\\n\"' /tmp/m");
    const reports = [...mice.matchAll(/^(\w\w) (\w\w) (\w\w) ?$/gm)].map(([, ...bytes]) => bytes.map((byte) => Number.parseInt(byte, 16)));
    t.diagnostic(`${mode}: ${JSON.stringify(reports)}`);
    assert.ok(reports.some(([state, right, up]) => state === 9 && right === 0 && up === 0), 'no button was pressed');
    assert.ok(reports.some(([state, right, up]) => state === 9 && right > 0 && right < 0x80 && up > 0 && up < 0x80), 'nothing was dragged');
    assert.equal((reports.at(-1)?.[0] ?? 1) & 1, 0, 'the button is still pressed');
    const bad = await visitor.command("dmesg | grep -E 'BUG:|WARNING:'; echo end");
    assert.equal(bad, 'end');

    // Reset: the picture goes, and comes back with the guest.
    await screenTab.click();
    await visitor.button('Reset').click();
    await page.locator('x86-screen').getByText('no picture').waitFor();
    await canvas.waitFor({ timeout: BOOT_LIMIT });
    assert.deepEqual(visitor.complaints, []);
  });
}

test('fingers type on the screen, too', async (t) => {
  const visitor = await visit(t, { view: { width: 390, height: 844 }, touch: true });
  const { page, machine } = visitor;
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  const card = page.locator('[data-guest="linux64"]');
  await card.getByText('Options').tap();
  await card.getByLabel('Runs as').selectOption('pvh');
  await card.getByLabel('Screen').selectOption('640x480');
  await visitor.boot('linux64', 'pvh');
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  await machine.getByRole('button', { name: 'Keyboard', exact: true }).tap();
  // As keyboards of glass do it: text, and no keys.
  await page.keyboard.insertText('echo "Fingers_on: $HOME" >/tmp/t');
  await visitor.screenshots('screen-touch');
  // Ctrl A goes to the beginning of the line, which gets a command in front, with arrows.
  const tap = (/** @type {string} */ name) => machine.getByRole('button', { name, exact: true }).tap();
  await tap('Ctrl');
  await page.keyboard.insertText('a');
  await page.keyboard.insertText('x');
  await tap('←');
  await page.keyboard.insertText(': ');
  await tap('→');
  await page.keyboard.insertText(';\n');
  await settled(visitor);
  await machine.getByRole('tab', { name: 'Console' }).tap();
  assert.match(await visitor.command('cat /tmp/t'), /^Fingers_on: \/root$/m);
  assert.deepEqual(visitor.complaints, []);
});
