// Finding what Rust drew.

/** All elements under `from` that match. */
export function all<E extends Element = HTMLElement>(selector: string, from: ParentNode = document): E[] {
  return [...from.querySelectorAll<E>(selector)];
}

/** The JSON that the page carries in `<script type="application/json" id=…>`. */
export function embedded<T>(id: string): T {
  const text = document.getElementById(id)?.textContent;
  if (!text) throw new Error(`this page carries no data under #${id}`);
  return JSON.parse(text) as T;
}
