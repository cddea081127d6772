// Draws a machine. The whole state is one `MachineModel`; `render` shows it, and nothing else writes to the view.

import { clock, count, duration, bytes as formatBytes, mebibytes, mips as formatMips, share } from './format.js';
import { el, setText } from './dom.js';
import { icon, sparkline } from './icons.js';
import { STAGES } from './stages.js';

/** @typedef {import('./protocol.js').State} State */

/**
 * @typedef {object} MachineModel
 * @property {import('./protocol.js').MachineConfig} config
 * @property {State} state
 * @property {string} reason why the state is what it is, when worth a word
 * @property {boolean} booted Boot was pressed at least once
 * @property {Map<string, import('./protocol.js').FileProgress>} files by role
 * @property {Map<string, number>} stages milliseconds from Boot to each stage reached
 * @property {import('./protocol.js').Stats | null} stats
 * @property {import('./switch.js').LinkStats | null} link what went over its network card; null: it has none
 * @property {number[]} history recent MIPS, oldest first
 * @property {import('./protocol.js').Problem | null} problem
 * @property {boolean} hasOutput the guest printed something
 * @property {boolean} focused keys go to the guest
 */

/** How many figures the sparkline shows. */
export const HISTORY = 60;

/** @type {Record<State, {label: string, explain: string}>} */
const STATES = {
  off: { label: 'Off', explain: 'The machine is switched off.' },
  loading: { label: 'Loading', explain: 'Files are on their way.' },
  running: { label: 'Running', explain: 'The guest executes instructions.' },
  idle: { label: 'Idle', explain: 'The guest waits (HLT); your computer rests as well.' },
  paused: { label: 'Paused', explain: 'Guest time stands still.' },
  crashed: { label: 'Crashed', explain: 'The machine stopped with an error.' },
};

/** @type {Record<string, {label: string, explain: string}>} */
export const MODES = {
  pc: { label: 'PC', explain: 'Emulated PC hardware; the kernel is placed in memory and entered directly, no firmware runs.' },
  pvh: { label: 'PVH', explain: 'Direct entry with the Xen interface: hardware CPU, no emulated devices.' },
  pv: { label: 'PV', explain: 'Paravirtual: the guest asks the hypervisor directly, no hardware is emulated.' },
};

/**
 * What the buttons do.
 * @typedef {object} MachineActions
 * @property {() => void} boot
 * @property {() => void} pause
 * @property {() => void} resume
 * @property {() => void} reset
 * @property {() => void} powerOff
 * @property {() => void} fullscreen
 * @property {() => Promise<void>} copyReport
 */

export class MachineView {
  /** @param {HTMLElement} console the terminal element @param {MachineActions} actions */
  constructor(console, actions) {
    this.actions = actions;
    this.console = console;
    /** @type {State | ''} */
    this.shownState = '';
    /** Shows what only some machines have. @type {{render(m: MachineModel): void} | null} */
    this.more = null;
    this.name = el('h2', { class: 'name' });
    this.mode = el('span', { class: 'badge' });
    this.stateText = el('span');
    this.stateIcon = el('span', { class: 'state-icon' });
    this.state = el('span', { class: 'state', role: 'status' }, this.stateIcon, this.stateText);
    this.boot = button('boot', 'Boot', actions.boot, 'primary');
    this.pause = button('pause', 'Pause', actions.pause);
    this.resume = button('boot', 'Resume', actions.resume, 'primary');
    this.reset = button('reset', 'Reset', actions.reset);
    this.power = button('power', 'Power off', actions.powerOff);
    this.full = button('full', 'Full screen', actions.fullscreen, 'quiet');
    const buttons = [this.boot, this.resume, this.pause, this.reset, this.power, this.full];
    this.allButtons = buttons;
    const bar = el(
      'header',
      { class: 'bar' },
      el('slot', { name: 'lead' }),
      el('div', { class: 'title' }, this.name, this.mode, this.state),
      el('div', { class: 'actions', role: 'toolbar', 'aria-label': 'Machine' }, ...buttons),
    );
    this.progress = el('div', { class: 'progress' });
    this.problem = el('div', { class: 'problem', role: 'alert', hidden: true });
    this.stage = el('div', { class: 'stage' }, console, this.progress);
    this.rail = this.buildRail();
    this.figures = el('span', { class: 'figures' });
    this.hint = el('span', { class: 'hint' });
    const rail = el('button', { type: 'button', class: 'rail-button', 'aria-expanded': 'false', click: () => rail.setAttribute('aria-expanded', String(this.element.toggleAttribute('data-rail'))) }, 'Figures');
    const foot = el('footer', { class: 'foot' }, this.figures, this.hint, rail);
    this.element = el('section', { class: 'machine', part: 'machine' }, bar, this.stage, this.problem, this.rail, foot);
    /** @type {Map<string, ReturnType<typeof fileRow>>} */
    this.fileRows = new Map();
  }

