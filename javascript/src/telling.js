// What callbacks are to be told, in order, and which batches of the hub wait for that.
//
// A name that changes again before it was told keeps its place and is told once, with its newest: so what waits is bounded by the
// names that there are, however slow callbacks are. A batch is acknowledged once all that it brought was told; so slow callbacks
// slow down what the hub sends.

import { matches } from "./data.js";

/** The hub has at most two batches on their way; of a third it has given up the first. */
const ACKS_MAX = 2;

/** @typedef {"change" | "gone" | "current" | "client" | "trouble" | "end"} Kind */
/** @typedef {{kind: Kind, pattern: string, callback: (...args: any[]) => unknown}} Callback */
/** What is to be told of, and what is told of it by then. @typedef {{what: string, key?: any}} Item */

export class Telling {
  /** @type {Set<Callback>} */
  #callbacks = new Set();
  /** @type {Map<string, Item>} */
  #pending = new Map();
  #queued = 0;
  #told = 0;
  #currents = 0;
  #lastIsCurrent = false;
  /** @type {{after: number, acknowledge: () => void}[]} */
  #acks = [];
  #runs = false;
  #stopped = false;
  #read;
  #failed;

  /**
   * @param {(item: Item) => {kind: Kind, name: string, args: any[]}} read What is to be told of an item, as things are by then.
   * @param {(error: unknown) => void} failed A callback threw.
   */
  constructor(read, failed) {
    this.#read = read;
    this.#failed = failed;
  }

  /**
   * Registers a callback; what is returned takes it back.
   * @param {Kind} kind @param {string} pattern @param {(...args: any[]) => unknown} callback
   */
  on(kind, pattern, callback) {
    if (typeof callback !== "function") throw new TypeError("a callback is a function");
    const registered = { kind, pattern, callback };
    this.#callbacks.add(registered);
    return () => void this.#callbacks.delete(registered);
  }

  /** Whether anybody wants to be told. @param {Kind} kind */
  has(kind) {
    return [...this.#callbacks].some((callback) => callback.kind === kind);
  }

  /**
   * Something is to be told; once, however often it changes before it is.
   * @param {string} what @param {string | number} key
   */
  queue(what, key) {
    const at = `${what} ${key}`;
    if (this.#pending.has(at)) return;
    this.#append(at, { what, key });
    this.#lastIsCurrent = false;
  }

  /** All that was queued so far is a state that the hub had. One that waits with nothing behind it says that too. */
  queueCurrent() {
    if (this.#lastIsCurrent && this.#pending.size > 0) return;
    this.#append(`current ${this.#currents++}`, { what: "current" });
    this.#lastIsCurrent = true;
  }

  /** A batch is to be acknowledged once all that is queued now was told. @param {() => void} acknowledge */
  batch(acknowledge) {
    this.#acks.push({ after: this.#queued, acknowledge });
    if (this.#acks.length > ACKS_MAX) this.#acks.shift();
    this.#release();
  }

  /** The connection on which they meant something is over. */
  dropBatches() {
    this.#acks = [];
  }

  /** Tells nothing more, except what is being told. */
  stop() {
    this.#stopped = true;
    this.#pending.clear();
    this.#acks = [];
  }

  /** @param {string} at @param {Item} item */
  #append(at, item) {
    if (this.#stopped) return;
    this.#pending.set(at, item);
    this.#queued += 1;
    if (!this.#runs) {
      this.#runs = true;
      // Not at once: whoever queues is in the middle of something.
      void Promise.resolve().then(() => this.#run());
    }
  }

  async #run() {
    for (let next = this.#take(); next; next = this.#take()) {
      const { kind, name, args } = this.#read(next);
      for (const callback of [...this.#callbacks]) {
        if (this.#stopped || callback.kind !== kind || !matches(callback.pattern, name)) continue;
        try {
          const done = callback.callback(...args);
          // Waiting for what is no promise would cost a turn each.
          if (done instanceof Object && "then" in done) await done;
        } catch (error) {
          this.#failed(error);
        }
      }
      this.#told += 1;
      this.#release();
    }
    this.#runs = false;
  }

  /** @returns {Item | undefined} */
  #take() {
    const next = this.#pending.entries().next();
    if (next.done) return undefined;
    this.#pending.delete(next.value[0]);
    return next.value[1];
  }

  #release() {
    while (this.#acks.length > 0 && this.#acks[0].after <= this.#told) this.#acks.shift()?.acknowledge();
  }
}
