// The data of the diffusion page, as crates/pellucid-report/src/diffusion/data.rs writes them, and what they say is shown
// for a choice. Nothing here knows an explainer by name: a tile says which pictures and maps are its own.
import type { Colour, MapData } from "../shared/heat";

export interface PageData {
  /** Colours of the 256 levels: 768 bytes in base64. */
  readonly colormap: string;
  /** What is laid over the picture where a map has nothing to show. */
  readonly veil: { readonly colour: Colour; readonly opacity: number };
  /** Longer side that tiles, and pictures in the grid, are brought near. */
  readonly sides: { readonly tile: number; readonly grid: number };
  /** How strongly maps cover the picture at first, in percent. */
  readonly strength: number;
  /** Left and right end of the charts' axis, in units of their view box. */
  readonly axis: readonly [number, number];
  /** The step that is shown first. */
  readonly start: number;
  readonly choices: readonly Choice[];
  readonly tiles: readonly Tile[];
  /** The choice that is also shown with all its options side by side, and the tile that each is shown in. */
  readonly grid: { readonly choice: string; readonly tile: string } | null;
  readonly steps: readonly Step[];
}

/** A list to choose from. */
export interface Choice {
  readonly id: string;
  readonly label: string;
  readonly options: readonly string[];
  /** Place of the option that is chosen first. */
  readonly value: number;
}

export interface Tile {
  readonly id: string;
  readonly title: string;
  /** The picture that the tile shows, or that its map lies on. */
  readonly picture: "clean" | "noisy";
  /** Choices that its maps depend on; the last varies fastest in lists of maps and captions. */
  readonly by: readonly string[];
  /** What is said under the picture whatever the step, one for each combination of the choices. */
  readonly captions: readonly Caption[];
}

export interface Caption {
  readonly reading: string;
  readonly trust: string;
}

export interface Step {
  /** The step in words. */
  readonly where: string;
  readonly clean: string;
  readonly noisy: string;
  /** By tile; a tile without an entry shows its picture alone. */
  readonly maps: Readonly<Record<string, StepMaps>>;
}

export interface StepMaps {
  /** What is said of this step. */
  readonly reading: string;
  /** One for each combination of the tile's choices. */
  readonly maps: readonly MapData[];
}

/** What the reader chose. */
export interface Chosen {
  readonly step: number;
  /** Place of the chosen option, by choice. */
  readonly options: Readonly<Record<string, number>>;
  /** In percent. */
  readonly strength: number;
  readonly isPlaying: boolean;
}

/** What a tile shows. */
export interface Shown {
  /** Address of the picture. */
  readonly picture: string;
  /** The map on it; `null` where the tile has no maps, one without columns where there is nothing to show. */
  readonly map: MapData | null;
  readonly reading: string;
  readonly trust: string;
}

export const NOTHING: MapData = { w: 0, h: 0, d: "" };

/** The choice that the page opens with. */
export function opening(page: PageData): Chosen {
  const options = Object.fromEntries(page.choices.map(({ id, value }) => [id, value]));
  return { step: page.start, options, strength: page.strength, isPlaying: false };
}

/** `step` brought into the range of the page's steps. */
export function inRange(page: PageData, step: number): number {
  return Math.max(0, Math.min(page.steps.length - 1, step));
}

/** Place of the chosen combination in a tile's lists. */
export function combination(page: PageData, tile: Tile, options: Chosen["options"]): number {
  return tile.by.reduce((place, id) => {
    const count = page.choices.find((choice) => choice.id === id)?.options.length ?? 1;
    return place * count + (options[id] ?? 0);
  }, 0);
}

/** What `tile` shows. */
export function shown(page: PageData, tile: Tile, { step, options }: Pick<Chosen, "step" | "options">): Shown {
  const at = page.steps[step];
  const place = combination(page, tile, options);
  const caption = tile.captions[place];
  const own = at?.maps[tile.id];
  return {
    picture: at?.[tile.picture] ?? "",
    map: own ? (own.maps[place] ?? NOTHING) : null,
    reading: own?.reading || caption?.reading || "",
    trust: caption?.trust ?? "",
  };
}

/** Place in `measured` (numbers of steps) of the one nearest to `step`; the earlier of two, -1 where there is none. */
export function nearest(measured: readonly number[], step: number): number {
  return measured.reduce((best, at, place) => {
    const known = measured[best];
    return known === undefined || Math.abs(at - step) < Math.abs(known - step) ? place : best;
  }, -1);
}
