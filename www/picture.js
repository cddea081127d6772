// How pictures leave a machine's worker, and how keys and the pointer enter it. The other side is web/src/screen.rs.

/** Kinds of events; each is three numbers. */
export const PLAY = Object.freeze({
  /** The key's code (Linux's), is it pressed. */
  key: 0,
  /** A place in the picture, from 0 to 65535, from the left and from above. */
  position: 1,
  /** 0 left, 1 right, 2 middle, 3 side, 4 extra; is it pressed. */
  button: 2,
  /** Steps of the wheel away from the user. */
  wheel: 3,
});

/** Bytes in front of a portion, and of each rectangle in it. */
const HEAD = 8;

/**
 * @typedef {object} Portion
 * @property {number} width of the whole picture; 0: there is none
 * @property {number} height
 * @property {{x: number, y: number, image: ImageData}[]} parts that have changed
 */

/** @param {Uint8Array} bytes @returns {boolean} whether the machine has more to show than this portion */
export function hasMore(bytes) {
  return bytes[4] !== 0;
}

/** @param {Uint8Array} bytes a portion, whose memory the images share @returns {Portion} */
export function portion(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (/** @type {number} */ at) => view.getUint16(at, true);
  const parts = [];
  for (let at = HEAD; at + HEAD <= bytes.length; ) {
    const [x, y, width, height] = [word(at), word(at + 2), word(at + 4), word(at + 6)];
    at += HEAD;
    const length = width * height * 4;
    const pixels = new Uint8ClampedArray(/** @type {ArrayBuffer} */ (bytes.buffer), bytes.byteOffset + at, length);
    parts.push({ x, y, image: new ImageData(pixels, width, height) });
    at += length;
  }
  return { width: word(0), height: word(2), parts };
}