  buildRail() {
    this.stageItems = STAGES.map((stage) => {
      const time = el('span', { class: 'time' });
      return { id: stage.id, time, item: el('li', { title: stage.explain }, el('span', { class: 'label' }, stage.label), time) };
    });
    this.speed = el('span', { class: 'big' }, '–');
    this.busy = el('dd');
    this.instructions = el('dd');
    this.guestTime = el('dd');
    this.heap = el('dd');
    this.code = el('dd', { class: 'code' });
    this.codeHead = el('dt', {}, 'Compiled');
    this.spec = el('dl', { class: 'pairs spec' });
    this.spark = sparkline(HISTORY);
    return el(
      'aside',
      { class: 'rail', 'aria-label': 'Machine figures' },
      el('section', { class: 'boot' }, el('h3', {}, 'Boot'), el('ol', { class: 'stages' }, ...this.stageItems.map((s) => s.item))),
      el(
        'section',
        { class: 'cpu' },
        el('h3', { title: 'Million guest instructions per second' }, 'Processor'),
        el('p', { class: 'speed' }, this.speed, el('abbr', { title: 'Million guest instructions per second' }, 'MIPS')),
        this.spark.element,
        el(
          'dl',
          { class: 'pairs' },
          el('dt', { title: 'Share of one core of your computer' }, 'Host core'),
          this.busy,
          el('dt', {}, 'Instructions'),
          this.instructions,
          this.codeHead,
          this.code,
          el('dt', { title: 'How much time has passed for the guest since power-on' }, 'Guest time'),
          this.guestTime,
          el('dt', { title: 'WebAssembly memory: guest RAM, translation tables, devices' }, 'Memory in use'),
          this.heap,
        ),
      ),
      el('section', { class: 'parts' }, el('h3', {}, 'Machine'), this.spec),
    );
  }

  /** @param {MachineModel} m */
  render(m) {
    const { config, state } = m;
    this.element.dataset.state = state;
    this.element.toggleAttribute('data-silent', !m.hasOutput);
    this.element.setAttribute('aria-label', `Machine ${config.name}`);
    setText(this.name, config.name);
    const mode = MODES[config.mode] ?? MODES.pc;
    setText(this.mode, mode.label);
    this.mode.title = mode.explain;
    if (state !== this.shownState) {
      this.shownState = state;
      this.stateIcon.replaceChildren(icon(state));
    }
    setText(this.stateText, STATES[state].label);
    this.state.title = STATES[state].explain;
    this.console.toggleAttribute('live', state === 'running' || state === 'idle' || state === 'paused');
    this.buttons(m);
    this.renderProgress(m);
    this.renderProblem(m);
    this.renderRail(m);
    this.renderFoot(m);
    this.more?.render(m);
  }

  /** @param {MachineModel} m */
  buttons({ state, booted }) {
    const root = /** @type {Document | ShadowRoot} */ (this.element.getRootNode());
    const focused = this.allButtons.find((b) => b === root.activeElement);
    const alive = state === 'running' || state === 'idle' || state === 'paused';
    this.boot.hidden = alive || state === 'loading';
    setText(/** @type {Node} */ (this.boot.querySelector('.text')), booted ? 'Boot again' : 'Boot');
    this.resume.hidden = state !== 'paused';
    this.pause.hidden = !(state === 'running' || state === 'idle');
    this.reset.hidden = !alive;
    this.power.hidden = !(alive || state === 'loading');
    setText(/** @type {Node} */ (this.power.querySelector('.text')), state === 'loading' ? 'Cancel' : 'Power off');
    // Pause becomes Resume under the visitor's finger; the keyboard focus must not fall off the page.
    if (focused?.hidden) this.allButtons.find((b) => !b.hidden)?.focus();
  }

