// The slider over the steps, with a button that plays them.
import { useEffect } from "preact/hooks";
import { type Chosen, type PageData, inRange } from "../data";
import { type Store, useStore } from "../store";

/** Time that a step is shown while playing, in milliseconds. */
const PACE = 400;

interface Props {
  readonly page: PageData;
  readonly store: Store<Chosen>;
}

export function Scrubber({ page, store }: Props) {
  const { step, isPlaying } = useStore(store);
  const count = page.steps.length;
  useEffect(() => {
    if (!isPlaying) return;
    const timer = setInterval(() => store.update({ step: (store.value.step + 1) % Math.max(count, 1) }), PACE);
    return () => clearInterval(timer);
  }, [isPlaying, store, count]);
  const where = page.steps[step]?.where ?? "";
  return (
    <>
      <button type="button" onClick={() => store.update({ isPlaying: !isPlaying })}>
        {isPlaying ? "Pause" : "Play"}
      </button>
      <input
        type="range"
        min={0}
        max={Math.max(0, count - 1)}
        value={step}
        aria-label="Step"
        aria-valuetext={where}
        onInput={(event) => store.update({ step: inRange(page, Number(event.currentTarget.value)) })}
      />
      <output>{where}</output>
    </>
  );
}
