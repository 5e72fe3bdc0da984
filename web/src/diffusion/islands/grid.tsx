// Every option of a choice side by side, each with its own map; pressing one chooses it.
import { type Chosen, type PageData, shown } from "../data";
import { type Store, useStore } from "../store";
import { Painted, type Palette } from "./painted";

interface Props {
  readonly page: PageData;
  readonly store: Store<Chosen>;
  readonly palette: Palette;
}

export function Grid({ page, store, palette }: Props) {
  const chosen = useStore(store);
  const choice = page.choices.find(({ id }) => id === page.grid?.choice);
  const tile = page.tiles.find(({ id }) => id === page.grid?.tile);
  if (!choice || !tile) return null;
  return (
    <>
      {choice.options.map((option, place) => {
        const options = { ...chosen.options, [choice.id]: place };
        const { picture, map } = shown(page, tile, { step: chosen.step, options });
        return (
          <button
            key={place}
            type="button"
            aria-pressed={chosen.options[choice.id] === place}
            onClick={() => store.update({ options })}
          >
            <Painted
              label={option}
              address={picture}
              map={map}
              palette={palette}
              opacity={chosen.strength / 100}
              side={page.sides.grid}
            />
            <bdi>{option}</bdi>
          </button>
        );
      })}
    </>
  );
}
