// Files that a domain may mount, in the machine's worker: read before the machine is there, put into it, and handed out with
// what the guest has made of them.

import { download } from './download.js';
import { ProblemError, asProblem, isTrap } from './problem.js';

/** @typedef {import('./protocol.js').SharedFile} SharedFile */
/** @typedef {import('./wasm-types.js').WasmVm} WasmVm */

/** Bytes that a shared folder may come to hold; they take memory of the machine. */
const LIMIT = 256 << 20;
/** Files at most that are put into it at a time. */
const FILES = 10_000;
/** Bytes that are read, or handed to the machine, at a time. */
const PIECE = 4 << 20;
/** Bytes at most that are handed out at a time: a guest's file may have holes that it has no memory for. */
const OUT = 1 << 30;
/** What the guest has changed is shown so far. */
const SHOWN = 200;

/**
 * A part of a file, or a folder.
 * @typedef {object} Piece
 * @property {string} path
 * @property {number} at
 * @property {Uint8Array} [bytes] none: a folder
 * @property {number} modified
 */

/**
 * A line of `WasmVm.listShared`.
 * @typedef {object} Line
 * @property {string} kind
 * @property {boolean} changed by the guest
 * @property {number} mode
 * @property {number} size
 * @property {number} modified seconds
 * @property {number} id
 * @property {string} path
 */

/** @param {string} why @param {...string} next @returns {ProblemError} */
function refusal(why, ...next) {
  return new ProblemError({ what: 'These files cannot be shared.', why, next });
}

/**
 * What somebody wants to share may be anything.
 * @param {unknown} files @returns {SharedFile[]}
 */
export function checked(files) {
  if (!Array.isArray(files)) throw refusal('They are no list.', 'Give a list of files, each with its path and its bytes.');
  if (files.length > FILES) throw refusal(`They are ${files.length}, expected ${FILES} at most.`, 'Pack them into an archive, and share that.', 'Or put them on a disk.');
  let sum = 0;
  for (const file of files) {
    const { path, blob, url } = file ?? {};
    // What is no text in Unicode would arrive as something else.
    if (typeof path !== 'string' || /\p{Surrogate}/u.test(path)) throw refusal('The path of one is no text.', 'Give each a path such as "folder/name".');
    if (blob !== undefined && !(blob instanceof Blob)) throw refusal(`${path} has bytes that are no Blob.`, 'Give a File or a Blob.');
    if (url !== undefined && typeof url !== 'string') throw refusal(`${path} has an address that is no text.`, 'Give it as a string.');
    sum += blob?.size ?? 0;
  }
  if (sum > LIMIT) throw refusal(`They have ${(sum / 2 ** 20).toFixed(0)} MiB, expected ${LIMIT >> 20} at most.`, 'Leave some away.', 'Or put them on a disk.');
  return files;
}

/**
 * Reads files.
 * @param {unknown} wanted @param {(progress: import('./protocol.js').FileProgress) => void} report @param {AbortSignal} [signal]
 * @returns {Promise<Piece[]>}
 */
export async function read(wanted, report, signal) {
  const files = checked(wanted);
  const total = files.reduce((sum, { blob }) => sum + (blob?.size ?? 0), 0);
  const say = (/** @type {number} */ received, /** @type {boolean} */ done, note = '') =>
    report({ role: 'share', name: 'Shared files', received, total: Math.max(total, received), rate: 0, done, cached: false, note });
  let received = 0;
  say(0, false);
  /** @type {Piece[]} */
  const pieces = [];
  for (const { path, url, modified = 0, blob = url === undefined ? undefined : await fetched(path, url, signal) } of files) {
    if (!blob) pieces.push({ path, at: 0, modified });
    for (let at = 0; blob && (at === 0 || at < blob.size); at += PIECE) {
      signal?.throwIfAborted();
      const bytes = await blob.slice(at, at + PIECE).arrayBuffer().catch((error) => {
        throw refusal(`${path} could not be read: ${error.message}`, 'Choose the files again: it may have been changed or moved since.');
      });
      pieces.push({ path, at, modified, bytes: new Uint8Array(bytes) });
      received += bytes.byteLength;
      if (received > LIMIT) throw refusal(`They have more than ${LIMIT >> 20} MiB.`, 'Leave some away.', 'Or put them on a disk.');
      say(received, false);
    }
  }
  say(received, true, files.length === 0 ? 'none yet' : '');
  return pieces;
}

