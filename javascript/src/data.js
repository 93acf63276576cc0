// The latest values, and how far each follow is. Free of I/O, clocks and platform.
//
// - A batch is taken as a whole, with the cursor behind it: so what is held is always what the cursors say, and a batch that is
//   cut in the middle was never heard. The hub says batches one after another, never mixed.
// - A name never goes back to an older version. What was removed is remembered until `current` proves that nothing older comes.
// - What counts no longer after a `reset` stays readable until its newest comes, or until `current` proves that it is gone.

/** A hub holds no more names than this: a batch with more is none. */
const BATCH_MAX = 100_000;
/** Removals remembered by one who never gets to the head; the hub itself says names in order, this only guards it. */
const GONE_MAX = 100_000;

/**
 * @typedef {object} Value The newest of a name, as the hub has it.
 * @property {string} name
 * @property {number} version Grows with every change on the hub.
 * @property {any} payload What was put: what JSON has, a text, or bytes as a Uint8Array.
 * @property {string} contentType
 * @property {number} by The id of the client that put it; 0: the hub's own machine.
 * @property {number} atMs When, in milliseconds since 1970.
 */

/**
 * Whether `name` is meant by `pattern`: a name, or the beginning of names with `*` behind it.
 * @param {string} pattern @param {string} name
 */
