// Small line icons, drawn on a 16 by 16 grid in the current text colour.

const SVG = 'http://www.w3.org/2000/svg';

/** Paths; those in `SOLID` are filled, the rest are stroked. */
const PATHS = Object.freeze({
  boot: 'M4.5 2.8v10.4l8.5-5.2z',
  pause: 'M5.2 3v10M10.8 3v10',
  reset: 'M12.9 9.2A5 5 0 1 1 11.8 4.6L13.2 6M13.2 2.6V6H9.8',
  power: 'M8 1.8v6M4.6 4.2a5 5 0 1 0 6.8 0',
  full: 'M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10',
  back: 'M9.5 3 4.5 8l5 5',
  copy: 'M5.5 5.5h7.5v7.5H5.5zM10.5 5.5V3H3v7.5h2.5',
  check: 'M3 8.5 6.5 12 13 4.5',
  running: 'M8 3.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z',
  idle: 'M8 3.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9zM8 6.5a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3z',
  paused: 'M5.5 3.5v9M10.5 3.5v9',
  off: 'M3.5 8h9',
  crashed: 'M8 2.5 14 13H2z',
  loading: 'M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10',
});

const SOLID = new Set(['boot', 'running', 'crashed']);

/** @typedef {keyof typeof PATHS} IconName */

/** @param {IconName} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  if (SOLID.has(name)) path.setAttribute('class', 'solid');
  svg.append(path);
  return svg;
}

/**
 * A line of recent values, newest at the right.
 * @param {number} capacity how many values fill the width
 */
export function sparkline(capacity) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'spark');
  svg.setAttribute('viewBox', '0 0 100 28');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  const area = document.createElementNS(SVG, 'path');
  area.setAttribute('class', 'area');
  const line = document.createElementNS(SVG, 'path');
  line.setAttribute('class', 'line');
  svg.append(area, line);
  return {
    element: svg,
    /** @param {readonly number[]} values */
    draw(values) {
      const top = Math.max(1, ...values);
      const step = 100 / (capacity - 1);
      const from = 100 - (values.length - 1) * step;
      const points = values.map((v, i) => `${(from + i * step).toFixed(2)} ${(27 - (v / top) * 25).toFixed(2)}`);
      line.setAttribute('d', points.length > 1 ? `M${points.join('L')}` : '');
      area.setAttribute('d', points.length > 1 ? `M${from.toFixed(2)} 28L${points.join('L')}L100 28Z` : '');
    },
  };
}
