// What a guest has written to a disk whose own bytes stay as they are: it can be kept for the next boot, or put together
// with the disk as a file.

/** Bytes of a sector. */
export const SECTOR = 512;
/** Bytes in front of each run of what `WasmVm.written` returns: the first sector and how many, eight each. */
const HEAD = 16;

/**
 * A run of sectors that was written. Lists of them are in order and do not overlap.
 * @typedef {object} Written
 * @property {number} first
 * @property {number} count
 * @property {Blob} data
 */

/**
 * All that was written to a disk of a machine, at one moment.
 * @param {{written(disk: number, from: number): Uint8Array}} vm @param {number} disk
 * @returns {Written[]}
 */
export function collect(vm, disk) {
  /** @type {Written[]} */
  const runs = [];
  for (let from = 0; ; ) {
    const bytes = /** @type {Uint8Array<ArrayBuffer>} */ (vm.written(disk, from));
    if (bytes.length === 0) return runs;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const blob = new Blob([bytes]);
    for (let at = 0; at < bytes.length; ) {
      const [first, count] = [0, 8].map((n) => Number(view.getBigUint64(at + n, true)));
      const end = at + HEAD + count * SECTOR;
      runs.push({ first, count, data: blob.slice(at + HEAD, end) });
      from = first + count;
      at = end;
    }
  }
}

/** @param {Written} run @param {Written} other @returns {Written[]} what `other` leaves of it */
function without(run, other) {
  const [start, end] = [other.first - run.first, other.first + other.count - run.first];
  if (end <= 0 || start >= run.count) return [run];
  const parts = [];
  if (start > 0) parts.push({ first: run.first, count: start, data: run.data.slice(0, start * SECTOR) });
  if (end < run.count) parts.push({ first: run.first + end, count: run.count - end, data: run.data.slice(end * SECTOR) });
  return parts;
}

/** @param {Written[]} earlier @param {Written[]} later @returns {Written[]} both, the later ones where they meet */
export function over(earlier, later) {
  const left = later.reduce((runs, run) => runs.flatMap((old) => without(old, run)), earlier);
  return [...left, ...later].sort((a, b) => a.first - b.first);
}

/** @param {Written[]} runs @returns {number} bytes */
export function size(runs) {
  return runs.reduce((sum, { count }) => sum + count * SECTOR, 0);
}

/**
 * @param {Written[]} runs @param {number} from byte at which a sector begins @param {Uint8Array<ArrayBuffer>} bytes of the disk from there
 * @returns {Promise<Uint8Array<ArrayBuffer>>} the same with what was written; `bytes` themselves stay
 */
export async function patch(runs, from, bytes) {
  const inside = runs.filter(({ first, count }) => first * SECTOR < from + bytes.length && (first + count) * SECTOR > from);
  if (inside.length === 0) return bytes;
  const all = bytes.slice();
  for (const { first, data } of inside) {
    const at = first * SECTOR - from;
    const part = data.slice(Math.max(0, -at), all.length - at);
    all.set(new Uint8Array(await part.arrayBuffer()), Math.max(0, at));
  }
  return all;
}

/** @param {Blob} disk as it was @param {Written[]} runs @returns {Blob} the disk with what was written */
export function together(disk, runs) {
  const parts = [];
  let at = 0;
  for (const { first, count, data } of runs) {
    parts.push(disk.slice(at, first * SECTOR), data);
    at = (first + count) * SECTOR;
  }
  return new Blob([...parts, disk.slice(at)]);
}
