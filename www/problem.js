// Errors as the page shows them: what happened, why, what to do next.

/** @typedef {import('./protocol.js').Problem} Problem */

/** An error that already knows how to explain itself to a visitor. */
export class ProblemError extends Error {
  /** @param {Problem} problem @param {boolean} [passing] trying once more may help */
  constructor(problem, passing = false) {
    super(problem.what);
    this.name = 'ProblemError';
    this.problem = problem;
    this.passing = passing;
  }
}

/**
 * A fault inside the WebAssembly module. Asked in browsers without WebAssembly as well.
 * @param {unknown} error
 * @returns {error is Error}
 */
export function isTrap(error) {
  return typeof WebAssembly === 'object' && error instanceof WebAssembly.RuntimeError;
}

/**
 * Turn anything thrown into a problem. Errors from the WebAssembly side carry `why` and `next` as properties.
 * @param {unknown} error
 * @param {string} what what we were doing, used when the error does not say it
 * @returns {Problem}
 */
export function asProblem(error, what) {
  if (error instanceof ProblemError) return error.problem;
  if (isTrap(error)) {
    return {
      what: 'Tabvisor itself stopped.',
      why: `This is a fault in Tabvisor, not in your guest: ${error.message}.`,
      next: ['Copy the report and file it as an issue.', 'Boot again to start over.'],
      details: String(error.stack ?? error),
    };
  }
  if (error instanceof Error) {
    const extra = /** @type {{why?: unknown, next?: unknown}} */ (/** @type {unknown} */ (error));
    if (typeof extra.why === 'string') {
      return {
        what: error.message,
        why: extra.why,
        next: typeof extra.next === 'string' ? extra.next.split('\n').filter(Boolean) : [],
      };
    }
    return {
      what,
      why: `${error.name}: ${error.message}`,
      next: ['Try again. If it stays, copy the report and file it as an issue.'],
      details: String(error.stack ?? ''),
    };
  }
  return { what, why: String(error), next: ['Try again.'] };
}
