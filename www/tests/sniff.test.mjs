// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { sniff } from '../sniff.js';

/** @param {Record<number, number[] | string>} parts @param {number} [size] */
function file(parts, size = 0x9000) {
  const bytes = new Uint8Array(size);
  for (const [at, value] of Object.entries(parts)) {
    bytes.set(typeof value === 'string' ? [...value].map((c) => c.charCodeAt(0)) : value, Number(at));
  }
  return bytes;
}

test('a bzImage tells its release and width', () => {
  const kernel = file({ 0x1fe: [0x55, 0xaa], 0x202: 'HdrS', 0x206: [0x0f, 0x02], 0x20e: [0x00, 0x20], 0x236: [1, 0], 0x2200: '6.1.0-28-amd64 (debian)' });
  const guess = sniff(kernel, kernel.length);
  assert.equal(guess.role, 'kernel');
  assert.match(guess.detail, /^6\.1\.0-28-amd64, 64-bit, boot protocol 2\.15$/);
});

test('a bzImage whose release pointer leaves the file is still a kernel', () => {
  const kernel = file({ 0x202: 'HdrS', 0x206: [0x0f, 0x02], 0x20e: [0xff, 0xff] }, 0x400);
  assert.equal(sniff(kernel, kernel.length).role, 'kernel');
});

test('ELF kernels are told apart by machine', () => {
  const elf = (/** @type {number} */ machine, wide = 2, type = 2) =>
    file({ 0: [0x7f, 0x45, 0x4c, 0x46, wide], 16: [type, 0], 18: [machine, 0] });
  assert.match(sniff(elf(62), 100).detail, /64-bit x86-64/);
  assert.match(sniff(elf(3, 1), 100).detail, /32-bit i386/);
  assert.equal(sniff(elf(183), 100).role, 'other');
  assert.equal(sniff(elf(62, 2, 1), 100).role, 'other');
});

test('archives are initial RAM disks whatever packs them', () => {
  for (const magic of [[0x1f, 0x8b], [0x28, 0xb5, 0x2f, 0xfd], [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], [0x02, 0x21, 0x4c, 0x18]]) {
    assert.equal(sniff(file({ 0: magic }), 100).role, 'initrd');
  }
  assert.equal(sniff(file({ 0: '070701' }), 100).role, 'initrd');
});

test('what cannot boot yet comes with advice', () => {
  for (const bytes of [file({ 0: [0x51, 0x46, 0x49, 0xfb] }), file({ 0: '<!DOCTYPE html>' }), file({})]) {
    const guess = sniff(bytes, bytes.length);
    assert.equal(guess.role, 'other');
    assert.ok(guess.advice && guess.advice.length > 20);
  }
  assert.equal(sniff(new Uint8Array(0), 0).kind, 'Empty file');
});

test('raw images are disks', () => {
  for (const bytes of [file({ 510: [0x55, 0xaa] }), file({ 0x438: [0x53, 0xef] }), file({ 0x8001: 'CD001' })]) {
    const guess = sniff(bytes, bytes.length);
    assert.equal(guess.role, 'disk');
    assert.match(guess.advice ?? '', /kernel/);
  }
  assert.ok(sniff(file({ 0x8001: 'CD001' }), 0x9000).readOnly);
  assert.equal(sniff(file({ 510: [0x55, 0xaa] }), 1474560).kind, 'Floppy image');
});

test('short files never read past their end', () => {
  const whole = file({ 0x202: 'HdrS', 0x8001: 'CD001', 0: [0x7f, 0x45, 0x4c, 0x46] });
  for (let n = 1; n < 0x300; n++) assert.ok(sniff(whole.subarray(0, n), n).kind);
});
