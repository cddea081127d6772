// A machine from files that somebody has dropped or chosen.

import { ProblemError } from './problem.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./protocol.js').FileSource} FileSource */

/**
 * The kernel and what else was picked among them.
 * @param {{role: FileSource['role'], file: File, readOnly?: boolean}[]} picked
 * @returns {MachineConfig}
 */
export function configOfFiles(picked) {
  const kernel = picked.find((p) => p.role === 'kernel');
  if (!kernel) {
    throw new ProblemError({
      what: 'There is no kernel among these files.',
      why: 'A direct boot starts with a kernel: a Linux bzImage or an x86 ELF file.',
      next: ['Add the kernel to the files.', 'Or set one file’s role to kernel if you know better.'],
    });
  }
  return {
    id: `file:${kernel.file.name}`,
    name: kernel.file.name,
    mode: 'pc',
    memoryMiB: 512,
    cpu: 'x86-64-v2',
    cmdline: 'console=ttyS0',
    clock: 'paced',
    files: picked.map(({ role, file, readOnly }) => ({ role, name: file.name, blob: file, size: file.size, readOnly })),
  };
}
