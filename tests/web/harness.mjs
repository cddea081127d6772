// What the end-to-end tests share: a server, a headless Chromium, and a visitor who reads and types.
//
// `cargo xtask test` passes the server's address in TABVISOR_URL and the browser in CHROME. Without them
// (`node --test tests/web/`) a server is started from here and Chromium is looked for in the usual places.

import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../../', import.meta.url));
const out = fileURLToPath(new URL('../out/', import.meta.url));

/** Nothing but the page may use the network, and root may not have a sandbox. */
export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The views every screenshot is taken in. */
const VIEWS = [
  { name: 'wide', width: 1440, height: 900 },
  { name: 'phone', width: 390, height: 844 },
];

/** A prompt at the end of the console, whose trailing spaces are not part of its text. */
export const PROMPT = /[^\n]{0,60}[#$>]$/;

/** @returns {string} */
export function browserPath() {
  const { CHROME } = process.env;
  if (CHROME) return CHROME;
  const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  const found = places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new Error('no Chromium: run `cargo xtask setup`, or set CHROME to its path');
  return found;
}

/** Starts `cargo xtask serve` unless a server is given. @returns {Promise<{url: string, stop(): void}>} */
export async function server() {
  const { TABVISOR_URL } = process.env;
  if (TABVISOR_URL) return { url: TABVISOR_URL, stop() {} };
  const child = spawn('cargo', ['xtask', 'serve', '--no-build', '--port', '0'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  const url = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`cargo xtask serve ended with ${code}:\n${text}`)));
    child.stdout.on('data', (chunk) => {
      text += chunk;
      const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(text);
      if (found) resolve(found[0]);
    });
  });
  child.removeAllListeners('exit');
  return { url, stop: () => void child.kill() };
}

/**
 * Opens the page in a new browser for one test and closes it afterwards.
 * @param {import('node:test').TestContext} t
 * @param {{path?: string, dark?: boolean, view?: {width: number, height: number}, at?: string, before?: () => void, touch?: boolean}} [options]
 *   `at`: the address of a server that runs already; `before` runs in the page ahead of its own scripts;
 *   `touch`: there are only fingers
 * @returns {Promise<Visitor>}
 */
export async function visit(t, { path = '', dark = false, view = VIEWS[0], at, before, touch = false } = {}) {
  const { url, stop } = at ? { url: at, stop() {} } : await server();
  t.after(stop);
  const browser = await chromium.launch({ executablePath: browserPath(), args: FLAGS });
  t.after(() => browser.close());
  const page = await browser.newPage({
    viewport: { width: view.width, height: view.height },
    colorScheme: dark ? 'dark' : 'light',
    reducedMotion: 'reduce',
    hasTouch: touch,
    isMobile: touch,
  });
  if (before) await page.addInitScript(before);
  const visitor = new Visitor(page, url);
  await page.goto(new URL(path, url).href);
  return visitor;
}

