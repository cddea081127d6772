// What domains have outside of them: a system on a disk that is read over HTTP as the guest needs it, and the network
// between two guests of one page.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { faultyServer } from './faulty-server.mjs';
import { PROMPT, server, visit } from './harness.mjs';

/** Milliseconds from Boot to the prompt that are allowed on a busy machine; what it took is printed. */
const BOOT_LIMIT = 300_000;

/** Figures of the shown machine. @param {import('./harness.mjs').Visitor} visitor @returns {Promise<any>} */
function model(visitor) {
  return visitor.machine.evaluate((machine) => {
    const { stats, link, config } = /** @type {any} */ (machine).model;
    return { disk: stats.disk, link, config };
  });
}

for (const mode of ['pv', 'pvh']) {
  test(`disk64 boots as ${mode} from xvda, which keeps what is written`, async (t) => {
    const visitor = await visit(t);
    assert.ok(await visitor.offers('disk64'), 'the page offers no disk64: cargo xtask image disk64 builds it');
    const start = performance.now();
    await visitor.boot('disk64', mode === 'pv' ? undefined : mode);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    t.diagnostic(`${mode}: ${((performance.now() - start) / 1000).toFixed(1)} s from Boot to the prompt`);

    assert.match(await visitor.command("grep ' / ' /proc/mounts"), /^\/dev\/xvda \/ ext4 rw/m);
    // Each is short enough for one line of the terminal.
    await visitor.command('yes tabvisor | head -c 3000000 >/f');
    await visitor.command('sha256sum </f >/s');
    assert.equal(await visitor.command('sync; wc -c </f'), '3000000');
    // What is read back comes from the disk, not from the guest's memory.
    await visitor.command('echo 3 >/proc/sys/vm/drop_caches');
    assert.equal(await visitor.command('sha256sum </f | cmp - /s && echo same', { timeout: 60_000 }), 'same');
    for (const what of ['from the server', 'from what the page has kept']) {
      const took = await visitor.command('time dd if=/dev/xvda of=/dev/null bs=1M count=24', { timeout: 120_000 });
      const [, m, s] = /real\s+(\d+)m ([\d.]+)s/.exec(took) ?? [];
      assert.match(took, /24\+0 records out/);
      t.diagnostic(`${mode}: ${(24 * 1.048576) / (60 * Number(m) + Number(s))} MB/s ${what}`);
      await visitor.command('echo 3 >/proc/sys/vm/drop_caches', { timeout: 60_000 });
    }
    const bad = await visitor.command("dmesg | grep -E 'BUG:|WARNING:|I/O error'; echo end", { timeout: 60_000 });
    assert.equal(bad, 'end');
    await visitor.page.waitForTimeout(2500);
    const { disk } = await model(visitor);
    t.diagnostic(`${mode}: ${disk.bytes} bytes in ${disk.reads} reads`);
    assert.ok(disk.failed === 0 && disk.waiting === 0 && disk.bytes >= 20e6 && disk.bytes < 40e6, JSON.stringify(disk));
    await visitor.screenshots(`disk64-${mode}`);

    await visitor.button('Reset').click();
    await visitor.waitForText(new RegExp(`─ reset ─[^]*\\n${PROMPT.source}`), { timeout: BOOT_LIMIT });
    assert.equal(await visitor.command('sha256sum </f | cmp - /s && echo same', { timeout: 60_000 }), 'same');
    assert.deepEqual(visitor.complaints, []);
  });
}

/** Presses a button of the disk's, and waits for what it says then. @param {import('./harness.mjs').Visitor} visitor @param {string} name @param {RegExp} says */
async function onDisk(visitor, name, says) {
  await visitor.button(name).click();
  await visitor.machine.locator('.disk [role=status]').filter({ hasText: says }).waitFor({ timeout: 120_000 });
}

test('what a guest has written is kept for the next boot, and saved with its disk', async (t) => {
  const visitor = await visit(t);
  assert.ok(await visitor.offers('disk64'), 'the page offers no disk64: cargo xtask image disk64 builds it');
  await visitor.boot('disk64');
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  await visitor.command('echo first >/one; sync');
  await onDisk(visitor, 'Keep changes', /kept for the next boot/);
  await visitor.command('echo lost >/two; sync');

  // From the card again, which knows nothing of it; and what is written then comes on top.
  for (const file of ['/three', '/four']) {
    await visitor.page.goto(new URL('#', visitor.url).href);
    await visitor.boot('disk64');
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    assert.equal(await visitor.command('cat /one; ls /two'), 'first\nls: /two: No such file or directory');
    await visitor.command(`echo more >${file}; sync`);
    if (file === '/three') await onDisk(visitor, 'Keep changes', /kept for the next boot/);
  }
  assert.equal(await visitor.command('cat /three'), 'more');
  await visitor.screenshots('disk64-kept');

  // A file with all of it, that boots as another machine's disk.
  await visitor.command('sync; mount -o remount,ro /');
  const [download] = await Promise.all([visitor.page.waitForEvent('download', { timeout: 120_000 }), onDisk(visitor, 'Save disk', /Saved with/)]);
  assert.equal(download.suggestedFilename(), 'root.ext4');
  const folder = await mkdtemp(join(tmpdir(), 'tabvisor-'));
  t.after(() => rm(folder, { recursive: true }));
  await download.saveAs(join(folder, 'root.ext4'));
  await visitor.page.goto(new URL('#', visitor.url).href);
  // By their paths: as bytes they would all go through the browser's remote control.
  const kernel = ['vmlinux.pack', 'initrd'].map((name) => fileURLToPath(new URL(`../../images/out/linux64/${name}`, import.meta.url)));
  await visitor.page.locator('#file-input').setInputFiles([...kernel, join(folder, 'root.ext4')]);
  const dialog = visitor.page.locator('#files-dialog');
  await dialog.getByText('Options').click();
  await dialog.getByLabel('Kernel command line').fill('console=hvc0 mitigations=off tsc=reliable cryptomgr.notests=1 root=/dev/xvda');
  await dialog.getByRole('button', { name: 'Boot as PV', exact: true }).click();
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  assert.equal(await visitor.command('cat /one /three /four'), 'first\nmore\nmore');
  assert.equal(await visitor.command("dmesg | grep -cE 'EXT4-fs [ew]|I/O error'"), '0');

  // Forgotten, the next boot has the disk of the catalogue.
  await visitor.page.goto(new URL('#machine=disk64', visitor.url).href);
  await onDisk(visitor, 'Forget', /as it was/);
  await visitor.page.goto(new URL('#', visitor.url).href);
  await visitor.boot('disk64');
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  assert.match(await visitor.command('cat /one'), /No such file/);
  assert.deepEqual(visitor.complaints, []);
});

