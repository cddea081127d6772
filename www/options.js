// The few settings of a machine as a form: RAM, processor, clock, command line.

import { el } from './dom.js';

/** @typedef {import('./protocol.js').MachineConfig} MachineConfig */

/** CPUID models by name, oldest first. */
export const CPU_MODELS = ['pentium', 'x86-64-v1', 'x86-64-v2'];

/** Guest RAM the form offers to set, in MiB. The engine has the last word. */
const MEMORY_MIN = 16;
const MEMORY_MAX = 2048;

let serial = 0;

/**
 * @param {MachineConfig} config the form starts from this
 * @returns {{element: HTMLElement, valid: () => boolean, apply: (config: MachineConfig) => MachineConfig}} `valid` shows
 *   the visitor what cannot be; `apply` returns a changed copy
 */
export function optionsForm(config) {
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
  const field = (/** @type {HTMLElement} */ control, /** @type {string} */ label, wide = false) =>
    el('div', { class: wide ? 'field wide' : 'field' }, el('label', { for: control.id }, label), control);
  const element = el(
    'div',
    { class: 'options' },
    field(memory, 'Memory in MiB'),
    field(cpu, 'Processor model'),
    field(clock, 'Guest clock'),
    field(cmdline, 'Kernel command line', true),
  );
  return {
    element,
    valid: () => {
      const closed = memory.checkValidity() ? null : memory.closest('details');
      // A field that nobody sees cannot say what is wrong with it.
      if (closed) closed.open = true;
      return memory.reportValidity();
    },
    apply: (base) => ({
      ...base,
      memoryMiB: Number(memory.value),
      cpu: cpu.value,
      clock: clock.value === 'deterministic' ? 'deterministic' : 'paced',
      cmdline: cmdline.value.replace(/\s+/g, ' ').trim(),
    }),
  };
}
