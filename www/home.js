// The home view: cards of guests and the row of open machines. The dialog for dropped files is files.js.

import { el } from './dom.js';
import { ago, bytes as formatBytes, duration, mebibytes } from './format.js';
import { cmdlineFor, configFor, remembered } from './guests.js';
import { icon } from './icons.js';
import { MODES } from './machine-view.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./guests.js').Guest} Guest */
/** @typedef {import('./x86-machine.js').X86Machine} X86Machine */

/**
 * One guest. The whole card boots it; the options are a disclosure inside.
 * @param {Guest} guest
 * @param {(config: MachineConfig) => void} boot
 * @param {(mode: import('./protocol.js').Mode) => void} prepare called when a boot is likely soon
 * @param {string} address the next one in the page's network
 * @param {(guest: Guest) => void} compare shows two of its modes side by side
 * @returns {HTMLElement}
 */
export function guestCard(guest, boot, prepare, address, compare) {
  const known = remembered(guest.id);
  /** It is loaded when someone looks at it. @type {import('./options.js').OptionsForm | undefined} */
  let form;
  const options = el('details', {}, el('summary', {}, 'Options'));
  const loadForm = async () => {
    try {
      const { optionsForm } = await import('./options.js');
      const choices = guest.modes.map((mode) => ({ mode, label: MODES[mode].label, cmdline: cmdlineFor(guest, mode) }));
      form = optionsForm(guest.config, choices, guest.network ? address : undefined);
      options.append(form.element);
    } catch {
      options.append(el('p', {}, 'The options could not be loaded. Reload the page.'));
    }
  };
  options.addEventListener('toggle', loadForm, { once: true });
  /** @param {import('./protocol.js').Mode} [mode] the one of the form if not given */
  const start = (mode) => {
    if (!form) return boot(configFor(guest, mode ?? guest.modes[0], address));
    if (mode) form.choose(mode);
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
        pointerenter: () => prepare(mode),
        click: () => start(mode),
      },
      MODES[mode].label,
    ),
  );
  const both = new Set([guest.modes[0], guest.modes.at(-1) ?? 'pc'].map((mode) => MODES[mode].label));
  const disks = guest.config.files.reduce((sum, f) => sum + (f.role === 'disk' ? (f.size ?? 0) : 0), 0);
  const title = `guest-${guest.id}`;
  const bootButton = el(
    'button',
    { type: 'button', class: 'primary boot', 'aria-label': `Boot ${guest.name}`, click: () => start() },
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
    { class: 'card', 'aria-labelledby': title, 'data-guest': guest.id, pointerenter: () => prepare(guest.modes[0]), focusin: () => prepare(guest.modes[0]) },
    picture,
    el(
      'div',
      { class: 'card-body' },
      el(
        'div',
        { class: 'card-head' },
        // U+2011: "64-bit" stays on one line.
        el('h3', { id: title }, guest.name.replaceAll('-', '\u2011')),
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
        options,
        both.size > 1 ? el('button', { type: 'button', class: 'compare-modes', pointerenter: () => guest.modes.forEach(prepare), click: () => compare(guest) }, `Compare ${[...both].join(' and ')}, side by side`) : null,
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
