// CPU time of the browser this process has started (Linux).

import { readFileSync, readdirSync } from 'node:fs';

/** @param {string} [type] only processes of this type: "renderer", "gpu-process"; "browser" is the first one @returns {number} CPU seconds so far */
export function cpuOfBrowser(type) {
  let nanos = 0;
  for (const pid of descendants()) {
    const [, found = 'browser'] = /--type=([\w-]+)/.exec(read(`/proc/${pid}/cmdline`)) ?? [];
    if (type && found !== type) continue;
    for (const task of list(`/proc/${pid}/task`)) nanos += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(' ')[0]);
  }
  return nanos / 1e9;
}

/** Browser processes that descend from this one. @returns {string[]} */
function descendants() {
  const parents = new Map();
  for (const pid of list('/proc').filter((name) => /^\d+$/.test(name))) {
    parents.set(pid, /\) \S (\d+)/.exec(read(`/proc/${pid}/stat`))?.[1]);
  }
  const mine = (/** @type {string} */ pid) => {
    for (let at = parents.get(pid); at; at = parents.get(at)) if (at === String(process.pid)) return true;
    return false;
  };
  return [...parents.keys()].filter((pid) => mine(pid) && /chrom/.test(read(`/proc/${pid}/cmdline`)));
}

/** @param {string} dir @returns {string[]} empty if it is gone */
function list(dir) {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** @param {string} file @returns {string} empty if it is gone */
function read(file) {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
