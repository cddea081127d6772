// <x86-machine>: a machine another page can embed. The page of this project is its first user.
//
//   <script type="module" src="https://…/x86-machine.js"></script>
//   <x86-machine kernel="vmlinuz" initrd="initrd.cpio" memory="256" cmdline="console=ttyS0" autostart></x86-machine>
//
// Attributes: name, kernel, initrd, disk, mode (pc | pvh | pv), vcpus, display (800x600), memory (MiB), cpu, cmdline, clock (paced | deterministic), ready (regular
// expression for "it can be used now"), autostart. Scripts may set `config` instead, and call boot(), pause(),
// resume(), reset(), powerOff(). Events: statechange, stage, problem (all with `detail`).
// For tests and scripts: `machine.console.text()` is everything on the console, `machine.console.send(text)` types.

import './x86-console.js';
import { el } from './dom.js';
import { MODES as ALL_MODES } from './guests.js';
import { HISTORY, MachineView } from './machine-view.js';
import { asProblem } from './problem.js';
import { PanicWatcher, StageWatcher } from './stages.js';
import { Vm } from './vm.js';
import { missingFeature } from './wasm.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./machine-view.js').MachineModel} MachineModel */
/** @typedef {import('./x86-console.js').X86Console} X86Console */

/** Shown in reports. */
export const VERSION = '0.1.0';

/** @param {import('./protocol.js').FileSource} file @returns {string | Blob | undefined} what tells a disk from others */
export const diskKey = ({ blob, url }) => blob ?? url;

export class X86Machine extends HTMLElement {
  static observedAttributes = ['name', 'kernel', 'initrd', 'disk', 'mode', 'vcpus', 'display', 'memory', 'cpu', 'cmdline', 'clock', 'ready'];

  constructor() {
    super();
    /** @type {X86Console} */
    this.console = /** @type {X86Console} */ (document.createElement('x86-console'));
    /** @type {Vm | null} */
    this.vm = null;
    /** @type {MachineConfig | null} */
    this.given = null;
    /** @type {MachineModel} */
    this.model = freshModel(emptyConfig());
    /** What only domains have. @type {Promise<import('./domain-view.js').DomainView | void> | undefined} */
    this.domain = undefined;
    /** What was written to disks and is to be there at the next boot, by `diskKey`. @type {Map<string | Blob | undefined, import('./written.js').Written[]>} */
    this.kept = new Map();
    this.watcher = new StageWatcher();
    this.panics = new PanicWatcher();
    this.bootAt = 0;
    this.frame = 0;
    this.view = new MachineView(this.console, {
      boot: () => this.boot(),
      pause: () => this.pause(),
      resume: () => this.resume(),
      reset: () => this.reset(),
      powerOff: () => this.powerOff(),
      fullscreen: () => this.fullscreen(),
      copyReport: async () => navigator.clipboard.writeText(await this.report()),
    });
    this.wire();
    const root = this.attachShadow({ mode: 'open' });
    const here = (/** @type {string} */ path) => new URL(path, import.meta.url).href;
    const sheets = ['./tokens.css', './controls.css', './x86-machine.css'].map((href) => el('link', { rel: 'stylesheet', href: here(href) }));
    // Unstyled controls would flash for a frame or two; the console has its size only with the styles.
    this.view.element.style.visibility = 'hidden';
    const settled = sheets.map((sheet) => new Promise((resolve) => ['load', 'error'].map((kind) => sheet.addEventListener(kind, resolve))));
    Promise.all(settled).then(() => this.view.element.style.removeProperty('visibility'));
    root.append(...sheets, this.view.element);
  }

  wire() {
    const terminal = this.console;
    terminal.ontyped = (bytes) => this.vm?.input(bytes);
    terminal.ondrawn = (bytes) => this.vm?.consumed(bytes);
    terminal.ontext = (text) => {
      this.reached(this.watcher.feed(text));
      const panic = this.panics.feed(text);
      if (panic) this.fail(panic);
    };
    terminal.addEventListener('leave', () => this.firstButton()?.focus());
    terminal.addEventListener('focusin', () => this.update({ focused: true }));
    terminal.addEventListener('focusout', () => this.update({ focused: false }));
  }

  connectedCallback() {
    if (!this.given) this.attributeChangedCallback();
    this.draw();
    if (this.hasAttribute('autostart') && !this.model.booted) this.boot();
  }