test('a disk whose server is gone is an error for the guest and a card for the visitor', async (t) => {
  const real = await server();
  t.after(real.stop);
  const { url, faults } = await faultyServer(t, real.url);
  const visitor = await visit(t, { at: url });
  await visitor.boot('disk64');
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  faults.set('/images/disk64/root.ext4', 503);
  await visitor.type('dd if=/dev/xvda of=/dev/null bs=1M; echo dd: $?\n');
  const card = visitor.machine.getByRole('alert');
  await card.waitFor({ timeout: 120_000 });
  assert.match(await card.innerText(), /root\.ext4 could not be read[^]*503/);
  const end = performance.now() + 120_000;
  while (!/dd: 1/.test(await visitor.consoleText())) {
    assert.ok(performance.now() < end, await visitor.consoleText());
    await visitor.page.waitForTimeout(200);
  }
});

test('a dropped disk is a machine\'s, with the kernel that was dropped beside it', async (t) => {
  const visitor = await visit(t);
  const files = await Promise.all(
    ['linux64/vmlinux.pack', 'linux64/initrd', 'disk64/root.ext4'].map(async (path) => {
      const answer = await fetch(new URL(`images/${path}`, visitor.url));
      return { name: path.split('/')[1], mimeType: 'application/octet-stream', buffer: Buffer.from(await answer.arrayBuffer()) };
    }),
  );
  await visitor.page.locator('#file-input').setInputFiles(files);
  const dialog = visitor.page.locator('#files-dialog');
  await dialog.getByText('ext2, ext3 or ext4').waitFor();
  await dialog.getByText('Options').click();
  await dialog.getByLabel('Kernel command line').fill('console=hvc0 mitigations=off tsc=reliable cryptomgr.notests=1 root=/dev/xvda');
  await dialog.getByRole('button', { name: 'Boot', exact: true }).click();
  await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
  assert.match(await visitor.command("grep ' / ' /proc/mounts"), /^\/dev\/xvda \/ ext4 rw/m);
  assert.deepEqual(visitor.complaints, []);
});

test('two guests of one page reach each other', async (t) => {
  const visitor = await visit(t);
  assert.ok(await visitor.offers('linux64'), 'the page offers no linux64: cargo xtask image linux64 builds it');
  const show = async (/** @type {string} */ key) => {
    await visitor.page.goto(new URL(`#machine=${encodeURIComponent(key)}`, visitor.url).href);
    await visitor.machine.waitFor();
  };
  /** @type {Record<string, string>} */
  const addresses = {};
  for (const mode of ['pv', 'pvh']) {
    await visitor.page.goto(new URL('#', visitor.url).href);
    await visitor.boot('linux64', mode);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    addresses[mode] = (await model(visitor)).config.address.split('/')[0];
    assert.match(await visitor.command('ip -4 addr show eth0'), new RegExp(`inet ${addresses[mode]}/24`));
  }
  assert.deepEqual(addresses, { pv: '10.0.0.1', pvh: '10.0.0.2' });

  const ping = await visitor.command(`ping -c 5 -i 0.2 ${addresses.pv}`, { timeout: 60_000 });
  t.diagnostic(ping.split('\n').at(-1) ?? '');
  assert.match(ping, /5 packets transmitted, 5 packets received, 0% packet loss/);

  const sum = /^[0-9a-f]{64}/;
  await visitor.command('mkdir /w; dd if=/dev/urandom of=/w/f bs=1M count=8', { timeout: 120_000 });
  const sent = sum.exec(await visitor.command('sha256sum </w/f', { timeout: 60_000 }))?.[0];
  await visitor.command('httpd -h /w; echo $?');
  await show('linux64@pv');
  assert.match(await visitor.command(`time wget -qO /f http://${addresses.pvh}/f; echo $?`, { timeout: 180_000 }), /^0$/m);
  t.diagnostic(`8 MiB over HTTP: ${/real\s+.*/.exec(await visitor.consoleText())?.[0]}`);
  const got = sum.exec(await visitor.command('sha256sum </f', { timeout: 60_000 }))?.[0];
  assert.ok(sent && got === sent, `${sent} ${got}`);
  await visitor.page.waitForTimeout(2500);
  const { link } = await model(visitor);
  t.diagnostic(JSON.stringify(link));
  assert.ok(link.framesOut > 100 && link.bytesIn > 8 << 20);
  await visitor.screenshots('network');
  assert.deepEqual(visitor.complaints, []);
});
