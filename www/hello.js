// The guest that is part of the page: it needs no catalogue, and a worker can start it by itself.

/** @type {import('./protocol.js').MachineConfig} */
export const HELLO_CONFIG = {
  id: 'hello',
  name: 'Hello',
  mode: 'pc',
  memoryMiB: 32,
  cpu: 'x86-64-v2',
  cmdline: '',
  clock: 'paced',
  files: [{ role: 'kernel', name: 'hello.elf', url: new URL('./pkg/hello.elf', import.meta.url).href }],
};
