// What a machine and its platform had to do with each other, as figures.

/** @type {readonly {kind: string, label: string, title: string}[]} kinds of lines that `Vm.counts` has */
export const KINDS = [
  { kind: 'x', label: 'Exits', title: 'Exit: the processor leaves the guest’s code for the hypervisor, for whatever reason' },
  { kind: 'e', label: 'Events', title: 'Event: what the hypervisor has instead of interrupts; by who sent it' },
  { kind: 'h', label: 'Hypercalls', title: 'Hypercall: the guest asks its hypervisor directly, no hardware is emulated' },
];

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

/** How fast something is counted that is looked at now and then. */
export class Rate {
  constructor() {
    this.perSecond = 0;
    this.n = 0;
    this.at = Number.NaN;
  }

  /** @param {number} n so far; less than before: it has started anew @param {number} now milliseconds */
  look(n, now) {
    const seconds = (now - this.at) / 1000;
    this.perSecond = seconds > 0 ? (n - (n < this.n ? 0 : this.n)) / seconds : 0;
    this.n = n;
    this.at = now;
  }
}

/** What one machine has taken, followed over time. */
export class Watch {
  constructor() {
    /** @type {import('./protocol.js').Stats | null} */
    this.last = null;
    this.exits = new Rate();
    /** Figures when the prompt had come. @type {{instructions: number, exits: number} | null} */
    this.prompt = null;
  }

  /** @param {{stats: import('./protocol.js').Stats | null, stages: Map<string, number>}} model @param {number} now milliseconds */
  look({ stats, stages }, now) {
    if (!stages.has('ready')) this.prompt = null;
    if (!stats || stats === this.last) return;
    const exits = exitsOf(stats);
    this.exits.look(exits, now);
    if (stages.has('ready')) this.prompt ??= { instructions: stats.instructions, exits };
    this.last = stats;
  }
}
