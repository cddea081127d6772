// A short-lived worker: unpacks one kernel and ends.

import { asProblem } from './problem.js';

const PKG = new URL('./pkg-unpack/', import.meta.url);

/** What wasm-bindgen writes beside the module. @typedef {{kernel(file: Uint8Array): Uint8Array, default(from: {module_or_path: Promise<Response>}): Promise<unknown>}} Glue */

/** @type {{postMessage(message: unknown, transfer?: Transferable[]): void, onmessage: ((e: MessageEvent<Uint8Array>) => void) | null}} */
const port = /** @type {any} */ (self);

port.onmessage = async ({ data: file }) => {
  try {
    /** @type {Glue} */
    const glue = await import(new URL('tabvisor_unpack.js', PKG).href);
    await glue.default({ module_or_path: fetch(new URL('tabvisor_unpack_bg.wasm', PKG)) });
    const bytes = glue.kernel(file);
    port.postMessage({ bytes }, [bytes.buffer]);
  } catch (error) {
    port.postMessage({ problem: asProblem(error, 'The kernel could not be unpacked.') });
  }
};
