// Who is logged in at the hub. Free of I/O.

/**
 * @typedef {object} Peer A client that is logged in, of whatever kind. Of one that left before it was known, only the id is told.
 * @property {number} id
 * @property {string} name
 * @property {string} address
 * @property {string} transport
 */

/** @param {any} told @returns {Peer} */
function peerOf({ id, name = "", address = "", transport = "" }) {
  return Object.freeze({ id, name, address, transport });
}

/** @param {Peer | undefined} a @param {Peer | undefined} b */
function same(a, b) {
  return a?.id === b?.id && a?.name === b?.name && a?.address === b?.address && a?.transport === b?.transport;
}

export class Peers {
  isWatched = false;
  /** @type {Map<number, Peer>} */
  #here = new Map();
  /** Who left and was not told yet. @type {Map<number, Peer>} */
  #left = new Map();
  /** The list was asked for and has not come. */
  #asking = false;
  /** Who was told of meanwhile. @type {Map<number, Peer | undefined>} */
  #meanwhile = new Map();

  /** From now on comings and goings are told. Whether that is new. */
  watch() {
    if (this.isWatched) return false;
    this.isWatched = true;
    return true;
  }

  /** The list was asked for. */
  asked() {
    this.#asking = true;
    this.#meanwhile.clear();
  }

  /** Somebody came or left; the ids to tell of. @param {any} told @returns {number[]} */
  told(told) {
    if (!this.isWatched) return [];
    const peer = told.active ? peerOf(told) : undefined;
    if (this.#asking) this.#meanwhile.set(told.id, peer);
    return this.#set(told.id, peer) ? [told.id] : [];
  }

  /**
   * The list came. Where the connection keeps the order, it is newer than all told before. By polling, what is newer may have
   * overtaken it, or not: then the list is to be asked for once more.
   * @param {any[]} told @param {boolean} inOrder
   */
  listed(told, inOrder) {
    const list = told.map(peerOf);
    if (!this.isWatched) return { list, changed: [], again: false };
    const newer = inOrder ? [] : [...this.#meanwhile];
    this.#asking = false;
    this.#meanwhile.clear();
    /** @type {Map<number, Peer | undefined>} */
    const here = new Map([...list.map((peer) => /** @type {const} */ ([peer.id, peer])), ...newer]);
    const ids = new Set([...here.keys(), ...this.#here.keys()]);
    return { list, changed: [...ids].filter((id) => this.#set(id, here.get(id))), again: newer.length > 0 };
  }

  /** What a callback is told of an id: who, and whether it is here. @param {number} id @returns {[Peer, boolean]} */
  read(id) {
    const [here, left] = [this.#here.get(id), this.#left.get(id)];
    this.#left.delete(id);
    return [here ?? left ?? peerOf({ id }), here !== undefined];
  }

  /** Whether that is to be told. @param {number} id @param {Peer | undefined} peer */
  #set(id, peer) {
    const before = this.#here.get(id);
    if (same(before, peer)) return false;
    if (peer) this.#here.set(id, peer);
    else this.#here.delete(id);
    if (before && !peer) this.#left.set(id, before);
    return true;
  }
}
