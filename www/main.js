// The page: finds its elements, connects them, and switches between home and machines.
// Address fragments: #machine=<guest> shows a guest's machine, #boot=<guest> starts it as well; <guest>@<mode> names one
// that runs as something else than the guest does by itself. #compare=<guest>,<guest>@<mode> shows two side by side.

import './x86-machine.js';
import { el, setText } from './dom.js';
import { HELLO, MODES, configFor, loadGuests, remember } from './guests.js';
import { guestCard, renderOpen } from './home.js';
import { icon } from './icons.js';
import { warm } from './vm.js';
import { missingFeature } from './wasm.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */
/** @typedef {import('./guests.js').Guest} Guest */
/** @typedef {import('./x86-machine.js').X86Machine} X86Machine */

/** Size of a card's picture, in characters. */
const PICTURE = { rows: 14, cols: 80 };

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

const home = byId('home');
const cards = byId('guests');
const note = byId('guests-note');
const running = byId('running');
const machinesPlace = byId('machines');
const veil = byId('drop-veil');
const support = byId('support');
const dialog = /** @type {HTMLDialogElement} */ (byId('files-dialog'));
const fileInput = /** @type {HTMLInputElement} */ (byId('file-input'));

/** @type {Map<string, X86Machine>} open machines by `keyOf` */
const open = new Map();
/** @type {Guest[]} */
let guests = [HELLO];
/** Two machines are shown, not one. @type {import('./compare.js').Comparison | undefined} */
let comparison;
/** @type {Promise<void> | undefined} */
let showing;

/** @param {MachineConfig} config @returns {string} a guest is one machine for each mode */
function keyOf({ id, mode }) {
  const guest = guests.find((g) => g.id === id);
  return guest && mode !== guest.modes[0] ? `${id}@${mode}` : id;
}

/** @param {string} key @returns {MachineConfig | undefined} of a guest in the catalogue */
function configOfKey(key) {
  const [id, wanted] = key.split('@');
  const guest = guests.find((g) => g.id === key) ?? guests.find((g) => g.id === id);
  const mode = MODES.find((m) => m === wanted && guest?.modes.includes(m)) ?? guest?.modes[0];
  if (!guest || !mode) return undefined;
  // The page's own guest may run already, as what it is.
  return guest === HELLO ? HELLO.config : configFor(guest, mode, freeAddress());
}

/** @returns {string} in the page's network, the first that no open machine has */
function freeAddress() {
  const used = new Set([...open.values()].map((machine) => machine.config.address));
  for (let n = 1; n < 255; n++) if (!used.has(`10.0.0.${n}/24`)) return `10.0.0.${n}/24`;
  return '';
}

/** @param {MachineConfig} config */
function boot(config) {
  const machine = machineFor(config);
  machine.config = config;
  go(keyOf(config));
  machine.boot();
}

/** @param {Guest} guest boots it as the first of its modes and as the last, side by side */
async function compare({ id, modes }) {
  go([id, `${id}@${modes.at(-1)}`].join(), 'compare');
  await showing;
  comparison?.bootTogether();
}

/** @param {MachineConfig} config @returns {X86Machine} */
function machineFor(config) {
  const key = keyOf(config);
  const known = open.get(key);
  if (known) return known;
  const machine = /** @type {X86Machine} */ (document.createElement('x86-machine'));
  machine.config = config;
  const back = el('button', { slot: 'lead', type: 'button', class: 'back', click: () => go('') }, icon('back'), 'Machines');
  machine.append(back);
  machine.addEventListener('stage', (event) => {
    const { id, ms } = /** @type {CustomEvent<{id: string, ms: number}>} */ (event).detail;
    if (id === 'ready') remember(config.id, { bootMs: ms, at: Date.now() });
  });
  machine.addEventListener('statechange', () => {
    if (machine.state === 'off' || machine.state === 'crashed') takePicture(machine);
    if (!home.hidden) showOpen();
    titleOf(machine);
  });
  open.set(key, machine);
  machinesPlace.append(machine);
  return machine;
}

/** @param {X86Machine} machine */
function takePicture(machine) {
  const picture = machine.console.thumbnail(PICTURE.rows, PICTURE.cols);
  if (picture) remember(machine.config.id, { picture });
}

/** @param {X86Machine} machine */
function closeMachine(machine) {
  takePicture(machine);
  open.delete(keyOf(machine.config));
  machine.remove();
  showHome();
}

function showOpen() {
  renderOpen(running, open.values(), (machine) => go(keyOf(machine.config)), closeMachine);
}

