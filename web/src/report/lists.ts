// Lists and tables: sorted, filtered, and short until asked for more. Rust draws every item and writes on it what it is
// sorted and filtered by (`data-…`); this only orders and hides.
import { all } from "../shared/elements";

/** What an item is sorted and filtered by. */
export type Keys = Readonly<Record<string, string | undefined>>;

/** What the reader asked for. */
export interface Wanted {
  /** Part of the item's name, in any case; empty for all. */
  readonly name: string;
  /** Key and the value that it must have; an empty value lets everything through. */
  readonly filters: ReadonlyArray<readonly [key: string, value: string]>;
  /** Key to sort by, or `null` to keep the order. */
  readonly sort: string | null;
}

/** Orders two values: as numbers where both are, else as text. */
export function compare(x = "", y = ""): number {
  const [m, n] = [Number(x), Number(y)];
  return x !== "" && y !== "" && Number.isFinite(m) && Number.isFinite(n) ? m - n : x.localeCompare(y);
}

/** Places of the items that are wanted, in the order wanted. */
export function chosen(items: readonly Keys[], { name, filters, sort }: Wanted): number[] {
  const part = name.trim().toLocaleLowerCase();
  const matches = [...items.keys()].filter((place) => {
    const keys = items[place] ?? {};
    return (
      filters.every(([key, value]) => value === "" || keys[key] === value) &&
      (part === "" || (keys["name"] ?? "").toLocaleLowerCase().includes(part))
    );
  });
  // Stable: equal items keep their order.
  return sort === null ? matches : matches.sort((a, b) => compare(items[a]?.[sort], items[b]?.[sort]));
}

/** What stands under a list of which `shown` of `matches` items are shown, out of `total`. */
export function footer(shown: number, matches: number, total: number, page: number, noun: string) {
  const rest = matches - shown;
  return {
    /** The button's text; `null` where there is nothing to unfold or fold. */
    button: rest > 0 ? `Show all ${matches} ${noun}` : matches > page && shown > page ? "Show fewer" : null,
    status: matches < total ? `${matches} of ${total} ${noun} match` : "",
  };
}

export function startLists(): void {
  for (const list of all("[data-list]")) startList(list);
}

function startList(list: HTMLElement): void {
  const page = Number(list.dataset["list"]);
  const noun = list.dataset["noun"] ?? "";
  const items = [...list.children].filter((child) => child instanceof HTMLElement);
  const keys = items.map((item): Keys => ({ ...item.dataset }));
  const controls = list.id ? document.querySelector(`.controls[data-for="${CSS.escape(list.id)}"]`) : null;
  const sort = controls?.querySelector<HTMLSelectElement>("[data-sort]");
  const find = controls?.querySelector<HTMLInputElement>("[data-find]");
  const filters = controls ? all<HTMLSelectElement>("[data-filter]", controls) : [];
  let limit = page;

  const more = document.createElement("p");
  more.className = "more";
  const button = document.createElement("button");
  button.type = "button";
  const status = document.createElement("span");
  status.setAttribute("role", "status");
  more.append(button, status);
  (list.closest("table") ?? list).after(more);

  const show = () => {
    const matches = chosen(keys, {
      name: find?.value ?? "",
      filters: filters.map((filter) => [filter.dataset["filter"] ?? "", filter.value] as const),
      sort: sort?.value ?? null,
    });
    if (sort) list.append(...matches.flatMap((place) => items[place] ?? []));
    const shown = new Set(matches.slice(0, limit));
    items.forEach((item, place) => {
      item.hidden = !shown.has(place);
    });
    const text = footer(shown.size, matches.length, items.length, page, noun);
    button.hidden = text.button === null;
    button.textContent = text.button;
    status.textContent = text.status;
    more.hidden = text.button === null && text.status === "";
  };
  button.addEventListener("click", () => {
    limit = limit === page ? Infinity : page;
    show();
  });
  controls?.addEventListener("input", show);
  show();
}
