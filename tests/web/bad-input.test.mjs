// What the page says about files, settings, servers and browsers that no machine can be made of. Every card says
// what happened, with which file or part, and what to do; nothing hangs, and a good machine boots afterwards.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { faultyServer } from './faulty-server.mjs';
import { PROMPT, server, visit } from './harness.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const hello = readFileSync(`${root}www/pkg/hello.elf`);
const linux = `${root}images/out/linux64/`;
/** @type {{files: {role: string, path: string}[], cmdline: string}} */
const manifest = JSON.parse(readFileSync(`${linux}manifest.json`, 'utf8'));
const linuxFile = (/** @type {string} */ role) => manifest.files.find((file) => file.role === role)?.path ?? '';

/** A mistake is told within this, on a busy computer and after all attempts to load a file. */
const PATIENCE = 30_000;

/** @param {import('node:test').TestContext} t */
async function faulty(t) {
  const { url, stop } = await server();
  t.after(stop);
  return faultyServer(t, url);
}

/**
 * The error card of the shown machine, which must be complete: what, why, and what to do.
 * @param {import('./harness.mjs').Visitor} visitor @returns {Promise<string>}
 */
async function card(visitor) {
  const alert = visitor.machine.getByRole('alert');
  await alert.waitFor({ timeout: PATIENCE });
  assert.ok((await alert.locator('h3').innerText()).length > 5, 'the card does not say what happened');
  assert.ok((await alert.locator('p').innerText()).length > 5, 'the card does not say why');
  assert.ok((await alert.locator('li').count()) > 0, 'the card does not say what to do');
  const text = await alert.innerText();
  assert.doesNotMatch(text, /panicked at|undefined|\[object|RuntimeError/);
  return text;
}

/** @param {import('./harness.mjs').Visitor} visitor @param {object} config */
async function bootWith(visitor, config) {
  await visitor.machine.evaluate((element, config) => {
    const machine = /** @type {any} */ (element);
    machine.config = { ...machine.config, ...config };
    machine.boot();
  }, config);
}

/** @param {import('./harness.mjs').Visitor} visitor */
async function goodBoot(visitor) {
  await bootWith(visitor, { files: [{ role: 'kernel', name: 'hello.elf', url: `${visitor.url}pkg/hello.elf` }], memoryMiB: 32, cpu: 'x86-64-v2' });
  await visitor.waitForText(PROMPT);
}

test('files and settings that cannot boot are explained, and a good machine boots afterwards', async (t) => {
  const { url, faults } = await faulty(t);
  const visitor = await visit(t, { at: url, path: '#machine=hello' });
  await visitor.machine.waitFor();
  const arm = Buffer.from(hello);
  arm.writeUInt16LE(183, 18); // EM_AARCH64
  const pack = readFileSync(linux + linuxFile('kernel'));
  /** @param {string} path @param {import('./faulty-server.mjs').Fault} fault */
  const bad = (path, fault) => {
    faults.set(`/${path}`, fault);
    return { files: [{ role: 'kernel', name: path.split('/').pop(), url: `${url}${path}` }] };
  };
  const good = { role: 'kernel', name: 'hello.elf', url: `${url}pkg/hello.elf` };
  faults.set('/bad/huge', Buffer.alloc(40 << 20, 0x55));
  /** @type {[string, object, RegExp[]][]} */
  const cases = [
    ['a truncated ELF', bad('bad/cut.elf', hello.subarray(0, hello.length / 2)), [/cut off/, /load or build/i]],
    ['a truncated packed kernel', bad('bad/cut.pack', pack.subarray(0, pack.length / 2)), [/cut off/, /load or build/i]],
    ['a damaged packed kernel', { ...bad('bad/damaged.pack', Buffer.concat([pack.subarray(0, 1 << 20), Buffer.alloc(pack.length - (1 << 20))])), memoryMiB: 256 }, [/damaged/, /load or build/i]],
    ['a text', bad('bad/notes.txt', Buffer.from('just some notes\n')), [/not a kernel/, /use a linux bzimage/i]],
    ['a picture', bad('bad/picture.png', readFileSync(`${root}docs/screenshot.png`)), [/not a kernel/, /use a linux bzimage/i]],
    ['a web page', bad('bad/page.html', Buffer.from('<!doctype html><title>Log in</title>')), [/web page/, /use a linux bzimage/i]],
    ['an ELF of another machine', bad('bad/arm.elf', arm), [/another machine/, /use a linux bzimage/i]],
    ['an empty file', bad('bad/empty', Buffer.alloc(0)), [/is empty/, /use a linux bzimage/i]],
    ['no kernel', { files: [] }, [/no kernel/]],
    ['a file without an address', { files: [{ role: 'kernel', name: 'lost.elf' }] }, [/lost\.elf/, /address/]],
    ['no memory', { files: [good], memoryMiB: 0 }, [/0 bytes of memory/, /2 to 3072 MiB/]],
    ['memory that is no number', { files: [good], memoryMiB: NaN }, [/0 bytes of memory/, /2 to 3072 MiB/]],
    ['absurd memory', { files: [good], memoryMiB: 1e15 }, [/bytes of memory/, /2 to 3072 MiB/]],
    ['too little memory for anything', { files: [good], memoryMiB: 1 }, [/needs 2 MiB/, /at least 2 MiB/]],
    ['too little memory for the kernel', { ...bad('bad/linux', pack), memoryMiB: 32 }, [/kernel needs \d+ MiB/, /give it at least/i]],
    ['too little memory for kernel and initrd', { files: [good, { role: 'initrd', name: 'huge', url: `${url}bad/huge` }], memoryMiB: 32 }, [/initrd of \d+ bytes/, /at least \d+ MiB/]],
    ['an unknown processor', { files: [good], cpu: 'z80' }, [/z80/, /x86-64-v2/]],
    ['a kernel that is not there', bad('bad/gone.bin', 404), [/gone\.bin is not there/, /404/]],
    ['an initrd that is not there', { files: [good, { role: 'initrd', name: 'gone.img', url: `${url}bad/gone.img` }] }, [/gone\.img is not there/, /404/]],
    ['a kernel that is not public', bad('bad/secret.bin', 403), [/secret\.bin could not be loaded/, /403/]],
    ['a server in trouble', bad('bad/busy.bin', 503), [/busy\.bin could not be loaded/, /503/, /wait/i]],
    ['a transfer that is always cut', bad('images/hello/hello.elf', 'cut'), [/hello\.elf/, /still running|build or upload/]],
    ['not the file of the catalogue', { files: [{ ...good, sha256: '00'.repeat(32) }] }, [/not the file/, /SHA-256/]],
  ];
  for (const [name, config, says] of cases) {
    await t.test(name, async () => {
      await bootWith(visitor, { memoryMiB: 32, cpu: 'x86-64-v2', ...config });
      const text = await card(visitor);
      for (const pattern of says) assert.match(text, pattern);
      assert.equal(await visitor.state(), 'off');
    });
  }
  await visitor.screenshots('problem');
  await goodBoot(visitor);
  assert.equal(await visitor.problem(), '', 'the card outlived its boot');
});

test('a part of the page that is missing is named, and trying again works once it is there', async (t) => {
  const { url, faults } = await faulty(t);
  /** @type {[string, import('./faulty-server.mjs').Fault, RegExp][]} */
  const parts = [
    ['/worker.js', 404, /worker could not be loaded[^]*worker\.js/],
    ['/download.js', 404, /worker could not be loaded[^]*a module it needs/],
    ['/pkg/tabvisor_web.js', 404, /engine of the machine is not there[^]*tabvisor_web\.js/],
    ['/pkg/tabvisor_web_bg.wasm', 404, /engine of the machine is not there[^]*tabvisor_web_bg\.wasm[^]*404/],
    ['/pkg/tabvisor_web_bg.wasm', Buffer.from('not wasm at all'), /engine of the machine did not start/],
    ['/pkg/hello.elf', 404, /hello\.elf is not there/],
  ];
  for (const [path, fault, says] of parts) {
    await t.test(path, async (t) => {
      faults.set(path, fault);
      const visitor = await visit(t, { at: url, path: '#boot=hello' });
      await visitor.machine.waitFor();
      assert.match(await card(visitor), says);
      assert.equal(await visitor.state(), 'off');
      faults.delete(path);
      await visitor.button('Try again').click();
      await visitor.waitForText(PROMPT);
    });
  }
  await t.test('the terminal', async (t) => {
    faults.set('/vendor/xterm.mjs', 404);
    const visitor = await visit(t, { at: url, path: '#boot=hello' });
    await visitor.machine.waitFor();
    assert.match(await card(visitor), /terminal could not be loaded[^]*xterm\.mjs/);
    faults.delete('/vendor/xterm.mjs');
  });
});

test('a browser without WebAssembly is told so', async (t) => {
  const visitor = await visit(t, { before: () => void Reflect.deleteProperty(globalThis, 'WebAssembly') });
  assert.equal(await visitor.page.evaluate(() => typeof WebAssembly), 'undefined');
  assert.ok(await visitor.offers('hello'));
  assert.match(await visitor.page.locator('#guests-note').innerText(), /cannot run WebAssembly[^]*Use a current/);
  await visitor.boot('hello');
  assert.match(await card(visitor), /cannot run WebAssembly[^]*Use a current/);
  assert.deepEqual(visitor.complaints, []);
});

test('memory that cannot be is refused where it is typed', async (t) => {
  const visitor = await visit(t);
  await visitor.offers('hello');
  const guest = await visitor.options('hello');
  for (const memory of ['0', '-5', '99999', '']) {
    await guest.getByLabel('Memory in MiB').fill(memory);
    await visitor.boot('hello');
    assert.ok(await guest.isVisible(), `a machine of ${memory} MiB was tried`);
  }
  await guest.getByLabel('Memory in MiB').fill('48');
  await visitor.boot('hello');
  await visitor.waitForText(PROMPT);
});

test('Linux with an initrd it cannot use says so, and the page repeats it', async (t) => {
  const { url, faults } = await faulty(t);
  const visitor = await visit(t, { at: url, path: '#machine=hello' });
  await visitor.machine.waitFor();
  const initrd = readFileSync(linux + linuxFile('initrd'));
  const gzip = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), randomBytes(1 << 16)]);
    /** @type {[string, Buffer, RegExp][]} */
  const cases = [
    // Linux's own LZ4 reader runs past the end.
    ['cut', initrd.subarray(0, 1 << 16), /kernel met an error[^]*initial RAM disk/],
    ['garbage', gzip, /panic[^]*initial RAM disk/],
  ];
  for (const [name, bytes, says] of cases) {
    await t.test(name, async () => {
      faults.set(`/bad/${name}`, bytes);
      await bootWith(visitor, {
        memoryMiB: 256,
        cmdline: manifest.cmdline,
        files: [
          { role: 'kernel', name: 'vmlinux', url: `${url}images/linux64/${linuxFile('kernel')}` },
          { role: 'initrd', name, url: `${url}bad/${name}` },
        ],
      });
      const alert = visitor.machine.getByRole('alert');
      await alert.waitFor({ timeout: 120_000 });
      assert.match(await card(visitor), says);
    });
  }
  await visitor.screenshots('panic');
  await goodBoot(visitor);
});
