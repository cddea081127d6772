// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { asGuest, configFor, withAddress } from '../guests.js';

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
  assert.equal(configFor(guest, 'pvh', '10.0.0.1/24').address, undefined, 'nobody says that it can be told one');
});

test('a guest on a disk is told its address, and its disk is no download', () => {
  const guest = asGuest(
    {
      name: 'disk64',
      files: [
        { path: '../linux64/vmlinux.pack', role: 'kernel', bytes: 14 },
        { path: 'root.ext4', role: 'disk', bytes: 1000 },
      ],
      cmdline: 'root=/dev/xvda',
      network: 'tabvisor.ip',
      modes: ['pv', 'pvh'],
      cmdlines: { pvh: 'pvh' },
    },
    base,
  );
  assert.equal(guest.downloadBytes, 14);
  assert.deepEqual(guest.config.files.map((f) => [f.role, f.name]), [['kernel', 'vmlinux.pack'], ['disk', 'root.ext4']]);
  const config = configFor(guest, 'pvh', '10.0.0.3/24');
  assert.deepEqual([config.mode, config.address, config.cmdline], ['pvh', '10.0.0.3/24', 'pvh tabvisor.ip=10.0.0.3/24']);
  assert.equal(withAddress(config, '10.0.0.4/24'), config, 'what the command line says stays');
});

test('nothing in a manifest is taken on trust', () => {
  assert.throws(() => asGuest({}, base), /no name/);
  assert.throws(() => asGuest(null, base), /no name/);
  assert.throws(() => asGuest({ name: 'x', files: 'kernel' }, base), /no kernel/);
  const odd = asGuest({ name: 'x', title: 7, files: [{ path: 'k', role: 'kernel', bytes: -1 }], memory: 'lots', modes: [3] }, base);
  assert.deepEqual([odd.name, odd.downloadBytes, odd.config.memoryMiB, odd.modes], ['x', 0, 256, ['pc']]);
});
