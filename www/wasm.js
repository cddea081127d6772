// Loads the WebAssembly module and mirrors, in types, the class it exports (web/src/lib.rs).
// This file and web/src/lib.rs are the two sides of that boundary; nothing else knows it.

import { ProblemError } from './problem.js';

/** @typedef {import('./wasm-types.js').Compiled} Compiled */
/** @typedef {import('./wasm-types.js').Engine} Engine */
/** @typedef {import('./wasm-types.js').EngineName} EngineName */
/** @typedef {import('./wasm-types.js').Glue} Glue */

/** What `Vm.state` returns. */
export const VM_STATE = Object.freeze({ empty: 0, running: 1, halted: 2, paused: 3, off: 4, crashed: 5 });

/** Places in the array `Vm.stats` returns. */
export const VM_STAT = Object.freeze({
  instructions: 0,
  guestMs: 1,
  resets: 2,
  visits: 3,
  // From here on only if hot code is compiled.
  regions: 4,
  moduleBytes: 5,
  compiled: 6,
  entered: 7,
  hops: 8,
  stopped: 9,
  short: 10,
  faults: 11,
  modules: 12,
  memoryBytes: 13,
  compileMs: 14,
});

/** @param {number} n @returns {number} what the engine takes as MiB, which says itself which of them can be */
export function asMiB(n) {
  return Math.min(Math.max(Math.floor(n) || 0, 0), 0xffff_ffff);
}

/** @param {ArrayLike<number>} stats what `Vm.stats` returned @returns {Compiled | null} null: nothing is compiled */
export function compiledFigures(stats) {
  if (stats.length <= VM_STAT.regions) return null;
  const { regions, moduleBytes, compiled, entered, hops, stopped, short, faults, modules, memoryBytes, compileMs } = VM_STAT;
  return {
    regions: stats[regions],
    moduleBytes: stats[moduleBytes],
    compiled: stats[compiled],
    entered: stats[entered],
    hops: stats[hops],
    stopped: stats[stopped],
    short: stats[short],
    faults: stats[faults],
    modules: stats[modules],
    memoryBytes: stats[memoryBytes],
    compileMs: stats[compileMs],
  };
}

/**
 * Modules the engine needs from the browser, tested by compiling a few bytes.
 * @returns {import('./protocol.js').Problem | null}
 */
export function missingFeature() {
  const next = ['Use a current Firefox, Chrome, Edge or Safari (16.4 or later).'];
  if (typeof WebAssembly !== 'object') {
    return {
      what: 'This browser cannot run WebAssembly.',
      why: 'The processor of the machine is a WebAssembly program. Some browsers switch it off in a lockdown or strict mode.',
      next: [...next, 'Or allow WebAssembly for this site.'],
    };
  }
  // (module (func (result v128) (i32.const 0) (i8x16.splat)))
  const simd = new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 8, 1, 6, 0, 0x41, 0, 0xfd, 0x0f, 0x0b,
  ]);
  if (!WebAssembly.validate(simd)) {
    return {
      what: 'This browser lacks WebAssembly SIMD.',
      why: 'The machine uses 128-bit vectors for its SSE registers; this browser, or this computer, does not offer them.',
      next,
    };
  }
  if (typeof Worker !== 'function' && typeof document !== 'undefined') {
    return { what: 'This browser has no workers.', why: 'A machine runs in its own worker so that the page stays responsive.', next };
  }
  return null;
}

/** @type {Record<EngineName, URL>} */
const PKG = { pc: new URL('./pkg/', import.meta.url), xen: new URL('./pkg-xen/', import.meta.url) };

/** @param {import('./protocol.js').Mode} mode @returns {EngineName} */
export function engineFor(mode) {
  return mode === 'pc' ? 'pc' : 'xen';
}

/**
 * Fetches and compiles the module. A compiled module can be sent to any number of workers, which share its code.
 * @param {EngineName} name
 * @param {Promise<Response>} [underWay] the module's file, if it was asked for already
 * @returns {Promise<WebAssembly.Module>}
 */
export async function compileEngine(name, underWay) {
  const lacking = missingFeature();
  if (lacking) throw new ProblemError(lacking);
  const url = new URL('tabvisor_web_bg.wasm', PKG[name]);
  let response;
  try {
    response = await (underWay ?? fetch(url));
  } catch (error) {
    throw missing(url, error instanceof Error ? error.message : String(error));
  }
  if (!response.ok) throw missing(url, `the server answered ${response.status} ${response.statusText}`.trim());
  try {
    // Compiling while the bytes arrive needs the right type, which not every server sends.
    const streams = response.headers.get('Content-Type')?.startsWith('application/wasm');
    return await (streams ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer()));
  } catch (error) {
    throw refused(error);
  }
}

/** @param {EngineName} name @returns {Promise<Glue>} */
export async function loadGlue(name) {
  const url = new URL('tabvisor_web.js', PKG[name]);
  try {
    return await import(url.href);
  } catch (error) {
    throw missing(url, error instanceof Error ? error.message : String(error));
  }
}

/** @param {Glue} glue @param {WebAssembly.Module} module @returns {Promise<Engine>} */
export async function startEngine(glue, module) {
  try {
    const { memory } = await glue.default({ module_or_path: module });
    return { Vm: glue.Vm, lastPanic: glue.lastPanic, heapBytes: () => memory.buffer.byteLength };
  } catch (error) {
    throw refused(error);
  }
}

/** @param {URL} url @param {string} why */
function missing(url, why) {
  return new ProblemError({
    what: 'The engine of the machine is not there.',
    why: `${url.pathname} could not be loaded: ${why}.`,
    next: ['Reload the page.', 'If you serve the page yourself, build the engine first: cargo xtask serve.'],
  });
}

/** @param {unknown} error */
function refused(error) {
  return new ProblemError({
    what: 'The engine of the machine did not start.',
    why: `The browser refused the WebAssembly module: ${error instanceof Error ? error.message : error}.`,
    next: ['Reload the page without the cache (Ctrl+Shift+R).', 'Use a current browser.'],
  });
}
