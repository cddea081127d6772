// Files that a visitor chooses or drops to be shared with a guest.

/** @typedef {import('./protocol.js').SharedFile} SharedFile */

/** What a Linux guest calls to have them; its name for the folder is what the device tells it. */
export const MOUNT = 'mount -t 9p -o trans=xen,version=9p2000.L share /mnt';
/** Entries that are looked at in what was dropped; there may be a whole disk of them. */
const LOOKED_AT = 20_000;

/** @param {Iterable<File>} files chosen; of a folder, that is the shared one @returns {SharedFile[]} */
export function asShared(files) {
  return Array.from(files, (file) => ({ path: file.webkitRelativePath.split('/').slice(1).join('/') || file.name, blob: file, modified: file.lastModified }));
}

/**
 * What was dropped, with what is in folders. If it is one folder, that is the shared one.
 * @param {DataTransfer} from to be asked before the event ends
 * @returns {Promise<SharedFile[]>}
 */
export function dropped(from) {
  const entries = [...from.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const files = [...from.files];
  return entries.length === 0 ? Promise.resolve(asShared(files)) : inside(entries);
}

/** @param {FileSystemEntry[]} entries @returns {Promise<SharedFile[]>} */
async function inside(entries) {
  /** @type {SharedFile[]} */
  const found = [];
  const [only] = entries;
  /** @type {{entry: FileSystemEntry, path: string}[]} */
  const left = entries.map((entry) => ({ entry, path: entries.length === 1 && entry.isDirectory ? '' : entry.name }));
  for (let next = left.shift(), n = 0; next; next = left.shift(), n++) {
    if (n > LOOKED_AT) throw new Error(`there are more than ${LOOKED_AT} files in ${only.name}`);
    const { entry, path } = next;
    if (entry.isFile) {
      const file = await new Promise((/** @type {(file: File) => void} */ resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
      found.push({ path, blob: file, modified: file.lastModified });
      continue;
    }
    if (path) found.push({ path });
    const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
    // It comes in portions; an empty one is the end.
    for (;;) {
      const portion = await new Promise((/** @type {(entries: FileSystemEntry[]) => void} */ resolve, reject) => reader.readEntries(resolve, reject));
      if (portion.length === 0) break;
      left.push(...portion.map((entry) => ({ entry, path: path ? `${path}/${entry.name}` : entry.name })));
    }
  }
  return found;
}

/** @param {SharedFile[]} files @param {SharedFile[]} more @returns {SharedFile[]} both, the later ones where they have the same path */
export function merged(files, more) {
  return [...new Map([...files, ...more].map((file) => [file.path, file])).values()];
}
