// Kernels that a visitor brings, as domains: a distribution's bzImage as it is, and what the page says of those that
// cannot be one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { PROMPT, visit } from './harness.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const linux = (/** @type {string} */ name) => readFileSync(`${root}images/out/linux64/${name}`);

/** Milliseconds from Boot to the prompt that are allowed on a busy machine; what it took is printed. */
const BOOT_LIMIT = 300_000;

/**
 * Drops files and boots them in a mode.
 * @param {import('./harness.mjs').Visitor} visitor @param {[string, Buffer][]} files @param {'PV' | 'PVH'} mode
 */
async function drop(visitor, files, mode) {
  await visitor.page.goto(new URL('#', visitor.url).href);
  await visitor.page.locator('#file-input').setInputFiles(files.map(([name, buffer]) => ({ name, mimeType: 'application/octet-stream', buffer })));
  const dialog = visitor.page.locator('#files-dialog');
  await dialog.getByLabel(`Use ${files[0][0]} as`).selectOption('kernel');
  await dialog.getByRole('button', { name: `Boot as ${mode}`, exact: true }).click();
}

test('a bzImage of Debian boots as PV and as PVH', async (t) => {
  const visitor = await visit(t);
  const files = /** @type {[string, Buffer][]} */ ([['vmlinuz', linux('bzImage')], ['initrd', linux('initrd')]]);
  for (const mode of /** @type {const} */ (['PV', 'PVH'])) {
    const start = performance.now();
    await drop(visitor, files, mode);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    const { stages, files: progress } = await visitor.machine.evaluate((machine) => {
      const { model } = /** @type {any} */ (machine);
      return { stages: Object.fromEntries(model.stages), files: [...model.files.values()] };
    });
    t.diagnostic(`${mode}: ${((performance.now() - start) / 1000).toFixed(1)} s to the prompt, ${JSON.stringify(stages)}, ${progress.map((f) => f.note).join()}`);
    assert.match(progress.map((f) => f.note).join(), /unpacked to \d\d/);
    assert.match(await visitor.command('dmesg | grep -c "Hypervisor detected: Xen"'), /^1$/m);
    assert.match(await visitor.command('cat /sys/hypervisor/guest_type'), new RegExp(`^${mode}$`, 'm'));
    await visitor.button('Power off').click();
  }
  assert.deepEqual(visitor.complaints, []);
});

test('a kernel that cannot be a domain is told what it lacks', async (t) => {
  const visitor = await visit(t);
  const hello = readFileSync(`${root}www/pkg/hello.elf`);
  // The same with notes of somebody else.
  const others = Buffer.from(hello.toString('latin1').replaceAll('Xen\0', 'Zen\0'), 'latin1');
  const bzImage = linux('bzImage');
  const damaged = Buffer.from(bzImage);
  damaged.fill(0x55, bzImage.length >> 1, (bzImage.length >> 1) + 4096);
  /** @type {[string, Buffer, 'PV' | 'PVH', RegExp[]][]} */
  const cases = [
    ['hello.elf', hello, 'PV', [/no Xen note ENTRY/, /boot it as a PC or as PVH/i]],
    ['no-notes.elf.gz', gzipSync(others), 'PVH', [/no notes for Xen/, /CONFIG_XEN_PV/]],
    ['vmlinuz-cut', bzImage.subarray(0, bzImage.length >> 1), 'PV', [/cut off/, /load the file again/i]],
    ['vmlinuz-bad', damaged, 'PVH', [/xz data in the kernel file is damaged/]],
    ['notes.gz', gzipSync(Buffer.from('just some notes\n')), 'PV', [/not an ELF executable/]],
    ['notes.txt', Buffer.from('just some notes\n'), 'PV', [/neither a bzImage nor an ELF/]],
  ];
  for (const [name, bytes, mode, expected] of cases) {
    await drop(visitor, [[name, bytes]], mode);
    const card = visitor.machine.getByRole('alert');
    await card.waitFor({ timeout: 60_000 });
    const text = await card.innerText();
    for (const pattern of expected) assert.match(text, pattern, name);
    assert.doesNotMatch(text, /panicked at|undefined|\[object|RuntimeError/, name);
    assert.ok((await card.locator('li').count()) > 0, `${name}: the card does not say what to do`);
    assert.equal(await visitor.state(), 'off', name);
  }
  await visitor.screenshots('kernel-without-notes');
  assert.deepEqual(visitor.complaints, []);
});
