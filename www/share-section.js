// A domain's shared folder in the rail: how the guest mounts it, what the guest has written there, and what goes in and out.

import { el, setText } from './dom.js';
import { bytes as formatBytes, count } from './format.js';
import { offerDownload } from './save-file.js';
import { MOUNT, asShared } from './shared-files.js';

export class ShareSection {
  /** @param {import('./x86-machine.js').X86Machine} machine */
  constructor(machine) {
    const send = (/** @type {{add?: import('./protocol.js').SharedFile[], save?: string}} */ what) => machine.vm?.send({ kind: 'share', ...what });
    this.send = send;
    this.figures = el('dd');
    this.room = el('dd');
    this.list = el('ul');
    this.head = el('summary');
    this.changed = el('details', { open: true, hidden: true }, this.head, this.list);
    const input = /** @type {HTMLInputElement} */ (el('input', { type: 'file', multiple: true, hidden: true }));
    input.addEventListener('change', () => {
      send({ add: asShared(input.files ?? []) });
      input.value = '';
    });
    const type = () => {
      machine.console.send(`${MOUNT}\r`);
      machine.console.focus();
    };
    const button = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ click) => el('button', { type: 'button', title, click }, text);
    this.element = el(
      'section',
      { class: 'share', hidden: true },
      el('h3', {}, 'Shared folder'),
      el('p', {}, 'The guest mounts the shared folder with'),
      el('code', {}, MOUNT),
      el('dl', { class: 'pairs' }, el('dt', {}, 'In it'), this.figures, el('dt', { title: 'Memory that its files take, and may take' }, 'In use'), this.room),
      el('div', { class: 'share-actions' }, button('Type command', 'Types the command into the console', type), button('Add files', 'The guest sees them at once', () => input.click()), button('Save all', 'Downloads the folder as it is now, as a tar archive', () => send({ save: '' })), input),
      this.changed,
    );
    /** Changes that were seen. */
    this.seen = -1;
  }

  /** @param {import('./protocol.js').FromWorker} message */
  arrived(message) {
    if (message.kind === 'sharedFile') return offerDownload(message.file, message.name);
    if (message.kind !== 'shared') return;
    const { files, bytes, changed, more } = message;
    setText(this.figures, `${count(files)} ${files === 1 ? 'file' : 'files'}, ${formatBytes(bytes)}`);
    this.changed.hidden = changed.length === 0;
    setText(this.head, `Written by the guest: ${count(changed.length + more)}`);
    this.list.replaceChildren(
      ...changed.map(({ path, size }) =>
        el('li', {}, el('span', { title: path }, path), el('span', {}, formatBytes(size)), el('button', { type: 'button', 'aria-label': `Save ${path}`, click: () => this.send({ save: path }) }, 'Save')),
      ),
      more > 0 ? el('li', {}, el('span', {}, `and ${count(more)} more, which Save all has`)) : '',
    );
  }

  /** @param {import('./machine-view.js').MachineModel} m */
  render({ stats, state }) {
    const [used, limit, changes] = stats?.shared ?? [];
    this.element.hidden = used === undefined;
    if (used === undefined || changes === this.seen || state === 'off') return;
    this.seen = changes;
    setText(this.room, `${formatBytes(used)} of ${formatBytes(limit)}`);
    this.send({});
  }
}
