// The page's side of a machine: a worker behind one class with typed methods and events.

import { HELLO_CONFIG } from './hello.js';
import { ProblemError, asProblem } from './problem.js';
import { compileEngine, engineFor, missingFeature } from './wasm.js';

/** @typedef {import('./protocol.js').ToWorker} ToWorker */
/** @typedef {import('./protocol.js').FromWorker} FromWorker */
/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./protocol.js').Problem} Problem */

/**
 * What a `Vm` tells its owner. All are called from the page's event loop, never from inside a method.
 * `atMs` is when it happened, in epoch milliseconds.
 * @typedef {object} VmEvents
 * @property {(file: import('./protocol.js').FileProgress, atMs: number) => void} file
 * @property {(state: import('./protocol.js').State, reason: string) => void} state
 * @property {(atMs: number) => void} started the first guest instruction
 * @property {(bytes: Uint8Array) => void} serial
 * @property {(stats: import('./protocol.js').Stats) => void} stats
 * @property {(problem: Problem) => void} problem
 * @property {(message: FromWorker) => void} more what only a domain says
 */

/**
 * A worker that waits for its machine.
 * @typedef {object} Ahead
 * @property {Worker} [worker] gone if it failed
 * @property {boolean} hello it runs the page's own guest already
 * @property {number} began epoch milliseconds: since when it does
 * @property {FromWorker[]} said what nobody listened to
 */

/** @type {Map<import('./wasm-types.js').EngineName, Promise<WebAssembly.Module>>} compiled engines, which all workers share */
const engines = new Map();
/**
 * What the page began before its modules were there (index.html), if an address names a machine.
 * @type {(Ahead & {engine?: Promise<WebAssembly.Module>}) | null}
 */
const early = /** @type {any} */ (globalThis).ahead ?? null;
/** One for each engine at most. @type {Map<import('./wasm-types.js').EngineName, Ahead>} */
const spares = new Map(early ? [['pc', early]] : []);

/** @param {import('./wasm-types.js').EngineName} name @returns {Promise<WebAssembly.Module>} */
function compiled(name) {
  const known = engines.get(name);
  if (known) return known;
  const begun = name === 'pc' ? early?.engine : undefined;
  const engine = begun?.catch(() => compileEngine(name)) ?? compileEngine(name);
  engines.set(name, engine);
  // The next boot tries again.
  engine.catch(() => engines.delete(name));
  return engine;
}

/** @param {import('./wasm-types.js').EngineName} name the worker's name says which engine it is for */
function startWorker(name) {
  return new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name });
}

/**
 * A boot is likely: compiles the engine and starts a worker ahead of it. What goes wrong here is tried again, and
 * told, when a machine boots.
 * @param {import('./protocol.js').Mode} [mode]
 */
export function warm(mode = 'pc') {
  const name = engineFor(mode);
  if (missingFeature() || spares.has(name)) return;
  const worker = startWorker(name);
  /** @type {Ahead} */
  const ahead = { worker, hello: false, began: 0, said: [] };
  spares.set(name, ahead);
  worker.onmessage = (event) => ahead.said.push(event.data);
  worker.onerror = (event) => {
    event.preventDefault();
    delete ahead.worker;
  };
  compiled(name).then(
    (module) => worker.postMessage(/** @type {ToWorker} */ ({ kind: 'engine', module })),
    () => delete ahead.worker,
  );
}

/** @param {MachineConfig} config @returns {Ahead & {worker: Worker}} the worker for it, which may run it already */
function workerFor(config) {
  const name = engineFor(config.mode);
  const ahead = spares.get(name);
  spares.delete(name);
  // Before it has a machine, a worker says nothing but what it lacks.
  const fits = ahead?.hello ? config === HELLO_CONFIG : ahead?.said.length === 0;
  if (ahead?.worker && fits) return { ...ahead, worker: ahead.worker };
  ahead?.worker?.terminate();
  return { worker: startWorker(name), hello: false, began: Date.now(), said: [] };
}

