// The catalogue of guests, and what this browser remembers about them.

import { ProblemError } from './problem.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./protocol.js').FileSource} FileSource */

/**
 * A guest one can boot from its card.
 * @typedef {object} Guest
 * @property {string} id
 * @property {string} name
 * @property {string} summary one sentence
 * @property {import('./protocol.js').Mode[]} modes
 * @property {number} downloadBytes 0: unknown
 * @property {MachineConfig} config
 */

/**
 * What we know from earlier boots on this browser.
 * @typedef {object} Memory
 * @property {number} [bootMs] Boot to prompt, the last time
 * @property {number} [at] when that was, epoch milliseconds
 * @property {string} [picture] the last console lines
 */

/** Where the build puts guests, beside the page. */
const CATALOGUE = './images/index.json';

/** The project's own small kernel: part of the page, so it boots without any download. */
const HELLO = {
  id: 'hello',
  name: 'Hello',
  summary: 'The project’s own little kernel: a banner and a shell with help, mem, time, bench and fault. Part of the page.',
  kernel: { file: '../pkg/hello.elf' },
  memoryMiB: 32,
  cmdline: 'console=ttyS0',
  ready: '> $',
};

/**
 * @returns {Promise<{guests: Guest[], note: string}>} the embedded guest comes first, then the catalogue's; the note
 * says why the catalogue is empty, if it is
 */
export async function loadGuests() {
  const base = new URL(CATALOGUE, document.baseURI);
  const guests = [asGuest(HELLO, base)];
  let note = '';
  try {
    const response = await fetch(base);
    if (response.ok) {
      const listed = (await response.json()).guests;
      if (!Array.isArray(listed)) throw new Error('it has no list "guests"');
      for (const entry of listed) {
        const guest = asGuest(entry, base);
        const at = guests.findIndex((g) => g.id === guest.id);
        if (at >= 0) guests[at] = guest;
        else guests.push(guest);
      }
    } else {
      note = 'No Linux guests are built yet. cargo xtask image builds them from distribution packages.';
    }
  } catch (error) {
    note = `The list of guests could not be read (${error instanceof Error ? error.message : error}). The built-in guest still boots.`;
  }
  return { guests, note };
}

/**
 * The catalogue is a file anyone may edit, so nothing in it is taken on trust.
 * @param {any} entry @param {URL} base addresses in it are relative to this
 * @returns {Guest}
 */
export function asGuest(entry, base) {
  const id = text(entry?.id) || text(entry?.name);
  if (!id) throw new Error('an entry has neither id nor name');
  /** @type {FileSource[]} */
  const files = [];
  for (const role of /** @type {const} */ (['kernel', 'initrd'])) {
    const part = entry[role];
    const path = typeof part === 'string' ? part : text(part?.file) || text(part?.url);
    if (!path) continue;
    const url = new URL(path, base);
    const size = Number(part?.size);
    files.push({
      role,
      name: text(part?.name) || url.pathname.split('/').pop() || role,
      url: url.href,
      size: Number.isSafeInteger(size) && size > 0 ? size : undefined,
      sha256: text(part?.sha256) || undefined,
    });
  }
  const memory = Number(entry.memoryMiB);
  const name = text(entry.name) || id;
  const modes = Array.isArray(entry.modes) ? entry.modes.filter((/** @type {unknown} */ m) => typeof m === 'string') : [];
  return {
    id,
    name,
    summary: text(entry.summary) || text(entry.description),
    modes: modes.length > 0 ? modes : ['direct'],
    downloadBytes: files.reduce((sum, f) => sum + (f.size ?? 0), 0),
    config: {
      id,
      name,
      mode: modes[0] ?? 'direct',
      memoryMiB: Number.isFinite(memory) && memory > 0 ? memory : 256,
      cpu: text(entry.cpu) || 'x86-64-v2',
      cmdline: text(entry.cmdline) || 'console=ttyS0',
      clock: 'paced',
      ready: text(entry.ready) || undefined,
      files,
    },
  };
}

/** @param {unknown} value @returns {string} */
function text(value) {
  return typeof value === 'string' ? value : '';
}

/** @param {string} id @returns {Memory} */
export function remembered(id) {
  try {
    const memory = JSON.parse(localStorage.getItem(`tabvisor.guest.${id}`) ?? '{}');
    return typeof memory === 'object' && memory !== null ? memory : {};
  } catch {
    return {};
  }
}

/** @param {string} id @param {Memory} news merged into what is known */
export function remember(id, news) {
  try {
    localStorage.setItem(`tabvisor.guest.${id}`, JSON.stringify({ ...remembered(id), ...news }));
  } catch {
    // Storage may be full or forbidden; nothing depends on it.
  }
}

/**
 * A machine from dropped files.
 * @param {{role: 'kernel' | 'initrd', file: File}[]} picked
 * @returns {MachineConfig}
 */
export function configOfFiles(picked) {
  const kernel = picked.find((p) => p.role === 'kernel');
  if (!kernel) {
    throw new ProblemError({
      what: 'There is no kernel among these files.',
      why: 'A direct boot starts with a kernel: a Linux bzImage or an x86 ELF file.',
      next: ['Add the kernel to the files.', 'Or set one file’s role to kernel if you know better.'],
    });
  }
  return {
    id: `file:${kernel.file.name}`,
    name: kernel.file.name,
    mode: 'direct',
    memoryMiB: 512,
    cpu: 'x86-64-v2',
    cmdline: 'console=ttyS0',
    clock: 'paced',
    files: picked.map(({ role, file }) => ({ role, name: file.name, blob: file, size: file.size })),
  };
}
