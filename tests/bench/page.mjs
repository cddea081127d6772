// What the page itself costs, in headless Chromium, against a server of this project:
// - from the start of a navigation, with nothing in the browser's cache, to the first guest instruction of the
//   page's own guest (`#boot=hello` starts it by itself);
// - from pressing Boot to the first instruction and to the prompt of linux64, its files from the same server;
// - CPU time of all processes of the browser while that Linux waits at its prompt.
// The moment of the first instruction is taken in the machine's worker, right before its first slice.
//   node tests/bench/page.mjs [--opens N] [--idle SECONDS]

import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { FLAGS, PROMPT, Visitor, browserPath, server } from '../web/harness.mjs';
import { options } from './marks.mjs';
import { cpuOfBrowser } from './processes.mjs';

const o = options(process.argv.slice(2));
const opens = Number(o.opens ?? 9);
const idleSeconds = Number(o.idle ?? 20);
/** What a browser needs after its start, or a guest after its prompt, until it is at rest. */
const REST_MS = 3000;

const load = () => loadavg().map((n) => n.toFixed(2)).join(' ');
const { url, stop } = await server();
const browser = await chromium.launch({ executablePath: browserPath(), args: FLAGS });
console.log(`load average ${load()}`);

/** @type {{first: number, pressed: number}[]} */
const opened = [];
// The first time warms the browser itself up, and does not count.
for (let i = 0; i <= opens; i++) {
  await sleep(i === 0 ? REST_MS : 500);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${url}#boot=hello`, { waitUntil: 'commit' });
  const found = await page.waitForFunction(() => {
    const machine = /** @type {any} */ (document.querySelector('x86-machine'));
    const first = machine?.model.stages.get('cpu');
    if (first === undefined) return null;
    return { first: machine.bootAt + first - performance.timeOrigin, pressed: machine.bootAt - performance.timeOrigin };
  });
  const times = /** @type {{first: number, pressed: number}} */ (await found.jsonValue());
  if (i > 0) opened.push(times);
  await context.close();
}
const sorted = opened.map(({ first }) => first).sort((a, b) => a - b);
const median = (/** @type {number[]} */ of) => of[of.length >> 1];
console.log(`page open to first guest instruction (hello): median ${median(sorted).toFixed(0)} ms, of ${opens} from ${sorted[0].toFixed(0)} to ${sorted[opens - 1].toFixed(0)} ms`);

const page = await browser.newPage();
const visitor = new Visitor(page, url);
await page.goto(url);
if (!(await visitor.offers('linux64'))) {
  console.log('linux64 is not built (cargo xtask image linux64), so it is not measured');
} else {
  await sleep(REST_MS);
  await visitor.boot('linux64');
  await visitor.waitForText(PROMPT, { timeout: 180_000 });
  const stages = await visitor.machine.evaluate((machine) => [.../** @type {any} */ (machine).model.stages]);
  const at = new Map(/** @type {[string, number][]} */ (stages));
  console.log(`Boot pressed (linux64) to its files ${at.get('files')?.toFixed(0)} ms, first instruction ${at.get('cpu')?.toFixed(0)} ms, prompt ${at.get('ready')?.toFixed(0)} ms`);
  await sleep(REST_MS);
  const types = ['renderer', 'gpu-process', 'browser', 'utility'];
  const before = types.map((type) => cpuOfBrowser(type));
  const all = cpuOfBrowser();
  const begin = performance.now();
  await sleep(idleSeconds * 1000);
  const share = (/** @type {number} */ cpu) => `${((100 * cpu * 1000) / (performance.now() - begin)).toFixed(2)} %`;
  console.log(`idle linux64, all processes of the browser over ${idleSeconds} s: ${share(cpuOfBrowser() - all)} of one core`);
  console.log(`  ${types.map((type, i) => `${type} ${share(cpuOfBrowser(type) - before[i])}`).join(', ')}`);
}
console.log(`load average ${load()}`);
await browser.close();
stop();
