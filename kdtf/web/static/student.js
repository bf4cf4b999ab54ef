// One student: its .tflite through LiteRT.js, its card, and what its probabilities mean.

import { loadAndCompile, loadLiteRt, Tensor } from "./litert/core.js";
import { painted, pixelsOf } from "./picture.js";
import { predictionSet } from "./sets.js";

const TOLERANCE = 0.02; // a probability on this device against the predictor's
const THUMBNAIL = 8; // a side
const sum = (values) => values.reduce((before, value) => before + value, 0);
const mean = (values) => sum(values) / values.length;

/** Start LiteRT.js: the build without relaxed SIMD, which leaves the last digits to the device. */
export async function start() {
  await loadLiteRt("litert/litert_wasm_compat_internal.js");
}

/** The student of an entry of students.json. Throws where this device does not give what the predictor gave. */
export async function load(facts) {
  const answer = await fetch(facts.file);
  if (!answer.ok) throw new Error(`${facts.file} is missing on the server`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const student = { ...facts, model: await loadAndCompile(bytes, { accelerator: "wasm" }) };
  student.difference = await check(student);
  if (!(student.difference <= TOLERANCE)) {
    throw new Error(
      `its probabilities on this device are ${student.difference.toFixed(2)} off; ` +
        "a browser that protects against fingerprinting changes the pixels a page reads",
    );
  }
  return student;
}

/** The largest difference from the predictor's probabilities on the picture of student.py. */
async function check(student) {
  const { width, height } = student.card.input;
  const picture = await painted(2 * width + 1, 3 * height + 1, (x, y, c) => ((3 * x + 5 * y) * (c + 1)) % 256);
  const probs = await probabilities(student, pixelsOf(picture, student.card.input));
  picture.close();
  return Math.max(...probs.map((p, k) => Math.abs(p - student.check[k])));
}

/** Pixels (height, width, channels), 0..255, to probabilities, as the predictor's. */
export async function probabilities(student, pixels) {
  const { height, width, channels } = student.card.input;
  const values = student.levels
    ? Uint8Array.from(pixels, (pixel) => student.levels[pixel])
    : Float32Array.from(pixels);
  const input = new Tensor(values, [1, height, width, channels]);
  try {
    const [output] = await student.model.run(input);
    const raw = [...output.toTypedArray()];
    output.delete();
    const { scale, zero } = student.output;
    const probs = scale ? raw.map((value) => (value - zero) * scale) : raw;
    const total = sum(probs);
    return probs.map((p) => p / (total > 0 ? total : 1)); // steps of 1/256 do not add up exactly
  } finally {
    input.delete();
  }
}

/** softmax(log p / t): kdtf's `tempered`. */
export function tempered(probs, t) {
  const z = probs.map((p) => Math.log(Math.min(1, Math.max(1e-7, p))) / t);
  const top = Math.max(...z);
  const powers = z.map((value) => Math.exp(value - top));
  const total = sum(powers);
  return powers.map((p) => p / total);
}

/** Of pixels (height, width, channels), 0..255: kdtf's `statistics`. */
function statistics(pixels, { height, width, channels }, patterns) {
  const [grey, colours] = [[], []];
  for (let at = 0; at < pixels.length; at += channels) {
    const own = pixels.subarray(at, at + channels);
    grey.push(mean(own));
    colours.push(Math.max(...own) - Math.min(...own));
  }
  const brightness = mean(grey);
  const contrast = Math.sqrt(mean(grey.map((level) => (level - brightness) ** 2)));
  const small = thumbnail(grey, height, width);
  const shares = patterns.map((pattern) => sum(pattern.map((value, i) => value * small[i])) ** 2);
  return { brightness, contrast, colour: mean(colours), layout: 100 * (1 - sum(shares)) };
}

/** Grey levels as 8 x 8 means, less their mean and of length 1: kdtf's `thumbnails`. */
function thumbnail(grey, height, width) {
  const edge = (i, side) => Math.floor((i * side) / THUMBNAIL);
  const span = (i, side) => [edge(i, side), Math.max(edge(i, side) + 1, edge(i + 1, side))];
  const values = Array.from({ length: THUMBNAIL ** 2 }, (_, i) => {
    const [[top, bottom], [left, right]] = [span(Math.floor(i / THUMBNAIL), height), span(i % THUMBNAIL, width)];
    const cell = [];
    for (let row = top; row < bottom; row++) cell.push(...grey.slice(row * width + left, row * width + right));
    return mean(cell);
  });
  const middle = mean(values);
  const length = Math.max(1e-6, Math.hypot(...values.map((value) => value - middle)));
  return values.map((value) => (value - middle) / length);
}

/** What is to be said of an image besides its class, in the predictor's words: [] where it is like the others. */
export function warnings({ card }, pixels, picture) {
  const { width, height } = card.input;
  const said = [];
  if (picture.width < width || picture.height < height) {
    said.push(`tiny: ${picture.width} x ${picture.height} px, enlarged to ${width} x ${height}`);
  }
  const [found, unlike] = [statistics(pixels, card.input, card.patterns), []];
  for (const [name, [low, high, least, most]] of Object.entries(card.usual)) {
    if (least <= found[name] && found[name] <= most) continue;
    const [value, from, to] = [found[name], low, high].map((level) => level.toFixed(0));
    unlike.push(`${name} ${value} (theirs ${from} to ${to})`);
  }
  if (unlike.length) said.push(`unlike the training images: ${unlike.join(", ")}`);
  return said;
}

/** {probs, top, threshold, uncertain, members} of pixels: the top class's calibrated probability under its threshold. */
export async function judge(student, pixels) {
  const probs = tempered(await probabilities(student, pixels), student.card.temperature);
  const top = probs.indexOf(Math.max(...probs));
  const threshold = student.card.thresholds[student.card.classes[top]] ?? null;
  const members = predictionSet(probs, student.card.sets);
  const tied = probs.filter((p) => p === probs[top]).length > 1;
  return { probs, top, threshold, uncertain: tied || (threshold !== null && probs[top] < threshold), tied, members };
}
