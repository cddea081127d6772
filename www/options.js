// The few settings of a machine as a form: RAM, processor, clock, command line. Loaded when someone wants to see it.

import { el } from './dom.js';
import { withAddress } from './guests.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */

/** CPUID models by name, oldest first. */
const CPU_MODELS = ['pentium', 'x86-64-v1', 'x86-64-v2'];

/** Guest RAM the form offers to set, in MiB. The engine has the last word. */
const MEMORY_MIN = 16;
const MEMORY_MAX = 2048;

/**
 * A way to run a guest.
 * @typedef {object} Choice
 * @property {import('./protocol.js').Mode} mode
 * @property {string} label
 * @property {string} cmdline the command line that goes with it
 */

/** Sizes of a domain's screen, in pixels. */
const DISPLAYS = ['', '640x480', '800x600', '1024x768', '1280x800', '1600x900', '1920x1080'];
/** Virtual CPUs a domain can have. */
const VCPUS_MAX = 8;

let serial = 0;

/**
 * @typedef {object} OptionsForm
 * @property {HTMLElement} element
 * @property {() => boolean} valid shows the visitor what cannot be
 * @property {(mode: import('./protocol.js').Mode) => void} choose
 * @property {() => import('./protocol.js').Mode} mode
 * @property {(config: MachineConfig) => MachineConfig} apply returns a changed copy
 */

/**
 * @param {MachineConfig} config the form starts from this
 * @param {Choice[]} choices what else it may run on
 * @param {string} [address] of a domain in the page's network, which its command line tells it; undefined: it cannot be told
 * @returns {OptionsForm}
 */
