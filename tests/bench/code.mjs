// Prints the WebAssembly that a guest's code becomes: boots it on the deterministic clock, and asks for the module of the
// code at an address. `cargo xtask code` calls it.
//   node tests/bench/code.mjs --kernel FILE --initrd FILE --cmdline TEXT --disassembler FILE
//     [--mem MIB] [--instructions N] [--address HEX (where the processor stands)]

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VM_STATE, compiledFigures } from '../../www/wasm.js';
import { options } from './marks.mjs';

const o = options(process.argv.slice(2));
const pkg = new URL('../../www/pkg/', import.meta.url);
const engine = await import(new URL('tabvisor_web.js', pkg).href);
engine.initSync({ module: new WebAssembly.Module(readFileSync(new URL('tabvisor_web_bg.wasm', pkg))) });
const vm = new engine.Vm(Number(o.mem ?? 512), 'x86-64-v2', o.cmdline ?? '', true, 0);
vm.setCompile(true);
vm.load('kernel', readFileSync(o.kernel));
if (o.initrd) vm.load('initrd', readFileSync(o.initrd));
vm.boot();
const wanted = Number(o.instructions ?? 1e9);
for (let done = 0; done < wanted && vm.state() !== VM_STATE.off && vm.state() !== VM_STATE.crashed; ) {
  const ran = vm.runInstructions(Math.min(1e8, wanted - done));
  vm.takeSerial();
  if (ran === 0) break;
  done += ran;
}
const address = (o.address ?? '').replace(/^0x/i, '');
const module = vm.dumpCode(address);
console.error(vm.report());
console.error(JSON.stringify(compiledFigures(vm.stats())));
if (module.length === 0) {
  console.error(`No code that can be compiled has been run lately at ${address || 'the place where the processor stands'}.`);
  process.exit(1);
}
const dir = mkdtempSync(join(tmpdir(), 'tabvisor-code-'));
const file = join(dir, 'code.wasm');
writeFileSync(file, module);
const { stdout, stderr, status } = spawnSync(process.execPath, [o.disassembler, '--all-features', file], {
  encoding: 'utf8',
  maxBuffer: 2 ** 28,
});
rmSync(dir, { recursive: true });
process.stdout.write(stdout);
process.stderr.write(stderr);
process.exit(status ?? 1);
