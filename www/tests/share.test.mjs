// node --test www/tests
// The shared folder of a domain in its worker, with a machine made of a few lines.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Shared, checked, read } from '../share.js';
import { asShared, merged } from '../shared-files.js';

/** A machine that keeps what is put into it. */
class Toy {
  /** @type {Map<string, {bytes: number[] | undefined, modified: number}>} */
  files = new Map();
  limit = 0;
  shareFiles = (/** @type {number} */ limit) => void (this.limit = limit);
  /** @param {string} path @param {number} at @param {Uint8Array | undefined} bytes @param {number} modified */
  putShared = (path, at, bytes, modified) => {
    if (path === '..') throw Object.assign(new Error('".." cannot be shared.'), { why: 'Its path is no path.', next: 'Choose another name.' });
    const before = at === 0 ? [] : (this.files.get(path)?.bytes ?? []);
    assert.equal(before.length, at);
    this.files.set(path, { bytes: bytes && [...before, ...bytes], modified });
  };
  listShared = () => [...this.files].map(([path, { bytes }], n) => `${bytes ? 'f' : 'd'} ${path.startsWith('guest') ? 1 : 0} 755 ${bytes?.length ?? 4096} 5 ${n} ${path}`);
  readShared = (/** @type {number} */ id, /** @type {number} */ at, /** @type {number} */ length) => Uint8Array.from([...this.files.values()][id].bytes ?? []).subarray(at, at + length);
}

/** @param {unknown} files */
async function share(files) {
  /** @type {any[]} */
  const [posted, progress] = [[], []];
  const vm = new Toy();
  const shared = new Shared(await read(files, (p) => progress.push(p)), { post: (message) => posted.push(message), wake: () => {}, fail: assert.fail });
  shared.attach(/** @type {any} */ (vm));
  return { shared, vm, posted, progress };
}

test('files are read in pieces and put with their folders', async () => {
  const big = new Uint8Array((4 << 20) + 3).fill(7);
  const { vm, progress } = await share([{ path: 'a/b', blob: new Blob([big]), modified: 12 }, { path: 'empty', blob: new Blob([]) }, { path: 'folder' }]);
  assert.equal(vm.limit, 256 << 20);
  assert.equal(vm.files.get('a/b')?.bytes?.length, big.length);
  assert.deepEqual([vm.files.get('a/b')?.modified, vm.files.get('empty'), vm.files.get('folder')], [12, { bytes: [], modified: 0 }, { bytes: undefined, modified: 0 }]);
  const last = progress.at(-1);
  assert.deepEqual([progress[0].done, last.done, last.received, last.total], [false, true, big.length, big.length]);
});

test('what cannot be shared is refused with a reason, before anything is read', () => {
  const huge = Object.defineProperty(new Blob([]), 'size', { value: 300 << 20 });
  /** @type {[unknown, RegExp][]} */
  const bad = [
    ['/etc', /no list/],
    [{ length: 1 }, /no list/],
    [[null], /path of one/],
    [[{ path: 5 }], /path of one/],
    [[{ path: 'a\ud800' }], /path of one/],
    [[{ path: 'a', blob: 'text' }], /no Blob/],
    [[{ path: 'a', url: {} }], /no text/],
    [[{ path: 'a', blob: huge }], /300 MiB, expected 256/],
    [Array.from({ length: 10_001 }, (_, n) => ({ path: `${n}` })), /10001, expected 10000/],
  ];
  for (const [files, why] of bad) assert.throws(() => checked(files), (/** @type {any} */ error) => error.problem.what === 'These files cannot be shared.' && why.test(error.problem.why));
});

test('the page gets a list of what the guest has written, files of it, and all as an archive', async () => {
  const { shared, vm, posted } = await share([{ path: 'given', blob: new Blob(['abc']) }]);
  vm.files.set('guest/made', { bytes: [104, 105], modified: 0 });
  await shared.receive({ kind: 'share' });
  assert.deepEqual(posted.pop(), { kind: 'shared', files: 2, bytes: 5, changed: [{ path: 'guest/made', size: 2 }], more: 0 });
  await shared.receive({ kind: 'share', save: 'guest/made' });
  const { name, file } = posted.pop();
  assert.deepEqual([name, await file.text()], ['made', 'hi']);
  await shared.receive({ kind: 'share', save: '' });
  const all = posted.pop();
  assert.deepEqual([all.name, all.file.size], ['share.tar', 6 * 512]);
  await shared.receive({ kind: 'share', add: [{ path: 'late', blob: new Blob(['x']) }] });
  assert.equal(posted.pop().files, 3);
});

test('what cannot be done is told, and nothing else happens', async () => {
  const { shared, vm, posted } = await share([]);
  vm.files.set('holes', { bytes: undefined, modified: 0 });
  vm.listShared = () => [`f 1 644 ${2 ** 40} 0 0 holes`];
  /** @type {[any, RegExp][]} */
  const bad = [
    [{ add: 'all' }, /no list/],
    [{ add: [{ path: '..', blob: new Blob([]) }] }, /no path/],
    [{ save: 'gone' }, /not there any more/],
    [{ save: '' }, /1099511627776 bytes, expected/],
    [{ save: {} }, /not there any more/],
  ];
  for (const [what, why] of bad) {
    await shared.receive({ kind: 'share', ...what });
    const { kind, problem } = posted.pop();
    assert.equal(kind, 'problem');
    assert.match(problem.why, why);
  }
  assert.deepEqual(posted, []);
});

test('a chosen folder is the shared one, and the later of two files of a path is shared', () => {
  const file = (/** @type {string} */ name, webkitRelativePath = '') => /** @type {any} */ ({ name, webkitRelativePath, lastModified: 1 });
  const shared = asShared([file('a'), file('c', 'folder/b/c')]);
  assert.deepEqual(shared.map(({ path }) => path), ['a', 'b/c']);
  const later = { path: 'a' };
  assert.deepEqual(merged(shared, [later]), [later, shared[1]]);
});
