// What a machine and its platform had to do with each other, as figures.

/**
 * What `Vm.counts` says.
 * @param {string} lines @param {string} kind @returns {{n: number, name: string}[]} the most frequent first
 */
export function countsOf(lines, kind) {
  return lines.split('\n').flatMap((line) => {
    const [, of, n, name] = /^(\w) (\d+) (.+)$/.exec(line) ?? [];
    return of === kind ? [{ n: Number(n), name }] : [];
  });
}

/** @param {{n: number}[]} counts @returns {number} */
export function sum(counts) {
  return counts.reduce((all, { n }) => all + n, 0);
}

/**
 * @param {import('./protocol.js').Stats} stats
 * @returns {number} how often the processor left the guest's code: for emulated hardware, or for the hypervisor
 */
export function exitsOf(stats) {
  return stats.counts === undefined ? stats.visits : sum(countsOf(stats.counts, 'x'));
}

/** What one machine has taken, followed over time. */
export class Watch {
  constructor() {
    /** @type {import('./protocol.js').Stats | null} */
    this.last = null;
    this.lastAt = 0;
    /** Exits per second, lately. */
    this.rate = 0;
    /** Figures when the prompt had come. @type {{instructions: number, exits: number} | null} */
    this.prompt = null;
  }

  /** @param {{stats: import('./protocol.js').Stats | null, stages: Map<string, number>}} model @param {number} now milliseconds */
  look({ stats, stages }, now) {
    if (!stages.has('ready')) this.prompt = null;
    if (!stats || stats === this.last) return;
    const exits = exitsOf(stats);
    const before = this.last && stats.instructions >= this.last.instructions ? exitsOf(this.last) : 0;
    this.rate = this.last ? Math.max(0, exits - before) / Math.max(0.001, (now - this.lastAt) / 1000) : 0;
    if (stages.has('ready')) this.prompt ??= { instructions: stats.instructions, exits };
    this.last = stats;
    this.lastAt = now;
  }
}