  /** Removing the element ends its machine. Moving it within the document does not. */
  disconnectedCallback() {
    queueMicrotask(() => {
      if (!this.isConnected) this.close();
    });
  }

  attributeChangedCallback() {
    if (this.given) return;
    this.model.config = this.configFromAttributes();
    this.draw();
  }

  /** @returns {MachineConfig} */
  get config() {
    return this.model.config;
  }

  /** Takes effect at the next boot. @param {MachineConfig} config */
  set config(config) {
    this.given = config;
    this.model.config = config;
    this.draw();
  }

  /** @returns {import('./protocol.js').State} */
  get state() {
    return this.model.state;
  }

  boot() {
    this.close();
    this.console.clear();
    const { config } = this.model;
    this.model = { ...freshModel(config), booted: true, state: 'loading', focused: this.model.focused };
    this.watch();
    this.console.prefetch();
    const lacking = missingFeature();
    if (lacking) {
      this.fail(lacking);
      return;
    }
    if (config.files.every((file) => file.role !== 'kernel')) {
      this.fail({
        what: 'This machine has no kernel.',
        why: 'A direct boot needs a kernel file; the machine description names none.',
        next: ['Give the element a kernel attribute.', 'Or drop a kernel onto the page.'],
      });
      return;
    }
    this.domain?.then((view) => view?.close());
    this.domain =
      config.mode === 'pc'
        ? undefined
        : import('./domain-view.js').then(({ DomainView }) => new DomainView(this)).catch((e) => this.fail(asProblem(e, 'A part of the page could not be loaded.')));
    this.vm = new Vm(this.kept.size > 0 ? this.withKept(config) : config, {
      file: (file, atMs) => {
        this.model.files.set(file.role, file);
        const all = [...this.model.files.values()];
        if (all.length >= config.files.length && all.every((f) => f.done)) this.reached(this.watcher.reached('files'), atMs);
        this.update({});
      },
      state: (state, reason) => this.stateChanged(state, reason),
      started: (atMs) => {
        this.openConsole();
        this.reached(this.watcher.reached('cpu'), atMs);
        // Whoever pressed Boot wants to type; a visitor who moved on keeps the focus where it is.
        if (this.ownsFocus()) this.console.focus();
      },
      serial: (bytes) => {
        this.console.write(bytes);
        if (!this.model.hasOutput) this.update({ hasOutput: true });
      },
      stats: (stats) => {
        const history = [...this.model.history, stats.mips].slice(-HISTORY);
        this.update({ stats, history, link: this.vm?.link ? { ...this.vm.link.stats } : null });
      },
      problem: (problem) => this.fail(problem),
      more: (message) => this.domain?.then((view) => view?.receive(message)),
    });
    this.bootAt = this.vm.began;
    this.stateEvent('loading');
    this.update({});
  }

  /** @param {MachineConfig} config @returns {MachineConfig} the same, its disks with what was written */
  withKept(config) {
    return { ...config, files: config.files.map((file) => ({ ...file, written: this.kept.get(diskKey(file)) })) };
  }

  /** The terminal takes its turn after the processor, which needs the browser's cores to start. */
  openConsole() {
    this.console.open().catch((error) => {
      this.fail({
        what: 'The terminal could not be loaded.',
        why: `vendor/xterm.mjs: ${asProblem(error, '').why}.`,
        next: ['Reload the page.', 'If you serve the page yourself, run cargo xtask serve once; it fetches the terminal.'],
      });
    });
  }

  pause() {
    this.vm?.pause();
  }

  resume() {
    this.vm?.resume();
    this.console.focus();
  }

  /** The reset button: same machine, same files, from the start. */
  reset() {
    if (!this.vm) return this.boot();
    this.vm.reset();
    this.console.focus();
  }

  powerOff() {
    if (!this.vm) return;
    if (this.model.state === 'loading') {
      this.close();
      this.stateChanged('off', 'Cancelled.');
      return;
    }
    this.vm.powerOff();
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.requestFullscreen().catch(() => {});
  }

  /** @returns {Promise<string>} text for a bug report */
  async report() {
    const { report } = await import('./report.js');
    const { config, state, problem, stats } = this.model;
    return report({ config, state, problem, stats, consoleText: this.console.text(), version: VERSION });
  }

