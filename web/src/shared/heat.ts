// Heat maps drawn as `pellucid-saliency` draws them, to the byte: the same table of colours (it comes with the page),
// the same interpolation, and arithmetic in float32 in the same order. `tests/unit/heat.test.ts` holds this to pictures
// that Rust drew.

/** A map as the page carries it: one byte a place, row by row, in base64; no columns where there is nothing to show. */
export interface MapData {
  readonly w: number;
  readonly h: number;
  readonly d: string;
}

/** A colour, three numbers in 0…255. */
export type Colour = readonly [red: number, green: number, blue: number];

const f32 = Math.fround;

/** The bytes of a base64 text. */
export function bytes(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** The colours of the 256 levels, from the page's `colormap`: 768 bytes in base64. */
export function colourTable(colormap: string): Uint8Array {
  const table = bytes(colormap);
  if (table.length !== 768) throw new Error(`a colour map has 768 bytes, this one ${table.length}`);
  return table;
}

/** Two neighbouring samples of `from` and how far place `target` of `to` is towards the second; samples are centres. */
function blend(target: number, from: number, to: number): [low: number, high: number, fraction: number] {
  const place = Math.max(((target + 0.5) * from) / to - 0.5, 0);
  const low = Math.min(Math.floor(place), from - 1);
  return [low, Math.min(low + 1, from - 1), f32(place - low)];
}

function mix(first: number, second: number, fraction: number): number {
  return f32(f32(first * f32(1 - fraction)) + f32(second * fraction));
}

/** The level (0…255) of every pixel of a `width` × `height` picture under a map of `w` × `h` levels. */
export function enlarge(levels: Uint8Array, w: number, h: number, width: number, height: number): Uint8Array {
  const values = Float32Array.from(levels, (level) => level / 255);
  const at = (y: number, x: number) => values[y * w + x] ?? 0;
  const columns = Array.from({ length: width }, (_, x) => blend(x, w, width));
  const drawn = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, bottom, down] = blend(y, h, height);
    columns.forEach(([left, right, across], x) => {
      const upper = mix(at(top, left), at(top, right), across);
      const lower = mix(at(bottom, left), at(bottom, right), across);
      drawn[y * width + x] = Math.round(f32(mix(upper, lower, down) * 255));
    });
  }
  return drawn;
}

/** One channel of a pixel with `opacity` (0…1) of a tint over it. */
function tinted(under: number, tint: number, opacity: number): number {
  return Math.round(f32(f32(under * f32(1 - opacity)) + f32(tint * opacity)));
}

/** Lays the colours of a map over `pixels` (RGBA, `width` × `height`), in place. */
export function paint(
  pixels: Uint8ClampedArray,
  [width, height]: readonly [number, number],
  map: MapData,
  table: Uint8Array,
  opacity: number,
): void {
  const share = f32(opacity);
  enlarge(bytes(map.d), map.w, map.h, width, height).forEach((level, pixel) => {
    for (let channel = 0; channel < 3; channel++) {
      const place = 4 * pixel + channel;
      pixels[place] = tinted(pixels[place] ?? 0, table[3 * level + channel] ?? 0, share);
    }
  });
}

/** Lays one colour over `pixels`, in place: what stands for a map that there is not. */
export function veil(pixels: Uint8ClampedArray, colour: Colour, opacity: number): void {
  const share = f32(opacity);
  for (let place = 0; place < pixels.length; place += 4) {
    colour.forEach((tint, channel) => {
      pixels[place + channel] = tinted(pixels[place + channel] ?? 0, tint, share);
    });
  }
}

/** How many times a picture is enlarged, in whole steps, so that its longer side comes near `side`. */
export function enlargement(width: number, height: number, side: number): number {
  return Math.max(1, Math.floor(side / Math.max(width, height, 1)));
}
