// A client of a hub over Socket.IO: what the faces for Node and for browsers have in common.
//
// The order of things that matters:
// - A unique ID is kept before the event that brought it is acknowledged: a login that was cut in between can go on.
// - Nothing is emitted before `welcome`: the hub would take it for an answer to what it asked.
// - What belongs to a connection (answers, acknowledgements) ends with it: on the next its numbers mean something else.

import { checkedId, hubAt } from "./address.js";
import { Data, valueOf } from "./data.js";
import { Closed, LockstepError, Refused, TimedOut, Unanswered } from "./errors.js";
import { Login, keeperOf } from "./login.js";
import { Peers } from "./peers.js";
import { putting } from "./putting.js";
import { Questions } from "./questions.js";
import { Telling } from "./telling.js";
import { Troubles, reasonOf } from "./troubles.js";
import { View } from "./view.js";

const TIMEOUT_MS = 30_000;
/** Where the library does not come back by itself, it is tried again after this. */
const AGAIN_MS = 1000;

/** @typedef {import("./data.js").Value} Value */
/** @typedef {import("./peers.js").Peer} Peer */
/** @typedef {{timeoutMs?: number}} Wait */
/**
 * What a face brings.
 * @typedef {{io: any, keeper: (url: URL, id: number) => import("./login.js").Keeper, name?: string, connection?: object}} Face
 */
/**
 * One connection, from its first packet to its end.
 * @typedef {{isIn: boolean, refused: boolean, broken: boolean}} Link
 */

export class BaseClient {
  /**
   * The latest values, by name. Stays readable without a connection and after the end.
   * @type {ReadonlyMap<string, any>}
   */
  values;
  /**
   * Resolves when this client has ended for good: with the reason, or with nothing after `close`.
   * @type {Promise<LockstepError | undefined>}
   */
  ended;
  #url;
  #id;
  #options;
  #face;
  #login;
  #data;
  #peers = new Peers();
  #telling;
  #troubles = new Troubles();
  #questions;
  /** @type {any} */
  #socket;
  /** @type {Link | undefined} */
  #link;
  /** @type {Set<() => boolean>} */
  #waiters = new Set();
  /** @type {LockstepError | undefined} */
  #over;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;
  /** @type {(why: LockstepError | undefined) => void} */
  #resolveEnded = () => {};

  /** @param {string | URL} url @param {number} id @param {any} options @param {Face} face */
  constructor(url, id, options, face) {
    this.#url = hubAt(url, options.plain);
    this.#id = checkedId(id);
    this.#options = options;
    this.#face = face;
    const patterns = options.follow ?? ["*"];
    if (typeof patterns === "string") throw new TypeError(`follow is a list of patterns: ["${patterns}"]`);
    this.#data = new Data(patterns);
    this.values = new View(this.#data.values);
    const { name = face.name, invite } = options;
    this.#login = new Login(id, { name, invite }, options.key ? keeperOf(options.key) : face.keeper(this.#url, id));
    this.#questions = new Questions((event, args, answered) => this.#socket.emit(event, ...args, answered));
    this.#telling = new Telling(
      (item) => this.#read(item),
      (error) => this.#troubles.tell(new LockstepError("a callback failed; the next is called", { cause: error })),
    );
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    // Not at once, so that whoever made this client can first say what is to be called.
    queueMicrotask(() => this.#connect());
  }

  // --- The latest values

  /**
   * A value as the hub has it, with its version, type, and who put it when.
   * @param {string} name @returns {Value | undefined}
   */
  held(name) {
    return this.#data.values.get(name);
  }

  /** Whether it is logged in, and holds what the hub had when it was heard of last. */
  get isCurrent() {
    return this.#isIn && this.#data.isCurrent;
  }

  /** Versions that did not come, since newer ones had replaced them. */
  get conflated() {
    return this.#data.conflated;
  }

  /**
   * Resolves once all that is followed is here, with what this client itself put. Rejects when the client ends, and with TimedOut.
   * @param {Wait} [options] @returns {Promise<void>}
   */
  current(options) {
    return new Promise((resolve, reject) => {
      const timeoutMs = this.#timeoutMs(options);
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        const { why, cause } = this.#late();
        reject(new TimedOut(`the latest data did not come within ${timeoutMs} ms${why}`, { cause }));
      }, timeoutMs);
      const waiter = () => {
        if (!this.#over && !this.isCurrent) return false;
        clearTimeout(timer);
        this.#over ? reject(this.#over) : resolve();
        return true;
      };
      if (!waiter()) this.#waiters.add(waiter);
    });
  }

  // --- Asking the hub