function showHome() {
  for (const machine of open.values()) takePicture(machine);
  machinesPlace.hidden = true;
  home.hidden = false;
  document.documentElement.classList.remove('away');
  document.title = 'Tabvisor: machines in a browser tab';
  showOpen();
  drawCards();
}

/** @param {X86Machine[]} machines */
function showMachines(machines) {
  home.hidden = true;
  machinesPlace.hidden = false;
  for (const other of open.values()) other.hidden = !machines.includes(other);
  titleOf(machines[0]);
}

/** @param {X86Machine} machine */
function titleOf(machine) {
  if (!machinesPlace.hidden && !machine.hidden) document.title = `${machine.config.name}, ${machine.state} · Tabvisor`;
}

/** @param {string} id guest id, or "" for home @param {string} [verb] */
function go(id, verb = 'machine') {
  const target = id === '' ? location.pathname + location.search : `#${verb}=${encodeURIComponent(id)}`;
  history.pushState(null, '', target);
  route();
}

/** @returns {{verb: string, id: string}} what the address says */
function address() {
  const [verb, raw = ''] = location.hash.slice(1).split('=', 2);
  return { verb, id: decodeURIComponent(raw) };
}

/** Show what the address says. */
function route() {
  const { verb, id } = address();
  comparison?.close();
  comparison = undefined;
  const keys = id.split(',');
  const wanted = { machine: 1, boot: 1, compare: 2 }[verb];
  const machines = keys.flatMap((key) => machineOf(key) ?? []);
  if (!wanted || machines.length !== wanted) return showHome();
  showMachines(machines);
  if (verb === 'compare') showing = showComparison(machines, id);
  if (verb === 'boot' && machines[0].state === 'off') {
    history.replaceState(null, '', `#machine=${encodeURIComponent(id)}`);
    machines[0].boot();
  }
}

/** @param {string} key @returns {X86Machine | undefined} */
function machineOf(key) {
  const config = open.get(key)?.config ?? configOfKey(key);
  return config && machineFor(config);
}

/** @param {X86Machine[]} machines @param {string} id of the address */
async function showComparison(machines, id) {
  const { Comparison } = await import('./compare.js');
  if (address().id !== id) return;
  const modes = guests.find((guest) => guest.id === machines[0].config.id)?.modes ?? [];
  comparison = new Comparison(machinesPlace, machines, modes, (chosen) => go(chosen && chosen.map((mode) => keyOf({ ...machines[0].config, mode })).join(), 'compare'));
}

function drawCards() {
  cards.replaceChildren(...guests.map((guest) => guestCard(guest, boot, warm, freeAddress(), compare)));
  cards.setAttribute('aria-busy', 'false');
}

/** @param {FileList | File[] | null | undefined} list */
function openFiles(list) {
  const files = [...(list ?? [])];
  if (files.length > 0) import('./files.js').then(({ showFiles }) => showFiles(dialog, files, boot));
}

function wireFiles() {
  for (const id of ['open-files', 'choose-files']) byId(id).addEventListener('click', () => fileInput.click());
  fileInput.addEventListener('change', () => {
    openFiles(fileInput.files);
    fileInput.value = '';
  });
  const carriesFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
  let depth = 0;
  addEventListener('dragenter', (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener('dragleave', (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    veil.hidden = depth === 0;
  });
  addEventListener('dragover', (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  addEventListener('drop', (event) => {
    if (!carriesFiles(event)) return;
    depth = 0;
    veil.hidden = true;
    // Somebody in the page may have taken them.
    if (event.defaultPrevented) return;
    event.preventDefault();
    openFiles(event.dataTransfer?.files);
  });
}

function showSupport() {
  const lacking = missingFeature();
  if (!lacking) {
    setText(support, 'This browser has everything a machine needs.');
    return;
  }
  support.replaceChildren(el('strong', {}, lacking.what), ` ${lacking.why} ${lacking.next.join(' ')}`);
  note.replaceChildren(el('strong', {}, lacking.what), ` ${lacking.why} ${lacking.next.join(' ')}`);
  note.hidden = false;
  note.classList.add('bad');
}

async function start() {
  wireFiles();
  showSupport();
  addEventListener('popstate', route);
  addEventListener('hashchange', route);
  addEventListener('pagehide', () => {
    for (const machine of open.values()) takePicture(machine);
  });
  // The page's own guest waits for nothing.
  if (address().id === HELLO.id) route();
  const listed = await loadGuests();
  guests = listed.guests;
  if (listed.note && note.hidden) {
    setText(note, listed.note);
    note.hidden = false;
  }
  route();
  // Whoever looks at the cards will press Boot; the browser has drawn them by the time it is idle.
  if (!home.hidden) (globalThis.requestIdleCallback ?? setTimeout)(() => warm());
}

start();
