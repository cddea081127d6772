// What is this file? Decided by its bytes, never by its name.

/**
 * @typedef {object} Guess
 * @property {'kernel' | 'initrd' | 'disk' | 'other'} role what the machine can use it as
 * @property {string} kind short name: "Linux kernel"
 * @property {string} detail what else we could tell
 * @property {boolean} [readOnly] a disk that is never written
 * @property {string} [advice] for files we cannot use: what to do instead
 */

/** Bytes read from the front of a file; enough for every magic below, ISO 9660's included. */
export const HEAD_BYTES = 0x9000;

/** @type {readonly [number[], string][]} compressed streams, by magic */
const COMPRESSED = [
  [[0x1f, 0x8b], 'gzip'],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], 'xz'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'zstd'],
  [[0x02, 0x21, 0x4c, 0x18], 'lz4'],
  [[0x42, 0x5a, 0x68], 'bzip2'],
  [[0x5d, 0x00, 0x00], 'lzma'],
  [[0x89, 0x4c, 0x5a, 0x4f], 'lzo'],
];

/** @param {Uint8Array} head the first bytes of the file @param {number} size of the whole file @returns {Guess} */
export function sniff(head, size) {
  if (size === 0) return other('Empty file', 'It has no bytes.', 'Choose the file again; the download may have failed.');
  return bzImage(head) ?? packed(head) ?? elf(head) ?? archive(head) ?? disk(head, size) ?? web(head) ?? unknown(head);
}

/** @param {string} kind @param {string} detail @param {string} advice @returns {Guess} */
function other(kind, detail, advice) {
  return { role: 'other', kind, detail, advice };
}

/** @param {Uint8Array} b @param {number} at @param {string | number[]} magic */
function has(b, at, magic) {
  const want = typeof magic === 'string' ? Array.from(magic, (c) => c.charCodeAt(0)) : magic;
  return at + want.length <= b.length && want.every((v, i) => b[at + i] === v);
}

/** @param {Uint8Array} b @param {number} at */
function u16(b, at) {
  return at + 2 <= b.length ? b[at] | (b[at + 1] << 8) : 0;
}

/** @param {Uint8Array} b @returns {Guess | null} Linux boot protocol, Documentation/arch/x86/boot.rst */
function bzImage(b) {
  if (!has(b, 0x202, 'HdrS')) return null;
  const version = u16(b, 0x206);
  const at = u16(b, 0x20e) + 0x200;
  let release = '';
  for (let i = at; at > 0x200 && i < b.length && b[i] >= 0x20 && b[i] < 0x7f && i < at + 80; i++) {
    release += String.fromCharCode(b[i]);
  }
  const wide = version >= 0x20c && (u16(b, 0x236) & 1) === 1;
  const parts = [release.split(' ')[0], wide ? '64-bit' : '32-bit', `boot protocol ${version >> 8}.${String(version & 0xff).padStart(2, '0')}`];
  return { role: 'kernel', kind: 'Linux kernel (bzImage)', detail: parts.filter(Boolean).join(', ') };
}

/** @param {Uint8Array} b @returns {Guess | null} a kernel as this project's image builder repacks it */
function packed(b) {
  if (!has(b, 0, 'TVPACK1\n')) return null;
  return { role: 'kernel', kind: 'Kernel (packed)', detail: 'repacked by the image builder so that it unpacks fast' };
}

/** @param {Uint8Array} b @returns {Guess | null} */
function elf(b) {
  if (!has(b, 0, [0x7f, 0x45, 0x4c, 0x46])) return null;
  const wide = b[4] === 2;
  const machine = u16(b, 18);
  const type = u16(b, 16);
  if (machine !== 62 && machine !== 3) {
    return other('ELF program for another processor', `Machine number ${machine}.`, 'Use a kernel built for x86 or x86-64.');
  }
  if (type === 1) return other('ELF object file', 'Not linked.', 'Use the linked kernel (vmlinux or bzImage).');
  const xen = findXenNote(b) ? ', Xen note' : '';
  return { role: 'kernel', kind: 'Kernel (ELF)', detail: `${wide ? '64-bit' : '32-bit'} ${machine === 62 ? 'x86-64' : 'i386'}${xen}` };
}

