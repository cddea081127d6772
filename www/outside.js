// What a domain has outside of it, in the machine's worker: disks whose sectors are read when the guest wants them, the
// frames of its network card, and its screen. Loaded only for a machine that may have such.

import { download } from './download.js';
import { hasMore } from './picture.js';
import { ProblemError, asProblem } from './problem.js';

/** @typedef {import('./protocol.js').FileSource} FileSource */
/** @typedef {import('./protocol.js').FileProgress} FileProgress */
/** @typedef {import('./wasm-types.js').WasmVm} WasmVm */

const SECTOR = 512;
/** A read that fails is tried again after so many milliseconds each, before the guest is told. */
const RETRIES = [250, 1000];
/** A server that is silent for so long will not answer. */
const PATIENCE_MS = 20_000;
/** How files begin that a domain is built from as they are: ELF, and kernels that this project has packed. */
const PLAIN = ['\x7fELF', 'TVPACK1\n'].map((magic) => Array.from(magic, (c) => c.charCodeAt(0)));
/** Bytes that are read ahead at a time, when reads follow one another. */
const AHEAD = 1 << 20;
/** Bytes of frames that the page has not taken yet; what the guest sends beyond is lost, as on a wire. */
const WINDOW = 2 << 20;

/**
 * An opened disk: all its bytes, or a way to them.
 * @typedef {object} Disk
 * @property {string} name
 * @property {number} sectors
 * @property {boolean} readOnly
 * @property {Uint8Array} [bytes]
 * @property {(from: number, length: number) => Promise<Uint8Array>} read bytes; fewer only at the end
 */

/**
 * @param {FileSource} file @param {(progress: FileProgress) => void} report @param {AbortSignal} signal
 * @param {boolean} whole nothing may have to be waited for later
 * @returns {Promise<Disk>}
 */
