// One file into memory: progress with a rate, resume after a broken connection, length and checksum checked,
// and every failure in words. Runs in the worker; works on the page as well.

import { ProblemError } from './problem.js';

/** @typedef {import('./protocol.js').FileSource} FileSource */
/** @typedef {import('./protocol.js').FileProgress} FileProgress */

/** Largest file we accept: the machine's 32-bit address space holds the file and the guest's RAM. */
const MAX_BYTES = 1024 * 1024 * 1024;
const ATTEMPTS = 4;
/** Progress is reported at most this often, in milliseconds. */
const REPORT_MS = 100;

/** Growing byte buffer that is allocated once when the size is known. */
class Sink {
  /** @param {number | null} expected */
  constructor(expected) {
    this.bytes = new Uint8Array(expected ?? 1 << 20);
    this.length = 0;
  }

  /** @param {Uint8Array} chunk */
  push(chunk) {
    const need = this.length + chunk.length;
    if (need > this.bytes.length) {
      const bigger = new Uint8Array(Math.max(need, this.bytes.length * 2));
      bigger.set(this.bytes.subarray(0, this.length));
      this.bytes = bigger;
    }
    this.bytes.set(chunk, this.length);
    this.length = need;
  }

  done() {
    return this.bytes.subarray(0, this.length);
  }
}

/**
 * @param {FileSource} source
 * @param {(progress: FileProgress) => void} report
 * @param {AbortSignal} [signal]
 * @returns {Promise<Uint8Array>}
 */
export async function download(source, report, signal) {
  const progress = new Progress(source, report);
  if (source.blob) {
    const buffer = await source.blob.arrayBuffer().catch((error) => {
      throw unreadable(source, error);
    });
    const bytes = new Uint8Array(buffer);
    progress.total = bytes.length;
    progress.add(bytes.length);
    progress.finish();
    return bytes;
  }
  if (!source.url) {
    throw new ProblemError({
      what: `${source.name} has no address to load from.`,
      why: 'The machine description names the file but gives neither a URL nor a dropped file.',
      next: ['Add the address to the machine description.', 'Or drop the file onto the page.'],
    });
  }
  const bytes = await transfer(source, source.url, progress, signal);
  if (source.sha256) await verify(source, bytes, progress);
  progress.cached = cameFromCache(source.url);
  progress.finish();
  return bytes;
}

/** Counts bytes and time for one file. */
class Progress {
  /** @param {FileSource} source @param {(progress: FileProgress) => void} report */
  constructor(source, report) {
    this.source = source;
    this.report = report;
    this.received = 0;
    /** @type {number | null} */
    this.total = source.size ?? null;
    this.cached = false;
    this.ended = false;
    this.note = '';
    this.lastReport = -Infinity;
    this.markTime = performance.now();
    this.markBytes = 0;
    this.rate = 0;
    this.emit(true);
  }

  /** @param {number} n */
  add(n) {
    this.received += n;
    const now = performance.now();
    const span = now - this.markTime;
    if (span > 250) {
      const rate = ((this.received - this.markBytes) * 1000) / span;
      this.rate = this.rate === 0 ? rate : this.rate * 0.6 + rate * 0.4;
      this.markTime = now;
      this.markBytes = this.received;
    }
    this.emit(false);
  }

  /** @param {number} received bytes kept when a transfer starts over or resumes @param {string} note */
  restart(received, note) {
    this.received = received;
    this.markBytes = received;
    this.markTime = performance.now();
    this.say(note);
  }

  /** @param {string} note */
  say(note) {
    this.note = note;
    this.emit(true);
  }

  finish() {
    this.ended = true;
    this.note = '';
    this.emit(true);
  }

  /** @param {boolean} always */
  emit(always) {
    const now = performance.now();
    if (!always && now - this.lastReport < REPORT_MS) return;
    this.lastReport = now;
    const { role, name } = this.source;
    const { received, total, rate, cached, note } = this;
    this.report({ role, name, received, total, rate, done: this.ended, cached, note });
  }
}

/**
 * @param {FileSource} source
 * @param {string} url
 * @param {Progress} progress
 * @param {AbortSignal} [signal]
 */
async function transfer(source, url, progress, signal) {
  /** @type {Sink | null} */
  let sink = null;
  /** @type {string | null} */
  let validator = null;
  for (let attempt = 1; ; attempt++) {
    /** @type {Record<string, string>} */
    const headers = {};
    // Only a strong validator makes it safe to join two halves of a file.
    const resuming = sink !== null && sink.length > 0 && validator !== null;
    if (resuming && sink && validator) {
      headers['Range'] = `bytes=${sink.length}-`;
      headers['If-Range'] = validator;
    }
    try {
      const response = await fetch(url, { headers, signal });
      if (!response.ok) throw httpProblem(source, url, response);
      const resumed = response.status === 206;
      const length = contentLength(response);
      if (!sink || !resumed) {
        checkSize(source, length);
        sink = new Sink(length);
        progress.restart(0, '');
        progress.total = length ?? source.size ?? null;
      } else {
        progress.restart(sink.length, '');
      }
      const expected = length === null ? null : resumed ? sink.length + length : length;
      const tag = response.headers.get('ETag');
      validator = tag && !tag.startsWith('W/') ? tag : response.headers.get('Last-Modified');
      await drain(response, sink, progress, source);
      if (expected !== null && sink.length < expected) throw truncated(source, sink.length, expected);
      return sink.done();
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error instanceof ProblemError && !error.passing) throw error;
      if (attempt >= ATTEMPTS) throw error instanceof ProblemError ? error : networkProblem(source, url, error);
      // A server that never answered once is more likely unreachable than busy: one retry tells.
      if (!sink && attempt >= 2) throw error instanceof ProblemError ? error : networkProblem(source, url, error);
      progress.say(`connection lost, attempt ${attempt + 1} of ${ATTEMPTS}`);
      await pause(250 * 2 ** attempt, signal);
    }
  }
}

