// The same machine, run for the same number of instructions, is the same bit for bit: in node, in
// Chromium and natively, interpreted and compiled. The hash covers CPU, devices and RAM.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { visit } from './harness.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const image = `${root}images/out/linux64/`;
/** @type {{memory: number, cmdline: string, cmdlines: Record<string, string>, files: {role: string, path: string}[]}} */
const manifest = JSON.parse(readFileSync(`${image}manifest.json`, 'utf8'));
/** Early kernel with interrupts, timers and user space still to come: a second or two. */
const INSTRUCTIONS = 150_000_000;

/** Runs in node and in the page: boots and hashes. @param {any} web @param {any} setup */
async function hashOf(web, { mode, vcpus, memory, cmdline, files, instructions, compile, codeMiB, hot }) {
  const vm = new web.Vm(memory, 'x86-64-v2', cmdline, true, 0);
  vm.setMode(mode, vcpus);
  vm.setCompile(compile, codeMiB, hot);
  for (const { role, bytes } of files) vm.load(role, bytes);
  vm.boot();
  vm.runInstructions(instructions);
  return vm.stateHash();
}

const wanted = manifest.files.filter(({ role }) => role === 'kernel' || role === 'initrd');
/** Machines: two virtual CPUs take turns by the same clock as everything else. */
const SETUPS = [
  { mode: 'pc', vcpus: 1, pkg: 'pkg', instructions: INSTRUCTIONS },
  { mode: 'pv', vcpus: 1, pkg: 'pkg-xen', instructions: 1_450_000_000 },
  { mode: 'pv', vcpus: 2, pkg: 'pkg-xen', instructions: INSTRUCTIONS },
  { mode: 'pvh', vcpus: 2, pkg: 'pkg-xen', instructions: 300_000_000 },
].map((s) => ({ ...s, memory: manifest.memory, cmdline: manifest.cmdlines[s.mode] ?? manifest.cmdline }));
const setup = SETUPS[0];

/** @param {string} pkg the engine, in this process */
async function engine(pkg) {
  const web = await import(`../../www/${pkg}/tabvisor_web.js`);
  web.initSync({ module: readFileSync(`${root}www/${pkg}/tabvisor_web_bg.wasm`) });
  return web;
}

for (const setup of SETUPS) test(`node, Chromium and the native runner agree on the state of a Linux that boots as ${setup.mode}, ${setup.vcpus} CPU`, async (t) => {
  const { instructions } = setup;
  const web = await engine(setup.pkg);
  const files = wanted.map(({ role, path }) => ({ role, bytes: readFileSync(image + path) }));
  const cpu = process.cpuUsage();
  const inNode = await hashOf(web, { ...setup, files, compile: false });
  const { user } = process.cpuUsage(cpu);
  t.diagnostic(`node: ${(instructions / user).toFixed(0)} MIPS of CPU time while booting`);
  assert.equal(await hashOf(web, { ...setup, files, compile: true }), inNode, 'compiled in node');

  const visitor = await visit(t);
  const inChromium = await visitor.page.evaluate(
    async ({ setup, wanted, code }) => {
      const web = await import(new URL(`${setup.pkg}/tabvisor_web.js`, document.baseURI).href);
      await web.default();
      const files = [];
      for (const { role, path } of wanted) {
        const response = await fetch(new URL(`images/linux64/${path}`, document.baseURI));
        files.push({ role, bytes: new Uint8Array(await response.arrayBuffer()) });
      }
      const run = new Function(`return ${code}`)();
      return run(web, { ...setup, files, compile: true });
    },
    { setup, wanted, code: hashOf.toString() },
  );
  assert.equal(inChromium, inNode, 'compiled in Chromium');

  const runner = spawnSync('cargo', [
    'xtask', 'run', 'linux64', '--mode', setup.mode, '--vcpus', String(setup.vcpus), '--mem', String(manifest.memory), '--deterministic',
    '--hash-at', String(instructions), '--max-insns', String(instructions),
  ], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const [, native] = /: ([0-9a-f]{32})\b/.exec(runner.stdout + runner.stderr) ?? [];
  assert.equal(native, inNode, `the native runner; it said:\n${runner.stderr}`);
});

test('compiled early, late, and into so little memory that all of it is dropped again and again, Linux is the same', async () => {
  const web = await engine(setup.pkg);
  const files = wanted.map(({ role, path }) => ({ role, bytes: readFileSync(image + path) }));
  // Up to where the kernel overwrites code of its own that has been run.
  const long = { ...setup, files, instructions: 480_000_000, compile: true };
  const hash = await hashOf(web, long);
  for (const { codeMiB, hot } of [{ codeMiB: 5, hot: 61 }, { codeMiB: 9, hot: 23 }]) {
    assert.equal(await hashOf(web, { ...long, codeMiB, hot }), hash, `${codeMiB} MiB, ${hot} samples`);
  }
});
