// The catalogue of guests, and what this browser remembers about them.

import { HELLO_CONFIG } from './hello.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./protocol.js').FileSource} FileSource */

/**
 * A guest one can boot from its card.
 * @typedef {object} Guest
 * @property {string} id
 * @property {string} name
 * @property {string} summary one sentence
 * @property {import('./protocol.js').Mode[]} modes the first is what the card boots
 * @property {Partial<Record<import('./protocol.js').Mode, string>>} cmdlines command lines of modes that need another one
 * @property {string} network how its command line is told an address: "tabvisor.ip"; empty: it is not
 * @property {number} downloadBytes without disks, which are read as the guest needs them; 0: unknown
 * @property {MachineConfig} config
 */

/**
 * What we know from earlier boots on this browser.
 * @typedef {object} Memory
 * @property {number} [bootMs] Boot to prompt, the last time
 * @property {number} [at] when that was, epoch milliseconds
 * @property {string} [picture] the last console lines
 */

/** What a guest may run on. */
export const MODES = /** @type {const} */ (['pc', 'pvh', 'pv']);

/** What a machine uses the files of a manifest as. */
const ROLES = ['kernel', 'initrd', 'disk'];
/** Guests that can be told an address know this word of their command line. */
const NETWORKS = ['tabvisor.ip'];

/** Where the build puts guests, beside the page. */
const CATALOGUE = './images/index.json';

/** What a card says about the guests this project builds; any other guest is described by its packages. */
const SUMMARIES = new Map([
  ['linux64', 'Debian’s stock amd64 kernel, unmodified, with a busybox root shell.'],
  ['disk64', 'The same kernel with its system on a disk (xvda), which is read as the guest needs it; what it writes outlasts a reset, and a new boot if you keep it.'],
  ['linux32', 'Debian’s stock 686 kernel, unmodified, with the same root shell.'],
  ['hello', 'The project’s own little kernel: a banner and a shell with help, mem, time, bench and fault.'],
]);

/** @type {Guest} */
export const HELLO = {
  id: HELLO_CONFIG.id,
  name: HELLO_CONFIG.name,
  summary: SUMMARIES.get(HELLO_CONFIG.id) ?? '',
  modes: [HELLO_CONFIG.mode],
  cmdlines: {},
  network: '',
  downloadBytes: 0,
  config: HELLO_CONFIG,
};

/**
 * @returns {Promise<{guests: Guest[], note: string}>} the note says why guests are missing, if some are
 */
export async function loadGuests() {
  const base = new URL(CATALOGUE, document.baseURI);
  try {
    const response = await fetch(base);
    if (!response.ok) {
      return { guests: [HELLO], note: 'No other guests are built yet. Build them with cargo xtask image, then reload. Your own kernel boots right away.' };
    }
    const lines = await response.json();
    if (!Array.isArray(lines)) throw new Error('it is not a list');
    const loaded = await Promise.allSettled(lines.map((line) => loadGuest(line, base)));
    const guests = loaded.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : []));
    const failed = loaded.flatMap((r, i) => (r.status === 'rejected' ? [`${text(lines[i]?.name) || `guest ${i + 1}`} (${r.reason.message})`] : []));
    if (!guests.some(({ id }) => id === HELLO.id)) guests.push(HELLO);
    return { guests, note: failed.length > 0 ? `Not offered, because their description could not be read: ${failed.join(', ')}.` : '' };
  } catch (error) {
    return { guests: [HELLO], note: `The list of guests could not be read: ${error instanceof Error ? error.message : error}. Your own kernel boots right away.` };
  }
}

/** @param {any} line of the index @param {URL} base @returns {Promise<Guest>} */
async function loadGuest(line, base) {
  const address = new URL(text(line?.manifest), base);
  const response = await fetch(address);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return asGuest(await response.json(), address);
}

/**
 * The catalogue is a file anyone may edit, so nothing in it is taken on trust.
 * @param {any} manifest @param {URL} base addresses in it are relative to this
 * @returns {Guest}
 */
export function asGuest(manifest, base) {
  const id = text(manifest?.name);
  if (!id) throw new Error('the manifest has no name');
  /** @type {FileSource[]} */
  const files = [];
  for (const file of Array.isArray(manifest.files) ? manifest.files : []) {
    const path = text(file?.path);
    if (!path || !ROLES.includes(file.role)) continue;
    const size = Number(file.bytes);
    files.push({
      role: file.role,
      name: path.split('/').pop() || path,
      url: new URL(path, base).href,
      size: Number.isSafeInteger(size) && size > 0 ? size : undefined,
      sha256: text(file.sha256) || undefined,
    });
  }
  if (!files.some((f) => f.role === 'kernel')) throw new Error('the manifest names no kernel');
  // "Hello: our own guest": the card has room for the part in front.
  const [name, ...subtitle] = (text(manifest.title) || id).split(': ');
  const packages = (Array.isArray(manifest.packages) ? manifest.packages : []).map((/** @type {any} */ p) => `${text(p?.name)} ${text(p?.version)}`.trim());
  const modes = (Array.isArray(manifest.modes) ? manifest.modes : []).filter((/** @type {unknown} */ m) => MODES.includes(/** @type {any} */ (m)));
  const cmdlines = Object.fromEntries(modes.flatMap((/** @type {string} */ m) => (text(manifest.cmdlines?.[m]) ? [[m, text(manifest.cmdlines[m])]] : [])));
  if (modes.length === 0) modes.push('pc');
  const memory = Number(manifest.memory);
  return {
    id,
    name,
    summary: SUMMARIES.get(id) ?? (subtitle.join(': ') || (packages.length > 0 ? `Made of ${packages.join(' and ')}.` : '')),
    modes,
    cmdlines,
    network: NETWORKS.find((name) => name === manifest.network) ?? '',
    downloadBytes: files.filter((f) => f.role !== 'disk').reduce((sum, f) => sum + (f.size ?? 0), 0),
    config: {
      id,
      name,
      mode: modes[0],
      memoryMiB: Number.isFinite(memory) && memory > 0 ? memory : 256,
      cpu: text(manifest.cpu) || 'x86-64-v2',
      cmdline: text(manifest.cmdline),
      clock: 'paced',
      ready: text(manifest.ready) || undefined,
      files,
    },
  };
}

/**
 * @param {Guest} guest @param {import('./protocol.js').Mode} mode
 * @returns {string} the command line that the guest has for a mode
 */
export function cmdlineFor(guest, mode) {
  return guest.cmdlines[mode] ?? (mode === 'pvh' ? guest.cmdlines.pv : undefined) ?? guest.config.cmdline;
}

/**
 * @param {MachineConfig} config @param {string} address "10.0.0.1/24", or nothing
 * @returns {MachineConfig} the same, whose command line tells the guest that address
 */
export function withAddress(config, address) {
  if (config.mode === 'pc' || address === '' || config.cmdline.includes('tabvisor.ip=')) return config;
  return { ...config, address, cmdline: `${config.cmdline} tabvisor.ip=${address}`.trim() };
}

/**
 * @param {Guest} guest @param {import('./protocol.js').Mode} mode @param {string} address that it gets if it can be told one
 * @returns {MachineConfig}
 */
export function configFor(guest, mode, address) {
  return withAddress({ ...guest.config, mode, cmdline: cmdlineFor(guest, mode) }, guest.network ? address : '');
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
