// The report's script. The page reads without it; this adds sorting, filters, short lists, the choice of a neuron, the
// heat-map controls, the theme, and saving the data. It loads nothing and writes text only, never markup.
import "../styles/report.css";
import { startTheme } from "../shared/theme";
import { startContents } from "./contents";
import { startExplorers } from "./explorer";
import { startHeat } from "./heat";
import { startLists } from "./lists";
import { startSave } from "./save";

document.documentElement.classList.add("scripted");
startTheme();
startSave();
startLists();
startExplorers();
startHeat();
startContents();
