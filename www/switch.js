// The network of the page: an Ethernet switch that the cards of all machines are plugged into. Loaded with the first
// machine that has a card.
//
// Frames come and go in batches, each frame after three bytes: the card's number, the length with its lower byte first.

/** Bytes in front of a frame, and those of an Ethernet header. */
const HEAD = 3;
const ETHERNET = 14;
/** Bytes on their way to a machine that it has not taken; what comes on top is lost. */
const QUEUE = 1 << 20;
/** Addresses the switch remembers; then it begins anew, and floods until it has learned again. */
const ADDRESSES = 4096;

/**
 * What went through a port, seen from its machine.
 * @typedef {object} LinkStats
 * @property {number} framesOut
 * @property {number} bytesOut
 * @property {number} framesIn
 * @property {number} bytesIn
 * @property {number} lost frames for this machine, which did not take those before them
 */

/** @param {Uint8Array} bytes @param {number} at @returns {number} the six bytes of an address */
function address(bytes, at) {
  const high = (bytes[at] << 8) | bytes[at + 1];
  return high * 2 ** 32 + (((bytes[at + 2] << 24) | (bytes[at + 3] << 16) | (bytes[at + 4] << 8) | bytes[at + 5]) >>> 0);
}

export class Switch {
  constructor() {
    /** @type {Set<Port>} */
    this.ports = new Set();
    /** Who was seen behind which port. @type {Map<number, Port>} */
    this.known = new Map();
  }

  /** @param {(batch: Uint8Array) => void} deliver takes what is for this machine @returns {Port} */
  plug(deliver) {
    const port = new Port(this, deliver);
    this.ports.add(port);
    return port;
  }

  /** @param {Port} port */
  unplug(port) {
    this.ports.delete(port);
    for (const [mac, at] of this.known) if (at === port) this.known.delete(mac);
  }

  /** @param {Port} from @param {Uint8Array} batch */
  forward(from, batch) {
    /** @type {Map<Port, Uint8Array[]>} */
    const out = new Map();
    for (let at = 0; at + HEAD <= batch.length; ) {
      const length = batch[at + 1] | (batch[at + 2] << 8);
      const frame = batch.subarray(at, at + HEAD + length);
      at += HEAD + length;
      if (length < ETHERNET || frame.length < HEAD + length) continue;
      from.stats.framesOut += 1;
      from.stats.bytesOut += length;
      // A group is no sender.
      if ((frame[HEAD + 6] & 1) === 0) this.learn(address(frame, HEAD + 6), from);
      const group = (frame[HEAD] & 1) !== 0;
      const to = group ? undefined : this.known.get(address(frame, HEAD));
      for (const port of to ? [to] : this.ports) {
        if (port === from) continue;
        const frames = out.get(port);
        if (frames) frames.push(frame);
        else out.set(port, [frame]);
      }
    }
    for (const [port, frames] of out) port.deliver(frames);
  }

  /** @param {number} mac @param {Port} port */
  learn(mac, port) {
    if (this.known.get(mac) === port) return;
    if (this.known.size >= ADDRESSES) this.known.clear();
    this.known.set(mac, port);
  }
}

/** Where a machine is plugged in. */
export class Port {
  /** @param {Switch} owner @param {(batch: Uint8Array) => void} take */
  constructor(owner, take) {
    this.owner = owner;
    this.take = take;
    /** Bytes delivered and not yet taken. */
    this.ahead = 0;
    /** @type {LinkStats} */
    this.stats = { framesOut: 0, bytesOut: 0, framesIn: 0, bytesIn: 0, lost: 0 };
  }

  /** @param {Uint8Array} batch frames that the machine sends */
  send(batch) {
    this.owner.forward(this, batch);
  }

  /** @param {number} n bytes the machine has taken */
  taken(n) {
    this.ahead = Math.max(0, this.ahead - n);
  }

  /** @param {Uint8Array[]} frames */
  deliver(frames) {
    const fit = [];
    let size = 0;
    for (const frame of frames) {
      if (this.ahead + size + frame.length > QUEUE) {
        this.stats.lost += 1;
        continue;
      }
      fit.push(frame);
      size += frame.length;
    }
    if (fit.length === 0) return;
    const batch = new Uint8Array(size);
    let at = 0;
    for (const frame of fit) {
      batch.set(frame, at);
      // The first card: a machine has one.
      batch[at] = 0;
      at += frame.length;
    }
    this.ahead += size;
    this.stats.framesIn += fit.length;
    this.stats.bytesIn += size - HEAD * fit.length;
    this.take(batch);
  }

  unplug() {
    this.owner.unplug(this);
  }
}

/** The one that all machines of this page are plugged into. */
export const network = new Switch();
