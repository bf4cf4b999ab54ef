// What a file is before any decoder meets it: a whole PNG or JPEG of bearable size, or a reason why not.
// Browsers draw the part of a damaged file that they can; a class of half an image must not be shown.

export const MAX_BYTES = 64 * 2 ** 20;
export const MAX_PIXELS = 64e6;
export const MAX_SIDE = 16384; // the widest canvas that every browser reads back

/** A file or an image that cannot be used. Its message is one line for the visitor. */
export class Unusable extends Error {}

/** {type, deep} of a file's bytes: its MIME type, and whether it is grey in 16 bits. Throws `Unusable` for what
 * is not a whole PNG or JPEG of one image of bearable size. */
export function inspect(bytes) {
  const [type, read] = kind(bytes);
  const { width, height, deep } = read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes);
  if (!width || !height) throw new Unusable("has no pixels");
  if (width * height > MAX_PIXELS || Math.max(width, height) > MAX_SIDE) {
    const most = `at most ${MAX_PIXELS / 1e6} million, and ${MAX_SIDE} a side, are read`;
    throw new Unusable(`has ${width} × ${height} pixels; ${most}`);
  }
  return { type, deep: Boolean(deep) };
}

function kind(bytes) {
  const starts = (at, ...expected) => expected.every((byte, i) => bytes[at + i] === byte);
  if (!bytes.length) throw new Unusable("is empty");
  if (starts(0, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return ["image/png", png];
  if (starts(0, 0xff, 0xd8, 0xff)) return ["image/jpeg", jpeg];
  if (starts(128, 0x44, 0x49, 0x43, 0x4d)) throw new Unusable("is a DICOM file; export it as PNG or JPEG");
  throw new Unusable("is not a PNG or JPEG image");
}

const cut = () => new Unusable("is cut short");

/** Width and height of a PNG with every chunk there and undamaged (RFC 2083). */
function png(view, bytes) {
  let at = 8;
  let size = null;
  for (let type = ""; type !== "IEND"; ) {
    if (at + 12 > bytes.length) throw cut();
    const length = view.getUint32(at);
    const end = at + 8 + length;
    if (end + 4 > bytes.length) throw cut();
    type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (view.getUint32(end) !== crc(bytes.subarray(at + 4, end))) throw new Unusable("is damaged");
    if (!size) {
      if (type !== "IHDR" || length !== 13) throw new Unusable("is damaged");
      const deep = bytes[at + 16] === 16 && bytes[at + 17] === 0; // bits, and colour type: grey
      size = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), deep };
    }
    if (type === "acTL" && length >= 4 && view.getUint32(at + 8) > 1) throw new Unusable("holds several images");
    at = end + 4;
  }
  return size;
}

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc(bytes) {
  let sum = -1;
  for (const byte of bytes) sum = (sum >>> 8) ^ TABLE[(sum ^ byte) & 255];
  return ~sum >>> 0;
}

/** Width and height of a JPEG with an end-of-image marker after its pixels (ITU T.81, annex B). */
function jpeg(view, bytes) {
  let size = null;
  for (let at = 2; ; ) {
    if (at + 4 > bytes.length) throw cut();
    if (bytes[at] !== 0xff) throw new Unusable("is damaged");
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++; // fill bytes
      continue;
    }
    const length = view.getUint16(at + 2);
    if (length < 2) throw new Unusable("is damaged");
    if (at + 2 + length > bytes.length) throw cut();
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame && length >= 8) size = { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    at += 2 + length;
    if (marker !== 0xda) continue;
    if (!size) throw new Unusable("is damaged");
    if (!ends(bytes, at)) throw cut();
    return size;
  }
}

function ends(bytes, from) {
  for (let at = bytes.lastIndexOf(0xd9); at > from; at = bytes.lastIndexOf(0xd9, at - 1)) {
    if (bytes[at - 1] === 0xff) return true;
  }
  return false;
}