/** Someone with eyes, a keyboard and a mouse on the page. */
export class Visitor {
  /** @param {import('playwright-core').Page} page @param {string} url */
  constructor(page, url) {
    this.page = page;
    this.url = url;
    /** What went wrong in the page without anyone asking: uncaught errors, console errors, failed requests. */
    /** @type {string[]} */
    this.complaints = [];
    /** Requests that left the server the page came from. */
    /** @type {string[]} */
    this.foreign = [];
    page.on('pageerror', (error) => this.complaints.push(`uncaught: ${error.stack ?? error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(`console: ${message.text()} (${message.location().url})`);
    });
    page.on('request', (request) => {
      const address = request.url();
      if (/^https?:/.test(address) && !address.startsWith(url)) this.foreign.push(address);
    });
  }

  /** The machine that is shown. */
  get machine() {
    return this.page.locator('x86-machine:not([hidden])');
  }

  /** A control of the shown machine by the name a screen reader gives it. @param {string} name */
  button(name) {
    return this.machine.getByRole('button', { name, exact: true });
  }

  /** Presses Boot on a guest's card, or the button for another mode. @param {string} id @param {string} [mode] */
  async boot(id, mode) {
    const name = mode ? new RegExp(`^Boot .* as ${mode.toUpperCase()}$`) : /^Boot (?!.* as PVH?$)/;
    await this.page.locator(`[data-guest="${id}"]`).getByRole('button', { name }).click();
  }

  /**
   * Opens the options of a guest.
   * @param {string} id @param {string} [mode] what it is to run as @returns {Promise<import('playwright-core').Locator>} its card
   */
  async options(id, mode) {
    const card = this.page.locator(`[data-guest="${id}"]`);
    await card.getByText('Options').click();
    if (mode) await card.getByLabel('Runs as').selectOption(mode);
    return card;
  }

  /** Whether the page offers a guest. @param {string} id @returns {Promise<boolean>} */
  async offers(id) {
    await this.page.locator('#guests[aria-busy="false"]').waitFor();
    return (await this.page.locator(`[data-guest="${id}"]`).count()) > 0;
  }

  /** Everything on the serial console, scrolled-off lines too. @returns {Promise<string>} */
  consoleText() {
    return this.machine.evaluate((machine) => /** @type {any} */ (machine).console.text());
  }

  /** off, loading, running, idle, paused or crashed. @returns {Promise<string>} */
  state() {
    return this.machine.evaluate((machine) => /** @type {any} */ (machine).state);
  }

  /**
   * Waits until the console shows `pattern`; tells what it showed instead if it does not.
   * @param {RegExp} pattern
   * @param {{timeout?: number, after?: number}} [options] milliseconds; characters of the console to pass over
   * @returns {Promise<RegExpExecArray>}
   */
  async waitForText(pattern, { timeout = 30_000, after = 0 } = {}) {
    const end = performance.now() + timeout;
    let text = '';
    for (;;) {
      text = await this.consoleText();
      const found = pattern.exec(text.slice(after));
      if (found) return found;
      const state = await this.state();
      const problem = await this.problem();
      if (problem || state === 'crashed') throw new Error(`before ${pattern} appeared the machine (${state}) said: ${problem}\n${tail(text)}`);
      if (performance.now() > end) throw new Error(`no ${pattern} within ${timeout} ms (machine ${state}):\n${tail(text)}`);
      await this.page.waitForTimeout(50);
    }
  }

  /** Bytes of the shown machine's WebAssembly memory, as it says every half second or two, and of its guest's RAM. */
  heap() {
    return this.machine.evaluate((element) => {
      const { stats, config } = /** @type {any} */ (element).model;
      return { heap: stats.heapBytes, ram: config.memoryMiB * 2 ** 20 };
    });
  }

  /** Waits for a machine state. @param {string} wanted @param {number} [timeout] */
  async waitForState(wanted, timeout = 30_000) {
    const end = performance.now() + timeout;
    for (;;) {
      const state = await this.state();
      if (state === wanted) return;
      if (performance.now() > end) throw new Error(`the machine is ${state}, not ${wanted}, after ${timeout} ms:\n${tail(await this.consoleText())}`);
      await this.page.waitForTimeout(50);
    }
  }

  /** The text of the error card, or "". @returns {Promise<string>} */
  async problem() {
    const card = this.machine.getByRole('alert');
    return (await card.isVisible()) ? card.innerText() : '';
  }

  /** Types on the keyboard into the terminal, key by key. @param {string} text `\n` is the Enter key */
  async type(text) {
    await this.machine.evaluate((machine) => /** @type {any} */ (machine).console.focus());
    for (const line of text.split(/(\n)/)) {
      if (line === '\n') await this.page.keyboard.press('Enter');
      else if (line) await this.page.keyboard.type(line, { delay: 10 });
    }
  }

  /**
   * Clears the terminal, types a shell command (one that fits a line) and returns what the guest printed until
   * its next prompt.
   * @param {string} line @param {{prompt?: RegExp, timeout?: number}} [options]
   * @returns {Promise<string>}
   */
  async command(line, { prompt = PROMPT, timeout = 30_000 } = {}) {
    await this.machine.evaluate((machine) => /** @type {any} */ (machine).console.clear());
    await this.type(`${line}\n`);
    // The echo is one line, so the prompt that closes the output has a line break before it.
    await this.waitForText(new RegExp(`\\n(?:${prompt.source})`), { timeout });
    const text = await this.consoleText();
    return text.slice(text.indexOf('\n') + 1, text.lastIndexOf('\n')).trim();
  }

  /** A picture for people, in tests/out. @param {string} name */
  async screenshot(name) {
    mkdirSync(out, { recursive: true });
    await this.page.screenshot({ path: `${out}${name}.png` });
  }

  /** The same page wide and narrow, light and dark. @param {string} name */
  async screenshots(name) {
    const before = this.page.viewportSize();
    for (const { name: view, width, height } of VIEWS) {
      await this.page.setViewportSize({ width, height });
      for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
        await this.page.emulateMedia({ colorScheme });
        await this.page.waitForTimeout(200); // the terminal follows its new size in the next frames
        await this.screenshot(`${name}-${view}-${colorScheme}`);
      }
    }
    if (before) await this.page.setViewportSize(before);
  }
}

/** @param {string} text @returns {string} the last lines */
function tail(text) {
  return text.split('\n').slice(-30).join('\n');
}
