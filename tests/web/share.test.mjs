// Files that a visitor shares with a domain: chosen before it boots, mounted by its kernel, and what comes back.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PROMPT, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine. */
const BOOT_LIMIT = 300_000;
const MOUNT = 'mount -t 9p -o trans=xen,version=9p2000.L share /mnt';
/** Five megabytes that are nowhere the same: more than is read at a time. */
const NUMBERS = Buffer.from(Array.from({ length: 750_000 }, (_, n) => `${n}\n`).join(''));
const SUM = createHash('sha256').update(NUMBERS).digest('hex');

/** @param {import('node:test').TestContext} t @returns {Promise<string>} */
async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), 'tabvisor-share-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

/** @param {import('./harness.mjs').Visitor} visitor @param {() => Promise<void>} press @param {string} to */
async function download(visitor, press, to) {
  const [file] = await Promise.all([visitor.page.waitForEvent('download', { timeout: 60_000 }), press()]);
  const path = join(to, file.suggestedFilename());
  await file.saveAs(path);
  return path;
}

for (const mode of ['pv', 'pvh']) {
  test(`a folder is chosen, mounted as ${mode}, and comes back with what the guest wrote`, async (t) => {
    const [given, got] = [await folder(t), await folder(t)];
    await mkdir(join(given, 'sub'));
    await writeFile(join(given, 'numbers'), NUMBERS);
    await writeFile(join(given, 'sub/empty'), '');

    const visitor = await visit(t);
    const { machine, page } = visitor;
    assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
    const card = await visitor.options('linux64', mode);
    await card.getByLabel(/^Shared folder/).check();
    await card.locator('.share-field input[webkitdirectory]').setInputFiles(given);
    await card.getByText('2 files, 5.1 MB').waitFor();
    if (mode === 'pv') await visitor.screenshots('share-options');
    await card.getByRole('button', { name: /^Boot (?!.* as PVH?$)/ }).click();
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });

    // What the page shows is what the guest needs.
    const section = machine.locator('.share');
    assert.equal(await section.locator('code').innerText(), MOUNT);
    await section.getByRole('button', { name: 'Type command' }).click();
    await visitor.waitForText(/\/mnt\n[^\n]*#$/);
    assert.match(await visitor.command('ls /mnt /mnt/sub'), /numbers\s+sub\s+[^]*empty/);
    assert.match(await visitor.command('sha256sum /mnt/numbers', { timeout: 60_000 }), new RegExp(`^${SUM}`));

    await visitor.command('rev /mnt/numbers >/mnt/sub/turned', { timeout: 120_000 });
    await visitor.command('mkdir /mnt/new; echo hello >/mnt/new/from-guest');
    await section.getByText('Written by the guest: 2').waitFor();
    const one = await download(visitor, () => section.getByRole('button', { name: 'Save new/from-guest' }).click(), got);
    assert.equal(await readFile(one, 'utf8'), 'hello\n');

    // More of them while it runs.
    await section.locator('input[type=file]').setInputFiles({ name: 'late', mimeType: 'text/plain', buffer: Buffer.from('later\n') });
    await section.getByText(/^5 files/).waitFor();
    assert.equal(await visitor.command('cat /mnt/late'), 'later');
    if (mode === 'pv') {
      // Where there is little room, the figures are a page of their own.
      await machine.getByRole('button', { name: 'Figures', includeHidden: true }).evaluate((button) => button.click());
      await section.scrollIntoViewIfNeeded();
      await visitor.screenshots('share');
    }

    const all = await download(visitor, () => section.getByRole('button', { name: 'Save all' }).click(), got);
    execFileSync('tar', ['-xf', all], { cwd: got });
    assert.deepEqual(await readFile(join(got, 'numbers')), NUMBERS);
    const turned = (await readFile(join(got, 'sub/turned'), 'utf8')).split('\n');
    assert.deepEqual([turned[0], turned[123_456], turned[749_999], turned.length], ['0', '654321', '999947', 750_001]);
    assert.equal(await readFile(join(got, 'late'), 'utf8'), 'later\n');

    // A reset leaves the folder as it is.
    await visitor.button('Reset').click();
    await visitor.waitForText(new RegExp(`─ reset ─[^]*\\n${PROMPT.source}`), { timeout: BOOT_LIMIT });
    await visitor.command(MOUNT);
    assert.equal(await visitor.command('cat /mnt/new/from-guest'), 'hello');
    assert.deepEqual(visitor.complaints, []);
  });
}