export async function openDisk(file, report, signal, whole) {
  const common = { name: file.name, readOnly: file.readOnly ?? false };
  const lazily = (/** @type {number} */ size, /** @type {Disk['read']} */ read) => {
    report({ role: file.role, name: file.name, received: 0, total: size, rate: 0, done: true, cached: false, note: 'read as the guest needs it' });
    return { ...common, sectors: Math.ceil(size / SECTOR), read };
  };
  const { blob } = file;
  if (!whole && blob) {
    return lazily(blob.size, async (from, length) => new Uint8Array(await blob.slice(from, from + length).arrayBuffer()));
  }
  const found = !whole && file.url ? await probe(file.url, signal) : null;
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
  const bytes = await download(file, report, signal);
  return { ...common, sectors: Math.ceil(bytes.length / SECTOR), bytes, read: async () => bytes };
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

/** @param {string} mac "00:16:3e:…" @returns {Uint8Array} */
function macBytes(mac) {
  return Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
}

/**
 * @typedef {object} Host
 * @property {(message: import('./protocol.js').FromWorker, transfer?: Transferable[]) => void} post
 * @property {() => void} wake the guest has something to do
 * @property {(error: unknown) => void} fail the machine cannot go on
 */

/**
 * Makes what surrounds a machine.
 * @param {import('./protocol.js').MachineConfig} config @param {(progress: FileProgress) => void} report
 * @param {AbortSignal} signal @param {Host} host
 * @returns {Promise<Outside>}
 */
export async function surround(config, report, signal, host) {
  const files = config.files.filter((file) => file.role === 'disk');
  if (config.mode === 'pc') {
    throw new ProblemError({
      what: 'This machine cannot have a disk.',
      why: 'Disks are there for guests that run as PVH or PV; an emulated PC has none yet.',
      next: ['Boot it as PVH or PV.', 'Or leave the disk away.'],
    });
  }
  // What comes from outside comes at a time that no instruction count tells.
  const deterministic = config.clock === 'deterministic';
  const disks = files.map((file, n) =>
    openDisk(file, (progress) => report({ ...progress, role: n === 0 ? 'disk' : `disk ${n + 1}` }), signal, deterministic),
  );
  const mac = deterministic ? undefined : config.mac;
  return new Outside(await Promise.all(disks), mac, displaySize(config.display), host);
}

/**
 * A domain is built from an executable; what has it inside is unpacked.
 * @param {FileSource} file @param {Uint8Array} bytes of it @param {(progress: FileProgress) => void} report
 * @returns {Promise<Uint8Array>}
 */
export async function prepare(file, bytes, report) {
  if (file.role !== 'kernel' || PLAIN.some((magic) => magic.every((v, n) => bytes[n] === v))) return bytes;
  const total = bytes.length;
  const say = (/** @type {boolean} */ done, /** @type {string} */ note) =>
    report({ role: file.role, name: file.name, received: total, total, rate: 0, done, cached: false, note });
  say(false, 'unpacking');
  const { unpackKernel } = await import('./unpack.js');
  const unpacked = await unpackKernel(bytes);
  say(true, `unpacked to ${(unpacked.length / 1e6).toFixed(1)} MB`);
  return unpacked;
}

/** @param {string | undefined} text "800x600" @returns {[number, number] | null} pixels; null: no display */
export function displaySize(text) {
  if (!text) return null;
  const [, width, height] = /^(\d{1,5})x(\d{1,5})$/.exec(text) ?? [];
  if (width === undefined) {
    throw new ProblemError({
      what: 'This machine cannot have such a screen.',
      why: `Its size is “${text}”, expected pixels of width and height such as 800x600.`,
      next: ['Choose another size.', 'Or boot without a screen.'],
    });
  }
  return [Number(width), Number(height)];
}

/** What surrounds one machine. */
export class Outside {
  /**
   * @param {Disk[]} disks @param {string | undefined} mac of its network card, if it has one
   * @param {[number, number] | null} display pixels of its screen, if it has one @param {Host} host
   */
  constructor(disks, mac, display, host) {
    this.disks = disks;
    this.mac = mac;
    this.display = display;
    this.host = host;
    /** A portion of a picture is on its way to the page. */
    this.painting = false;
    /** There may be more to show than what is on its way. */
    this.stale = false;
    /** Sectors are asked for once per machine; a late answer is not for the next one. @type {WasmVm | null} */
    this.vm = null;
    /** Bytes of frames on their way to the page. */
    this.ahead = 0;
    /** @type {import('./protocol.js').DiskStats} */
    this.figures = { reads: 0, bytes: 0, failed: 0, waiting: 0 };
    /** Disks about which the visitor was told. @type {Set<number>} */
    this.told = new Set();
  }

  /** @param {WasmVm} vm before it boots */
  attach(vm) {
    this.vm = vm;
    for (const { bytes, sectors, readOnly } of this.disks) vm.disk(bytes, sectors, readOnly);
    if (this.mac) vm.nic(macBytes(this.mac));
    if (this.display) vm.display(...this.display);
  }

  /** @param {import('./protocol.js').ToWorker} message */
  receive(message) {
    switch (message.kind) {
      case 'frames':
        return this.arrive(message.bytes);
      case 'framesTaken':
        return this.taken(message.bytes);
      case 'pictureTaken':
        this.painting = false;
        if (this.stale) this.paint();
        return;
      case 'play':
        this.vm?.play(Int32Array.from(message.events));
        this.host.wake();
    }
  }

  /** @param {string} report why the domain cannot go on, in its first line @returns {Partial<import('./protocol.js').Problem>} */
  crash(report) {
    const [why] = report.split('\n', 1);
    const sentence = (/** @type {string} */ text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
    if (why.endsWith('says that it has crashed')) {
      return { what: 'The guest’s kernel has crashed.', why: 'It told its hypervisor so and gave up its processor (SHUTDOWN_crash).' };
    }
    const [, stopped] = /^the hypervisor has stopped the guest: (.*)/.exec(why) ?? [];
    if (!stopped) return { why: sentence(why) };
    return {
      what: 'The hypervisor has stopped the guest.',
      why: sentence(stopped),
      next: ['If this kernel runs under a real Xen, copy the report: then Tabvisor is at fault.', 'Else look for the address in the kernel’s symbols (System.map).', 'Boot again starts the same machine anew.'],
    };
  }

  /** What only a domain has of a machine's figures. */
  stats() {
    return { counts: this.vm?.counts(), disk: this.disks.length > 0 ? this.figures : null };
  }

  /** What the guest wants after a slice. */
  serve() {
    const { vm } = this;
    if (!vm) return;
    const requests = vm.requests();
    for (let k = 0; k < requests.length; k += 4) {
      const [disk, first, count, ticket] = requests.subarray(k, k + 4);
      this.read(disk, first, count)
        .then(
          (bytes) => this.answer(disk, ticket, bytes),
          (error) => this.failed(disk, ticket, error),
        )
        .catch((error) => this.host.fail(error));
    }
    const frames = vm.frames();
    if (frames.length > 0 && this.ahead <= WINDOW) {
      this.ahead += frames.length;
      this.host.post({ kind: 'frames', bytes: frames }, [frames.buffer]);
    }
    if (this.display) this.paint();
  }

  /** What has changed in the picture goes to the page, which draws no more than it can show. */
  paint() {
    this.stale = this.painting;
    if (this.painting || !this.vm) return;
    const bytes = this.vm.picture();
    if (bytes.length === 0) return;
    this.painting = true;
    this.stale = hasMore(bytes);
    this.host.post({ kind: 'picture', bytes }, [bytes.buffer]);
  }

  /** @param {number} n bytes of frames that the page has taken */
  taken(n) {
    this.ahead -= n;
  }

  /** @param {Uint8Array} frames of the network */
  arrive(frames) {
    this.vm?.arrive(frames);
    this.host.wake();
  }

  /** @param {number} number @param {number} first @param {number} count @returns {Promise<Uint8Array>} */
  async read(number, first, count) {
    const disk = this.disks[number];
    this.figures.waiting += 1;
    try {
      for (let attempt = 0; ; attempt++) {
        try {
          return whole(await disk.read(first * SECTOR, count * SECTOR), count * SECTOR);
        } catch (error) {
          // One failure was waited for; the guest may ask for a thousand more.
          if (attempt >= RETRIES.length || this.told.has(number)) throw error;
          await new Promise((resolve) => setTimeout(resolve, RETRIES[attempt]));
        }
      }
    } finally {
      this.figures.waiting -= 1;
    }
  }

  /** @param {number} disk @param {number} ticket @param {Uint8Array} [bytes] none: the guest gets an error */
  answer(disk, ticket, bytes) {
    this.figures.reads += 1;
    this.figures.bytes += bytes?.length ?? 0;
    if (bytes) this.told.delete(disk);
    this.vm?.answer(disk, ticket, bytes);
    this.host.wake();
  }

  /** @param {number} disk @param {number} ticket @param {unknown} error */
  failed(disk, ticket, error) {
    this.figures.failed += 1;
    this.answer(disk, ticket);
    const { name } = this.disks[disk];
    console.warn(`${name}: ${error}`);
    if (this.told.has(disk)) return;
    this.told.add(disk);
    this.host.post({
      kind: 'problem',
      problem: {
        what: `A part of ${name} could not be read.`,
        why: `The guest got an error of its disk: ${asProblem(error, '').why}`,
        next: ['Check that the server, or the file, is still there.', 'What the guest could not read it may ask for again; if it does not go on, reset it.'],
      },
    });
  }
}

/** @param {Uint8Array} bytes @param {number} length @returns {Uint8Array} a last sector that is not whole ends with zeros */
function whole(bytes, length) {
  if (bytes.length === length) return bytes;
  if (bytes.length + SECTOR <= length) throw new Error(`${bytes.length} of ${length} bytes could be read`);
  const all = new Uint8Array(length);
  all.set(bytes);
  return all;
}
