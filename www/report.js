// "Copy report": everything someone else needs to understand what happened, as plain text.

import { KINDS, countsOf } from './counts.js';

/** Of the console; a panic of Linux is not longer. */
export const LAST_LINES = 60;

/**
 * @param {object} about
 * @param {import('./protocol.js').MachineConfig} about.config
 * @param {import('./protocol.js').State} about.state
 * @param {import('./protocol.js').Problem | null} about.problem
 * @param {import('./protocol.js').Stats | null} about.stats
 * @param {string} about.consoleText
 * @param {string} about.version
 * @returns {string}
 */
export function report({ config, state, problem, stats, consoleText, version }) {
  const files = config.files.map((f) => `  ${f.role}: ${f.name}${f.url ? ` <${f.url}>` : ' (dropped)'}${f.sha256 ? ` sha256 ${f.sha256}` : ''}`);
  const lines = [
    `Tabvisor ${version}`,
    `Browser: ${navigator.userAgent}`,
    `Page: ${location.origin}${location.pathname}, isolated: ${globalThis.crossOriginIsolated ? 'yes' : 'no'}, cores: ${navigator.hardwareConcurrency}`,
    '',
    `Machine: ${config.name} (${config.mode}), ${config.memoryMiB} MiB, ${config.cpu}, clock ${config.clock}`,
    `Command line: ${config.cmdline}`,
    ...files,
    ...(config.share ? [`  shared folder: ${config.share.length} files`] : []),
    `State: ${state}`,
  ];
  if (stats) {
    lines.push(`Instructions: ${stats.instructions}, guest time ${(stats.guestMs / 1000).toFixed(3)} s, heap ${stats.heapBytes} bytes`);
  }
  if (stats?.code) {
    const c = stats.code;
    lines.push(
      `Compiled: ${c.compiled} instructions, ${c.regions} regions, ${c.moduleBytes} bytes in ${c.modules} modules, ${c.memoryBytes} bytes of memory, ${c.compileMs.toFixed(0)} ms, entered ${c.entered}, hops ${c.hops}, stopped ${c.stopped}, short ${c.short}, faults ${c.faults}`,
    );
  }
  for (const { kind, label } of KINDS) {
    const counts = countsOf(stats?.counts ?? '', kind);
    if (counts.length > 0) lines.push(`${label}: ${counts.map(({ n, name }) => `${name} ${n}`).join(', ')}`);
  }
  if (problem) {
    lines.push('', `What: ${problem.what}`, `Why: ${problem.why}`);
    if (problem.details) lines.push('', problem.details);
  }
  lines.push('', 'Last console lines:', ...consoleText.split('\n').slice(-LAST_LINES));
  return lines.join('\n');
}
