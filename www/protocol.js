// The only message format between the page and a machine's worker: two discriminated unions on `kind`.
// This file holds types alone: nobody loads it.

/**
 * A file the machine boots from: a URL to fetch or a file the visitor gave us.
 * @typedef {object} FileSource
 * @property {'kernel' | 'initrd' | 'disk'} role what the machine uses it as; disks are xvda, xvdb … of a domain, in their order
 * @property {string} name shown to the visitor
 * @property {string} [url] absolute address to fetch
 * @property {Blob} [blob] bytes already in the browser; wins over `url`
 * @property {number} [size] expected bytes, when the catalogue knows it
 * @property {string} [sha256] expected digest, lower-case hex
 * @property {import('./written.js').Written[]} [written] what a guest has written to this disk before
 * @property {boolean} [readOnly] a disk that the guest cannot write; what it writes is kept in memory otherwise
 */

/**
 * A file that a domain may mount, or a folder, which has no bytes.
 * @typedef {object} SharedFile
 * @property {string} path in the shared folder: "folder/name"
 * @property {Blob} [blob] its bytes; wins over `url`
 * @property {string} [url] absolute address to fetch
 * @property {number} [modified] when it was, milliseconds since 1970
 */

/**
 * Everything that decides what a machine is. Plain data: it can be copied into a report.
 * @typedef {object} MachineConfig
 * @property {string} id stable name, the key for what we remember about earlier boots
 * @property {string} name shown to the visitor
 * @property {Mode} mode how the guest is entered
 * @property {number} [vcpus] virtual CPUs of a domain (default: 1); they take turns
 * @property {string} [display] size of a domain's screen in pixels, "800x600"; it has a keyboard and a pointer (default: none)
 * @property {number} memoryMiB guest RAM
 * @property {string} cpu CPUID model by name
 * @property {string} cmdline kernel command line
 * @property {'paced' | 'deterministic'} clock guest time follows the host, or the instruction count
 * @property {boolean} [compile] hot code is compiled to WebAssembly (default: yes)
 * @property {number} [codeMiB] memory for compiled code (default: 128)
 * @property {FileSource[]} files
 * @property {SharedFile[]} [share] what is in a domain's shared folder at first, maybe nothing (default: it has no such folder)
 * @property {number} [mostMiB] RAM that a domain may come to have (default: what it boots with)
 * @property {boolean} [network] a domain has a network card on the page's switch (default: yes, if its clock is paced)
 * @property {string} [mac] its address (default: a random one)
 * @property {string} [address] what the command line tells the guest to call itself in that network: "10.0.0.1/24"
 * @property {string} [ready] regular expression: the console text that means "you can use it now"
 */

/** @typedef {'pc' | 'pvh' | 'pv'} Mode */

/** @typedef {'off' | 'loading' | 'running' | 'idle' | 'paused' | 'crashed'} State */

/**
 * Something went wrong, in the visitor's words.
 * @typedef {object} Problem
 * @property {string} what what happened, one sentence
 * @property {string} why the cause as far as we know it
 * @property {string[]} next what the visitor can do
 * @property {string} [details] for the report: registers, stack, headers
 */

/**
 * Figures of a running machine, measured over the time since the last ones.
 * @typedef {object} Stats
 * @property {number} instructions retired since power-on
 * @property {number} guestMs guest time since power-on
 * @property {number} mips million instructions per second of wall time
 * @property {number} busy share of one host core, 0 to 1
 * @property {number} heapBytes WebAssembly memory of the machine
 * @property {number} visits of the processor to its devices
 * @property {number[]} [memory] bytes that a domain has, was asked to have, and may have
 * @property {number[]} [shared] of a domain's shared folder: bytes in use, how many there may be, a count of changes
 * @property {string} [counts] of a domain, what guest and hypervisor had to do with each other: see `WasmVm.counts`
 * @property {DiskStats | null} disk what was read from disks outside; null: there are none
 * @property {import('./wasm-types.js').Compiled | null} code what was compiled; null: everything is interpreted
 */

/**
 * What was read from where the disks' data is.
 * @typedef {object} DiskStats
 * @property {number} reads
 * @property {number} bytes
 * @property {number} failed reads
 * @property {number} waiting reads under way
 */

/**
 * Progress of one file.
 * @typedef {object} FileProgress
 * @property {string} role
 * @property {string} name
 * @property {number} received bytes so far
 * @property {number | null} total bytes in all, when known
 * @property {number} rate bytes per second, averaged over about a second
 * @property {boolean} done
 * @property {boolean} cached the browser had it already
 * @property {string} note what is happening if not simply loading ("retrying", "checking")
 */

/**
 * Page to worker. 'share' puts files into the shared folder, asks for one by its path or for all ('') as an archive, or what is there. Frames are Ethernet frames as `Vm.frames` returns them; pictures and what is played on keyboard and pointer: picture.js; what was written to a disk, alone or with the disk: written.js. The config 'hello' is the page's own guest's (hello.js).
 * @typedef {{kind: 'engine', module: WebAssembly.Module}
 *   | {kind: 'start', config: MachineConfig | 'hello'}
 *   | {kind: 'pause'}
 *   | {kind: 'resume'}
 *   | {kind: 'reset'}
 *   | {kind: 'powerOff'}
 *   | {kind: 'input', bytes: Uint8Array}
 *   | {kind: 'consumed', bytes: number}
 *   | {kind: 'frames', bytes: Uint8Array}
 *   | {kind: 'framesTaken', bytes: number}
 *   | {kind: 'pictureTaken'}
 *   | {kind: 'play', events: number[]}
 *   | {kind: 'disk', disk: number, whole: boolean}
 *   | {kind: 'tell', what: string}
 *   | {kind: 'share', add?: SharedFile[], save?: string}
 *   | {kind: 'ask', id: number, question: Question}} ToWorker
 */

/**
 * What the page may ask; answers come back with the same id.
 * @typedef {{what: 'stateHash'} | {what: 'features'} | {what: 'runInstructions', count: number}} Question
 */

/**
 * Worker to page. `atMs` is when it happened, in epoch milliseconds.
 * @typedef {{kind: 'file', file: FileProgress, atMs: number}
 *   | {kind: 'state', state: State, reason: string}
 *   | {kind: 'started', atMs: number}
 *   | {kind: 'serial', bytes: Uint8Array}
 *   | {kind: 'stats', stats: Stats}
 *   | {kind: 'frames', bytes: Uint8Array}
 *   | {kind: 'framesTaken', bytes: number}
 *   | {kind: 'picture', bytes: Uint8Array}
 *   | {kind: 'disk', disk: number, written: import('./written.js').Written[], image?: Blob}
 *   | {kind: 'shared', files: number, bytes: number, changed: {path: string, size: number}[], more: number}
 *   | {kind: 'sharedFile', name: string, file: Blob}
 *   | {kind: 'problem', problem: Problem}
 *   | {kind: 'answer', id: number, value: string}
 *   | {kind: 'refusal', id: number, problem: Problem}} FromWorker
 */

export {};
