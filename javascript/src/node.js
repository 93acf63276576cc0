// The face for Node: keys in files, certificates of the hub's own authority.

import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { io } from "socket.io-client";
import { BaseClient } from "./client.js";
import { KeyFile, defaultPath } from "./key_file.js";

export * from "./errors.js";

export class Client extends BaseClient {
  /** @param {string | URL} url @param {number} id @param {any} [options] */
  constructor(url, id, options = {}) {
    super(url, id, options, {
      io,
      name: hostname(),
      keeper: (url, id) => new KeyFile(options.keyFile ?? defaultPath(url, id), id),
      connection: options.ca === undefined ? {} : { ca: certificates(options.ca) },
    });
  }
}

/** A file's path, or the certificates themselves (PEM). @param {string | URL | Uint8Array} ca */
function certificates(ca) {
  const pem = ca instanceof Uint8Array ? Buffer.from(ca).toString() : isPem(ca) ? ca : read(ca);
  // Node would trust nothing by what is none, and say so only by every connection's failure.
  if (isPem(pem)) return pem;
  throw new TypeError(`the option ca is no certificate (PEM): 'lockstep cert' prints it on the hub's machine`);
}

/** @param {unknown} text @returns {text is string} */
function isPem(text) {
  return typeof text === "string" && text.includes("-----BEGIN CERTIFICATE-----");
}

/** @param {string | URL} path */
function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new TypeError(
      `the certificate to trust cannot be read (${error.message}): 'lockstep cert' prints it on the hub's machine`,
    );
  }
}