  /**
   * Puts a value: whatever JSON has, a text, or bytes; at most 256 KiB. Without a connection it waits for one.
   * Resolves with its version once it is on the hub's disk. Rejects with Refused: it was not done; with Unanswered or TimedOut:
   * it may have been.
   * @param {string} name @param {any} value @param {{contentType?: string, timeoutMs?: number}} [options] @returns {Promise<number>}
   */
  async put(name, value, options) {
    const { version } = await this.#ask("put", putting(name, value, options?.contentType), options);
    this.#data.did(name, version);
    return version;
  }

  /** Removes a value; as `put`. @param {string} name @param {Wait} [options] @returns {Promise<number>} */
  async remove(name, options) {
    const { version } = await this.#ask("remove", [name], options);
    this.#data.did(name, version);
    return version;
  }

  /**
   * Asks the hub for a value, whether it is followed or not.
   * @param {string} name @param {Wait} [options] @returns {Promise<Value | undefined>}
   */
  async get(name, options) {
    const { value } = await this.#ask("get", [name], options);
    return value ? valueOf(value) : undefined;
  }

  /** Who is logged in at the hub, this client among them. @param {Wait} [options] @returns {Promise<Peer[]>} */
  async clients(options) {
    this.#peers.asked();
    const { clients } = await this.#ask("clients", [], options);
    return this.#listed(clients);
  }

