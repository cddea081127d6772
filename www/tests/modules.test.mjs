// node --test www/tests
// The head of index.html asks for all modules of the page at once; here is what they really import.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

const read = (/** @type {string} */ name) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');

/** @param {string} name @param {Set<string>} found @returns {Set<string>} names without ".js" */
function imports(name, found = new Set()) {
  for (const [, other] of read(`${name}.js`).matchAll(/^(?:import|export)\b[^'\n]*'\.\/([\w-]+)\.js';$/gm)) {
    if (!found.has(other)) imports(other, found.add(other));
  }
  return found;
}

test('index.html asks for exactly the modules that main.js needs', () => {
  const [, list] = read('index.html').match(/const modules =\s*'([^']+)'/) ?? [];
  assert.deepEqual(list?.split(' '), [...imports('main')].sort());
});
