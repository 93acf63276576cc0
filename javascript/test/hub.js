// A board and its follows as a hub has them, in small: what docs/socketio.md promises, at the limits of it. For tests.

/** Entries of a batch, and how far the head may be before a follow walks by name. */
const BATCH = 3;
const SHORT_WAY = 4;

/** Numbers that can be repeated (mulberry32). @param {number} seed */
export function random(seed) {
  return (/** @type {number} */ below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

export class Board {
  epoch = 1;
  run = 1;
  head = 0;
  /** @type {Map<number, number>} Ended runs, with their last version. */
  ended = new Map();
  /** @type {Map<string, {version: number, payload: any}>} A removed name has no payload. */
  entries = new Map();
  static runs = 1;

  put(name, payload) {
    this.entries.set(name, { version: ++this.head, payload });
    return this.head;
  }

  remove(name) {
    return this.put(name, undefined);
  }

  /** What is there. */
  values() {
    const there = [...this.entries].filter(([, { payload }]) => payload !== undefined);
    return new Map(there.map(([name, { payload }]) => [name, payload]));
  }

  /** The board as a copy of its disk has it, started again. */
  again(copy = this) {
    const board = new Board();
    Object.assign(board, { epoch: copy.epoch, head: copy.head, entries: new Map(copy.entries), run: ++Board.runs });
    board.ended = new Map([...copy.ended, [copy.run, copy.head]]);
    return board;
  }

  /** How much of a cursor's history is this board's. */
  knows({ epoch, run, seen }) {
    const last = run === this.run ? this.head : (this.ended.get(run) ?? -1);
    return epoch === this.epoch && seen <= last;
  }
}

/** One follow on one connection. */
export class Following {
  constructor(board, pattern, cursorText) {
    Object.assign(this, { board, pattern, resets: false, owes: true, walk: undefined });
    const cursor = cursorText === undefined ? undefined : JSON.parse(cursorText);
    if (cursor && cursor.pattern === pattern && board.knows(cursor)) {
      Object.assign(this, { seq: cursor.seq, seen: cursor.seen, walk: cursor.walk });
    } else {
      Object.assign(this, { seq: 0, seen: 0, resets: true, walk: { head: board.head, upto: "", reset: true } });
    }
  }

  /** The next batch as events; undefined at the head. */
  next() {
    const { board } = this;
    const mine = (name) =>
      this.pattern.endsWith("*") ? name.startsWith(this.pattern.slice(0, -1)) : name === this.pattern;
    const events = this.resets ? [["reset", { board: "data", pattern: this.pattern }]] : [];
    this.resets = false;
    const all = [...board.entries].filter(([name, { version }]) => version > this.seq && mine(name));
    if (!this.walk && all.length > SHORT_WAY) this.walk = { head: board.head, upto: "", reset: false };
    let current = false;
    if (this.walk) {
      const { head, upto, reset } = this.walk;
      const left = all.filter(([name]) => name > upto).sort(([a], [b]) => (a < b ? -1 : 1));
      const needed = left.filter(([, { version, payload }]) => payload !== undefined || !reset || version > head);
      const batch = needed.slice(0, BATCH);
      for (const entry of batch) events.push(this.#told(entry));
      this.seen = Math.max(this.seen, head, ...batch.map(([, { version }]) => version));
      if (batch.length < needed.length) this.walk = { head, upto: batch.at(-1)[0], reset };
      else Object.assign(this, { walk: undefined, seq: head, owes: true });
    } else {
      if (this.seq === board.head && !this.owes) return undefined;
      const batch = all.sort(([, a], [, b]) => a.version - b.version).slice(0, BATCH);
      for (const entry of batch) events.push(this.#told(entry));
      this.seq = batch.length < all.length ? batch.at(-1)[1].version : board.head;
      this.seen = board.head;
      current = this.seq === board.head;
      this.owes = !current;
    }
    const { pattern, seq, seen, walk } = this;
    const cursor = JSON.stringify({ epoch: board.epoch, run: board.run, pattern, seq, seen, walk });
    events.push([current ? "current" : "cursor", { board: "data", pattern, cursor, conflated: 0 }]);
    return events;
  }

  #told([name, { version, payload }]) {
    if (payload === undefined) return ["gone", { board: "data", name, version }];
    return [
      "value",
      { board: "data", name, version, payload, content_type: "application/json", by: 1, at_ms: payload },
    ];
  }
}