  close() {
    this.vm?.close();
    this.vm = null;
  }

  /** @param {import('./protocol.js').State} state @param {string} reason */
  stateChanged(state, reason) {
    if (reason === 'restarted') this.restarted();
    this.update({ state, reason: reason === 'restarted' ? '' : reason });
    this.stateEvent(state);
  }

  /** A boot begins: look for its stages, and for its end. */
  watch() {
    this.watcher = new StageWatcher(this.model.config.ready);
    this.panics = new PanicWatcher();
    this.bootAt = Date.now();
  }

  restarted() {
    this.console.rule('reset');
    this.watch();
    this.watcher.reached('cpu');
    const files = this.model.stages.get('files') ?? 0;
    this.update({ stages: new Map([['files', files], ['cpu', 0]]), history: [], problem: null });
  }

  ownsFocus() {
    const active = document.activeElement;
    return active === null || active === document.body || active === this;
  }

  /** @param {import('./protocol.js').State} state */
  stateEvent(state) {
    this.dispatchEvent(new CustomEvent('statechange', { detail: { state }, bubbles: true }));
  }

  /** @param {string[]} ids stages just reached @param {number} [atMs] epoch time, when it was not just now */
  reached(ids, atMs = Date.now()) {
    for (const id of ids) {
      const ms = Math.max(0, atMs - this.bootAt);
      this.model.stages.set(id, ms);
      this.dispatchEvent(new CustomEvent('stage', { detail: { id, ms }, bubbles: true }));
    }
    if (ids.length > 0) this.update({});
  }

  /** @param {import('./protocol.js').Problem} problem */
  fail(problem) {
    const state = this.model.state === 'loading' ? 'off' : this.model.state;
    this.update({ problem, state, reason: state === 'off' ? 'Did not start.' : '' });
    this.dispatchEvent(new CustomEvent('problem', { detail: problem, bubbles: true }));
  }

  /** @param {Partial<MachineModel>} changes */
  update(changes) {
    Object.assign(this.model, changes);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    this.view.render(this.model);
  }

  /** @returns {HTMLElement | undefined} */
  firstButton() {
    const buttons = /** @type {NodeListOf<HTMLElement>} */ (this.view.element.querySelectorAll('.bar button'));
    return [...buttons].find((b) => !b.hidden);
  }

  /** @returns {MachineConfig} */
  configFromAttributes() {
    const get = (/** @type {string} */ name) => this.getAttribute(name);
    const config = emptyConfig();
    /** @type {import('./protocol.js').FileSource[]} */
    const files = [];
    for (const role of /** @type {const} */ (['kernel', 'initrd', 'disk'])) {
      const address = get(role);
      if (!address) continue;
      const url = new URL(address, document.baseURI);
      files.push({ role, name: decodeURIComponent(url.pathname.split('/').pop() || role), url: url.href });
    }
    const memory = get('memory');
    const mode = ALL_MODES.find((m) => m === get('mode'));
    return {
      ...config,
      mode: mode ?? config.mode,
      vcpus: Math.floor(Number(get('vcpus'))) || 1,
      display: get('display') ?? undefined,
      name: get('name') ?? files[0]?.name ?? config.name,
      memoryMiB: memory === null ? config.memoryMiB : Math.floor(Number(memory)) || 0,
      cpu: get('cpu') ?? config.cpu,
      cmdline: get('cmdline') ?? config.cmdline,
      clock: get('clock') === 'deterministic' ? 'deterministic' : 'paced',
      ready: get('ready') ?? undefined,
      files,
    };
  }
}

/** @returns {MachineConfig} */
function emptyConfig() {
  return {
    id: 'embedded',
    name: 'Machine',
    mode: 'pc',
    memoryMiB: 256,
    cpu: 'x86-64-v2',
    cmdline: 'console=ttyS0',
    clock: 'paced',
    files: [],
  };
}

/** @param {MachineConfig} config @returns {MachineModel} */
function freshModel(config) {
  return {
    config,
    state: 'off',
    reason: '',
    booted: false,
    files: new Map(),
    stages: new Map(),
    stats: null,
    link: null,
    history: [],
    problem: null,
    hasOutput: false,
    focused: false,
  };
}

customElements.define('x86-machine', X86Machine);
