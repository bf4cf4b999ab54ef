// Pillow's antialiased BILINEAR resize: a triangle as wide as the reduction, weights in fixed point, the
// horizontal pass first, each pass rounded to 8 bits. A canvas scales otherwise, and a student of 32 px
// would see other pixels than it learnt from. Knows nothing of canvases, files or students.
//
// Bit for bit Pillow's, but for images that shrink much more in height than in width: there Pillow 13 takes
// the vertical pass first, and a value may be 1 of 255 off.

const PRECISION = 22; // bits after the point of a weight, as in Pillow's Resample.c

/** Which pixels of a line of `from` make each of `to`: [{first, weights}], as Pillow's precompute_coeffs. */
export function steps(from, to) {
  const scale = from / to;
  const support = Math.max(1, scale);
  return Array.from({ length: to }, (_, at) => {
    const center = (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(from, Math.trunc(center + support + 0.5));
    const raw = Array.from({ length: end - first }, (_, i) =>
      Math.max(0, 1 - Math.abs((first + i - center + 0.5) / support)),
    );
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    const weights = Int32Array.from(raw, (weight) => Math.trunc(0.5 + (weight / total) * 2 ** PRECISION));
    return { first, weights };
  });
}

/** Lines of `width` pixels to lines of `across.length`: (rows, width, channels) -> (rows, W, channels). */
export function horizontal(pixels, width, channels, across) {
  const rows = pixels.length / (width * channels);
  const made = new Uint8Array(rows * across.length * channels);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (const { first, weights } of across) {
      const start = (row * width + first) * channels;
      for (let channel = 0; channel < channels; channel++) {
        made[at++] = weighted(pixels, start + channel, channels, weights);
      }
    }
  }
  return made;
}

/** (height, line) -> (H, line), `line` values a row whatever they are. */
export function vertical(pixels, line, down) {
  const made = new Uint8Array(down.length * line);
  let at = 0;
  for (const { first, weights } of down) {
    for (let i = 0; i < line; i++) made[at++] = weighted(pixels, first * line + i, line, weights);
  }
  return made;
}

/** The weighted mean of every `stride`th value from `start` on, rounded to 0..255. */
function weighted(pixels, start, stride, weights) {
  let sum = 1 << (PRECISION - 1);
  for (let i = 0; i < weights.length; i++) sum += pixels[start + i * stride] * weights[i];
  return Math.min(255, sum >> PRECISION);
}

/** A whole number, halves to the even one, as Python's round. */
function rounded(value) {
  const up = Math.floor(value + 0.5);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}

/** [height, width] of a picture inside `to`: all of it, or as much as its aspect leaves. */
export function inside([height, width], [toHeight, toWidth], keepAspect) {
  if (!keepAspect) return [toHeight, toWidth];
  if (width * toHeight >= height * toWidth) return [Math.max(1, rounded((toWidth * height) / width)), toWidth];
  return [toHeight, Math.max(1, rounded((toHeight * width) / height))];
}

/** (height, width, channels) bytes in the middle of black ones, (toHeight, toWidth, channels). */
export function padded(pixels, [height, width, channels], [toHeight, toWidth]) {
  if (height === toHeight && width === toWidth) return pixels;
  const made = new Uint8Array(toHeight * toWidth * channels);
  const [top, left] = [(toHeight - height) >> 1, (toWidth - width) >> 1];
  for (let row = 0; row < height; row++) {
    const line = pixels.subarray(row * width * channels, (row + 1) * width * channels);
    made.set(line, ((top + row) * toWidth + left) * channels);
  }
  return made;
}

/** (height, width, channels) bytes to (toHeight, toWidth, channels). */
export function resize(pixels, [height, width, channels], [toHeight, toWidth]) {
  const narrow = horizontal(pixels, width, channels, steps(width, toWidth));
  return vertical(narrow, toWidth * channels, steps(height, toHeight));
}
