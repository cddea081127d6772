// Unmodified distribution kernels, from Boot to power-off, as a visitor would do it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

const GUESTS = [
  { id: 'linux64', machine: 'x86_64', restarts: true },
  { id: 'linux32', machine: 'i686', restarts: false },
];

/** Bytes of WebAssembly memory that a machine may need beside its guest's RAM. */
const HEAP_BESIDE_RAM = 64e6;
/** A prompt that comes after the line the page draws at a reset. */
const AFTER_RESET = new RegExp(`─ reset ─[^]*\\n${PROMPT.source}`);

/** Milliseconds from Boot to the prompt that are allowed on a busy machine; what it took is printed. */
const BOOT_LIMIT = 180_000;

for (const { id, machine, restarts } of GUESTS) {
  test(`${id} boots to a shell, answers and switches itself off`, async (t) => {
    const visitor = await visit(t);
    assert.ok(await visitor.offers(id), `the page offers no ${id}: cargo xtask image ${id} builds it`);
    const start = performance.now();
    await visitor.boot(id);
    await visitor.waitForText(PROMPT, { timeout: BOOT_LIMIT });
    t.diagnostic(`${id}: ${((performance.now() - start) / 1000).toFixed(1)} s from Boot to the prompt`);

    assert.equal(await visitor.command('uname -m'), machine);
    assert.match(await visitor.command('grep -c ^processor /proc/cpuinfo'), /^\d+$/m);
    assert.match(await visitor.command('cat /proc/cpuinfo'), /vendor_id\s*: GenuineIntel/);
    // Short enough for one line of the terminal: the shell breaks longer ones itself.
    const bad = await visitor.command("dmesg | grep -E 'BUG:|WARNING:|unstable'; echo end", { timeout: 60_000 });
    assert.equal(bad, 'end');
    await visitor.screenshots(id);

    if (restarts) {
      const used = await visitor.heap();
      t.diagnostic(`${id}: heap ${(used.heap / 1e6).toFixed(1)} MB with ${(used.ram / 1e6).toFixed(1)} MB of guest RAM`);
      assert.ok(used.heap <= used.ram + HEAP_BESIDE_RAM, `the heap has ${used.heap} bytes`);

      await visitor.type('reboot\n');
      await visitor.waitForText(/─ reset ─/, { timeout: 60_000 });
      await visitor.waitForText(AFTER_RESET, { timeout: BOOT_LIMIT });
      assert.equal(await visitor.command('uname -m'), machine);
      // The console has been cleared, so the next reset's line is the only one.
      await visitor.button('Reset').click();
      await visitor.waitForText(AFTER_RESET, { timeout: BOOT_LIMIT });
      assert.equal(await visitor.command('uname -m'), machine);
      const after = await visitor.heap();
      assert.ok(after.heap <= after.ram + HEAP_BESIDE_RAM, `the heap has ${after.heap} bytes after two restarts`);
    }

    await visitor.type('poweroff\n');
    await visitor.waitForState('off', 60_000);
    assert.deepEqual(visitor.complaints, []);
  });
}