  /**
   * Follows a name, or the names that begin with what stands before `*`, from now on and after every login; `current` resolves
   * once they are here. Resolves when the hub has agreed, or at once without a connection.
   * @param {string} pattern @param {Wait} [options] @returns {Promise<void>}
   */
  async follow(pattern, options) {
    if (this.#over) throw this.#over;
    if (typeof pattern !== "string") throw new TypeError("a pattern is a text");
    if (!this.#data.follow(pattern) || !this.#isIn) return;
    try {
      await this.#ask("follow", [this.#following(pattern)], options);
    } catch (error) {
      if (error instanceof Refused) this.#forget(pattern);
      throw error;
    }
  }

  /**
   * Follows it no more. What no other pattern covers is held no longer.
   * @param {string} pattern @param {Wait} [options]
   */
  async unfollow(pattern, options) {
    if (this.#over) throw this.#over;
    if (this.#forget(pattern) && this.#isIn) await this.#ask("unfollow", [{ board: "data", pattern }], options);
  }

  /** Leaves the hub for good. No callback is called any more, except one that runs. Done twice it does nothing. */
  async close() {
    this.#telling.stop();
    this.#end(new Closed("the client was closed"));
    await this.ended;
  }

  // --- Being told. Callbacks are called one after another, and each promise is waited for.

  /** The newest of a name. @param {string} pattern @param {(value: Value) => unknown} callback @returns {() => void} */
  onChange(pattern, callback) {
    return this.#telling.on("change", pattern, callback);
  }

  /** A name was removed. @param {string} pattern @param {(name: string) => unknown} callback @returns {() => void} */
  onGone(pattern, callback) {
    return this.#telling.on("gone", pattern, callback);
  }

  /** What was told so far is a state that the hub had. @param {() => unknown} callback @returns {() => void} */
  onCurrent(callback) {
    return this.#telling.on("current", "*", callback);
  }

  /**
   * First all who are here, then who comes and who leaves.
   * @param {(peer: Peer, here: boolean) => unknown} callback @returns {() => void}
   */
  onClient(callback) {
    const takeBack = this.#telling.on("client", "*", callback);
    if (this.#peers.watch() && this.#isIn) this.#askPeers();
    return takeBack;
  }

  /**
   * Something went wrong and this client goes on: no connection now, a callback that threw.
   * @param {(trouble: Error) => unknown} callback @returns {() => void}
   */
  onTrouble(callback) {
    return this.#troubles.on(callback);
  }

  /** The hub ended this client for good. @param {(why: LockstepError) => unknown} callback @returns {() => void} */
  onEnd(callback) {
    return this.#telling.on("end", "*", callback);
  }

  // --- The connection

  get #isIn() {
    return !this.#over && this.#link?.isIn === true;
  }

  #connect() {
    if (this.#over) return;
    const { origin } = this.#url;
    // WebSocket first: the hub speaks it, and an upgrade costs as much again. Who stands behind something that does not gets polling.
    const transports = this.#options.transports ?? ["websocket", "polling"];
    const socket = this.#face.io(origin, {
      ...this.#face.connection,
      transports,
      tryAllTransports: true,
      forceNew: true,
      // A function, so that every reconnect logs in with what is known by then.
      auth: (/** @type {(auth: object) => void} */ give) => void this.#begin(give),
    });
    this.#socket = socket;
    const on = (/** @type {string} */ event, /** @type {(link: Link, ...args: any[]) => void} */ hear) => {
      socket.on(event, (/** @type {any[]} */ ...args) => {
        const link = this.#link;
        if (!link || link.broken || this.#over) return;
        try {
          hear(link, ...args);
        } catch (error) {
          // Going on would leave something out. Come again, the hub says it again.
          link.broken = true;
          this.#troubles.connection(
            new LockstepError(`the hub's ${event} was not understood; connecting again`, { cause: error }),
          );
          socket.io.engine?.close();
        }
      });
    };
    on("id?", () => socket.emit("id", this.#login.auth()));
    on("unique_id?", (link) => void this.#prove(link));
    on("unique_id", (link, uniqueId, acknowledge) => void this.#keep(link, uniqueId, acknowledge));
    on("refused", (link, why) => this.#refused(link, why));
    on("welcome", (link, told) => this.#welcome(link, told));
    on("bye", (_, why) =>
      why?.retry_ms == null ? this.#end(Refused.of(why)) : this.#troubles.connection(Refused.of(why)),
    );
    on("failed", (_, why) => this.#troubles.tell(Refused.of(why, `, of ${String(why?.event)}`)));
    for (const part of /** @type {const} */ (["reset", "value", "gone"]))
      on(part, (_, told) => this.#data.hear(part, told));
    on("cursor", (link, told, acknowledge) => this.#batch(link, told, false, acknowledge));
    on("current", (link, told, acknowledge) => this.#batch(link, told, true, acknowledge));
    on("client", (_, told) => this.#queuePeers(this.#peers.told(told)));
    socket.on("disconnect", (/** @type {string} */ reason) => this.#cut(reason));
    socket.on("connect_error", (/** @type {Error} */ error) => {
      this.#troubles.connection(new LockstepError(`no connection to ${origin}: ${reasonOf(error)}`, { cause: error }));
      if (!socket.active) this.#comeBack(AGAIN_MS);
    });
  }

  /** A connection begins: what it logs in with. @param {(auth: object) => void} give */
  async #begin(give) {
    /** @type {Link} */
    const link = { isIn: false, refused: false, broken: false };
    this.#link = link;
    // What was emitted while the last connection died unnoticed would come before the login.
    this.#socket.sendBuffer = [];
    if (await this.#does(link, () => this.#login.load())) give(this.#login.auth());
  }

  /** The hub knows this id. @param {Link} link */
  async #prove(link) {
    const done = await this.#does(link, () => this.#login.prove());
    if (done && !link.refused) this.#socket.emit(...done.result);
  }

  /** @param {Link} link @param {unknown} uniqueId @param {unknown} acknowledge */
  async #keep(link, uniqueId, acknowledge) {
    if (!(await this.#does(link, () => this.#login.keep(uniqueId)))) return;
    // Only now it counts.
    typeof acknowledge === "function" ? acknowledge() : this.#socket.emit("unique_id", uniqueId);
  }

  /**
   * Does what belongs to a login and may take its time. Nothing when its connection is over by then; an error ends this client.
   * @template T @param {Link} link @param {() => Promise<T>} work @returns {Promise<{result: T} | undefined>}
   */
  async #does(link, work) {
    try {
      const result = await work();
      return link === this.#link && !this.#over ? { result } : undefined;
    } catch (error) {
      this.#end(error);
      return undefined;
    }
  }

  /** @param {Link} link @param {any} why */
  #refused(link, why) {
    if (link.isIn || link.refused) return this.#troubles.tell(Refused.of(why));
    link.refused = true;
    if (why?.retry_ms != null) {
      this.#troubles.connection(Refused.of(why));
      return this.#comeBack(Number(why.retry_ms) || 0);
    }
    // Asked once more, there would be nothing else to say.
    this.#end(Refused.of(why, this.#login.hint(why?.code)));
  }

  /** @param {Link} link @param {any} told */
  #welcome(link, told) {
    if (told?.id !== this.#id) throw new Error("the hub let in another id than was proven");
    link.isIn = true;
    this.#troubles.newest = undefined;
    for (const pattern of this.#data.patterns) this.#sayFollow(pattern);
    if (this.#peers.isWatched) this.#askPeers();
    this.#questions.open();
    this.#resolve();
  }

  /** @param {string} reason */
  #cut(reason) {
    const link = this.#link;
    this.#link = undefined;
    this.#data.cut();
    this.#telling.dropBatches();
    if (this.#over || !link) return;
    const trouble = this.#troubles.newest ?? new LockstepError(`the connection was lost: ${reason}`);
    this.#questions.cut(new Unanswered("the connection was lost before the hub answered", { cause: trouble }));
    if (link.isIn) this.#troubles.connection(trouble);
    // The hub's last word is never without a reason; if that got lost, coming back could take over from another.
    if (reason === "io server disconnect")
      this.#end(new Refused("ended", "the hub ended this client and did not say why"));
  }

  /** Connects again by ourselves. @param {number} waitMs */
  #comeBack(waitMs) {
    this.#socket.disconnect();
    clearTimeout(this.#again);
    // Apart from one another, as many are told the same at once.
    this.#again = setTimeout(() => this.#socket.connect(), waitMs + Math.random() * AGAIN_MS);
  }

  /** @param {LockstepError} why */
  #end(why) {
    if (this.#over) return;
    this.#over = why;
    clearTimeout(this.#again);
    this.#questions.end(why);
    this.#socket?.disconnect();
    this.#resolve();
    this.#telling.queue("end", "");
    this.#resolveEnded(why instanceof Closed ? undefined : why);
  }

  // --- Batches

  /** @param {Link} link @param {any} told @param {boolean} current @param {(() => void) | undefined} acknowledge */
  #batch(link, told, current, acknowledge) {
    const wasCurrent = this.#data.isCurrent;
    for (const name of this.#data.end(told, current)) this.#telling.queue("name", name);
    if (told?.board === "data" && current && this.#data.isCurrent) this.#telling.queueCurrent();
    if (typeof acknowledge === "function") {
      this.#telling.batch(() => {
        if (link === this.#link) acknowledge();
      });
    }
    if (!wasCurrent) this.#resolve();
  }

  /** @param {string} pattern */
  #following(pattern) {
    return { board: "data", pattern, cursor: this.#data.resume(pattern) };
  }

  /** @param {string} pattern */
  #sayFollow(pattern) {
    const fail = (/** @type {Error} */ why) => {
      if (!(why instanceof Refused)) return;
      this.#forget(pattern);
      this.#troubles.tell(new LockstepError(`${pattern} is not followed`, { cause: why }));
    };
    this.#questions.say({ event: "follow", args: [this.#following(pattern)], answer: () => {}, fail });
  }

  /** Holds it no more; what is to be followed anew for that is. Whether it was followed. @param {string} pattern */
  #forget(pattern) {
    const anew = this.#data.unfollow(pattern);
    if (this.#isIn) {
      for (const other of anew ?? []) {
        this.#questions.say({
          event: "unfollow",
          args: [{ board: "data", pattern: other }],
          answer: () => {},
          fail: () => {},
        });
        this.#sayFollow(other);
      }
    }
    this.#resolve();
    return anew !== undefined;
  }

  /**
   * @param {import("./telling.js").Item} item
   * @returns {{kind: import("./telling.js").Kind, name: string, args: any[]}}
   */
  #read({ what, key }) {
    if (what === "client") return { kind: "client", name: "", args: this.#peers.read(key) };
    if (what === "end") return { kind: "end", name: "", args: [this.#over] };
    if (what === "current") return { kind: "current", name: "", args: [] };
    const value = this.#data.values.get(key);
    return value ? { kind: "change", name: key, args: [value] } : { kind: "gone", name: key, args: [key] };
  }

  // --- Who is here

  #askPeers() {
    this.#peers.asked();
    this.#questions.say({
      event: "clients",
      args: [],
      answer: ({ clients }) => void this.#listed(clients),
      fail: () => {},
    });
  }

  /** @param {any[]} told */
  #listed(told) {
    const { list, changed, again } = this.#peers.listed(told, this.#socket.io.engine?.transport.name === "websocket");
    this.#queuePeers(changed);
    if (again) this.#askPeers();
    return list;
  }

  /** @param {Iterable<number>} ids */
  #queuePeers(ids) {
    for (const id of ids) this.#telling.queue("client", id);
  }

  // --- Asking and waiting

  /** @param {string} event @param {any[]} args @param {Wait} [options] @returns {Promise<any>} */
  async #ask(event, args, options) {
    if (this.#over) throw this.#over;
    return this.#questions.ask(event, args, this.#timeoutMs(options), () => this.#late());
  }

  #resolve() {
    for (const waiter of [...this.#waiters]) if (waiter()) this.#waiters.delete(waiter);
  }

  /** @param {Wait} [options] @returns {number} */
  #timeoutMs(options) {
    return options?.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS;
  }

  /** Why something did not come in time. */
  #late() {
    const cause = this.#troubles.newest;
    return { why: this.#isIn ? "" : `: ${cause?.message ?? "there is no connection yet"}`, cause };
  }
}
