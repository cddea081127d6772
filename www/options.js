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
 * @returns {{element: HTMLElement, apply: (config: MachineConfig) => MachineConfig}} `apply` returns a changed copy
 */
export function optionsForm(config) {
  const id = `options-${++serial}`;
  const memory = el('input', {
    id: `${id}-memory`,
    type: 'number',
    min: String(MEMORY_MIN),
    max: String(MEMORY_MAX),
    step: '16',
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
    apply: (base) => {
      const mib = Math.round(Number(memory.value));
      const sane = Number.isFinite(mib) && mib > 0 ? Math.min(MEMORY_MAX, Math.max(MEMORY_MIN, mib)) : base.memoryMiB;
      return {
        ...base,
        memoryMiB: sane,
        cpu: cpu.value,
        clock: clock.value === 'deterministic' ? 'deterministic' : 'paced',
        cmdline: cmdline.value.replace(/\s+/g, ' ').trim(),
      };
    },
  };
}
