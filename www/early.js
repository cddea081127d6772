// Runs before the page is there: an address that names a machine will need the engine, so it is compiled while the
// rest of the page loads.

import { warm } from './vm.js';

if (location.hash.includes('=')) warm();
