// Files as one: a tar archive in POSIX's "pax" interchange format (IEEE 1003.1, pax), whose names may be long and of any letters.

/** Bytes of a block, to which everything is rounded up. */
const BLOCK = 512;
/** Bytes of a name that fit the header itself. */
const NAME = 100;
/** What the header calls each kind of entry. */
const TYPES = { f: '0', l: '2', d: '5', pax: 'x' };

/**
 * @typedef {object} Entry
 * @property {'f' | 'd' | 'l'} kind a file, a directory, a symbolic link
 * @property {string} path without a slash in front
 * @property {number} mode permissions
 * @property {number} modified seconds since 1970
 * @property {Blob} [data] of a file
 * @property {string} [target] of a link
 */

const encoder = new TextEncoder();

/** @param {number} length @returns {Uint8Array<ArrayBuffer>} what fills the last block */
const padding = (length) => new Uint8Array((BLOCK - (length % BLOCK)) % BLOCK);

/**
 * @param {keyof typeof TYPES} kind @param {Uint8Array} name @param {Uint8Array} target @param {number} mode @param {number} size @param {number} modified
 * @returns {Uint8Array<ArrayBuffer>}
 */
function header(kind, name, target, mode, size, modified) {
  const block = new Uint8Array(BLOCK);
  const text = (/** @type {number} */ at, /** @type {string} */ value) => block.set(encoder.encode(value), at);
  const octal = (/** @type {number} */ at, /** @type {number} */ digits, /** @type {number} */ value) => text(at, value.toString(8).padStart(digits, '0').slice(-digits));
  block.set(name.subarray(0, NAME), 0);
  octal(100, 7, mode);
  octal(108, 7, 0);
  octal(116, 7, 0);
  octal(124, 11, size);
  octal(136, 11, modified);
  text(148, ' '.repeat(8));
  text(156, TYPES[kind]);
  block.set(target.subarray(0, NAME), 157);
  text(257, 'ustar\x0000');
  // The sum of all bytes, with spaces where it goes itself.
  octal(148, 6, block.reduce((sum, byte) => sum + byte, 0));
  block[154] = 0;
  return block;
}

/** @param {string} key @param {Uint8Array} value @returns {Uint8Array<ArrayBuffer>} a record, whose length counts itself */
function record(key, value) {
  const rest = encoder.encode(` ${key}=`).length + value.length + 1;
  let length = rest;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  const bytes = new Uint8Array(length);
  bytes.set(encoder.encode(`${length} ${key}=`));
  bytes.set(value, length - 1 - value.length);
  bytes[length - 1] = 10;
  return bytes;
}

/** @param {Entry[]} entries directories before what is in them @returns {Blob} the archive */
export function tar(entries) {
  /** @type {BlobPart[]} */
  const parts = [];
  for (const { kind, path, mode, modified, data, target = '' } of entries) {
    const [name, to] = [kind === 'd' ? `${path}/` : path, target].map((text) => encoder.encode(text));
    const long = [...(name.length > NAME ? [record('path', name)] : []), ...(to.length > NAME ? [record('linkpath', to)] : [])];
    if (long.length > 0) {
      const size = long.reduce((sum, { length }) => sum + length, 0);
      parts.push(header('pax', encoder.encode('pax'), new Uint8Array(0), 0o644, size, modified), ...long, padding(size));
    }
    const size = data?.size ?? 0;
    parts.push(header(kind, name, to, mode, size, modified));
    if (data) parts.push(data, padding(size));
  }
  return new Blob([...parts, new Uint8Array(2 * BLOCK)]);
}
