// Neurons: the list chooses which card is open. Every card is Rust's; this hides all but one.
import { all } from "../shared/elements";

function open(explorer: Element, id: string | null): void {
  for (const card of all(".card", explorer)) card.hidden = id !== null && card.id !== id;
  for (const link of all<HTMLAnchorElement>(".neurons a", explorer)) {
    if (id !== null && link.hash === `#${id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const button = explorer.querySelector<HTMLElement>("[data-all]");
  if (!button) return;
  button.textContent = id === null ? "Show one card" : "Show all cards";
  button.dataset["all"] = id === null ? "all" : "one";
}

function openFromAddress(): void {
  const id = decodeURIComponent(location.hash.slice(1));
  const card = id ? document.getElementById(id) : null;
  const explorer = card?.closest("[data-explorer]");
  if (!card?.classList.contains("card") || !explorer) return;
  open(explorer, id);
  card.scrollIntoView({ block: "start" });
  card.focus({ preventScroll: true });
}

function startExplorer(explorer: Element): void {
  const links = all<HTMLAnchorElement>(".neurons a", explorer);
  const button = explorer.querySelector<HTMLElement>("[data-all]");
  const first = (explorer.querySelector<HTMLAnchorElement>("[data-first]") ?? links[0])?.hash.slice(1) ?? null;
  open(explorer, first);
  button?.addEventListener("click", () => open(explorer, button.dataset["all"] === "all" ? first : null));
  links.forEach((link, place) => {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const id = link.hash.slice(1);
      open(explorer, id);
      const card = document.getElementById(id);
      // Beside the list the card is in view; below it, it has to be brought there.
      if (card && card.getBoundingClientRect().left < link.getBoundingClientRect().right) {
        card.scrollIntoView({ block: "start" });
      }
    });
    link.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
      const next = step === 0 ? undefined : links[place + step];
      if (!next) return;
      event.preventDefault();
      next.focus();
      open(explorer, next.hash.slice(1));
    });
  });
}

export function startExplorers(): void {
  for (const explorer of all("[data-explorer]")) startExplorer(explorer);
  addEventListener("hashchange", openFromAddress);
  openFromAddress();
}