test('files that cannot be shared are a card, and the machine boots without them', async (t) => {
  const visitor = await visit(t);
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  const bootWith = (/** @type {string} */ share) =>
    visitor.machine.evaluate((element, share) => {
      const machine = /** @type {any} */ (element);
      machine.config = { ...machine.config, share: new Function(`return ${share}`)() };
      machine.boot();
    }, share);
  await visitor.page.goto(new URL('#machine=linux64@pvh', visitor.url).href);
  await visitor.machine.waitFor();
  for (const [share, says] of /** @type {[string, RegExp][]} */ ([
    ["[{ path: '../etc/passwd', blob: new Blob(['x']) }]", /"\.\.\/etc\/passwd" cannot be shared.[^]*Its path is not names/],
    ["[{ path: 'a', blob: new Blob([]) }, { path: 'a/b', blob: new Blob([]) }]", /cannot have the same name/],
    ["[{ path: 'a', blob: new Blob([new Uint8Array(300 << 20)]) }]", /300 MiB, expected 256/],
    ["'everything'", /no list/],
  ])) {
    await bootWith(share);
    const card = visitor.machine.getByRole('alert');
    await card.filter({ hasText: says }).waitFor({ timeout: 60_000 });
    assert.equal(await visitor.state(), 'off');
  }
  await bootWith('[]');
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  await visitor.command(MOUNT);
  await visitor.command('echo back >/mnt/f');
  await visitor.machine.locator('.share').getByText('Written by the guest: 1').waitFor();
  assert.deepEqual(visitor.complaints, []);
});

test('dropped files are shared, where they are dropped or by their use', async (t) => {
  const visitor = await visit(t);
  const { page } = visitor;
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  const card = await visitor.options('linux64');
  const field = card.locator('.share-field');
  await field.waitFor();
  const drop = () =>
    field.evaluate((element) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(['dropped\n'], 'dropped.txt'));
      for (const type of ['dragenter', 'dragover', 'drop']) element.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
    });
  // A PC has no shared folder: what is dropped there is the page's.
  assert.ok(await card.getByLabel('Shared folder').isDisabled());
  await drop();
  const dialog = page.locator('#files-dialog');
  await dialog.getByText('dropped.txt').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await card.getByLabel('Runs as').selectOption('pvh');
  await drop();
  await card.getByText('1 file, 8 B').waitFor();
  assert.ok(!(await dialog.isVisible()) && !(await page.locator('#drop-veil').isVisible()));

  const kernel = ['vmlinux.pack', 'initrd'].map((name) => fileURLToPath(new URL(`../../images/out/linux64/${name}`, import.meta.url)));
  const given = join(await folder(t), 'notes');
  await writeFile(given, 'as a file\n');
  await page.locator('#file-input').setInputFiles([...kernel, given]);
  await dialog.getByLabel('Use notes as').selectOption('Shared file');
  await visitor.screenshots('share-dialog');
  await dialog.getByText('Options').click();
  await dialog.getByLabel('Runs as').selectOption('pc');
  await dialog.getByRole('button', { name: 'Boot', exact: true }).click();
  await dialog.getByText('An emulated PC has no shared folder').waitFor();
  await dialog.getByRole('button', { name: 'Boot as PVH', exact: true }).click();
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  await visitor.command(MOUNT);
  assert.equal(await visitor.command('cat /mnt/notes'), 'as a file');
  assert.deepEqual(visitor.complaints, []);
});
