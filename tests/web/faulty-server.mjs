// A server between the page and the real one that does wrong what it is told to.

import { createServer } from 'node:http';

/**
 * What is wrong with a path: a status, other bytes, or "cut": the connection ends in the middle.
 * @typedef {number | Uint8Array | 'cut'} Fault
 */

/** Headers of the real server that matter to the page. */
const KEPT = ['content-type', 'content-range', 'etag', 'cross-origin-opener-policy', 'cross-origin-embedder-policy', 'cross-origin-resource-policy'];

/**
 * @param {import('node:test').TestContext} t closed with it
 * @param {string} real address of the server that has everything
 * @returns {Promise<{url: string, faults: Map<string, Fault>}>} faults by path, which may change at any time
 */
export async function faultyServer(t, real) {
  /** @type {Map<string, Fault>} */
  const faults = new Map();
  const server = createServer(async (request, response) => {
    const path = (request.url ?? '/').split('?')[0];
    const fault = faults.get(path);
    if (typeof fault === 'number') return void response.writeHead(fault).end();
    const { range } = request.headers;
    const answer = await fetch(new URL(path, real), { headers: range && fault === undefined ? { range } : {} });
    const body = fault instanceof Uint8Array ? fault : new Uint8Array(await answer.arrayBuffer());
    for (const name of KEPT) {
      const value = answer.headers.get(name);
      if (value) response.setHeader(name, value);
    }
    response.setHeader('content-length', body.length);
    response.writeHead(fault instanceof Uint8Array ? 200 : answer.status);
    if (fault !== 'cut') return void response.end(body);
    response.write(body.subarray(0, body.length / 2), () => response.destroy());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${address.port}/`, faults };
}
