// A login's answers, and the unique ID that proves it. What the keeper does, it does before anything is said to the hub.

import { KeyError } from "./errors.js";

/** @typedef {{where: string, load: () => any, save: (uniqueId: string) => any}} Keeper */

export class Login {
  #id;
  #said;
  #keeper;
  /** @type {string | undefined} */
  #uniqueId;

  /** @param {number} id @param {{name?: string, invite?: string}} said What goes along. @param {Keeper} keeper */
  constructor(id, said, keeper) {
    this.#id = id;
    this.#said = { name: said.name, invite: codeOf(said.invite) };
    this.#keeper = keeper;
  }

  /** With what a connection begins. */
  auth() {
    // Follows are asked for once in, each with its cursor.
    return { id: this.#id, unique_id: this.#uniqueId, ...this.#said, follow: [] };
  }

  /** Loads the unique ID, which another program may have got meanwhile; rejects with KeyError. */
  async load() {
    try {
      const uniqueId = await this.#keeper.load();
      if (uniqueId && typeof uniqueId !== "string") throw new Error("it is no text");
      this.#uniqueId = uniqueId || this.#uniqueId;
    } catch (error) {
      throw keyError(error, `the unique ID of id ${this.#id} cannot be loaded from ${this.#keeper.where}`);
    }
  }

  /** The hub knows this id, and asks for its proof: the event to say. @returns {Promise<[string, ...string[]]>} */
  async prove() {
    if (!this.#uniqueId) await this.load();
    // It may have been issued, and lost on its way: then the hub gives another.
    return this.#uniqueId ? ["unique_id", this.#uniqueId] : ["lost"];
  }

  /**
   * The hub issued this. It may be acknowledged once this resolves; rejects with KeyError.
   * @param {unknown} uniqueId
   */
  async keep(uniqueId) {
    if (typeof uniqueId !== "string" || !uniqueId.startsWith(`ls-${this.#id}-`)) {
      throw new KeyError(`the hub issued a unique ID that is none of id ${this.#id}: is it a hub?`);
    }
    try {
      await this.#keeper.save(uniqueId);
    } catch (error) {
      const text = `the unique ID of id ${this.#id} cannot be kept in ${this.#keeper.where}; the login was not confirmed`;
      throw keyError(error, text);
    }
    this.#uniqueId = uniqueId;
  }

  /** What a refusal with this code says beyond the hub's words. @param {unknown} code */
  hint(code) {
    if (code !== "not_proven") return "";
    return `; the unique ID of id ${this.#id} is ${this.#uniqueId ? "kept" : "not"} in ${this.#keeper.where}`;
  }
}

/** The code in a join line as `lockstep invite` prints it, in its link, or alone. @param {string} [invite] */
export function codeOf(invite) {
  const word = invite?.trim().split(/\s+/).at(-1);
  // lsj1.HOST.PORT.FINGERPRINT.INVITE.CHECK
  return word?.startsWith("lsj1.") ? word.split(".").at(-2) : word || undefined;
}

/**
 * What a user gave to keep a key in.
 * @param {{load: () => any, save: (uniqueId: string) => any}} key @returns {Keeper}
 */
export function keeperOf(key) {
  if (typeof key.load !== "function" || typeof key.save !== "function") {
    throw new TypeError("the option key is an object with load() and save(uniqueId)");
  }
  return { where: "what the option key loads", load: () => key.load(), save: (uniqueId) => key.save(uniqueId) };
}

/** @param {any} error @param {string} text */
function keyError(error, text) {
  return error instanceof KeyError
    ? error
    : new KeyError(`${text}: ${String(error?.message ?? error)}`, { cause: error });
}
