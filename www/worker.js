// A machine's worker: fetches the files, owns the `Vm`, runs it in slices, sleeps while the guest is halted.
// One worker per machine; it ends with the machine.

import { Alarm } from './alarm.js';
import { CONSOLE_WINDOW } from './console-window.js';
import { ProblemError, asProblem, isTrap } from './problem.js';
import { download } from './download.js';
import { HELLO_CONFIG } from './hello.js';
import { VM_STAT, VM_STATE, asMiB, compiledFigures, loadGlue, startEngine } from './wasm.js';

/** @typedef {import('./protocol.js').ToWorker} ToWorker */
/** @typedef {import('./protocol.js').FromWorker} FromWorker */
/** @typedef {import('./protocol.js').State} State */
/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */

/** One slice, in milliseconds: short enough that a key press is felt at once. */
const SLICE_MS = 10;
/** Figures go to the page this often while the guest works, and this often while it idles. */
const STATS_MS = 500;
const STATS_IDLE_MS = 2000;
/** Below this share of one host core the machine is shown as idle. */
const IDLE_SHARE = 0.08;
/** Typed bytes kept while the guest does not read them. */
const INPUT_LIMIT = 1 << 20;

/** @type {{postMessage(message: FromWorker, transfer?: Transferable[]): void, onmessage: ((e: MessageEvent<ToWorker>) => void) | null}} */
const port = /** @type {any} */ (self);

/** @param {number} [at] a time of `performance.now` @returns {number} milliseconds since 1970 UTC */
function epoch(at = performance.now()) {
  return performance.timeOrigin + at;
}

/** @param {unknown} error @param {string} what we were doing */
function tell(error, what) {
  port.postMessage({ kind: 'problem', problem: asProblem(error, what) });
}

/** The machine in this worker. */
class Runner {
  constructor() {
    this.alarm = new Alarm(() => this.slice());
    /** @type {import('./wasm-types.js').Engine | null} */
    this.engine = null;
    /** @type {(module: WebAssembly.Module) => void} once the page has compiled it */
    this.provide = () => {};
    /** @type {Promise<WebAssembly.Module>} */
    const module = new Promise((resolve) => (this.provide = resolve));
    // Before there is a machine: a worker may be started ahead of it.
    const glue = loadGlue(self.name === 'xen' ? 'xen' : 'pc');
    this.loading = Promise.all([glue, module]).then(([g, m]) => startEngine(g, m));
    this.loading.catch((error) => {
      if (this.state === 'off') tell(error, 'The engine did not start.');
    });
    /** @type {import('./wasm-types.js').WasmVm | null} */
    this.vm = null;
    /** What a domain has outside of it. @type {import('./outside.js').Outside | null} */
    this.outside = null;
    /** @type {State} */
    this.state = 'off';
    this.started = false;
    this.paused = false;
    /** Console bytes sent and not yet drawn. */
    this.ahead = 0;
    /** @type {Uint8Array[]} */
    this.input = [];
    this.inputBytes = 0;
    this.busyMs = 0;
    this.resets = 0;
    this.markTime = 0;
    this.markInstructions = 0;
  }

  /** @param {MachineConfig} config */
  async start(config) {
    this.say('loading', '');
    const abort = new AbortController();
    const report = (/** @type {import('./protocol.js').FileProgress} */ progress) =>
      port.postMessage({ kind: 'file', file: progress, atMs: epoch() });
    const domain = config.mode === 'pc' ? null : import('./outside.js');
    const files = config.files
      .filter((file) => file.role !== 'disk')
      .map(async (file) => {
        const bytes = await download(file, report, abort.signal);
        return { role: file.role, bytes: (await (await domain)?.prepare(file, bytes, report)) ?? bytes };
      });
    const around = this.surround(config, report, abort.signal);
    let engine;
    let loaded;
    try {
      [engine, loaded, this.outside] = await Promise.all([this.loading, Promise.all(files), around]);
    } catch (error) {
      abort.abort();
      await Promise.allSettled([...files, around]);
      throw error;
    }
    this.engine = engine;
    const deterministic = config.clock === 'deterministic';
    const wallClock = deterministic ? 0 : Date.now();
    const vm = new engine.Vm(asMiB(config.memoryMiB), `${config.cpu}`, `${config.cmdline}`, deterministic, wallClock);
    this.vm = vm;
    vm.setMode(config.mode, config.vcpus ?? 1);
    vm.setCompile(config.compile ?? true, config.codeMiB);
    for (const { role, bytes } of loaded) vm.load(role, bytes);
    this.outside?.attach(vm);
    vm.boot();
    this.markTime = performance.now();
    if (this.paused) {
      this.say('paused', '');
    } else {
      this.say('running', '');
      this.alarm.soon();
    }
  }

