// Boot stages recognised from the console text. Stages only move forward; a stage that never prints is skipped.

/**
 * @typedef {object} Stage
 * @property {string} id
 * @property {string} label
 * @property {string} explain one line, shown as a tooltip
 * @property {RegExp} [pattern] console text that proves the stage has begun; the first stages are told, not seen
 */

/** @type {readonly Stage[]} */
export const STAGES = [
  { id: 'files', label: 'Files', explain: 'Kernel and initial RAM disk arrive in the browser and are checked.' },
  { id: 'cpu', label: 'Processor', explain: 'The virtual processor executes its first guest instruction.' },
  {
    id: 'kernel',
    label: 'Kernel',
    explain: 'The guest kernel prints its first line: it runs its own code, in its own page tables.',
    pattern: /Linux version \d|Decompressing Linux|Tabvisor/,
  },
  {
    id: 'init',
    label: 'Init',
    explain: 'The kernel hands over to the first program in user space.',
    pattern: /Run \S+ as init process|Freeing unused (?:kernel|decrypted)|Welcome to /,
  },
  {
    id: 'ready',
    label: 'Ready',
    explain: 'A prompt waits for your input.',
    pattern: /(?:^|\n)\S*login: $|(?:^|\n)[^\n]{0,60}[#$>] $/,
  },
];

/** How much of the end of the console text is looked at; every pattern fits easily. */
const TAIL = 2048;

/** Finds stages in a stream of console text. */
export class StageWatcher {
  /** @param {string} [ready] regular expression that replaces the general prompt patterns */
  constructor(ready) {
    /** @type {RegExp | undefined} */
    this.ready = undefined;
    try {
      if (ready) this.ready = new RegExp(ready);
    } catch {
      // A catalogue with a broken pattern falls back to the general one.
    }
    this.next = 0;
    this.tail = '';
  }

  /**
   * A stage that does not show on the console has begun.
   * @param {string} id
   * @returns {string[]} ids newly reached
   */
  reached(id) {
    const at = STAGES.findIndex((s) => s.id === id);
    if (at < this.next) return [];
    this.next = at + 1;
    return [id];
  }

  /**
   * @param {string} text console output, escape sequences included
   * @returns {string[]} ids newly reached, in order
   */
  feed(text) {
    if (this.next >= STAGES.length) return [];
    const clean = text.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]|\r/g, '');
    const window = this.tail + clean;
    this.tail = window.slice(-TAIL);
    const found = [];
    for (let i = this.next; i < STAGES.length; i++) {
      const stage = STAGES[i];
      const pattern = stage.id === 'ready' ? (this.ready ?? stage.pattern) : stage.pattern;
      if (!pattern) continue;
      // A prompt ends the output, so it is looked for at the end; a banner may be anywhere in it.
      const subject = stage.id === 'ready' && !this.ready ? this.tail : window;
      if (pattern.test(subject)) {
        found.push(stage.id);
        this.next = i + 1;
      }
    }
    return found;
  }
}

/** How much of a line is kept while it is not complete. */
const LINE = 512;
const CHECK_INITRD = 'If it was still booting, check the initial RAM disk: it may be missing, cut off, or of a kind the kernel cannot unpack.';

/** What a Linux kernel prints when it cannot go on, or can no longer be trusted to. */
const LAST_WORDS = [
  { pattern: /Kernel panic - not syncing: [^\r\n]*(?=\r?\n)/, what: 'The guest’s kernel stopped with a panic.' },
  { pattern: /BUG: (?:unable to handle|kernel NULL)[^\r\n]*(?=\r?\n)/, what: 'The guest’s kernel met an error of its own; it may go on or wait for ever.' },
];

/** Finds them in a stream of console text. */
export class PanicWatcher {
  constructor() {
    this.tail = '';
    this.found = false;
  }

  /** @param {string} text console output @returns {import('./protocol.js').Problem | null} the first time only */
  feed(text) {
    if (this.found) return null;
    const window = this.tail + text;
    this.tail = window.slice(-LINE);
    for (const { pattern, what } of LAST_WORDS) {
      const said = pattern.exec(window);
      if (!said) continue;
      this.found = true;
      const next = [CHECK_INITRD, 'Read the console lines around it; they name the cause.', 'Reset starts the same machine again.'];
      return { what, why: `It says: ${said[0]}`, next };
    }
    return null;
  }
}
