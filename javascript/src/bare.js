// A client for whoever brings `io` of socket.io-client along: pages without an import map or a bundler, and tests.

import { keyName } from "./address.js";
import { BaseClient } from "./client.js";
import { KeyError } from "./errors.js";

export * from "./errors.js";

/**
 * The class of clients that connect by `io`. Keys are kept in localStorage, unless the option `key` says otherwise.
 * @param {any} io
 */
export function clientWith(io) {
  return class Client extends BaseClient {
    /** @param {string | URL} url @param {number} id @param {any} [options] */
    constructor(url, id, options = {}) {
      super(url, id, options, { io, keeper: stored });
    }
  };
}

/** @param {URL} url @param {number} id */
function stored(url, id) {
  const name = `lockstep/client/${keyName(url, id)}`;
  const storage = () => {
    if (globalThis.localStorage) return globalThis.localStorage;
    throw new KeyError(
      "there is no localStorage to keep a unique ID in: give an object with load and save as the option key",
    );
  };
  return {
    where: `localStorage, as ${name}`,
    load: () => storage().getItem(name) ?? undefined,
    /** @param {string} uniqueId */
    save: (uniqueId) => {
      storage().setItem(name, uniqueId);
      if (storage().getItem(name) !== uniqueId) throw new KeyError(`localStorage did not keep ${name}`);
    },
  };
}
