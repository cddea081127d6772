// Types of the WebAssembly modules' class (web/src/lib.rs) and of what is around it in wasm.js. Nobody loads this file.

/**
 * `Vm` of web/src/lib.rs. Every method may throw an Error with `why` and `next`.
 * @typedef {object} WasmVm
 * @property {(on: boolean, codeMiB?: number, hot?: number) => void} setCompile hot code is compiled to WebAssembly, into so
 *   much memory (128); `hot`: how often it has to be seen; to be said before `boot`
 * @property {(mode: import('./protocol.js').Mode, vcpus: number) => void} setMode what the guest runs on; to be said before `boot`
 * @property {(role: string, bytes: Uint8Array) => void} load append bytes of the "kernel" or "initrd"
 * @property {() => void} boot place the kernel; the next `run` executes it
 * @property {(sliceMs: number) => number} run milliseconds it may sleep: 0 to go on, Infinity to wait for input
 * @property {() => number} state one of `VM_STATE`
 * @property {(bytes: Uint8Array) => number} serialInput bytes taken; the rest is for later
 * @property {() => Uint8Array} takeSerial what the guest printed since the last call
 * @property {() => void} pause stop guest time until the next `run`
 * @property {() => void} reset
 * @property {() => void} powerOff
 * @property {() => Float64Array} stats indexed by `VM_STAT`
 * @property {(address: string) => Uint8Array} dumpCode module of the code at a hexadecimal address, or where the CPU is
 * @property {() => string} stateHash
 * @property {(count: number) => number} runInstructions deterministic clock only; instructions retired
 * @property {() => string} report why the machine stopped, with registers
 * @property {(bytes: Uint8Array | undefined, sectors: number, readOnly: boolean) => void} disk one more disk of a domain: of these
 *   bytes, or of so many sectors that are asked for; this and what follows is only there with a hypervisor
 * @property {(mac: Uint8Array) => void} nic one more network card of a domain
 * @property {() => Float64Array} requests sectors that the guest waits for, four numbers each: disk, first, how many, ticket
 * @property {(disk: number, ticket: number, bytes: Uint8Array | undefined) => void} answer what was asked for; undefined: an error
 * @property {(disk: number, from: number) => Uint8Array} written what was written to a disk at and behind a sector, or a part of it: written.js
 * @property {() => Uint8Array} frames that the guest sends, each after the card's number and its length, two bytes, the lower first
 * @property {(frames: Uint8Array) => void} arrive such frames come for the guest
 * @property {(width: number, height: number) => void} display a display, with keyboard and pointer
 * @property {(mib: number) => void} mostMemory it may come to have so many MiB; to be said before `boot`
 * @property {(limit: number) => void} shareFiles a folder that it may mount, of so many bytes at most; to be said before `boot`
 * @property {(path: string, at: number, bytes: Uint8Array | undefined, modified: number) => void} putShared bytes of a file in it,
 *   from a place on; undefined: a folder
 * @property {() => string[]} listShared what is in it: kind, changed by the guest, mode, bytes, seconds, number, path
 * @property {(file: number, at: number, length: number) => Uint8Array} readShared bytes of a file by its number
 * @property {() => Float64Array} sharedUsage bytes in use, how many there may be, a count of changes; empty: there is none
 * @property {() => Uint8Array} picture a portion of what has changed in it: picture.js
 * @property {(events: Int32Array) => void} play what people do with keyboard and pointer: picture.js
 * @property {(what: string) => void} tell asks something of a domain: poweroff, reboot, memory MIB ...
 * @property {() => Float64Array} memory bytes that a domain has, was asked to have, and may have
 * @property {() => string} counts what the guest and its hypervisor had to do with each other: lines of a kind (h: hypercalls,
 *   x: whatever its CPU came for, those included, e: events it was sent), a count and a name, the most frequent first
 * @property {() => void} free
 */

/**
 * @typedef {{
 *   new (memoryMiB: number, cpu: string, cmdline: string, deterministic: boolean, wallClockMs: number): WasmVm,
 *   features(): string,
 * }} WasmVmClass `features` is JSON
 */

/**
 * What the compiler did so far.
 * @typedef {object} Compiled
 * @property {number} regions compiled
 * @property {number} moduleBytes of WebAssembly
 * @property {number} compiled instructions retired in them
 * @property {number} entered from the interpreter
 * @property {number} hops from one region to another
 * @property {number} stopped exits in front of an instruction that has to be interpreted
 * @property {number} short exits because a budget was used up
 * @property {number} faults exits with a fault
 * @property {number} modules compiled
 * @property {number} memoryBytes of memory for those since they were dropped last (`codeMiB` is the limit)
 * @property {number} compileMs spent compiling them
 */

/**
 * @typedef {object} Engine
 * @property {WasmVmClass} Vm
 * @property {() => number} heapBytes
 * @property {() => string} lastPanic text of the panic that trapped, or ""
 */

/**
 * The JavaScript beside the module, which wasm-bindgen writes.
 * @typedef {{Vm: WasmVmClass, lastPanic: () => string,
 *   default(from: {module_or_path: WebAssembly.Module}): Promise<{memory: WebAssembly.Memory}>}} Glue
 */

/** @typedef {'pc' | 'xen'} EngineName the engine for PCs, and the one with a hypervisor */

export {};
