// When a machine's worker goes on: at once, but after waiting messages, or later.

/**
 * A sleeping machine still wakes this often: the figures stay fresh, and guest time never has to catch up more
 * than the machine's clock allows in one step (1 s).
 */
const LONGEST_SLEEP_MS = 500;
/**
 * Browsers make at least 4 ms of a time-out that follows another (HTML, timers: nesting level), but a guest may sleep for
 * less. Meanwhile no message arrives.
 */
const CLAMP_MS = 4;
/** Messages are let in this often, at least: a turn of the event loop costs as much as a guest's short sleep. */
const TURN_MS = 8;

/** @returns {Int32Array | undefined} what `Atomics.wait` takes; not every browser lets every page have it */
function bed() {
  try {
    // A page that is not isolated from others has no SharedArrayBuffer by name.
    const bed = new Int32Array(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer);
    // Throws where waiting is not allowed; it is no 1, so this does not wait.
    Atomics.wait(bed, 0, 1);
    return bed;
  } catch {
    return undefined;
  }
}

/** Schedules the next slice: at once but after waiting messages, or later. */
export class Alarm {
  /** @param {() => void} action it does not throw */
  constructor(action) {
    this.action = action;
    const channel = new MessageChannel();
    channel.port1.onmessage = (event) => {
      if (event.data === this.turn) this.fire();
    };
    this.kick = channel.port2;
    this.armed = false;
    /** In the action; and it is to be called once more, at once. */
    this.firing = false;
    this.again = false;
    /** Never written: waiting for it to change is sleeping. @type {Int32Array | undefined} */
    this.bed = bed();
    /** Kicks of an earlier turn were cancelled while under way. */
    this.turn = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.armed) return;
    this.armed = true;
    this.kick.postMessage(this.turn);
  }

  /** @param {number} ms Infinity: as long as there is nothing to do */
  after(ms) {
    clearTimeout(this.timer);
    if (ms < CLAMP_MS && this.bed) {
      Atomics.wait(this.bed, 0, 0, ms);
      if (this.firing) this.again = true;
      else this.soon();
      return;
    }
    this.timer = setTimeout(() => this.fire(), Math.min(Math.ceil(ms), LONGEST_SLEEP_MS));
  }

  cancel() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.armed = false;
    this.again = false;
    this.turn += 1;
  }

  fire() {
    this.armed = false;
    this.timer = undefined;
    const begun = performance.now();
    this.firing = true;
    do {
      this.again = false;
      this.action();
    } while (this.again && performance.now() - begun < TURN_MS);
    this.firing = false;
    if (this.again) this.soon();
  }
}
