// A tile: the island takes over the picture and the two lines under it that change with the step; title and meaning stay
// Rust's.
import { type Chosen, type PageData, type Tile, shown } from "../data";
import { type Store, useStore } from "../store";
import { Painted, type Palette } from "./painted";

interface Props {
  readonly page: PageData;
  readonly tile: Tile;
  readonly store: Store<Chosen>;
  readonly palette: Palette;
}

export function TilePicture({ page, tile, store, palette }: Props) {
  const chosen = useStore(store);
  const { picture, map } = shown(page, tile, chosen);
  return (
    <Painted
      label={tile.title}
      address={picture}
      map={map}
      palette={palette}
      opacity={chosen.strength / 100}
      side={page.sides.tile}
    />
  );
}

export function TileWords({ page, tile, store }: Omit<Props, "palette">) {
  const { reading, trust } = shown(page, tile, useStore(store));
  return (
    <>
      {reading !== "" && <span class="reading">{reading}</span>}
      {trust !== "" && <span class="trusted">{trust}</span>}
    </>
  );
}