/** @param {string} name @param {string} url @param {AbortSignal} [signal] @returns {Promise<Blob>} */
async function fetched(name, url, signal) {
  return new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (await download({ role: 'disk', name, url }, () => {}, signal))]);
}

/** @param {WasmVm} vm @returns {Line[]} */
function list(vm) {
  return vm.listShared().map((line) => {
    const [, kind, changed, mode, size, modified, id, path] = /** @type {RegExpExecArray} */ (/^(\w) (\d) (\d+) (\d+) (\d+) (\d+) (.*)$/s.exec(line));
    return { kind, changed: changed === '1', mode: Number.parseInt(mode, 8), size: Number(size), modified: Number(modified), id: Number(id), path };
  });
}

/** @param {WasmVm} vm @param {Line} file @returns {Blob} */
function content(vm, { id, size }) {
  const parts = [];
  for (let at = 0; at < size; at += PIECE) parts.push(new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (vm.readShared(id, at, Math.min(PIECE, size - at)))]));
  return new Blob(parts);
}

/** The shared folder of one machine. */
export class Shared {
  /** @param {Piece[]} pieces @param {import('./outside.js').Host} host */
  constructor(pieces, host) {
    this.pieces = pieces;
    this.host = host;
    /** @type {WasmVm | null} */
    this.vm = null;
  }

  /** @param {WasmVm} vm before it boots */
  attach(vm) {
    this.vm = vm;
    vm.shareFiles(LIMIT);
    this.put(this.pieces);
    this.pieces = [];
  }

  /** @param {Piece[]} pieces */
  put(pieces) {
    for (const { path, at, bytes, modified } of pieces) this.vm?.putShared(path, at, bytes, Number(modified));
  }

  /** @param {Extract<import('./protocol.js').ToWorker, {kind: 'share'}>} message */
  async receive(message) {
    try {
      // All at once in each case, as far as it concerns the machine: the guest stands still.
      if (message.add !== undefined) this.put(await read(message.add, () => {}));
      if (message.save !== undefined) await this.save(message.save);
      else this.tell();
    } catch (error) {
      if (isTrap(error)) return this.host.fail(error);
      this.host.post({ kind: 'problem', problem: asProblem(error, 'The shared folder could not be used.') });
    }
  }

  /** Tells the page what the guest has made or changed. */
  tell() {
    if (!this.vm) return;
    const all = list(this.vm);
    const files = all.filter(({ kind }) => kind === 'f');
    const changed = files.filter((file) => file.changed);
    this.host.post({
      kind: 'shared',
      files: files.length,
      bytes: files.reduce((sum, { size }) => sum + size, 0),
      changed: changed.slice(0, SHOWN).map(({ path, size }) => ({ path, size })),
      more: Math.max(0, changed.length - SHOWN),
    });
  }

  /** @param {string} path of a file; empty: everything, as an archive */
  async save(path) {
    const { vm } = this;
    if (!vm) return;
    const all = list(vm);
    const wanted = path === '' ? all : all.filter((line) => line.kind === 'f' && line.path === path);
    const bytes = wanted.reduce((sum, { kind, size }) => sum + (kind === 'f' ? size : 0), 0);
    const cannot = (/** @type {string} */ why, /** @type {string[]} */ ...next) => new ProblemError({ what: 'The shared files cannot be saved.', why, next });
    if (bytes > OUT) throw cannot(`They have ${bytes} bytes, expected ${OUT} at most; it may be that most of them are holes.`, 'Save the files one by one.', 'Or remove the large ones, in the guest.');
    const deep = wanted.find(({ kind }) => kind === 'x');
    if (deep) throw cannot('There are folders in folders, so deep that no path leads there.', 'Save the files one by one.', 'Or remove the deep ones, in the guest.');
    if (path !== '') {
      if (wanted.length === 0) throw cannot(`${path} is not there any more.`, 'Look at the list again.');
      return this.host.post({ kind: 'sharedFile', name: path.split('/').pop() ?? path, file: content(vm, wanted[0]) });
    }
    const decoder = new TextDecoder();
    const entries = wanted.map((line) => ({
      ...line,
      kind: /** @type {'f' | 'd' | 'l'} */ (line.kind),
      data: line.kind === 'f' ? content(vm, line) : undefined,
      target: line.kind === 'l' ? decoder.decode(vm.readShared(line.id, 0, line.size)) : undefined,
    }));
    const { tar } = await import('./tar.js');
    this.host.post({ kind: 'sharedFile', name: 'share.tar', file: tar(entries) });
  }
}