  /**
   * Disks, network card and screen; a PC has none of them yet.
   * @param {MachineConfig} config @param {(progress: import('./protocol.js').FileProgress) => void} report @param {AbortSignal} signal
   * @returns {Promise<import('./outside.js').Outside | null>}
   */
  async surround(config, report, signal) {
    if (config.mode === 'pc' && config.files.every((file) => file.role !== 'disk')) return null;
    const { surround } = await import('./outside.js');
    return surround(config, report, signal, {
      post: (message, transfer) => port.postMessage(message, transfer),
      wake: () => this.wake(),
      fail: (error) => this.fail(error),
    });
  }

  /** The guest has something to do. */
  wake() {
    if (this.vm && !this.paused && this.ahead <= CONSOLE_WINDOW) this.alarm.soon();
  }

  slice() {
    const vm = this.vm;
    if (!vm || this.paused) return;
    try {
      this.feed(vm);
      const begin = performance.now();
      const wait = vm.run(SLICE_MS);
      const end = performance.now();
      this.busyMs += end - begin;
      if (!this.started) {
        this.started = true;
        port.postMessage({ kind: 'started', atMs: epoch(begin) });
      }
      this.drain(vm);
      this.outside?.serve();
      const code = vm.state();
      this.noticeReset(vm);
      if (code === VM_STATE.off || code === VM_STATE.crashed) return this.stopped(vm, code);
      this.measure(vm, end);
      if (this.ahead > CONSOLE_WINDOW) return;
      if (wait > 0 && this.inputBytes === 0) this.alarm.after(wait);
      else this.alarm.soon();
    } catch (error) {
      this.fail(error);
    }
  }

  /** @param {import('./wasm-types.js').WasmVm} vm what was typed goes to the guest, as much as it takes */
  feed(vm) {
    while (this.input.length > 0) {
      const first = this.input[0];
      const taken = vm.serialInput(first);
      this.inputBytes -= taken;
      if (taken < first.length) {
        this.input[0] = first.subarray(taken);
        return;
      }
      this.input.shift();
    }
  }

  /** @param {import('./wasm-types.js').WasmVm} vm */
  drain(vm) {
    const bytes = vm.takeSerial();
    if (bytes.length === 0) return;
    this.ahead += bytes.length;
    port.postMessage({ kind: 'serial', bytes }, [bytes.buffer]);
  }

  /** `run` returns right after a reset, so what was printed before it is already on its way. @param {import('./wasm-types.js').WasmVm} vm */
  noticeReset(vm) {
    const resets = vm.stats()[VM_STAT.resets];
    if (resets === this.resets) return;
    this.resets = resets;
    this.say('running', 'restarted');
  }

  /** @param {import('./wasm-types.js').WasmVm} vm @param {number} now */
  measure(vm, now) {
    const span = now - this.markTime;
    if (span < (this.state === 'idle' ? STATS_IDLE_MS : STATS_MS)) {
      // Waking up is shown at once, falling asleep only after a whole period of it.
      if (this.state === 'idle' && span > 50 && this.busyMs / span > 0.5) this.say('running', '');
      else return;
    }
    this.figures(vm, now);
  }

  /** @param {import('./wasm-types.js').WasmVm} vm @param {number} now */
  figures(vm, now) {
    const stats = vm.stats();
    const instructions = stats[VM_STAT.instructions];
    const span = Math.max(1, now - this.markTime);
    const busy = Math.min(1, this.busyMs / span);
    const mips = Math.max(0, instructions - this.markInstructions) / span / 1000;
    const heapBytes = this.engine?.heapBytes() ?? 0;
    const [guestMs, code] = [stats[VM_STAT.guestMs], compiledFigures(stats)];
    const visits = stats[VM_STAT.visits];
    port.postMessage({ kind: 'stats', stats: { instructions, guestMs, mips, busy, heapBytes, code, visits, disk: null, ...this.outside?.stats() } });
    this.markTime = now;
    this.markInstructions = instructions;
    this.busyMs = 0;
    if (this.state === 'running' || this.state === 'idle') this.say(busy < IDLE_SHARE ? 'idle' : 'running', '');
  }

  /** @param {import('./wasm-types.js').WasmVm} vm @param {number} code */
  stopped(vm, code) {
    this.figures(vm, performance.now());
    this.alarm.cancel();
    if (code === VM_STATE.off) {
      this.say('off', 'The guest switched the machine off.');
      return;
    }
    const details = vm.report();
    this.say('crashed', '');
    port.postMessage({
      kind: 'problem',
      problem: {
        what: 'The guest crashed.',
        why: details.split('\n', 1)[0] || 'The processor could not continue.',
        next: ['Read the last console lines; they often name the cause.', 'Boot again starts the same machine anew.', 'Copy the report if you think Tabvisor is at fault.'],
        ...this.outside?.crash(details),
        details,
      },
    });
  }

