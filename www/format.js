// Numbers with units, short enough for a status line and stable in width.

/** @param {number} bytes @returns {string} decimal units, as networks and disks count */
export function bytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(bytes < 1e5 ? 1 : 0)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

/** @param {number} mib @returns {string} */
export function mebibytes(mib) {
  return mib >= 1024 && mib % 512 === 0 ? `${mib / 1024} GiB` : `${mib} MiB`;
}

/** @param {number} ms @returns {string} for durations a person waits for: `0.42 s`, `12.3 s`, `2 m 05 s` */
export function duration(ms) {
  const s = ms / 1000;
  if (s < 1) return `${s.toFixed(2)} s`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, '0')} s`;
}

/** @param {number} ms @returns {string} a clock: `0:07.3`, `1:02:09.0` */
export function clock(ms) {
  const tenths = Math.floor(ms / 100);
  const s = Math.floor(tenths / 10);
  const mm = Math.floor(s / 60) % 60;
  const h = Math.floor(s / 3600);
  const tail = `${String(s % 60).padStart(2, '0')}.${tenths % 10}`;
  return h > 0 ? `${h}:${String(mm).padStart(2, '0')}:${tail}` : `${mm}:${tail}`;
}

/** @param {number} n @returns {string} a count: `812`, `4.21 M`, `18.4 G` */
export function count(n) {
  if (n < 1e4) return String(Math.round(n));
  if (n < 1e6) return `${(n / 1e3).toFixed(1)} k`;
  if (n < 1e9) return `${(n / 1e6).toFixed(n < 1e7 ? 2 : 1)} M`;
  if (n < 1e12) return `${(n / 1e9).toFixed(n < 1e10 ? 2 : 1)} G`;
  return `${(n / 1e12).toFixed(2)} T`;
}

/** @param {number} part @param {number} whole @returns {string} `97.3 %` */
export function share(part, whole) {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '–';
}

/** @param {number} mips @returns {string} */
export function mips(mips) {
  if (mips < 0.05) return '0';
  return mips < 10 ? mips.toFixed(1) : String(Math.round(mips));
}

/** @param {number} then epoch milliseconds @param {number} now @returns {string} `today`, `yesterday`, `12 days ago` */
export function ago(then, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (then >= midnight) return 'today';
  const days = Math.ceil((midnight - then) / 86_400_000);
  return days === 1 ? 'yesterday' : `${days} days ago`;
}
