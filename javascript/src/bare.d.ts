import type { Client } from "./index.js";

export * from "./index.js";

/**
 * The class of clients that connect by `io` of socket.io-client, for pages without an import map or a bundler. Keys are kept in
 * localStorage, unless the option `key` says otherwise.
 */
export declare function clientWith(io: unknown): typeof Client;
