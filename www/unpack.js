// Kernels of others for a domain, in the machine's worker: what is compressed is unpacked in a worker of its own, whose
// memory is given back. A PC needs none of this: the guest's own decompressor runs there, or the page says what to do.

import { ProblemError } from './problem.js';

/** @param {Uint8Array} bytes of a kernel file; they are gone afterwards @returns {Promise<Uint8Array>} the executable in it */
export function unpackKernel(bytes) {
  const worker = new Worker(new URL('./unpack-worker.js', import.meta.url), { type: 'module', name: 'unpack' });
  /** @type {Promise<Uint8Array>} */
  const done = new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ('bytes' in data ? resolve(data.bytes) : reject(new ProblemError(data.problem)));
    worker.onerror = (event) => {
      event.preventDefault();
      reject(
        new ProblemError({
          what: 'The kernel could not be unpacked.',
          why: `unpack-worker.js, or a module it needs, did not start${event.message ? `: ${event.message}` : ''}.`,
          next: ['Boot again, or reload the page.', 'Or boot the kernel as a PC, which unpacks it by itself.'],
        }),
      );
    };
  });
  worker.postMessage(bytes, [bytes.buffer]);
  return done.finally(() => worker.terminate());
}
