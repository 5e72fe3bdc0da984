// Heat maps: one choice for the whole page. The layers are Rust's, coloured there; this shows, hides and fades them.
import { all } from "../shared/elements";

export function startHeat(): void {
  const root = document.documentElement;
  const buttons = all<HTMLButtonElement>("button[data-heat]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const mode = button.dataset["heat"] ?? "heat";
      root.dataset["heat"] = mode;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset["heat"] === mode));
    });
  }
  const sliders = all<HTMLInputElement>("[data-strength]");
  for (const slider of sliders) {
    slider.addEventListener("input", () => {
      root.style.setProperty("--strength", String(Number(slider.value) / 100));
      for (const other of sliders) other.value = slider.value;
    });
  }
}