  /** @param {unknown} error */
  fail(error) {
    this.alarm.cancel();
    const problem = asProblem(error, 'The machine could not go on.');
    const panic = isTrap(error) ? this.engine?.lastPanic() : '';
    if (panic) problem.details = `${panic}\n${problem.details ?? ''}`;
    const ran = this.started;
    this.vm = null;
    this.outside = null;
    this.say(ran ? 'crashed' : 'off', ran ? '' : 'Did not start.');
    port.postMessage({ kind: 'problem', problem });
  }

  /** @param {State} state @param {string} reason */
  say(state, reason) {
    if (state === this.state && reason === '') return;
    this.state = state;
    port.postMessage({ kind: 'state', state, reason });
  }

  pause() {
    if (this.paused) return;
    this.paused = true;
    this.alarm.cancel();
    if (!this.vm) return;
    this.vm.pause();
    this.figures(this.vm, performance.now());
    this.say('paused', '');
  }

  resume() {
    if (!this.paused) return;
    this.paused = false;
    if (!this.vm) return;
    this.markTime = performance.now();
    this.busyMs = 0;
    this.say('running', '');
    this.alarm.soon();
  }

  reset() {
    if (!this.vm) return;
    this.vm.reset();
    this.input = [];
    this.inputBytes = 0;
    this.paused = false;
    this.resets = this.vm.stats()[VM_STAT.resets];
    this.markInstructions = 0;
    this.say('running', 'restarted');
    this.alarm.soon();
  }

  powerOff() {
    this.alarm.cancel();
    if (this.vm) {
      this.vm.powerOff();
      this.drain(this.vm);
      this.figures(this.vm, performance.now());
    }
    this.paused = true;
    this.say('off', 'You switched the machine off.');
  }

  /** @param {Uint8Array} bytes */
  type(bytes) {
    if (!(bytes instanceof Uint8Array)) throw new TypeError('no bytes');
    if (this.inputBytes + bytes.length > INPUT_LIMIT) return;
    this.input.push(bytes);
    this.inputBytes += bytes.length;
    this.wake();
  }

  /** @param {number} n the terminal has drawn this much */
  consumed(n) {
    const held = this.ahead > CONSOLE_WINDOW;
    if (n > 0) this.ahead = Math.max(0, this.ahead - n);
    if (held && this.ahead <= CONSOLE_WINDOW && !this.paused) this.alarm.soon();
  }

  /** @param {import('./protocol.js').Question} question @returns {string} */
  answer(question) {
    const { engine, vm } = this;
    if (!engine || !vm) {
      throw new ProblemError({ what: 'There is no machine to ask.', why: 'It is not started.', next: ['Boot it first.'] });
    }
    switch (question.what) {
      case 'stateHash':
        return vm.stateHash();
      case 'features':
        return engine.Vm.features();
      case 'runInstructions': {
        const done = vm.runInstructions(question.count);
        this.drain(vm);
        return String(done);
      }
    }
  }
}

const runner = new Runner();

port.onmessage = ({ data: message }) => {
  try {
    switch (message.kind) {
      case 'engine':
        runner.provide(message.module);
        break;
      case 'start':
        // A worker has one machine.
        if (runner.state !== 'off' || runner.vm) break;
        runner.start(message.config === 'hello' ? HELLO_CONFIG : message.config).catch((error) => runner.fail(error));
        break;
      case 'pause':
        runner.pause();
        break;
      case 'resume':
        runner.resume();
        break;
      case 'reset':
        runner.reset();
        break;
      case 'powerOff':
        runner.powerOff();
        break;
      case 'input':
        runner.type(message.bytes);
        break;
      case 'consumed':
        runner.consumed(message.bytes);
        break;
      case 'frames':
        // A machine that stands still, or is not there yet, hears nothing.
        port.postMessage({ kind: 'framesTaken', bytes: message.bytes.length });
        if (!runner.paused) runner.outside?.receive(message);
        break;
      case 'ask':
        try {
          port.postMessage({ kind: 'answer', id: message.id, value: runner.answer(message.question) });
        } catch (error) {
          port.postMessage({ kind: 'refusal', id: message.id, problem: asProblem(error, 'The question could not be answered.') });
        }
        break;
      default:
        runner.outside?.receive(message);
    }
  } catch (error) {
    // What nobody can make sense of is refused, and the machine goes on.
    if (isTrap(error) || message?.kind === 'reset') runner.fail(error);
    else tell(error, 'The machine was asked for what it cannot do.');
  }
};