export function optionsForm(config, choices, address) {
  const id = `options-${++serial}`;
  const memory = el('input', {
    id: `${id}-memory`,
    type: 'number',
    min: String(MEMORY_MIN),
    max: String(MEMORY_MAX),
    required: true,
    value: String(config.memoryMiB),
    inputmode: 'numeric',
  });
  const models = CPU_MODELS.includes(config.cpu) ? CPU_MODELS : [...CPU_MODELS, config.cpu];
  const cpu = el('select', { id: `${id}-cpu` }, ...models.map((m) => el('option', { value: m, selected: m === config.cpu }, m)));
  const clock = el(
    'select',
    { id: `${id}-clock`, title: 'Paced: guest time follows your clock. Deterministic: it follows the instruction count.' },
    el('option', { value: 'paced', selected: config.clock === 'paced' }, 'paced'),
    el('option', { value: 'deterministic', selected: config.clock === 'deterministic' }, 'deterministic'),
  );
  const cmdline = el('textarea', { id: `${id}-cmdline`, rows: '2', spellcheck: 'false', autocapitalize: 'off' });
  cmdline.value = config.cmdline;
  const mode = el(
    'select',
    { id: `${id}-mode`, title: 'PC: emulated hardware. PVH and PV: under a hypervisor, without devices.' },
    ...choices.map((c) => el('option', { value: c.mode, selected: c.mode === config.mode }, c.label)),
  );
  const display = el(
    'select',
    { id: `${id}-display`, title: 'With a keyboard and a pointer; for guests that run as PVH or PV' },
    ...DISPLAYS.map((size) => el('option', { value: size, selected: size === (config.display ?? '') }, size.replace('x', ' × ') || 'none')),
  );
  const vcpus = el('input', { id: `${id}-vcpus`, type: 'number', min: '1', max: String(VCPUS_MAX), value: String(config.vcpus ?? 1), inputmode: 'numeric' });
  const most = el('input', {
    id: `${id}-most`,
    type: 'number',
    min: String(MEMORY_MIN),
    max: String(MEMORY_MAX),
    placeholder: 'the same',
    title: 'While it runs, the guest can be given so much: see Memory beside its console. It knows of it from the start.',
    inputmode: 'numeric',
  });
  /** Loaded where there may be such a folder. @type {import('./share-field.js').ShareField | undefined} */
  let share;
  const ip = el('input', {
    id: `${id}-address`,
    value: address ?? '',
    pattern: '\\d{1,3}(\\.\\d{1,3}){3}/\\d{1,2}',
    spellcheck: 'false',
    title: 'Address and prefix in the network of this page, given to the guest on its command line as tabvisor.ip; empty for none',
  });
  const chosen = () => choices.find((c) => c.mode === mode.value) ?? choices[0];
  let usual = config.cmdline;
  const choose = () => {
    const next = chosen()?.cmdline ?? usual;
    // What the visitor has written stays.
    if (cmdline.value === usual) cmdline.value = next;
    usual = next;
    vcpus.disabled = ip.disabled = display.disabled = most.disabled = mode.value === 'pc';
    share?.enable(mode.value !== 'pc');
  };
  mode.addEventListener('change', choose);
  choose();
  const field = (/** @type {HTMLElement} */ control, /** @type {string} */ label, wide = false) =>
    el('div', { class: wide ? 'field wide' : 'field' }, el('label', { for: control.id }, label), control);
  const domain = choices.some((c) => c.mode !== 'pc');
  const sharePlace = el('p', { class: 'field wide', hidden: true });
  const element = el(
    'div',
    { class: 'options' },
    choices.length > 1 ? field(mode, 'Runs as') : null,
    ...(domain ? [field(vcpus, 'Virtual CPUs'), field(display, 'Screen'), address !== undefined ? field(ip, 'Network address') : null] : []),
    field(memory, 'Memory in MiB'),
    domain ? field(most, 'At most, while it runs') : null,
    field(cpu, 'Processor model'),
    field(clock, 'Guest clock'),
    field(cmdline, 'Kernel command line', true),
    sharePlace,
  );
  if (domain) {
    import('./share-field.js').then(
      ({ shareField }) => {
        share = shareField(`${id}-share`);
        sharePlace.replaceWith(share.element);
        choose();
      },
      () => {
        sharePlace.hidden = false;
        sharePlace.textContent = 'What is needed to share files could not be loaded. Reload the page.';
      },
    );
  }
  return {
    element,
    valid: () => {
      const wrong = [memory, most, ip].find((input) => !input.checkValidity());
      const closed = wrong?.closest('details');
      // A field that nobody sees cannot say what is wrong with it.
      if (closed) closed.open = true;
      return wrong?.reportValidity() ?? true;
    },
    choose: (to) => {
      mode.value = to;
      choose();
    },
    mode: () => chosen()?.mode ?? config.mode,
    apply: (base) => {
      const config = {
        ...base,
        mode: chosen()?.mode ?? base.mode,
        vcpus: Math.min(Math.max(Math.floor(Number(vcpus.value)) || 1, 1), VCPUS_MAX),
        memoryMiB: Number(memory.value),
        mostMiB: most.disabled ? undefined : Number(most.value) || undefined,
        share: share?.value(),
        cpu: cpu.value,
        clock: /** @type {'paced' | 'deterministic'} */ (clock.value),
        cmdline: cmdline.value.replace(/\s+/g, ' ').trim(),
      };
      return withDisplay(withAddress(config, address === undefined ? '' : ip.value), display.value);
    },
  };
}

/**
 * @param {MachineConfig} config @param {string} display "800x600", or nothing
 * @returns {MachineConfig} the same with such a screen, on which a Linux shows what it says
 */
function withDisplay(config, display) {
  if (config.mode === 'pc' || display === '') return config;
  const [width, height] = display.split('x').map(Number);
  // Without being told, Linux takes 2 MiB and shows 800 by 600. The last console is the one that init gets.
  const video = display === '800x600' ? '' : `xen_fbfront.video=${Math.ceil((width * height * 4) / 2 ** 20)},${width},${height} `;
  return { ...config, display, cmdline: `console=tty0 ${video}${config.cmdline}`.trim() };
}