/** @param {MachineConfig} config @returns {string | undefined} the address of the machine's network card, if it has one */
function macFor(config) {
  if (config.mode === 'pc' || config.clock === 'deterministic' || config.network === false) return undefined;
  // The first half is Xen's.
  const own = crypto.getRandomValues(new Uint8Array(3));
  return config.mac ?? ['00:16:3e', ...Array.from(own, (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** A machine in its own worker. */
export class Vm {
  /** @param {MachineConfig} config @param {VmEvents} events */
  constructor(config, events) {
    this.events = events;
    /** @type {Map<number, {resolve: (value: string) => void, reject: (error: Error) => void}>} */
    this.questions = new Map();
    this.nextQuestion = 1;
    this.answered = false;
    this.closed = false;
    /** Where it is plugged into the page's network. @type {import('./switch.js').Port | null} */
    this.link = null;
    const mac = macFor(config);
    if (mac) this.plug();
    const { worker, hello, began, said } = workerFor(config);
    this.worker = worker;
    /** Epoch milliseconds. */
    this.began = hello ? began : Date.now();
    for (const message of said) queueMicrotask(() => this.receive(message));
    this.worker.onmessage = (event) => this.receive(event.data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.broken(event.message);
    };
    // A worker that was started ahead has the engine already, and takes no notice of a second one.
    compiled(engineFor(config.mode)).then(
      (module) => this.send({ kind: 'engine', module }),
      (error) => {
        this.close();
        this.events.state('off', 'Did not start.');
        this.events.problem(asProblem(error, 'The engine of the machine did not start.'));
      },
    );
    if (!hello) this.send({ kind: 'start', config: mac ? { ...config, mac } : config });
  }

  plug() {
    import('./switch.js').then(
      ({ network }) => {
        if (!this.closed) this.link = network.plug((bytes) => this.worker.postMessage({ kind: 'frames', bytes }, [bytes.buffer]));
      },
      (error) => this.events.problem(asProblem(error, 'The network of the page could not be loaded.')),
    );
  }

  pause() {
    this.send({ kind: 'pause' });
  }

  resume() {
    this.send({ kind: 'resume' });
  }

  reset() {
    this.send({ kind: 'reset' });
  }

  powerOff() {
    this.send({ kind: 'powerOff' });
  }

  /** @param {Uint8Array} bytes what was typed on the serial console */
  input(bytes) {
    this.send({ kind: 'input', bytes });
  }

  /** @param {number} bytes console output that has been drawn */
  consumed(bytes) {
    this.send({ kind: 'consumed', bytes });
  }

  /** @returns {Promise<string>} hash over everything the guest could tell apart */
  stateHash() {
    return this.ask({ what: 'stateHash' });
  }

  /** @returns {Promise<string>} what this build and browser can do, as JSON */
  features() {
    return this.ask({ what: 'features' });
  }

  /** @param {number} count @returns {Promise<string>} instructions retired; deterministic clock only */
  runInstructions(count) {
    return this.ask({ what: 'runInstructions', count });
  }

  close() {
    this.closed = true;
    this.link?.unplug();
    this.worker.terminate();
    for (const { reject } of this.questions.values()) reject(new Error('the machine was closed'));
    this.questions.clear();
  }

  /** @param {ToWorker} message */
  send(message) {
    this.worker.postMessage(message);
  }

  /** @param {import('./protocol.js').Question} question @returns {Promise<string>} */
  ask(question) {
    const id = this.nextQuestion++;
    return new Promise((resolve, reject) => {
      this.questions.set(id, { resolve, reject });
      this.send({ kind: 'ask', id, question });
    });
  }

  /** @param {FromWorker} message */
  receive(message) {
    this.answered = true;
    switch (message.kind) {
      case 'file':
        return this.events.file(message.file, message.atMs);
      case 'state':
        return this.events.state(message.state, message.reason);
      case 'started':
        return this.events.started(message.atMs);
      case 'serial':
        return this.events.serial(message.bytes);
      case 'stats':
        return this.events.stats(message.stats);
      case 'problem':
        return this.events.problem(message.problem);
      case 'frames':
        this.send({ kind: 'framesTaken', bytes: message.bytes.length });
        this.link?.send(message.bytes);
        return;
      case 'framesTaken':
        this.link?.taken(message.bytes);
        return;
      case 'answer':
        this.questions.get(message.id)?.resolve(message.value);
        this.questions.delete(message.id);
        return;
      case 'refusal':
        this.questions.get(message.id)?.reject(new ProblemError(message.problem));
        this.questions.delete(message.id);
        return;
      default:
        this.events.more(message);
    }
  }

  /** @param {string} [why] what the browser says; nothing if the script could not be loaded */
  broken(why) {
    if (!this.answered) {
      const { pathname } = new URL('./worker.js', import.meta.url);
      this.events.state('off', 'Did not start.');
      this.events.problem({
        what: "The machine's worker could not be loaded.",
        why: why ? `The browser reports for ${pathname}: ${why}.` : `${pathname}, or a module it needs, is not there or did not arrive.`,
        next: ['Boot again, or reload the page.', 'If you serve the page yourself, check that all its files are there.'],
      });
      return;
    }
    this.events.state('crashed', '');
    this.events.problem({
      what: "The machine's worker stopped.",
      why: `The browser reports: ${why || 'nothing'}.`,
      next: ['Boot again.', 'Close other tabs if the computer is short of memory, or give the machine less memory.'],
    });
  }
}
