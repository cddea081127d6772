// What a domain has outside of it, in the machine's worker: disks whose sectors are read when the guest wants them, the
// frames of its network card, and its screen. Loaded only for a machine that may have such.

import { openDisk, whole } from './disk.js';
import { hasMore } from './picture.js';
import { ProblemError, asProblem } from './problem.js';
import { asMiB } from './wasm.js';
import { SECTOR, collect, over, patch, together } from './written.js';

/** @typedef {import('./disk.js').Disk} Disk */
/** @typedef {import('./protocol.js').FileSource} FileSource */
/** @typedef {import('./protocol.js').FileProgress} FileProgress */
/** @typedef {import('./wasm-types.js').WasmVm} WasmVm */

/** A read that fails is tried again after so many milliseconds each, before the guest is told. */
const RETRIES = [250, 1000];
/** How files begin that a domain is built from as they are: ELF, and kernels that this project has packed. */
const PLAIN = ['\x7fELF', 'TVPACK1\n'].map((magic) => Array.from(magic, (c) => c.charCodeAt(0)));
/** Bytes of frames that the page has not taken yet; what the guest sends beyond is lost, as on a wire. */
const WINDOW = 2 << 20;

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
  const parts = {
    mac: deterministic ? undefined : config.mac,
    display: displaySize(config.display),
    mostMiB: asMiB(Number(config.mostMiB)),
    shared: config.share === undefined ? null : await openShared(config.share, report, signal, host),
  };
  return new Outside(await Promise.all(disks), parts, host);
}

/**
 * @param {unknown} files @param {(progress: FileProgress) => void} report @param {AbortSignal} signal @param {Host} host
 * @returns {Promise<import('./share.js').Shared>}
 */
async function openShared(files, report, signal, host) {
  const { Shared, read } = await import('./share.js');
  return new Shared(await read(files, report, signal), host);
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

/**
 * What a domain has beside its disks.
 * @typedef {object} Parts
 * @property {string} [mac] of its network card, if it has one
 * @property {[number, number] | null} [display] pixels of its screen, if it has one
 * @property {import('./share.js').Shared | null} [shared] a folder that it may mount
 * @property {number} [mostMiB] memory that it may come to have, if that is more than it boots with
 */

/** What surrounds one machine. */
export class Outside {
  /** @param {Disk[]} disks @param {Parts} parts @param {Host} host */
  constructor(disks, { mac, display = null, shared = null, mostMiB = 0 }, host) {
    this.disks = disks;
    this.mac = mac;
    this.display = display;
    this.shared = shared;
    this.mostMiB = mostMiB;
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
    if (this.mostMiB) vm.mostMemory(this.mostMiB);
    this.shared?.attach(vm);
  }

  /** @param {import('./protocol.js').ToWorker} message */
  receive(message) {
    // What throws here is refused.
    switch (message.kind) {
      case 'frames':
        if (!(message.bytes instanceof Uint8Array)) throw new TypeError('the frames are no bytes');
        return this.arrive(message.bytes);
      case 'framesTaken':
        return this.taken(message.bytes);
      case 'disk':
        if (!this.disks[message.disk]) throw new RangeError(`there is no disk ${message.disk}`);
        this.handOut(message.disk, message.whole);
        return;
      case 'share':
        if (!this.shared) throw new Error('this machine has no shared folder');
        this.shared.receive(message);
        return;
      case 'tell':
        this.vm?.tell(`${message.what}`);
        this.host.wake();
        return;
      case 'pictureTaken':
        this.painting = false;
        if (this.stale) this.paint();
        return;
      case 'play':
        if (!Array.isArray(message.events)) throw new TypeError('what is played is no list');
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
    const numbers = (/** @type {Float64Array | undefined} */ of) => Array.from(of ?? []);
    const shared = this.shared ? { shared: numbers(this.vm?.sharedUsage()) } : {};
    return { ...shared, counts: this.vm?.counts(), memory: numbers(this.vm?.memory()), disk: this.disks.length > 0 ? this.figures : null };
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

  /**
   * Tells the page what was written to a disk, as of now.
   * @param {number} number @param {boolean} withDisk and the disk with it
   */
  async handOut(number, withDisk) {
    const disk = this.disks[number];
    try {
      // All at once: from here to the first wait the guest stands still.
      const written = over(disk.written, this.vm ? collect(this.vm, number) : []);
      const image = withDisk ? together(await disk.content(), written) : undefined;
      this.host.post({ kind: 'disk', disk: number, written, image });
    } catch (error) {
      this.host.post({ kind: 'problem', problem: asProblem(error, `${disk.name} could not be read as a whole.`) });
    }
  }

  /** @param {number} n bytes of frames that the page has taken */
  taken(n) {
    if (n > 0) this.ahead = Math.max(0, this.ahead - n);
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
          return patch(disk.written, first * SECTOR, whole(await disk.read(first * SECTOR, count * SECTOR), count * SECTOR));
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
