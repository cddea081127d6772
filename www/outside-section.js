// A domain's disks and network in the rail: their figures, and what can be done with what the guest has written.

import { el, setText } from './dom.js';
import { bytes as formatBytes, count } from './format.js';
import { offerDownload } from './save-file.js';
import { size } from './written.js';
import { diskKey } from './x86-machine.js';

/** @typedef {import('./protocol.js').FileSource} FileSource */

export class OutsideSection {
  /** @param {import('./x86-machine.js').X86Machine} machine */
  constructor(machine) {
    this.machine = machine;
    this.disks = machine.config.files.filter((file) => file.role === 'disk');
    this.head = el('h3');
    this.figures = el('dl', { class: 'pairs' });
    this.rows = this.disks.map((file, n) => this.row(file, n));
    this.element = el('section', { hidden: true }, this.head, this.figures, ...this.rows.map((row) => row.element));
    this.shown = '';
    this.disks.forEach((file, n) => {
      const kept = machine.kept.get(diskKey(file));
      if (kept) this.note(n, `It began with ${formatBytes(size(kept))} that were kept.`);
    });
  }

  /** @param {FileSource} file @param {number} n */
  row(file, n) {
    const ask = (/** @type {boolean} */ whole) => this.machine.vm?.send({ kind: 'disk', disk: n, whole });
    const note = el('p', { role: 'status' });
    const keep = el('button', { type: 'button', title: 'What the guest has written so far is on the disk at the next boot, too, as long as this machine is open. Run sync in the guest first, or shut it down.', click: () => ask(false) }, 'Keep changes');
    const save = el('button', { type: 'button', title: 'Downloads the disk as it is now. Run sync in the guest first, or shut it down.', click: () => ask(true) }, 'Save disk');
    const forget = el('button', { type: 'button', title: 'The next boot begins with the disk as it was', hidden: true, click: () => this.forget(n) }, 'Forget');
    const element = el('div', { class: 'disk', hidden: file.readOnly ?? false }, this.disks.length > 1 ? el('p', {}, file.name) : null, el('div', { class: 'disk-actions' }, keep, save), el('div', { class: 'disk-actions' }, note, forget));
    return { element, note, forget };
  }

  /** @param {number} n */
  forget(n) {
    this.machine.kept.delete(diskKey(this.disks[n]));
    this.note(n, 'The next boot begins with the disk as it was.');
  }

  /** @param {number} n @param {string} text */
  note(n, text) {
    setText(this.rows[n].note, text);
    this.rows[n].forget.hidden = !this.machine.kept.has(diskKey(this.disks[n]));
  }

  /** @param {Extract<import('./protocol.js').FromWorker, {kind: 'disk'}>} message what was asked for */
  arrived({ disk, written, image }) {
    const changed = formatBytes(size(written));
    if (!image) {
      this.machine.kept.set(diskKey(this.disks[disk]), written);
      this.note(disk, `${changed} kept for the next boot.`);
      return;
    }
    offerDownload(image, this.disks[disk].name);
    this.note(disk, `Saved with ${changed} of changes.`);
  }

  /** @param {import('./protocol.js').DiskStats | null} disk @param {import('./switch.js').LinkStats | null} link */
  render(disk, link) {
    const key = JSON.stringify([disk, link]);
    if (this.shown === key) return;
    this.shown = key;
    this.element.hidden = !disk && !link;
    const frames = (/** @type {number} */ n, /** @type {number} */ bytes) => `${count(n)} frames, ${formatBytes(bytes)}`;
    /** @type {[string, string, string][]} */
    const lines = [];
    if (disk) lines.push(['Disk read', 'Fetched from where the disk is; what the guest writes stays in memory', `${formatBytes(disk.bytes)} in ${count(disk.reads)}`]);
    if (disk?.waiting) lines.push(['Under way', 'Reads that the guest waits for', count(disk.waiting)]);
    if (disk?.failed) lines.push(['Failed', 'Reads after which the guest got an error', count(disk.failed)]);
    if (link) lines.push(['Sent', 'By its network card, to other machines of this page', frames(link.framesOut, link.bytesOut)]);
    if (link) lines.push(['Received', 'By its network card', frames(link.framesIn, link.bytesIn)]);
    if (link?.lost) lines.push(['Lost', 'Frames for a machine that did not take those before', count(link.lost)]);
    setText(this.head, disk && link ? 'Disk and network' : disk ? 'Disk' : 'Network');
    this.figures.replaceChildren(...lines.flatMap(([term, title, value]) => [el('dt', { title }, term), el('dd', {}, value)]));
  }
}
