// node --test www/tests
import assert from 'node:assert/strict';
import test from 'node:test';
import { PanicWatcher, StageWatcher } from '../stages.js';

test('a Linux boot is followed from kernel to prompt', () => {
  const watcher = new StageWatcher();
  assert.deepEqual(watcher.reached('files'), ['files']);
  assert.deepEqual(watcher.reached('cpu'), ['cpu']);
  assert.deepEqual(watcher.feed('[    0.000000] Linux ver'), []);
  assert.deepEqual(watcher.feed('sion 6.1.0 (x)\r\n'), ['kernel']);
  assert.deepEqual(watcher.feed('[    1.2] Run /init as init process\r\n'), ['init']);
  assert.deepEqual(watcher.feed('\x1b[1;32mhello\x1b[0m\r\n~ '), []);
  assert.deepEqual(watcher.feed('# '), ['ready']);
  assert.deepEqual(watcher.feed('Linux version 6\n# '), []);
});

test('stages that print nothing are skipped', () => {
  const watcher = new StageWatcher('^ready> ');
  assert.deepEqual(watcher.feed('Tabvisor hello 0.1\n'), ['kernel']);
  assert.deepEqual(watcher.reached('cpu'), []);
});

test('a guest may name its own prompt, and a broken pattern falls back', () => {
  assert.deepEqual(new StageWatcher('hello> $').feed('hello> '), ['ready']);
  assert.deepEqual(new StageWatcher('(').feed('login: '), ['ready']);
});

test('a prompt in the middle of the output is no prompt', () => {
  assert.deepEqual(new StageWatcher().feed('# # # comment\n'), []);
});

test('megabytes of output are kept to a tail', () => {
  const watcher = new StageWatcher();
  for (let i = 0; i < 64; i++) watcher.feed('x'.repeat(1 << 16));
  assert.ok(watcher.tail.length <= 2048);
});

test('a panic is found once, across pieces, when its line is complete', () => {
  const panics = new PanicWatcher();
  assert.equal(panics.feed('[ 1.0] Kernel panic - not sync'), null);
  assert.equal(panics.feed('ing: VFS: Unable to mount'), null);
  const problem = panics.feed(' root fs\r\nmore');
  assert.match(problem?.why ?? '', /VFS: Unable to mount root fs$/);
  assert.match(problem?.next.join(' ') ?? '', /initial RAM disk/);
  assert.equal(panics.feed('Kernel panic - not syncing: again\r\n'), null);
  assert.equal(new PanicWatcher().feed('root@tabvisor:/root# dmesg | grep BUG:\r\n'), null);
});
