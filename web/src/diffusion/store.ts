// One state for the whole page: islands and charts read it and write it, and none knows another.
import { useEffect, useState } from "preact/hooks";

export class Store<T extends object> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  update(patch: Partial<T>): void {
    this.#value = { ...this.#value, ...patch };
    for (const listener of this.#listeners) listener(this.#value);
  }

  /** Calls `listener` now and after every change; the returned function ends that. */
  subscribe(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#value);
    return () => this.#listeners.delete(listener);
  }
}

/** The store's value, in a component. */
export function useStore<T extends object>(store: Store<T>): T {
  const [value, set] = useState(store.value);
  useEffect(() => store.subscribe(set), [store]);
  return value;
}