/**
 * @param {Response} response
 * @param {Sink} sink
 * @param {Progress} progress
 * @param {FileSource} source
 */
async function drain(response, sink, progress, source) {
  if (!response.body) {
    sink.push(new Uint8Array(await response.arrayBuffer()));
    progress.add(sink.length);
    return;
  }
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (sink.length + value.length > MAX_BYTES) {
      await reader.cancel();
      throw tooLarge(source, sink.length + value.length);
    }
    sink.push(value);
    progress.add(value.length);
  }
}

/** @param {Response} response @returns {number | null} */
function contentLength(response) {
  // With a content encoding the header counts compressed bytes, which is not what we receive.
  if (response.headers.has('Content-Encoding')) return null;
  const header = response.headers.get('Content-Length');
  const length = header === null ? NaN : Number(header);
  return Number.isSafeInteger(length) && length >= 0 ? length : null;
}

/** @param {FileSource} source @param {number | null} length */
function checkSize(source, length) {
  if (length !== null && length > MAX_BYTES) throw tooLarge(source, length);
}

/** @param {FileSource} source @param {Error} error */
function unreadable(source, error) {
  return new ProblemError({
    what: `${source.name} could not be read.`,
    why: `It may have been changed, moved or deleted since it was chosen: ${error.message}`,
    next: ['Drop or choose the file again.'],
  });
}

/** @param {FileSource} source @param {number} length */
function tooLarge(source, length) {
  return new ProblemError({
    what: `${source.name} is too large.`,
    why: `It has at least ${length} bytes; a kernel or initial RAM disk may have ${MAX_BYTES}.`,
    next: ['Check that the address is the right one.'],
  });
}

/** @param {FileSource} source @param {number} got @param {number} expected */
function truncated(source, got, expected) {
  return new ProblemError(
    {
      what: `${source.name} arrived incomplete.`,
      why: `The server announced ${expected} bytes and sent ${got}.`,
      next: ['Boot again.', 'If it stays, the file on the server is cut short: build or upload it again.'],
    },
    true,
  );
}

/** @param {FileSource} source @param {string} url @param {Response} response */
function httpProblem(source, url, response) {
  const status = `${response.status} ${response.statusText}`.trim();
  if (response.status === 404 || response.status === 410) {
    return new ProblemError({
      what: `${source.name} is not there.`,
      why: `The server answered ${status} for ${url}.`,
      next: ['If this is a bundled guest, build it: cargo xtask image, then reload the page.', 'Otherwise check the address.'],
    });
  }
  const busy = response.status >= 500 || response.status === 429;
  return new ProblemError(
    {
      what: `${source.name} could not be loaded.`,
      why: `The server answered ${status} for ${url}.`,
      next: busy ? ['Wait a little and boot again.'] : ['Check the address and whether the file is public.'],
    },
    busy,
  );
}

/** @param {FileSource} source @param {string} url @param {unknown} error */
function networkProblem(source, url, error) {
  const message = error instanceof Error ? error.message : String(error);
  const foreign = new URL(url, location.href).origin !== location.origin;
  return new ProblemError({
    what: `${source.name} could not be reached.`,
    why: foreign
      ? `${new URL(url).origin} did not answer, or does not allow other pages to read its files (CORS). The browser does not say which: ${message}.`
      : `The connection to ${new URL(url, location.href).origin} failed: ${message}.`,
    next: foreign
      ? ['Download the file yourself and drop it onto this page.', 'Or serve it with the header Access-Control-Allow-Origin: *.']
      : ['Check that the server is still running and the network is up, then boot again.'],
  });
}

/** @param {FileSource} source @param {Uint8Array} bytes @param {Progress} progress */
async function verify(source, bytes, progress) {
  // Digests exist only on secure pages (https or localhost); elsewhere the length check has to do.
  if (!globalThis.crypto?.subtle) return;
  progress.say('checking');
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', /** @type {BufferSource} */ (bytes)));
  const hex = Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join('');
  if (hex !== source.sha256?.toLowerCase()) {
    throw new ProblemError({
      what: `${source.name} is not the file the catalogue describes.`,
      why: `Its SHA-256 is ${hex}, expected ${source.sha256}.`,
      next: ['Reload the page without the cache (Ctrl+Shift+R) and boot again.', 'If it stays, rebuild the guest: cargo xtask image.'],
    });
  }
}

/** @param {string} url @returns {boolean} */
function cameFromCache(url) {
  const entries = performance.getEntriesByName(new URL(url, location.href).href, 'resource');
  const last = /** @type {PerformanceResourceTiming | undefined} */ (entries.at(-1));
  return last !== undefined && last.transferSize === 0 && last.decodedBodySize > 0;
}

/** @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