  /** @param {MachineModel} m */
  renderProgress(m) {
    const waiting = !m.hasOutput && m.state !== 'crashed' && !m.problem;
    this.progress.hidden = !waiting;
    if (!waiting) return;
    if (this.fileRows.size === 0 || m.files.size === 0) this.progress.replaceChildren();
    if (m.files.size === 0) this.fileRows.clear();
    if (!m.booted) {
      this.progress.replaceChildren(el('p', { class: 'lead' }, 'This machine is switched off.'));
      return;
    }
    if (!this.progress.querySelector('.lead')) this.progress.prepend(el('p', { class: 'lead' }));
    const lead = /** @type {HTMLElement} */ (this.progress.querySelector('.lead'));
    for (const file of m.files.values()) {
      let row = this.fileRows.get(file.role);
      if (!row) {
        row = fileRow();
        this.fileRows.set(file.role, row);
        this.progress.append(row.element);
      }
      row.show(file);
    }
    const arrived = [...m.files.values()].every((f) => f.done) && m.files.size >= m.config.files.length;
    if (m.state === 'off') setText(lead, m.reason || 'Switched off.');
    else if (!arrived) setText(lead, 'Fetching the guest');
    else if (!m.stages.has('cpu')) setText(lead, 'Starting the processor');
    else setText(lead, 'The guest is running. It has not printed anything yet.');
  }

  /** @param {MachineModel} m */
  renderProblem({ problem, state }) {
    this.problem.hidden = problem === null;
    if (!problem || this.problem.dataset.what === problem.what + problem.why) return;
    this.problem.dataset.what = problem.what + problem.why;
    const copy = button('copy', 'Copy report', async () => {
      try {
        await this.actions.copyReport();
        setText(/** @type {Node} */ (copy.querySelector('.text')), 'Copied');
      } catch {
        setText(/** @type {Node} */ (copy.querySelector('.text')), 'The browser refused the clipboard');
      }
    });
    const again = button('boot', state === 'crashed' ? 'Boot again' : 'Try again', this.actions.boot);
    this.problem.replaceChildren(
      el('h3', {}, icon('crashed'), problem.what),
      el('p', {}, problem.why),
      el('ul', {}, ...problem.next.map((step) => el('li', {}, step))),
      el('div', { class: 'actions' }, again, copy),
    );
    if (problem.details) {
      const details = el('details', {}, el('summary', {}, 'Details'), el('pre', {}, problem.details));
      this.problem.append(details);
    }
  }

  /** @param {MachineModel} m */
  renderRail(m) {
    let current = m.booted && m.state !== 'off' && m.state !== 'crashed';
    for (const { id, item, time } of this.stageItems ?? []) {
      const at = m.stages.get(id);
      const status = at !== undefined ? 'done' : current ? 'now' : 'later';
      if (status === 'now') current = false;
      item.dataset.status = status;
      setText(time, at !== undefined ? duration(at) : status === 'now' ? '…' : '');
    }
    const s = m.stats;
    const alive = m.state === 'running' || m.state === 'idle';
    setText(/** @type {Node} */ (this.speed), s && alive ? formatMips(s.mips) : '–');
    setText(/** @type {Node} */ (this.busy), s && alive ? `${(s.busy * 100).toFixed(s.busy < 0.1 ? 1 : 0)} %` : '–');
    setText(/** @type {Node} */ (this.instructions), s ? count(s.instructions) : '–');
    setText(/** @type {Node} */ (this.guestTime), s ? clock(s.guestMs) : '–');
    setText(/** @type {Node} */ (this.heap), s ? formatBytes(s.heapBytes) : '–');
    this.renderCode(s?.code ?? null, s?.instructions ?? 0);
    this.spark?.draw(m.history);
    const { config } = m;
    const key = JSON.stringify([config.memoryMiB, config.vcpus, config.mode, config.cpu, config.cmdline, config.clock]);
    if (this.spec && this.spec.dataset.key !== key) {
      this.spec.dataset.key = key;
      this.spec.replaceChildren(
        el('dt', {}, 'RAM'),
        el('dd', {}, mebibytes(config.memoryMiB)),
        el('dt', { title: 'They take turns on one core of your computer' }, 'Virtual CPUs'),
        el('dd', {}, String(config.mode === 'pc' ? 1 : (config.vcpus ?? 1))),
        el('dt', { title: 'What CPUID tells the guest' }, 'CPU model'),
        el('dd', {}, config.cpu),
        el('dt', { title: 'Paced: guest time follows your clock. Deterministic: it follows the instruction count.' }, 'Clock'),
        el('dd', {}, config.clock),
        el('dt', { class: 'wide' }, 'Command line'),
        el('dd', { class: 'wide mono' }, config.cmdline || '(empty)'),
      );
    }
  }

