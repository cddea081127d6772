// Domains that cannot go on: the card says what happened, why, where the processor stood and what was said last.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine. */
const BOOT_LIMIT = 300_000;

/** @param {import('./harness.mjs').Visitor} visitor @returns {Promise<string>} what "Copy report" copies */
function report({ machine }) {
  return machine.evaluate((element) => /** @type {any} */ (element).report());
}

/** On a phone the figures come when they are asked for, and go again. @param {import('./harness.mjs').Visitor} visitor */
async function figures({ page, machine }) {
  const wide = page.viewportSize() ?? { width: 1440, height: 900 };
  const counts = machine.locator('.counts');
  await counts.waitFor();
  await page.setViewportSize({ width: 390, height: 844 });
  await counts.waitFor({ state: 'hidden' });
  const figures = machine.getByRole('button', { name: 'Figures', exact: true });
  await figures.click();
  const text = await counts.innerText();
  for (const pattern of [/Exits\s+[\d.]+( k)?\/s\s+[\d.]+( k)?/, /Events\s+\d+\/s/, /Hypercalls[^]*event_channel_op\s+\d/]) assert.match(text, pattern);
  await counts.getByText('Exits').click();
  assert.match(await counts.innerText(), /Exits[^]*hypercall\s+\d[^]*Events/);
  await figures.click();
  await counts.waitFor({ state: 'hidden' });
  await page.setViewportSize(wide);
}

for (const mode of ['pv', 'pvh']) {
  test(`a kernel that panics as ${mode} leaves a story, and boots again`, async (t) => {
    const visitor = await visit(t);
    assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
    await visitor.boot('linux64', mode);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    await figures(visitor);
    await visitor.type('echo c >/proc/sysrq-trigger\n');
    await visitor.waitForState('crashed', 60_000);
    const card = visitor.machine.getByRole('alert');
    await card.getByText('Kernel Offset').waitFor();
    const text = await card.innerText();
    assert.match(text, /The guest’s kernel has crashed\./);
    assert.match(text, /SHUTDOWN_crash[^]*Kernel panic - not syncing: sysrq triggered crash/);
    assert.match(text, /Registers\s+rip ffffffff[0-9a-f]{8}[^]*cr3 0{4}/);
    assert.match(text, /Last lines[^]*Kernel panic/);
    assert.equal((text.match(/^rip /gm) ?? []).length, 1, 'the registers are shown twice');
    await visitor.screenshots(`crash-${mode}`);
    const copied = await report(visitor);
    for (const part of [/^Tabvisor \d/, /\(pvh?\)/, /What: The guest’s kernel has crashed/, /rip ffffffff/, /hypercalls: /i, /Kernel panic/]) assert.match(copied, part);
    assert.equal((copied.match(/^rip /gm) ?? []).length, 1, 'the registers are reported twice');

    await card.getByRole('button', { name: 'Boot again' }).click();
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    assert.equal(await card.isVisible(), false);
    assert.deepEqual(visitor.complaints, []);
  });
}

test('a guest that the hypervisor has to stop is told from one that gave up', async (t) => {
  const visitor = await visit(t);
  const kernel = undefinedKernel();
  await visitor.page.locator('#file-input').setInputFiles([{ name: 'no-code', mimeType: 'application/octet-stream', buffer: kernel }]);
  await visitor.page.locator('#files-dialog').getByRole('button', { name: 'Boot as PV', exact: true }).click();
  await visitor.waitForState('crashed', 60_000);
  const card = visitor.machine.getByRole('alert');
  await card.getByText('Registers').waitFor();
  const text = await card.innerText();
  assert.match(text, /The hypervisor has stopped the guest\./);
  assert.match(text, /Unhandled exception 6 .*of its kernel at 0x/);
  assert.deepEqual(visitor.complaints, []);
});

/**
 * A 64-bit ELF executable for PV with one segment of two pages: its notes, and an entry at an instruction that is none.
 * @returns {Buffer}
 */
function undefinedKernel() {
  const base = 0x100000;
  const note = (/** @type {number} */ type, /** @type {Buffer} */ desc) => {
    const head = Buffer.alloc(16);
    head.writeUInt32LE(4, 0);
    head.writeUInt32LE(desc.length, 4);
    head.writeUInt32LE(type, 8);
    head.write('Xen\0', 12, 'latin1');
    return Buffer.concat([head, desc, Buffer.alloc(-desc.length & 3)]);
  };
  const u64 = (/** @type {number} */ n) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(n));
    return bytes;
  };
  // public/elfnote.h: ENTRY 1, VIRT_BASE 3, XEN_VERSION 5, GUEST_OS 6, LOADER 8, PAE_MODE 9.
  const text = (/** @type {string} */ s) => Buffer.from(`${s}\0`, 'latin1');
  const notes = Buffer.concat([note(1, u64(base + 0x1000)), note(3, u64(0)), note(5, text('xen-3.0')), note(6, text('none')), note(8, text('generic')), note(9, text('yes'))]);
  const file = Buffer.alloc(0x3000);
  file.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  u64(base + 0x1000).copy(file, 24);
  u64(64).copy(file, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  file.writeUInt16LE(64, 58);
  const segment = (/** @type {number} */ n, /** @type {number} */ type, /** @type {number} */ offset, /** @type {number} */ at, /** @type {number} */ size) => {
    const header = file.subarray(64 + 56 * n);
    header.writeUInt32LE(type, 0);
    header.writeUInt32LE(7, 4);
    [offset, at, at, size, size, 0x1000].forEach((v, k) => u64(v).copy(header, 8 + 8 * k));
  };
  segment(0, 1, 0x1000, base, 0x2000);
  segment(1, 4, 0x1000, base, notes.length);
  notes.copy(file, 0x1000);
  file.set([0x0f, 0x0b], 0x2000);
  return file;
}
