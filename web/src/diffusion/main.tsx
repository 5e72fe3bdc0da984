// The script of the diffusion page: one step is chosen, and every panel shows it. Islands take over elements that Rust drew;
// all they show comes with the page. Needs no network.
import "../styles/report.css";
import "../styles/diffusion.css";
import { type ComponentChild, render } from "preact";
import { all, embedded } from "../shared/elements";
import { colourTable } from "../shared/heat";
import { startTheme } from "../shared/theme";
import { type PageData, opening } from "./data";
import { Choices } from "./islands/choices";
import { Grid } from "./islands/grid";
import type { Palette } from "./islands/painted";
import { Scrubber } from "./islands/scrubber";
import { TilePicture, TileWords } from "./islands/tile";
import { startCharts, startFilm, startKeys, startMeasured } from "./linked";
import { Store } from "./store";

/** Puts an island in place of what Rust drew inside `root`. */
function takeOver(root: Element | null, island: ComponentChild): void {
  if (!root) return;
  root.replaceChildren();
  render(island, root);
}

const page = embedded<PageData>("steps");
const palette: Palette = { table: colourTable(page.colormap), veil: page.veil };
const store = new Store(opening(page));
const island = (name: string) => document.querySelector(`[data-island="${name}"]`);

document.documentElement.classList.add("scripted");
startTheme();
startFilm(store);
startCharts(page, store);
startMeasured(store);
startKeys(page, store);
takeOver(island("scrubber"), <Scrubber page={page} store={store} />);
takeOver(island("choices"), <Choices page={page} store={store} />);
takeOver(island("grid"), <Grid page={page} store={store} palette={palette} />);
for (const figure of all("[data-tile]")) {
  const tile = page.tiles.find(({ id }) => id === figure.dataset["tile"]);
  if (!tile) continue;
  takeOver(figure.querySelector(".shown"), <TilePicture page={page} tile={tile} store={store} palette={palette} />);
  takeOver(figure.querySelector(".said"), <TileWords page={page} tile={tile} store={store} />);
}
