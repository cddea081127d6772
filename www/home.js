// The home view: cards of guests, the row of open machines, and the dialog for dropped files.

import { el, setText } from './dom.js';
import { ago, bytes as formatBytes, duration, mebibytes } from './format.js';
import { MODES as ALL_MODES, cmdlineFor, configOfFiles, remembered } from './guests.js';
import { icon } from './icons.js';
import { MODES } from './machine-view.js';
import { optionsForm } from './options.js';
import { asProblem } from './problem.js';
import { HEAD_BYTES, sniff } from './sniff.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./guests.js').Guest} Guest */
/** @typedef {import('./x86-machine.js').X86Machine} X86Machine */

/**
 * One guest. The whole card boots it; the options are a disclosure inside.
 * @param {Guest} guest
 * @param {(config: MachineConfig) => void} boot
 * @param {() => void} prepare called when a boot is likely soon
 * @param {string} address the next one in the page's network
 * @returns {HTMLElement}
 */
export function guestCard(guest, boot, prepare, address) {
  const known = remembered(guest.id);
  const form = optionsForm(guest.config, guest.modes.map((mode) => ({ mode, label: MODES[mode].label, cmdline: cmdlineFor(guest, mode) })), guest.network ? address : undefined);
  const start = () => {
    if (form.valid()) boot(form.apply(guest.config));
  };
  const others = guest.modes.slice(1).map((mode) =>
    el(
      'button',
      {
        type: 'button',
        class: 'boot-as',
        title: MODES[mode].explain,
        'aria-label': `Boot ${guest.name} as ${MODES[mode].label}`,
        click: () => {
          form.choose(mode);
          start();
        },
      },
      MODES[mode].label,
    ),
  );
  const disks = guest.config.files.reduce((sum, f) => sum + (f.role === 'disk' ? (f.size ?? 0) : 0), 0);
  const title = `guest-${guest.id}`;
  const bootButton = el(
    'button',
    { type: 'button', class: 'primary boot', 'aria-label': `Boot ${guest.name}`, click: start },
    icon('boot'),
    'Boot',
  );
  const picture = known.picture
    ? el('pre', { class: 'picture', 'aria-hidden': 'true' }, known.picture)
    : el('pre', { class: 'picture empty', 'aria-hidden': 'true' }, placeholder(guest));
  const bootTime = known.bootMs ? duration(known.bootMs) : 'not yet';
  const bootNote = known.bootMs && known.at ? `${ago(known.at, Date.now())}, in this browser` : 'Not booted in this browser yet';
  return el(
    'article',
    { class: 'card', 'aria-labelledby': title, 'data-guest': guest.id, pointerenter: prepare, focusin: prepare },
    picture,
    el(
      'div',
      { class: 'card-body' },
      el(
        'div',
        { class: 'card-head' },
        el('h3', { id: title }, guest.name),
        ...guest.modes.map((m) => el('span', { class: 'badge', title: MODES[m]?.explain ?? '' }, MODES[m]?.label ?? m)),
      ),
      el('p', { class: 'summary' }, guest.summary),
      el(
        'dl',
        { class: 'facts' },
        fact('Download', guest.downloadBytes > 0 ? formatBytes(guest.downloadBytes) : 'small', disks > 0 ? `And a disk of ${formatBytes(disks)}, read as the guest needs it` : ''),
        fact('Memory', mebibytes(guest.config.memoryMiB)),
        fact('Last boot', bootTime, bootNote),
      ),
      el(
        'div',
        { class: 'card-foot' },
        bootButton,
        ...others,
        el('details', {}, el('summary', {}, 'Options'), form.element),
      ),
    ),
  );
}

/** @param {Guest} guest @returns {string} what the card shows before there is a picture of a run */
function placeholder(guest) {
  const kernel = guest.config.files.find((f) => f.role === 'kernel')?.name ?? 'kernel';
  const initrd = guest.config.files.find((f) => f.role === 'initrd')?.name;
  const disk = guest.config.files.find((f) => f.role === 'disk')?.name;
  return [`cpu      ${guest.config.cpu}`, `kernel   ${kernel}`, initrd ? `initrd   ${initrd}` : '', disk ? `disk     ${disk}` : '', `args     ${guest.config.cmdline}`]
    .filter(Boolean)
    .join('\n');
}

