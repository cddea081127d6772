// Runs the benchmark guest in headless Chromium: the page's own worker, without the page around it.
//   node tests/bench/chromium.mjs --kernel FILE --initrd FILE --cmdline TEXT [--mem MIB] [--timeout S] [--out FILE] [--compile yes] [--mode pc|pvh|pv] [--disk MIB]

import { createServer } from 'node:http';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { Marks, options, pattern } from './marks.mjs';
import { cpuOfBrowser } from './processes.mjs';

const o = options(process.argv.slice(2));
const www = fileURLToPath(new URL('../../www/', import.meta.url));
const TYPES = new Map([['.js', 'text/javascript'], ['.wasm', 'application/wasm'], ['.html', 'text/html']]);
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
];
/** Starts the machine of `www/vm.js` and reports its console, with the page's own clock. */
const PAGE = `<!doctype html><title>bench</title><script type="module">
import { Vm } from '/vm.js';
const config = await (await fetch('/config.json')).json();
const start = performance.now();
const nothing = () => {};
const vm = new Vm(config, {
  file: nothing, started: nothing, stats: (stats) => window.figures(stats),
  state: (state, reason) => { if (state === 'off' || state === 'crashed') window.ended(state + ' ' + reason); },
  problem: (problem) => window.ended(JSON.stringify(problem)),
  serial: (bytes) => { vm.consumed(bytes.length); window.printed(Array.from(bytes), (performance.now() - start) / 1000); },
});
</script>`;

const config = {
  id: 'bench',
  name: 'bench',
  mode: o.mode ?? 'pc',
  memoryMiB: Number(o.mem ?? 512),
  cpu: 'x86-64-v2',
  cmdline: o.cmdline ?? '',
  clock: 'paced',
  compile: o.compile === 'yes',
  files: [],
};

const disk = o.disk && config.mode !== 'pc' ? Buffer.from(pattern(Number(o.disk)).buffer) : null;

const server = createServer((request, response) => {
  const path = decodeURIComponent((request.url ?? '/').split('?')[0]);
  /** @param {string | Buffer} body @param {string} type */
  const send = (body, type) => {
    response.writeHead(200, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    });
    response.end(body);
  };
  if (path === '/bench.html') return send(PAGE, 'text/html');
  if (path === '/config.json') return send(JSON.stringify(config), 'application/json');
  if (path === '/kernel') return send(readFileSync(o.kernel), 'application/octet-stream');
  if (path === '/initrd') return send(readFileSync(o.initrd), 'application/octet-stream');
  if (path === '/disk' && disk) return send(disk, 'application/octet-stream');
  const file = join(www, normalize(path));
  if (file.startsWith(www) && existsSync(file) && statSync(file).isFile()) {
    return send(readFileSync(file), TYPES.get(extname(file)) ?? 'application/octet-stream');
  }
  response.writeHead(404);
  response.end();
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
const address = server.address();
const base = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}/`;
config.files = /** @type {any} */ (
  ['kernel', 'initrd', ...(disk ? ['disk'] : [])].map((role) => ({ role, name: role, url: base + role }))
);

const browser = await chromium.launch({ executablePath: process.env.CHROME ?? '/usr/bin/chromium', args: FLAGS });
const page = await browser.newPage();
const marks = new Marks();
let ended = '';
await page.exposeFunction('ended', (/** @type {string} */ why) => void (ended ||= why));
await page.exposeFunction('figures', (/** @type {import('../../www/protocol.js').Stats} */ s) => void (marks.code = s.code));
await page.exposeFunction('printed', (/** @type {number[]} */ bytes, /** @type {number} */ wall) => {
  // The instruction count is the same as elsewhere; here it would be half a second old.
  marks.take(Uint8Array.from(bytes), { wall, cpu: cpuOfBrowser('renderer'), instructions: NaN });
});
page.on('pageerror', (error) => void (ended ||= error.message));
await page.goto(`${base}bench.html`);
const limit = Date.now() + 1000 * Number(o.timeout ?? 1800);
while (!marks.done && !ended && Date.now() < limit) await sleep(100);
if (!marks.done) marks.errors.push(ended ? `the machine stopped: ${ended}` : `not done after ${o.timeout} s`);
const text = `${JSON.stringify(marks.summary('chromium'), null, 1)}\n`;
if (o.out) writeFileSync(o.out, text);
else process.stdout.write(text);
await browser.close();
process.exit(marks.done ? 0 : 2);