/** @param {Uint8Array} b @returns {boolean} an ELF note owned by "Xen" in the bytes we have */
function findXenNote(b) {
  for (let i = 12; i + 4 <= b.length; i += 4) {
    if (b[i] === 0x58 && has(b, i, 'Xen\0') && has(b, i - 12, [4, 0, 0, 0])) return true;
  }
  return false;
}

/** @param {Uint8Array} b @returns {Guess | null} */
function archive(b) {
  if (has(b, 0, '070701') || has(b, 0, '070702')) {
    return { role: 'initrd', kind: 'Initial RAM disk', detail: 'cpio archive (newc)' };
  }
  for (const [magic, name] of COMPRESSED) {
    if (has(b, 0, magic)) {
      return { role: 'initrd', kind: 'Initial RAM disk, probably', detail: `compressed with ${name}; the guest kernel unpacks it` };
    }
  }
  return null;
}

/** @param {Uint8Array} b @param {number} size @returns {Guess | null} */
function disk(b, size) {
  const use = 'A disk for a guest that runs as PVH or PV (xvda). Machines boot kernels directly: add the kernel, and its initial RAM disk.';
  const advice = 'Convert it to a raw image first: qemu-img convert -O raw.';
  if (has(b, 0x8001, 'CD001')) return { role: 'disk', kind: 'CD or DVD image (ISO 9660)', detail: volumeName(b), readOnly: true, advice: use };
  if (has(b, 0, [0x51, 0x46, 0x49, 0xfb])) return other('Disk image (qcow2)', `Version ${b[7]}.`, advice);
  if (has(b, 0, 'KDMV')) return other('Disk image (VMDK)', '', advice);
  if (has(b, 0, 'conectix')) return other('Disk image (VHD)', '', advice);
  if (has(b, 0x40, [0x7f, 0x10, 0xda, 0xbe])) return other('Disk image (VDI)', '', advice);
  if (has(b, 510, [0x55, 0xaa])) {
    const floppy = [368640, 737280, 1228800, 1474560, 2949120].includes(size);
    return { role: 'disk', kind: floppy ? 'Floppy image' : 'Disk image (raw, with a boot sector)', detail: '', advice: use };
  }
  if (has(b, 0x438, [0x53, 0xef])) return { role: 'disk', kind: 'Disk image (raw)', detail: 'ext2, ext3 or ext4 file system', advice: use };
  return null;
}

/** @param {Uint8Array} b */
function volumeName(b) {
  const raw = Array.from(b.subarray(0x8028, 0x8048), (c) => (c >= 0x20 && c < 0x7f ? String.fromCharCode(c) : ' '));
  const name = raw.join('').trim();
  return name ? `Volume ${name}.` : '';
}

/** @param {Uint8Array} b @returns {Guess | null} */
function web(b) {
  const text = new TextDecoder('latin1').decode(b.subarray(0, 512)).trimStart().toLowerCase();
  if (text.startsWith('<!doctype html') || text.startsWith('<html')) {
    return other('Web page', 'An HTML document, not an image.', 'The download probably saved an error or log-in page. Fetch the file again.');
  }
  return null;
}

/** @param {Uint8Array} b @returns {Guess} */
function unknown(b) {
  const start = Array.from(b.subarray(0, 8), (v) => v.toString(16).padStart(2, '0')).join(' ');
  return other('Unknown', `It starts with ${start}.`, 'Drop a Linux bzImage or an x86 ELF kernel, and its initial RAM disk. A guest that runs as PVH or PV can have this as a shared file.');
}