/** @param {string} term @param {string} value @param {string} [title] */
function fact(term, value, title = '') {
  return el('div', { title }, el('dt', {}, term), el('dd', {}, value));
}

/**
 * The row of machines that are open in this tab.
 * @param {HTMLElement} place
 * @param {Iterable<X86Machine>} machines
 * @param {(machine: X86Machine) => void} show
 * @param {(machine: X86Machine) => void} close
 */
export function renderOpen(place, machines, show, close) {
  const rows = [...machines].map((machine) =>
    el(
      'div',
      { class: 'open-machine', 'data-state': machine.state },
      el('span', { class: 'open-state' }, icon(machine.state), STATE_WORDS[machine.state]),
      el('strong', {}, machine.config.name),
      el('span', { class: 'badge', title: MODES[machine.config.mode].explain }, MODES[machine.config.mode].label),
      el('button', { type: 'button', class: 'primary', click: () => show(machine) }, 'Return'),
      el('button', { type: 'button', click: () => close(machine) }, 'Close'),
    ),
  );
  place.replaceChildren(...rows);
  place.hidden = rows.length === 0;
}

/** @type {Record<import('./protocol.js').State, string>} */
const STATE_WORDS = { off: 'Off', loading: 'Loading', running: 'Running', idle: 'Idle', paused: 'Paused', crashed: 'Crashed' };

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
  /** @type {Map<File, import('./sniff.js').Guess['role']>} */
  const roles = new Map(found.map(({ file, guess }) => [file, guess.role]));
  const message = el('p', { class: 'files-message', role: 'status' });
  const bootButton = el('button', { type: 'button', class: 'primary' }, icon('boot'), 'Boot');
  const form = optionsForm(configDefaults(), ALL_MODES.map((mode) => ({ mode, label: MODES[mode].label, cmdline: `console=${mode === 'pc' ? 'ttyS0' : 'hvc0'}` })));
  // An emulated PC has no disks.
  if (found.some(({ guess }) => guess.role === 'disk')) form.choose('pvh');
  const list = found.map(({ file, guess }) => {
    const role = el(
      'select',
      { 'aria-label': `Use ${file.name} as` },
      ...[['kernel', 'Kernel'], ['initrd', 'Initial RAM disk'], ['disk', 'Disk'], ['other', 'Not used']].map(([value, label]) =>
        el('option', { value, selected: value === guess.role }, label),
      ),
    );
    role.addEventListener('change', () => {
      roles.set(file, /** @type {import('./sniff.js').Guess['role']} */ (role.value));
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
      return role === 'other' ? [] : [{ role, file, readOnly: guess.readOnly }];
    });
    const [kernels, initrds] = ['kernel', 'initrd'].map((role) => picked.filter((p) => p.role === role).length);
    bootButton.disabled = kernels !== 1 || initrds > 1;
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
  bootButton.addEventListener('click', () => {
    const config = judge();
    if (!config || !form.valid()) return;
    dialog.close();
    boot(form.apply(config));
  });
  dialog.replaceChildren(
    el('h2', { id: 'files-title' }, files.length === 1 ? 'One file' : `${files.length} files`),
    el('ul', { class: 'found' }, ...list),
    el('details', { class: 'plain' }, el('summary', {}, 'Options'), form.element),
    message,
    el('div', { class: 'dialog-foot' }, bootButton, el('button', { type: 'button', click: () => dialog.close() }, 'Cancel')),
  );
  judge();
  if (!dialog.open) dialog.showModal();
}

/** @returns {MachineConfig} */
function configDefaults() {
  return { id: '', name: '', mode: 'pc', memoryMiB: 512, cpu: 'x86-64-v2', cmdline: 'console=ttyS0', clock: 'paced', files: [] };
}
