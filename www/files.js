// The dialog for dropped or chosen files: what each of them is, what it is to be used as, and a boot. Loaded when it is
// wanted first.

import { el, setText } from './dom.js';
import { configOfFiles } from './file-config.js';
import { bytes as formatBytes } from './format.js';
import { MODES as ALL_MODES } from './guests.js';
import { icon } from './icons.js';
import { MODES } from './machine-view.js';
import { optionsForm } from './options.js';
import { asProblem } from './problem.js';
import { asShared, merged } from './shared-files.js';
import { HEAD_BYTES, sniff } from './sniff.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./sniff.js').Guess['role'] | 'share'} Role what a file is used as */

/**
 * Shows what dropped or chosen files are, lets the visitor correct it, and boots them.
 * @param {HTMLDialogElement} dialog
 * @param {File[]} files
 * @param {(config: MachineConfig) => void} boot
 */
export async function showFiles(dialog, files, boot) {
  const found = await Promise.all(
    files.map(async (file) => {
      const head = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
      return { file, guess: sniff(head, file.size) };
    }),
  );
  /** @type {Map<File, Role>} */
  const roles = new Map(found.map(({ file, guess }) => [file, guess.role]));
  const message = el('p', { class: 'files-message', role: 'status' });
  const bootButton = el('button', { type: 'button', class: 'primary', click: () => start() }, icon('boot'), 'Boot');
  const bootAs = /** @type {const} */ (['pvh', 'pv']).map((mode) =>
    el('button', { type: 'button', title: MODES[mode].explain, 'aria-label': `Boot as ${MODES[mode].label}`, click: () => start(mode) }, MODES[mode].label),
  );
  const form = optionsForm(configDefaults(), ALL_MODES.map((mode) => ({ mode, label: MODES[mode].label, cmdline: `console=${mode === 'pc' ? 'ttyS0' : 'hvc0'}` })));
  // An emulated PC has no disks.
  if (found.some(({ guess }) => guess.role === 'disk')) form.choose('pvh');
  const list = found.map(({ file, guess }) => {
    const role = el(
      'select',
      { 'aria-label': `Use ${file.name} as` },
      ...[['kernel', 'Kernel'], ['initrd', 'Initial RAM disk'], ['disk', 'Disk'], ['share', 'Shared file'], ['other', 'Not used']].map(([value, label]) =>
        el('option', { value, selected: value === guess.role }, label),
      ),
    );
    role.addEventListener('change', () => {
      roles.set(file, /** @type {Role} */ (role.value));
      // An emulated PC has no shared folder either.
      if (role.value === 'share' && form.mode() === 'pc') form.choose('pvh');
      judge();
    });
    return el(
      'li',
      {},
      el(
        'div',
        {},
        el('strong', {}, file.name),
        el('span', { class: 'muted' }, ` ${formatBytes(file.size)}`),
        el('p', {}, guess.detail ? `${guess.kind}: ${guess.detail}` : guess.kind),
        guess.advice ? el('p', { class: 'muted' }, guess.advice) : null,
      ),
      role,
    );
  });
  /** @returns {MachineConfig | null} */
  const judge = () => {
    const picked = found.flatMap(({ file, guess }) => {
      const role = roles.get(file) ?? 'other';
      return role === 'other' || role === 'share' ? [] : [{ role, file, readOnly: guess.readOnly }];
    });
    const [kernels, initrds] = ['kernel', 'initrd'].map((role) => picked.filter((p) => p.role === role).length);
    for (const button of [bootButton, ...bootAs]) button.disabled = kernels !== 1 || initrds > 1;
    if (kernels > 1) setText(message, 'Choose one kernel; the others cannot run beside it.');
    else if (initrds > 1) setText(message, 'Choose one initial RAM disk.');
    else if (kernels === 0) setText(message, 'A machine starts with a kernel, and none of these is one.');
    else setText(message, initrds === 0 ? 'Boots without an initial RAM disk.' : '');
    if (bootButton.disabled) return null;
    try {
      return configOfFiles(picked);
    } catch (error) {
      setText(message, asProblem(error, 'These files cannot be booted.').what);
      return null;
    }
  };
  const start = (/** @type {import('./protocol.js').Mode | undefined} */ mode = undefined) => {
    if (mode) form.choose(mode);
    const config = judge();
    if (!config || !form.valid()) return;
    const shared = files.filter((file) => roles.get(file) === 'share');
    if (shared.length > 0 && form.mode() === 'pc') return setText(message, 'An emulated PC has no shared folder; boot as PVH or PV.');
    const applied = form.apply(config);
    dialog.close();
    boot(shared.length > 0 ? { ...applied, share: merged(applied.share ?? [], asShared(shared)) } : applied);
  };
  dialog.replaceChildren(
    el('h2', { id: 'files-title' }, files.length === 1 ? 'One file' : `${files.length} files`),
    el('ul', { class: 'found' }, ...list),
    el('details', { class: 'plain' }, el('summary', {}, 'Options'), form.element),
    message,
    el('div', { class: 'dialog-foot' }, bootButton, ...bootAs, el('button', { type: 'button', class: 'quiet', click: () => dialog.close() }, 'Cancel')),
  );
  judge();
  if (!dialog.open) dialog.showModal();
}

/** @returns {MachineConfig} */
function configDefaults() {
  return { id: '', name: '', mode: 'pc', memoryMiB: 512, cpu: 'x86-64-v2', cmdline: 'console=ttyS0', clock: 'paced', files: [] };
}
