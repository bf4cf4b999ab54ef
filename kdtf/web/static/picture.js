// A file -> an upright picture -> the pixels a student takes, as kdtf's predictor reads them.

import { inspect, MAX_BYTES, Unusable } from "./formats.js";
import { horizontal, inside, padded, resize, steps, vertical } from "./resize.js";

const STRIP = 1 << 20; // pixels read at once: phones refuse a canvas of a whole large image
const AS_STORED = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };

/** The decoded picture of a file; `deep` where it was grey in 16 bits. Throws `Unusable`. The caller closes it. */
export async function decode(file) {
  if (file.size > MAX_BYTES) throw new Unusable(`is larger than ${MAX_BYTES / 2 ** 20} MB`);
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Unusable("cannot be read: it is a folder, or it was moved");
  }
  const { type, deep } = inspect(bytes);
  try {
    return Object.assign(await createImageBitmap(new Blob([bytes], { type }), AS_STORED), { deep });
  } catch {
    throw new Unusable("is damaged");
  }
}

/** A picture of known pixels, colour(x, y, channel), to check students with. */
export async function painted(width, height, colour) {
  const image = new ImageData(width, height);
  for (let i = 0; i < image.data.length; i++) {
    const pixel = i >> 2;
    image.data[i] = i % 4 === 3 ? 255 : colour(pixel % width, Math.trunc(pixel / width), i % 4);
  }
  return createImageBitmap(image, AS_STORED);
}

/**
 * A picture as (height, width, channels) bytes, transparent parts on black, `channels` 1 or 3. By way of a
 * square of `side` where the training images were prepared to one of another size than the student's.
 */
export function pixelsOf(picture, { height, width, channels, side, keepAspect }) {
  const last = [height, width];
  const first = side && (side !== height || side !== width) ? [side, side] : last;
  const box = inside([picture.height, picture.width], first, keepAspect);
  const made = padded(shrunk(picture, ...box, channels), [...box, channels], first);
  if (first === last) return made;
  const again = inside(first, last, keepAspect); // a square may end as an oblong
  return padded(resize(made, [...first, channels], again), [...again, channels], last);
}

function shrunk(picture, height, width, channels) {
  const rows = Math.max(1, Math.floor(STRIP / picture.width));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, Math.min(rows, picture.height)];
  // read in software and without alpha: neither a graphics driver nor premultiplication changes a value
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  const across = steps(picture.width, width);
  const narrow = new Uint8Array(picture.height * width * channels);
  for (let top = 0; top < picture.height; top += rows) {
    const count = Math.min(rows, picture.height - top);
    context.fillRect(0, 0, canvas.width, count);
    context.drawImage(picture, 0, -top);
    const rgba = context.getImageData(0, 0, canvas.width, count).data;
    const part = horizontal(flat(rgba, channels), picture.width, channels, across);
    narrow.set(part, top * width * channels);
  }
  return vertical(narrow, width * channels, steps(picture.height, height));
}

/** RGBA to RGB, or to grey by Pillow's weights (ITU-R 601-2). */
function flat(rgba, channels) {
  const made = new Uint8Array((rgba.length / 4) * channels);
  for (let from = 0, at = 0; from < rgba.length; from += 4) {
    if (channels === 1) {
      const grey = rgba[from] * 19595 + rgba[from + 1] * 38470 + rgba[from + 2] * 7471;
      made[at++] = (grey + 0x8000) >> 16;
    } else {
      for (let channel = 0; channel < 3; channel++) made[at++] = rgba[from + channel];
    }
  }
  return made;
}
