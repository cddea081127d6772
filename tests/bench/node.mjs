// Runs the benchmark guest in node: the WebAssembly module and the class `Vm` that the page uses.
//   node tests/bench/node.mjs --kernel FILE --initrd FILE --cmdline TEXT [--mem MIB] [--timeout S] [--out FILE] [--compile yes] [--mode pc|pvh|pv] [--disk MIB]
// With --soak S the time-out is the end, and how much memory the process has is written down every S seconds.

import { readFileSync, writeFileSync } from 'node:fs';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { VM_STAT, VM_STATE, compiledFigures, engineFor } from '../../www/wasm.js';
import { Marks, options, pattern } from './marks.mjs';

/** A slice: the markers are seen that late at most. */
const SLICE_MS = 1;
/** The event loop gets its turn this often. */
const TURN_MS = 20;

const o = options(process.argv.slice(2));
const mode = /** @type {import('../../www/protocol.js').Mode} */ (o.mode ?? 'pc');
const folder = engineFor(mode) === 'pc' ? '../../www/pkg/' : '../../www/pkg-xen/';
const pkg = new URL(o.pkg ? `file://${o.pkg}/` : folder, import.meta.url);
const engine = await import(new URL('tabvisor_web.js', pkg).href);
engine.initSync({ module: new WebAssembly.Module(readFileSync(new URL('tabvisor_web_bg.wasm', pkg))) });

const bed = new Int32Array(new SharedArrayBuffer(4));
const start = performance.now();
const seconds = () => (performance.now() - start) / 1000;
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const vm = new engine.Vm(Number(o.mem ?? 512), 'x86-64-v2', o.cmdline ?? '', false, Date.now());
if (mode !== 'pc') vm.setMode(mode, 1);
vm.setCompile(o.compile === 'yes');
vm.load('kernel', readFileSync(o.kernel));
vm.load('initrd', readFileSync(o.initrd));
if (o.disk && mode !== 'pc') vm.disk(pattern(Number(o.disk)), 0, false);
vm.boot();

const marks = new Marks();
const limit = Number(o.timeout ?? 1800);
/** Seconds since power-on, and MB of memory then. @type {{seconds: number, resident: number}[]} */
const memory = [];
let turned = performance.now();
while (!marks.done && seconds() < limit) {
  if (o.soak && seconds() >= (memory.length + 1) * Number(o.soak)) {
    memory.push({ seconds: seconds(), resident: process.memoryUsage.rss() / 1e6 });
    write();
  }
  const wait = vm.run(SLICE_MS);
  const bytes = vm.takeSerial();
  if (bytes.length > 0) {
    if (o.verbose) process.stderr.write(bytes);
    const known = marks.results.length;
    const stats = vm.stats();
    marks.code = compiledFigures(stats);
    marks.take(bytes, { wall: seconds(), cpu: cpu(), instructions: stats[VM_STAT.instructions], compiled: marks.code?.compiled });
    if (o.out && marks.results.length > known) write();
  }
  const state = vm.state();
  if (state === VM_STATE.off || state === VM_STATE.crashed || wait === Infinity) {
    marks.errors.push(`the machine stopped: ${vm.report()}`);
    break;
  }
  if (wait > 0 && wait < 4) Atomics.wait(bed, 0, 0, wait);
  else if (wait > 0) await sleep(Math.min(wait, 500));
  else if (performance.now() - turned > TURN_MS) {
    await turn();
    turned = performance.now();
  }
}
if (!marks.done && marks.errors.length === 0 && !o.soak) marks.errors.push(`not done after ${limit} s`);
write();
process.exit(marks.errors.length === 0 ? 0 : 2);

function write() {
  const counts = mode === 'pc' ? undefined : vm.counts().trim().split('\n');
  const text = `${JSON.stringify({ ...marks.summary('node'), memory, counts }, null, 1)}\n`;
  if (o.out) writeFileSync(o.out, text);
  else process.stdout.write(text);
}
