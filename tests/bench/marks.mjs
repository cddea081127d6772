// Reads the benchmark guest's console: lines with `@@` mark the begin and the end of a program. The results
// have the names that the peers' runners write (../shared/bench/README.md).

/**
 * Where the host stands at one moment.
 * @typedef {{wall: number, cpu: number, instructions: number, compiled?: number}} Moment seconds since power-on, CPU seconds,
 *   retired, how many of them compiled
 * @typedef {{name: string, host: number, cpu: number, insns: number, compiled?: number, iters: number, check: string}} Sample
 */

const END = /^@@E (\S+): (\d+) iterations, [\d.]+ seconds, check (\S+)/;

export class Marks {
  constructor() {
    this.line = '';
    /** @type {(Moment & {name: string}) | null} */
    this.running = null;
    /** @type {Moment | null} */
    this.boot = null;
    /** @type {Sample[]} */
    this.results = [];
    /** @type {string[]} */
    this.errors = [];
    this.done = false;
    /** @type {import('../../www/wasm.js').Compiled | null} what the compiler did up to now */
    this.code = null;
  }

  /** @param {Uint8Array} bytes what the guest printed up to this moment @param {Moment} now */
  take(bytes, now) {
    for (const byte of bytes) {
      if (byte !== 10 && byte !== 13) {
        if (this.line.length < 4096) this.line += String.fromCharCode(byte);
        continue;
      }
      const at = this.line.indexOf('@@');
      if (at >= 0) this.mark(this.line.slice(at), now);
      this.line = '';
    }
  }

  /** @param {string} text @param {Moment} now */
  mark(text, now) {
    if (text.startsWith('@@INIT')) this.boot ??= now;
    else if (text.startsWith('@@DONE')) this.done = true;
    else if (text.startsWith('@@S ')) this.running = { name: text.slice(4), ...now };
    else if (text.startsWith('@@X')) {
      this.errors.push(text);
      this.running = null;
    } else if (text.startsWith('@@E ')) {
      const [, name, iters, check] = END.exec(text) ?? [];
      const begin = this.running;
      if (begin && begin.name === name) {
        const [host, cpu, insns] = [now.wall - begin.wall, now.cpu - begin.cpu, now.instructions - begin.instructions];
        const compiled = now.compiled === undefined || begin.compiled === undefined ? undefined : now.compiled - begin.compiled;
        this.results.push({ name, host, cpu, insns, compiled, iters: Number(iters), check });
      } else this.errors.push(`unmatched ${text}`);
      this.running = null;
    }
  }

  /** What is written to the result file. @param {string} emu */
  summary(emu) {
    const { boot, results, errors, code } = this;
    const why = this.done ? 'done' : 'fail';
    return { emu, why, boot: boot?.wall ?? null, bootcpu: boot?.cpu ?? null, bootinsns: boot?.instructions ?? null, code, results, errors };
  }
}

/** `--name value` pairs. @param {string[]} args @returns {Record<string, string>} */
export function options(args) {
  /** @type {Record<string, string>} */
  const found = {};
  for (let i = 0; i + 1 < args.length; i += 2) found[args[i].replace(/^--/, '')] = args[i + 1];
  return found;
}

/** What a disk of the benchmark has: no two sectors are alike. @param {number} mib */
export function pattern(mib) {
  const words = new Uint32Array(mib << 18);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e3779b1);
  return new Uint8Array(words.buffer);
}