  /** @param {import('./wasm-types.js').Compiled | null} code @param {number} instructions */
  renderCode(code, instructions) {
    const [head, figure] = [/** @type {HTMLElement} */ (this.codeHead), /** @type {HTMLElement} */ (this.code)];
    head.hidden = figure.hidden = code === null;
    if (!code) return;
    setText(figure, `${share(code.compiled, instructions)} in ${count(code.regions)} regions`);
    head.title = figure.title =
      `Share of the instructions that ran as WebAssembly made for them. ${formatBytes(code.moduleBytes)} of it so far, in ${count(code.modules)} modules, compiled in ${duration(code.compileMs)}; ` +
      `about ${formatBytes(code.memoryBytes)} of memory is in use for it. ` +
      `Entered ${count(code.entered)} times, from one region to another ${count(code.hops)} times. Left ${count(code.stopped)} times ` +
      `in front of an instruction for the interpreter, ${count(code.short)} times for the time, ${count(code.faults)} times by a fault.`;
  }

  /** @param {MachineModel} m */
  renderFoot(m) {
    const s = m.stats;
    const alive = m.state === 'running' || m.state === 'idle';
    const parts = [m.reason && !alive ? m.reason : STATES[m.state].label];
    if (s && alive) parts.push(`${formatMips(s.mips)} MIPS`);
    if (s) parts.push(`guest time ${clock(s.guestMs)}`, `${count(s.instructions)} instructions`);
    const text = parts.join('  ·  ');
    setText(this.figures, text);
    const hint = !alive && m.state !== 'paused' ? 'none' : m.focused ? 'leave' : 'enter';
    if (this.hint.dataset.hint === hint) return;
    this.hint.dataset.hint = hint;
    if (hint === 'leave') {
      this.hint.replaceChildren('Keys go to the guest. ', key('Ctrl'), key('Shift'), key('X'), ' leaves.');
    } else {
      this.hint.replaceChildren(hint === 'enter' ? `Click the ${m.config.display ? 'screen or console' : 'console'} to type.` : '');
    }
  }
}

/** @param {string} label */
function key(label) {
  return el('kbd', {}, label);
}

/**
 * @param {import('./icons.js').IconName} glyph
 * @param {string} label
 * @param {() => void} action
 * @param {string} [kind]
 */
export function button(glyph, label, action, kind = '') {
  return el('button', { type: 'button', class: kind, click: () => action() }, icon(glyph), el('span', { class: 'text' }, label));
}

/** One file with a bar, bytes of bytes and a rate. */
function fileRow() {
  const name = el('span', { class: 'file-name' });
  const figures = el('span', { class: 'file-figures' });
  const bar = el('progress', { max: '1' });
  return {
    element: el('div', { class: 'file' }, name, figures, bar),
    /** @param {import('./protocol.js').FileProgress} file */
    show(file) {
      setText(name, file.name);
      bar.setAttribute('aria-label', `Loading ${file.name}`);
      if (file.total) bar.value = Math.min(1, file.received / file.total);
      else if (file.done) bar.value = 1;
      else bar.removeAttribute('value');
      const of = file.total ? `${formatBytes(file.received)} of ${formatBytes(file.total)}` : formatBytes(file.received);
      let tail = '';
      if (file.note) tail = file.note;
      else if (file.done) tail = file.cached ? 'from the cache' : 'done';
      else if (file.rate > 0) tail = `${formatBytes(Math.round(file.rate))}/s`;
      setText(figures, tail ? `${of}  ·  ${tail}` : of);
    },
  };
}