export function matches(pattern, name) {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

/** Whether a name can be meant by both. @param {string} a @param {string} b */
function overlap(a, b) {
  const stem = (/** @type {string} */ pattern) => (pattern.endsWith("*") ? pattern.slice(0, -1) : pattern);
  return matches(a, stem(b)) || matches(b, stem(a));
}

/** A value as the hub tells it. Throws on what is none. @param {any} told @returns {Value} */
export function valueOf(told) {
  const { name, version, payload, content_type: contentType, by, at_ms: atMs } = told;
  checked(told);
  return Object.freeze({ name, version, payload: payloadOf(payload), contentType, by, atMs });
}

/**
 * Bytes come as an ArrayBuffer in browsers, and in Node as a part of what was read from the connection, which would be held with it.
 * @param {any} payload
 */
function payloadOf(payload) {
  return payload instanceof ArrayBuffer || payload instanceof Uint8Array ? new Uint8Array(payload) : payload;
}

/** @param {any} told */
function checked(told) {
  if (typeof told?.name !== "string" || !Number.isSafeInteger(told.version)) {
    throw new Error("the hub told a value without a name or a version: is it a hub?");
  }
}

class Follow {
  /** @type {string | undefined} Where to go on. */
  cursor = undefined;
  /** The hub said on this connection that there is nothing newer. */
  current = false;
  /** Without a cursor a reset comes first; what is said before it is of an earlier follow of the same pattern. */
  awaitsReset = true;
  /** Not all that was held before a reset has been heard of anew. */
  resets = false;
  /**
   * The newest version in its own batches, and what that was when it was current last: nothing of its names that is not newer
   * comes any more. Another's batches prove nothing for it: they may be of a history that the hub has lost.
   */
  newest = 0;
  settled = 0;
}

/** What is known of the hub's values. */
export class Data {
  /** @type {Map<string, Value>} */
  values = new Map();
  /** Versions that were not sent, since newer ones had replaced them. */
  conflated = 0;
  /** @type {Map<string, Follow>} */
  #follows = new Map();
  /** Names whose value is from before a reset: whatever comes is newer. @type {Set<string>} */
  #unproven = new Set();
  /** Removed names, with the version of the removal. @type {Map<string, number>} */
  #gone = new Map();
  /** What this client itself put or removed and has not heard of yet, with the version. @type {Map<string, number>} */
  #own = new Map();
  /** What was heard since the last batch ended. @type {{what: "reset" | "value" | "gone", told: any}[]} */
  #batch = [];

  /** @param {Iterable<string>} patterns */
  constructor(patterns) {
    for (const pattern of patterns) this.follow(pattern);
  }

  /** All that is followed. */
  get patterns() {
    return [...this.#follows.keys()];
  }

  /** Whether all that is followed is as the hub had it when it last said so on the present connection, own puts included. */
  get isCurrent() {
    return this.#own.size === 0 && [...this.#follows.values()].every((follow) => follow.current);
  }

  /**
   * This client put or removed it itself, and the hub has that as this version.
   * @param {string} name @param {number} version
   */
  did(name, version) {
    if (this.#covering(name).length > 0 && this.#heard(name) < version) this.#own.set(name, version);
  }

  /** Whether it was not followed already. @param {string} pattern */
  follow(pattern) {
    if (this.#follows.has(pattern)) return false;
    this.#follows.set(pattern, new Follow());
    return true;
  }

  /**
   * Follows it no more, and forgets what no other follow covers.
   * @param {string} pattern
   * @returns {string[] | undefined} What is to be followed anew, without a cursor: part of what these cover came, or did not come
   * yet, by the batches of this one, for which their own cursors do not stand. Undefined: it was not followed.
   */
  unfollow(pattern) {
    if (!this.#follows.delete(pattern)) return undefined;
    for (const held of [this.values, this.#gone, this.#own, this.#unproven]) {
      for (const name of held.keys()) if (this.#covering(name).length === 0) held.delete(name);
    }
    const anew = this.patterns.filter((other) => overlap(pattern, other));
    for (const other of anew) {
      const follow = this.#follows.get(other);
      if (follow) Object.assign(follow, { cursor: undefined, current: false, awaitsReset: true });
    }
    return anew;
  }

  /** The cursor with which a new connection goes on with `pattern`; none: all of it comes. @param {string} pattern */
  resume(pattern) {
    const follow = this.#follows.get(pattern);
    if (follow) follow.awaitsReset = follow.cursor === undefined;
    return follow?.cursor;
  }

  /** There is no connection any more. */
  cut() {
    this.#batch = [];
    for (const follow of this.#follows.values()) follow.current = false;
  }

  /** A part of a batch. It counts once the batch ends. @param {"reset" | "value" | "gone"} what @param {any} told */
  hear(what, told) {
    if (told?.board !== "data") return;
    if (this.#batch.length >= BATCH_MAX) throw new Error("the hub told a batch without an end: is it a hub?");
    this.#batch.push({ what, told });
  }

  /**
   * The end of a batch. The names that are other than they were before.
   * @param {any} told `{board, pattern, cursor, conflated}`
   * @param {boolean} current There is nothing newer.
   * @returns {Set<string>}
   */
  end(told, current) {
    /** @type {Set<string>} */
    const changed = new Set();
    if (told?.board !== "data") return changed;
    // Checked before anything is taken: half a batch would belong to no cursor.
    if (typeof told.cursor !== "string") throw new Error("the hub told a batch without a cursor: is it a hub?");
    const batch = this.#batch.map(({ what, told }) => ({ what, told: what === "value" ? valueOf(told) : told }));
    for (const { what, told } of batch) if (what !== "reset") checked(told);
    this.#batch = [];
    const follow = this.#follows.get(told.pattern);
    for (const { what, told } of batch) {
      if (what === "reset") this.#reset(told.pattern);
      else if (what === "value") this.#value(told, changed);
      else this.#removed(told, changed);
      if (follow && what !== "reset") follow.newest = Math.max(follow.newest, told.version);
    }
    if (follow && !follow.awaitsReset) this.#mark(follow, told, current, changed);
    for (const [name, version] of this.#own) if (this.#heard(name) >= version) this.#own.delete(name);
    return changed;
  }

  /** @param {Follow} follow @param {any} told @param {boolean} current @param {Set<string>} changed */
  #mark(follow, told, current, changed) {
    follow.cursor = told.cursor;
    follow.current = current;
    this.conflated += Number(told.conflated) || 0;
    if (current) this.#settle(told.pattern, follow, changed);
  }

  /** @param {string} pattern */
  #reset(pattern) {
    const follow = this.#follows.get(pattern);
    if (!follow) return;
    Object.assign(follow, {
      cursor: undefined,
      current: false,
      awaitsReset: false,
      resets: true,
      newest: 0,
      settled: 0,
    });
    // Perhaps of a history that is none any more.
    this.#own.clear();
    for (const name of this.values.keys()) if (matches(pattern, name)) this.#unproven.add(name);
    for (const name of this.#gone.keys()) if (matches(pattern, name)) this.#gone.delete(name);
  }

  /** @param {Value} value @param {Set<string>} changed */
  #value(value, changed) {
    const { name, version } = value;
    if (!this.#counts(name, version)) return;
    const before = this.values.get(name);
    // After a reset it may be what it was.
    const same = before?.version === version && before.by === value.by && before.atMs === value.atMs;
    this.values.set(name, value);
    this.#unproven.delete(name);
    this.#gone.delete(name);
    if (!same) changed.add(name);
  }

  /** @param {{name: string, version: number}} told @param {Set<string>} changed */
  #removed(told, changed) {
    const { name, version } = told;
    if (!this.#counts(name, version)) return;
    this.#drop(name, changed);
    this.#gone.set(name, version);
    if (this.#gone.size > GONE_MAX) this.#gone.delete(this.#gone.keys().next().value ?? "");
  }

  /** Whether this version of a name counts. @param {string} name @param {number} version */
  #counts(name, version) {
    if (this.#covering(name).length === 0) return false;
    return version > this.#heard(name) || this.#unproven.has(name);
  }

  /** The version of what was heard of a name last; at least that. @param {string} name */
  #heard(name) {
    return this.values.get(name)?.version ?? this.#gone.get(name) ?? this.#settled(name);
  }

  /** Up to here a name that is not held is known to be removed. @param {string} name */
  #settled(name) {
    return Math.min(...this.#covering(name).map((follow) => follow.settled));
  }

  /** @param {string} pattern @param {Follow} follow @param {Set<string>} changed */
  #settle(pattern, follow, changed) {
    if (follow.resets) {
      follow.resets = false;
      for (const name of this.#unproven) if (matches(pattern, name)) this.#drop(name, changed);
    }
    follow.settled = follow.newest;
    for (const [name, version] of this.#gone) if (version <= this.#settled(name)) this.#gone.delete(name);
  }

  /** @param {string} name @param {Set<string>} changed */
  #drop(name, changed) {
    this.#unproven.delete(name);
    if (this.values.delete(name)) changed.add(name);
  }

  /** The follows that cover a name. @param {string} name */
  #covering(name) {
    const all = [];
    for (const [pattern, follow] of this.#follows) if (matches(pattern, name)) all.push(follow);
    return all;
  }
}
