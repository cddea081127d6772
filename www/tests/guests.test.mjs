// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { asGuest } from '../guests.js';

const base = new URL('http://page.test/images/linux64/manifest.json');

test('a manifest becomes a card and a machine', () => {
  const guest = asGuest(
    {
      name: 'linux64',
      title: 'Debian Linux, 64-bit: stock',
      files: [
        { path: 'vmlinux.pack', role: 'kernel', bytes: 14, sha256: 'ab' },
        { path: 'initrd', role: 'initrd', bytes: 3 },
        { path: 'bzImage', role: 'kernel-original', bytes: 8 },
      ],
      cmdline: 'console=ttyS0',
      memory: 256,
      modes: ['pc', 'pvh'],
    },
    base,
  );
  assert.equal(guest.name, 'Debian Linux, 64-bit');
  assert.equal(guest.downloadBytes, 17);
  assert.deepEqual(guest.config.files.map((f) => [f.role, f.url]), [
    ['kernel', 'http://page.test/images/linux64/vmlinux.pack'],
    ['initrd', 'http://page.test/images/linux64/initrd'],
  ]);
  assert.equal(guest.config.mode, 'pc');
});

test('nothing in a manifest is taken on trust', () => {
  assert.throws(() => asGuest({}, base), /no name/);
  assert.throws(() => asGuest(null, base), /no name/);
  assert.throws(() => asGuest({ name: 'x', files: 'kernel' }, base), /no kernel/);
  const odd = asGuest({ name: 'x', title: 7, files: [{ path: 'k', role: 'kernel', bytes: -1 }], memory: 'lots', modes: [3] }, base);
  assert.deepEqual([odd.name, odd.downloadBytes, odd.config.memoryMiB, odd.modes], ['x', 0, 256, ['pc']]);
});
