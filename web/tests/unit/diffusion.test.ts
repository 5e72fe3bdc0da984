// What a tile shows for a choice, and how charts and steps belong together.
import { describe, expect, it, vi } from "vitest";
import { type PageData, NOTHING, inRange, nearest, opening, shown } from "../../src/diffusion/data";
import { placeOf, stepAt } from "../../src/diffusion/linked";
import { Store } from "../../src/diffusion/store";

const map = (d: string) => ({ w: 1, h: 1, d });
const step = (name: string) => ({
  where: name,
  clean: `${name}-clean`,
  noisy: `${name}-noisy`,
  maps: { words: { reading: "", maps: ["0/0", "0/1", "1/0"].map((d) => map(`${name} ${d}`)) } },
});
const page: PageData = {
  colormap: "",
  veil: { colour: [0, 0, 0], opacity: 0.5 },
  sides: { tile: 256, grid: 128 },
  strength: 75,
  axis: [44, 508],
  start: 1,
  choices: [
    { id: "word", label: "Word", options: ["a", "cat"], value: 1 },
    { id: "layer", label: "Layer", options: ["mean", "first"], value: 0 },
  ],
  tiles: [
    { id: "noisy", title: "", picture: "noisy", by: [], captions: [] },
    {
      id: "words",
      title: "",
      picture: "clean",
      by: ["layer", "word"],
      captions: ["mean a", "mean cat", "first a", "first cat"].map((reading) => ({ reading, trust: `${reading}?` })),
    },
  ],
  grid: { choice: "word", tile: "words" },
  steps: [step("one"), step("two"), step("three")],
};
const [noisy, words] = page.tiles as [PageData["tiles"][0], PageData["tiles"][0]];

describe("a tile", () => {
  it("opens with the page's step and choices", () => {
    expect(shown(page, words, opening(page))).toEqual({
      picture: "two-clean",
      map: map("two 0/1"),
      reading: "mean cat",
      trust: "mean cat?",
    });
  });

  it("follows its choices, the last fastest", () => {
    const chosen = { step: 2, options: { layer: 1, word: 0 } };
    expect(shown(page, words, chosen).map).toEqual(map("three 1/0"));
    expect(shown(page, words, chosen).reading).toBe("first a");
  });

  it("says that there is nothing to show where a map is missing, and shows the picture alone where it has none", () => {
    expect(shown(page, words, { step: 0, options: { layer: 1, word: 1 } }).map).toEqual(NOTHING);
    expect(shown(page, noisy, { step: 0, options: {} })).toMatchObject({ picture: "one-noisy", map: null });
  });
});

it("steps stay in range", () => {
  expect([inRange(page, -1), inRange(page, 1), inRange(page, 9)]).toEqual([0, 1, 2]);
});

it("a place in a chart is a step, and back", () => {
  for (const at of [0, 1, 2]) expect(stepAt(page, placeOf(page, at))).toBe(at);
  expect([stepAt(page, 0), stepAt(page, 270), stepAt(page, 520)]).toEqual([0, 1, 2]);
});

it("of measured steps the nearest is shown, of two the earlier", () => {
  expect([nearest([2, 6], 0), nearest([2, 6], 4), nearest([2, 6], 5), nearest([], 3)]).toEqual([0, 0, 1, -1]);
});

it("a store tells its listeners at once and after each change, until they leave", () => {
  const store = new Store({ step: 0, strength: 1 });
  const listener = vi.fn();
  const leave = store.subscribe(listener);
  store.update({ step: 3 });
  leave();
  store.update({ step: 4 });
  expect(listener.mock.calls).toEqual([[{ step: 0, strength: 1 }], [{ step: 3, strength: 1 }]]);
});
