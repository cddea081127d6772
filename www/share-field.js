// The part of the options that is about a folder shared with a guest: whether there is one, and what is in it at first.

import { el, setText } from './dom.js';
import { bytes as formatBytes, count } from './format.js';
import { MOUNT, asShared, dropped, merged } from './shared-files.js';

/** @typedef {import('./protocol.js').SharedFile} SharedFile */

/**
 * @typedef {object} ShareField
 * @property {HTMLElement} element
 * @property {(possible: boolean) => void} enable a PC has no such folder
 * @property {() => SharedFile[] | undefined} value undefined: there is none
 */

/** @param {string} id of the field @returns {ShareField} */
export function shareField(id) {
  /** @type {SharedFile[]} */
  let files = [];
  const on = el('input', { type: 'checkbox', id });
  const what = el('span', { role: 'status' });
  const input = (/** @type {boolean} */ folder) => {
    const it = /** @type {HTMLInputElement} */ (el('input', { type: 'file', multiple: true, webkitdirectory: folder, hidden: true }));
    it.addEventListener('change', () => {
      add(asShared(it.files ?? []));
      it.value = '';
    });
    return it;
  };
  const [one, all] = [input(false), input(true)];
  const clear = el('button', { type: 'button', class: 'quiet', click: () => show([]) }, 'Remove all');
  const more = el(
    'div',
    { class: 'share-more', hidden: true },
    el('div', { class: 'share-actions' }, el('button', { type: 'button', click: () => one.click() }, 'Add files'), el('button', { type: 'button', click: () => all.click() }, 'Add a folder'), clear, one, all),
    what,
    el('p', { class: 'muted' }, 'The guest mounts it with ', el('code', {}, MOUNT)),
  );
  const sheet = el('link', { rel: 'stylesheet', href: new URL('./share-field.css', import.meta.url).href });
  const element = el('div', { class: 'field wide share-field' }, sheet, el('div', { class: 'share-head' }, on, el('label', { for: id, title: 'Files for the guest, and what it writes there for you' }, 'Shared folder')), more);
  const show = (/** @type {SharedFile[]} */ now) => {
    files = now;
    const real = files.filter(({ blob }) => blob);
    const bytes = real.reduce((sum, { blob }) => sum + (blob?.size ?? 0), 0);
    clear.hidden = files.length === 0;
    setText(what, real.length === 0 ? 'Empty so far. Files can be dropped here.' : `${count(real.length)} ${real.length === 1 ? 'file' : 'files'}, ${formatBytes(bytes)}`);
  };
  const toggle = () => (more.hidden = !on.checked || on.disabled);
  const add = (/** @type {SharedFile[]} */ some) => {
    on.checked = true;
    toggle();
    show(merged(files, some));
  };
  on.addEventListener('change', toggle);
  // What is taken here is not the page's, which would take the files for what a machine boots from.
  element.addEventListener('drop', (event) => {
    if (!event.dataTransfer?.types.includes('Files') || on.disabled) return;
    event.preventDefault();
    dropped(event.dataTransfer).then(add, (error) => setText(what, `Not added: ${error.message}.`));
  });
  show([]);
  return {
    element,
    enable: (possible) => {
      on.disabled = !possible;
      toggle();
    },
    value: () => (on.checked && !on.disabled ? files : undefined),
  };
}
