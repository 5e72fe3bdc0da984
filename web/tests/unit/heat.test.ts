// The page draws a map as the command does, to the byte: the pictures in heat.json were drawn by `pellucid_saliency::render`.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type MapData, bytes, colourTable, enlarge, enlargement, paint, veil } from "../../src/shared/heat";

interface Case {
  readonly map: MapData;
  readonly width: number;
  readonly height: number;
  readonly opacity: number;
  readonly under: string;
  readonly shown: string;
}

const fixture = new URL("../../../crates/pellucid-report/tests/heat.json", import.meta.url);
const { colormap, cases } = JSON.parse(readFileSync(fixture, "utf8")) as { colormap: string; cases: Case[] };

/** RGB to RGBA and back. */
const opaque = (rgb: Uint8Array) =>
  Uint8ClampedArray.from({ length: (rgb.length / 3) * 4 }, (_, i) => (i % 4 === 3 ? 255 : (rgb[(i >> 2) * 3 + (i % 4)] ?? 0)));
const colours = (rgba: Uint8ClampedArray) => Uint8Array.from(rgba.filter((_, i) => i % 4 !== 3));

describe("a heat map", () => {
  it.each(cases)("of $map.h × $map.w on $height × $width at $opacity equals Rust's to the byte", (drawn) => {
    const pixels = opaque(bytes(drawn.under));
    paint(pixels, [drawn.width, drawn.height], drawn.map, colourTable(colormap), drawn.opacity);
    expect(colours(pixels)).toEqual(bytes(drawn.shown));
  });

  it("keeps its levels where it has the picture's size, and only mixes neighbours elsewhere", () => {
    const levels = Uint8Array.of(0, 50, 100, 255);
    expect(enlarge(levels, 2, 2, 2, 2)).toEqual(levels);
    expect([...enlarge(Uint8Array.of(0, 200), 2, 1, 4, 1)]).toEqual([0, 50, 150, 200]);
  });
});

it("a colour map that is not one is refused", () => {
  expect(() => colourTable("AAAA")).toThrow("768 bytes, this one 3");
});

it("a veil lies evenly over the picture", () => {
  const pixels = Uint8ClampedArray.of(0, 100, 200, 255, 255, 255, 255, 255);
  veil(pixels, [100, 100, 100], 0.5);
  expect([...pixels]).toEqual([50, 100, 150, 255, 178, 178, 178, 255]);
});

it("pictures are enlarged by whole numbers, and never made smaller", () => {
  expect([enlargement(64, 64, 256), enlargement(100, 30, 256), enlargement(512, 512, 256)]).toEqual([4, 2, 1]);
});
