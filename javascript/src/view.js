// The latest values as a Map that only the hub changes.

/** @typedef {import("./data.js").Value} Value */

/** @implements {ReadonlyMap<string, any>} */
export class View {
  /** @type {Map<string, Value>} */
  #values;

  /** @param {Map<string, Value>} values */
  constructor(values) {
    this.#values = values;
  }

  /** How many names there are. */
  get size() {
    return this.#values.size;
  }

  /** What was put under a name; undefined if there is nothing. @param {string} name */
  get(name) {
    return this.#values.get(name)?.payload;
  }

  /** @param {string} name */
  has(name) {
    return this.#values.has(name);
  }

  keys() {
    return this.#values.keys();
  }

  /** @returns {MapIterator<any>} */
  *values() {
    for (const value of this.#values.values()) yield value.payload;
  }

  /** @returns {MapIterator<[string, any]>} */
  *entries() {
    for (const [name, value] of this.#values) yield [name, value.payload];
  }

  /** @param {(payload: any, name: string, view: ReadonlyMap<string, any>) => void} callback @param {any} [self] */
  forEach(callback, self) {
    for (const [name, value] of this.#values) callback.call(self, value.payload, name, this);
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  get [Symbol.toStringTag]() {
    return "View";
  }
}
