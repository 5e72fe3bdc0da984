// What Rust drew and follows the step: the film, the lines in the charts, the curves of the nearest measured step. The film
// and the charts also choose it.
import { all } from "../shared/elements";
import { type Chosen, type PageData, inRange, nearest } from "./data";
import type { Store } from "./store";

/** The step under place `x` of a chart's view box. */
export function stepAt(page: PageData, x: number): number {
  const [left, right] = page.axis;
  return inRange(page, Math.round(((x - left) / (right - left)) * (page.steps.length - 1)));
}

/** Where a chart marks `step`, in its view box. */
export function placeOf(page: PageData, step: number): number {
  const [left, right] = page.axis;
  return left + ((right - left) * step) / Math.max(page.steps.length - 1, 1);
}

export function startFilm(store: Store<Chosen>): void {
  const frames = all(".film li");
  frames.forEach((frame, step) => frame.addEventListener("click", () => store.update({ step })));
  store.subscribe(({ step }) => {
    frames.forEach((frame, place) => {
      if (place === step) frame.setAttribute("aria-current", "step");
      else frame.removeAttribute("aria-current");
    });
  });
}

export function startCharts(page: PageData, store: Store<Chosen>): void {
  const cursors = all<SVGLineElement>(".cursor");
  for (const cursor of cursors) {
    const chart = cursor.ownerSVGElement;
    if (!chart) continue;
    const choose = ({ clientX, buttons }: PointerEvent) => {
      if (buttons !== 1) return;
      const { left, width } = chart.getBoundingClientRect();
      store.update({ step: stepAt(page, ((clientX - left) / width) * chart.viewBox.baseVal.width) });
    };
    chart.addEventListener("pointerdown", choose);
    chart.addEventListener("pointermove", choose);
  }
  store.subscribe(({ step }) => {
    const x = String(placeOf(page, step));
    for (const cursor of cursors) {
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
    }
  });
}

/** Of the steps where deletion and insertion were played, only the nearest is shown. */
export function startMeasured(store: Store<Chosen>): void {
  const panels = all("[data-measured]");
  const steps = panels.map((panel) => Number(panel.dataset["measured"]));
  store.subscribe(({ step }) => {
    const shown = nearest(steps, step);
    panels.forEach((panel, place) => {
      panel.hidden = place !== shown;
    });
  });
}

/** Arrow keys move the step wherever they mean nothing else. */
export function startKeys(page: PageData, store: Store<Chosen>): void {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target instanceof Element && event.target.closest("input, select, button, textarea")) return;
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (by !== 0) store.update({ step: inRange(page, store.value.step + by) });
  });
}
