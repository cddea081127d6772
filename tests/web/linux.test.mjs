// Unmodified distribution kernels, from Boot to power-off, as a visitor would do it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROMPT, visit } from './harness.mjs';

const GUESTS = [
  { id: 'linux64', machine: 'x86_64' },
  { id: 'linux32', machine: 'i686' },
];

/** Milliseconds from Boot to the prompt that are allowed on a busy machine; what it took is printed. */
const BOOT_LIMIT = 180_000;

for (const { id, machine } of GUESTS) {
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

    await visitor.type('poweroff\n');
    await visitor.waitForState('off', 60_000);
    assert.deepEqual(visitor.complaints, []);
  });
}
