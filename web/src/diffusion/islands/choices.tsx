// What the maps are of (word, layer, block, …), and how strongly they cover the picture.
import type { Chosen, PageData } from "../data";
import { type Store, useStore } from "../store";

interface Props {
  readonly page: PageData;
  readonly store: Store<Chosen>;
}

export function Choices({ page, store }: Props) {
  const { options, strength } = useStore(store);
  return (
    <>
      {page.choices.map((choice) => (
        <label key={choice.id}>
          {choice.label}
          <select
            value={options[choice.id] ?? 0}
            onInput={({ currentTarget }) =>
              store.update({ options: { ...options, [choice.id]: Number(currentTarget.value) } })
            }
          >
            {choice.options.map((option, place) => (
              <option key={place} value={place}>
                {option}
              </option>
            ))}
          </select>
        </label>
      ))}
      <label>
        Strength
        <input
          type="range"
          min={0}
          max={100}
          value={strength}
          onInput={({ currentTarget }) => store.update({ strength: Number(currentTarget.value) })}
        />
      </label>
    </>
  );
}
