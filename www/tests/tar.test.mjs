// node --test www/tests
// Archives, as the tar of the system that runs this understands them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { tar } from '../tar.js';

test('tar unpacks what was packed: long names, any letters, links, permissions, times', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tabvisor-tar-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const deep = `${'d'.repeat(90)}/${'e'.repeat(90)}`;
  const long = `${deep}/${'ä'.repeat(70)}`;
  const big = new Uint8Array(100_000).map((_, i) => i * 31);
  const common = { mode: 0o755, modified: 1_700_000_000 };
  const archive = tar([
    { ...common, kind: 'd', path: 'd'.repeat(90) },
    { ...common, kind: 'd', path: deep },
    { ...common, kind: 'f', path: long, data: new Blob(['long']) },
    { ...common, kind: 'f', path: 'new\nline and “quotes”', mode: 0o640, data: new Blob([big]) },
    { ...common, kind: 'f', path: 'empty', data: new Blob([]) },
    { ...common, kind: 'f', path: 'block', data: new Blob([big.subarray(0, 512)]) },
    { ...common, kind: 'l', path: 'link', target: 'block' },
    { ...common, kind: 'l', path: 'far', target: `${'t'.repeat(300)}` },
  ]);
  assert.equal(archive.size % 512, 0);
  writeFileSync(join(folder, 'a.tar'), new Uint8Array(await archive.arrayBuffer()));
  execFileSync('tar', ['-xf', 'a.tar'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  const read = (/** @type {string} */ name) => readFileSync(join(folder, name));
  assert.equal(read(long).toString(), 'long');
  assert.deepEqual(new Uint8Array(read('new\nline and “quotes”')), big);
  assert.deepEqual([read('empty').length, read('block').length, read('link').length], [0, 512, 512]);
  assert.equal(readlinkSync(join(folder, 'far')), 't'.repeat(300));
  const { mode, mtimeMs } = statSync(join(folder, 'new\nline and “quotes”'));
  assert.deepEqual([mode & 0o777, mtimeMs], [0o640, 1_700_000_000_000]);
});
