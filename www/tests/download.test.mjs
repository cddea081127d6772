// node --test www/tests
// `fetch` is replaced by a script of responses; nothing here touches a network.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { download } from '../download.js';

globalThis.location = /** @type {any} */ (new URL('http://page.test/'));
const FILE = new Uint8Array(100_000).map((_, i) => i * 31);
const SHA256 = createHash('sha256').update(FILE).digest('hex');
const source = { role: /** @type {const} */ ('kernel'), name: 'vmlinuz', url: 'http://page.test/vmlinuz' };

/** @typedef {(headers: Record<string, string>) => Response} Step */

/** @param {Step[]} steps */
function serve(...steps) {
  /** @type {Record<string, string>[]} */
  const asked = [];
  globalThis.fetch = async (_url, init) => {
    const headers = /** @type {Record<string, string>} */ (init?.headers ?? {});
    asked.push(headers);
    const step = steps.shift();
    if (!step) throw new TypeError('Failed to fetch');
    return step(headers);
  };
  return asked;
}

/** @param {Uint8Array} bytes @param {number} upTo breaks the connection after this many bytes */
function broken(bytes, upTo) {
  return new ReadableStream({
    start: (c) => c.enqueue(bytes.slice(0, upTo)),
    pull: (c) => c.error(new TypeError('network error')),
  }, { highWaterMark: 0 });
}

/** @param {object} [extra] */
async function run(extra = {}) {
  /** @type {import('../protocol.js').FileProgress[]} */
  const reports = [];
  const bytes = await download({ ...source, ...extra }, (p) => reports.push(p));
  return { bytes, reports };
}

/** @param {RegExp} what @param {RegExp} why @param {object} [extra] */
async function fails(what, why, extra) {
  await assert.rejects(run(extra), (/** @type {any} */ error) => {
    assert.match(error.problem.what, what);
    assert.match(error.problem.why, why);
    assert.ok(error.problem.next.length > 0);
    return true;
  });
}

const whole = (/** @type {Record<string, string>} */ headers = {}) => () =>
  new Response(FILE, { headers: { 'Content-Length': String(FILE.length), ETag: '"v1"', ...headers } });

test('a file arrives whole, with its length and a final report', async () => {
  serve(whole());
  const { bytes, reports } = await run({ sha256: SHA256 });
  assert.deepEqual(bytes, FILE);
  const last = /** @type {any} */ (reports.at(-1));
  assert.equal(last.done, true);
  assert.equal(last.received, FILE.length);
  assert.equal(last.total, FILE.length);
});

test('a broken transfer resumes where it stopped', async () => {
  const asked = serve(
    () => new Response(broken(FILE, 30_000), { headers: { 'Content-Length': '100000', ETag: '"v1"' } }),
    () => new Response(FILE.slice(30_000), { status: 206, headers: { 'Content-Length': '70000', ETag: '"v1"' } }),
  );
  const { bytes } = await run({ sha256: SHA256 });
  assert.deepEqual(bytes, FILE);
  assert.equal(asked[1]['Range'], 'bytes=30000-');
  assert.equal(asked[1]['If-Range'], '"v1"');
});

test('a file that changed meanwhile is taken from the start', async () => {
  serve(() => new Response(broken(FILE, 30_000), { headers: { 'Content-Length': '100000', ETag: '"v0"' } }), whole());
  assert.deepEqual((await run()).bytes, FILE);
});

test('without a strong validator halves are never joined', async () => {
  const asked = serve(() => new Response(broken(FILE, 30_000), { headers: { 'Content-Length': '100000', ETag: 'W/"v1"' } }), whole());
  assert.deepEqual((await run()).bytes, FILE);
  assert.equal(asked[1]['Range'], undefined);
});

test('404 names the address and the way out', async () => {
  serve(() => new Response('', { status: 404, statusText: 'Not Found' }));
  await fails(/vmlinuz is not there/, /404 Not Found for http:\/\/page\.test\/vmlinuz/);
});

test('a busy server is asked again, then named', async () => {
  serve(() => new Response('', { status: 503 }), whole());
  assert.equal((await run()).bytes.length, FILE.length);
});

test('a file cut short is found out', async () => {
  const short = () => new Response(FILE.slice(0, 99_999), { headers: { 'Content-Length': '100000' } });
  serve(short, short, short, short);
  await fails(/incomplete/, /100000 bytes and sent 99999/);
});

test('a wrong checksum is found out', async () => {
  serve(whole());
  await fails(/not the file the catalogue describes/, new RegExp(SHA256), { sha256: '0'.repeat(64) });
});

test('no answer from another origin explains CORS', async () => {
  serve();
  await fails(/could not be reached/, /CORS/, { url: 'http://elsewhere.test/vmlinuz' });
});

test('no answer from our own origin explains the connection', async () => {
  serve();
  await fails(/could not be reached/, /connection to http:\/\/page\.test failed/);
});

test('an encoded response is not measured by its compressed length', async () => {
  serve(() => new Response(FILE, { headers: { 'Content-Length': '5', 'Content-Encoding': 'gzip' } }));
  assert.equal((await run()).bytes.length, FILE.length);
});

test('a dropped file needs no network', async () => {
  serve();
  assert.deepEqual((await run({ url: undefined, blob: new Blob([FILE]) })).bytes, FILE);
});
