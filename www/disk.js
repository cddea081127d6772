// Disks of a domain, in the machine's worker: where their bytes come from. A server that allows it, and a file, are read in
// parts when the guest wants them; anything else is fetched as a whole.

import { download } from './download.js';
import { ProblemError } from './problem.js';
import { SECTOR, patch } from './written.js';

/** @typedef {import('./protocol.js').FileSource} FileSource */
/** @typedef {import('./protocol.js').FileProgress} FileProgress */

/** A server that is silent for so long will not answer. */
const PATIENCE_MS = 20_000;
/** Bytes that are read ahead at a time, when reads follow one another. */
const AHEAD = 1 << 20;

/**
 * An opened disk: all its bytes, or a way to them.
 * @typedef {object} Disk
 * @property {string} name
 * @property {number} sectors
 * @property {boolean} readOnly
 * @property {Uint8Array} [bytes]
 * @property {import('./written.js').Written[]} written what was written to it before, and is not yet in what `read` returns
 * @property {() => Promise<Blob>} content all its bytes, without what was written
 * @property {(from: number, length: number) => Promise<Uint8Array>} read bytes; fewer only at the end
 */

/**
 * @param {FileSource} file @param {(progress: FileProgress) => void} report @param {AbortSignal} signal
 * @param {boolean} atOnce nothing may have to be waited for later
 * @returns {Promise<Disk>}
 */
export async function openDisk(file, report, signal, atOnce) {
  const { blob, written = [] } = file;
  const common = { name: file.name, readOnly: file.readOnly ?? false, written };
  const lazily = (/** @type {number} */ size, /** @type {Disk['read']} */ read) => {
    report({ role: file.role, name: file.name, received: 0, total: size, rate: 0, done: true, cached: false, note: 'read as the guest needs it' });
    return { ...common, sectors: Math.ceil(size / SECTOR), read, content: async () => blob ?? inPieces(size, read) };
  };
  if (!atOnce && blob) {
    return lazily(blob.size, async (from, length) => new Uint8Array(await blob.slice(from, from + length).arrayBuffer()));
  }
  const found = !atOnce && file.url ? await probe(file.url, signal) : null;
  if (file.url && found) {
    const { size, validator } = found;
    if (file.size !== undefined && file.size !== size) {
      throw new ProblemError({
        what: `${file.name} is not the disk the catalogue describes.`,
        why: `It has ${size} bytes, expected ${file.size}.`,
        next: ['Reload the page and boot again.', 'If it stays, rebuild the guest: cargo xtask image.'],
      });
    }
    const url = file.url;
    return lazily(size, readingAhead(size, (from, length) => readRange(url, from, length, validator)));
  }
  const downloaded = await download(file, report, signal);
  const sectors = Math.ceil(downloaded.length / SECTOR);
  const bytes = await patch(written, 0, whole(downloaded, sectors * SECTOR));
  return { ...common, sectors, bytes, read: async () => bytes, content: async () => new Blob([bytes]) };
}

/** @param {number} size @param {Disk['read']} read @returns {Promise<Blob>} */
async function inPieces(size, read) {
  const parts = [];
  for (let from = 0; from < size; from += AHEAD) parts.push(new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (await read(from, AHEAD))]));
  return new Blob(parts);
}

/**
 * Can a server's file be read in parts?
 * @param {string} url @param {AbortSignal} signal
 * @returns {Promise<{size: number, validator: string | null} | null>}
 */
async function probe(url, signal) {
  try {
    const response = await fetch(url, { headers: { Range: 'bytes=0-0' }, cache: 'no-store', signal });
    const size = Number(/^bytes 0-0\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '')?.[1]);
    const tag = response.headers.get('ETag');
    // The whole file may come instead; it is not read here.
    response.body?.cancel().catch(() => {});
    if (response.status !== 206 || !Number.isSafeInteger(size)) return null;
    return { size, validator: tag && !tag.startsWith('W/') ? tag : response.headers.get('Last-Modified') };
  } catch {
    // Whatever is wrong, the download of the whole meets it and says so.
    return null;
  }
}

/**
 * Reads in a row become fewer and longer ones, of which the next is under way before it is wanted: the way to a server takes
 * longer than the guest likes to wait.
 * @param {number} size @param {Disk['read']} read @returns {Disk['read']}
 */
export function readingAhead(size, read) {
  /** Where a read would follow the last. */
  let next = -1;
  /** The latest two that were read ahead. @type {{from: number, end: number, bytes: Promise<Uint8Array>}[]} */
  let pieces = [];
  const ahead = (/** @type {number} */ from) => {
    const end = Math.min(from + AHEAD, size);
    const piece = { from, end, bytes: read(from, end - from) };
    // Whoever waits for it is told; nobody else gets it.
    piece.bytes.catch(() => (pieces = pieces.filter((p) => p !== piece)));
    pieces = [...pieces.slice(-1), piece];
    next = end;
    return piece;
  };
  return async (from, wanted) => {
    const end = Math.min(from + wanted, size);
    let piece = pieces.find((p) => p.from <= from && end <= p.end);
    if (!piece && (from !== next || end - from >= AHEAD)) {
      next = end;
      return read(from, end - from);
    }
    piece ??= ahead(from);
    if (piece === pieces.at(-1) && piece.end < size && end > piece.from + AHEAD / 2) ahead(piece.end);
    return (await piece.bytes).subarray(from - piece.from, end - piece.from);
  };
}

/** @param {string} url @param {number} from @param {number} length @param {string | null} validator @returns {Promise<Uint8Array>} */
async function readRange(url, from, length, validator) {
  const headers = { Range: `bytes=${from}-${from + length - 1}`, ...(validator ? { 'If-Range': validator } : {}) };
  // The browser's own cache keeps parts badly and may have them of an older file; the machine keeps them itself.
  const response = await fetch(url, { headers, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
  if (response.status === 200) {
    await response.body?.cancel();
    throw new Error('the file has changed on the server since the machine was started');
  }
  if (response.status !== 206) throw new Error(`the server answered ${`${response.status} ${response.statusText}`.trim()}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes.length !== length) throw new Error(`the server sent ${bytes.length} of ${length} bytes`);
  return bytes;
}

/** @param {Uint8Array} bytes @param {number} length @returns {Uint8Array<ArrayBuffer>} a last sector that is not whole ends with zeros */
export function whole(bytes, length) {
  if (bytes.length === length) return /** @type {Uint8Array<ArrayBuffer>} */ (bytes);
  if (bytes.length + SECTOR <= length) throw new Error(`${bytes.length} of ${length} bytes could be read`);
  const all = new Uint8Array(length);
  all.set(bytes);
  return all;
}
