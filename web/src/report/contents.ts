// The contents follow the reader.
import { all } from "../shared/elements";

/** The last of the sections whose upper edge (in pixels from the window's) is above `line`; the first where none is. */
export function sectionAt(tops: readonly number[], line: number): number {
  return Math.max(0, tops.findLastIndex((top) => top <= line));
}

export function startContents(): void {
  const links = new Map(all<HTMLAnchorElement>(".contents a").map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].flatMap((id) => document.getElementById(id) ?? []);
  const follow = () => {
    const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 2;
    const tops = sections.map((section) => section.getBoundingClientRect().top);
    const current = sections[atEnd ? sections.length - 1 : sectionAt(tops, innerHeight * 0.3)];
    for (const [id, link] of links) {
      if (id === current?.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      follow();
    });
  };
  addEventListener("scroll", later, { passive: true });
  follow();
}
