// The key file: the unique ID that a hub issued for an id. For its owner alone, and whole at any moment. lockstep for Python
// keeps the same file in the same place.

import * as disk from "node:fs";
import { randomBytes } from "node:crypto";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { keyName } from "./address.js";
import { KeyError } from "./errors.js";

const FORMAT = 1;
/** A key file is a few hundred bytes; nobody makes us read more. */
const BYTES_MAX = 16 * 1024;

/** Where the key of `id` at the hub of `url` is kept. @param {URL} url @param {number} id */
export function defaultPath(url, id) {
  return join(state(), "client", `${keyName(url, id)}.json`);
}

function state() {
  if (process.geteuid?.() === 0) return "/var/lib/lockstep";
  // By the XDG rules a value that is not absolute counts as unset.
  for (const [variable, below] of [
    ["XDG_STATE_HOME", ""],
    ["HOME", ".local/state"],
  ]) {
    const base = process.env[variable] ?? "";
    if (isAbsolute(base)) return join(base, below, "lockstep");
  }
  throw new KeyError("neither XDG_STATE_HOME nor HOME names an absolute directory: say where with the option keyFile");
}

export class KeyFile {
  #id;
  #fs;

  /**
   * @param {string} path @param {number} id
   * @param {typeof disk} [fs] Another in tests.
   */
  constructor(path, id, fs = disk) {
    this.path = resolve(path);
    this.where = this.path;
    this.#id = id;
    this.#fs = fs;
  }

  /**
   * The unique ID, or undefined where there is no file yet. Makes the directory, so that a place that cannot be written is told
   * before a hub issues anything. A file that others may read is closed to them.
   */
  load() {
    const text = this.#text();
    if (text === undefined) return undefined;
    try {
      const kept = JSON.parse(text);
      if (kept.format === FORMAT && kept.id === this.#id && typeof kept.unique_id === "string") return kept.unique_id;
    } catch {
      // The parser's own message could quote the secret.
    }
    throw new KeyError(
      `the key file ${this.path} is damaged, or not of id ${this.#id}: restore it, or move it away and pass the invite that ` +
        `'lockstep clients reissue ${this.#id}' prints on the hub`,
    );
  }

  #text() {
    const fs = this.#fs;
    let file;
    try {
      const directory = dirname(this.path);
      fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
      fs.accessSync(directory, disk.constants.W_OK | disk.constants.X_OK);
      try {
        file = fs.openSync(this.path, "r");
      } catch (error) {
        if (error.code === "ENOENT") return undefined;
        throw error;
      }
      const mode = fs.fstatSync(file).mode & 0o777;
      if (mode & 0o077) {
        fs.fchmodSync(file, mode & 0o700);
        console.warn(`lockstep: the key file ${this.path} was open to others; it is closed to them now`);
      }
      const bytes = Buffer.alloc(BYTES_MAX);
      return bytes.toString("utf8", 0, fs.readSync(file, bytes, 0, BYTES_MAX, 0));
    } catch (error) {
      const text = `the key file ${this.path} cannot be used: ${error.message}; say where with the option keyFile`;
      throw new KeyError(text, { cause: error });
    } finally {
      if (file !== undefined) fs.closeSync(file);
    }
  }

  /**
   * Puts `uniqueId` in place of what was there. On disk, for good, when this returns; after an error, and after a crash at any
   * moment, either the old file is there whole or the new one. An old key that is another is kept beside it, as NAME.old.
   * @param {string} uniqueId
   */
  save(uniqueId) {
    const fs = this.#fs;
    const directory = dirname(this.path);
    const text = `${JSON.stringify({ format: FORMAT, id: this.#id, unique_id: uniqueId }, null, 2)}\n`;
    const staged = join(directory, `.${basename(this.path)}.${randomBytes(8).toString("hex")}`);
    let isStaged = false;
    try {
      const file = fs.openSync(staged, "wx", 0o600);
      isStaged = true;
      this.#closing(file, () => {
        fs.writeFileSync(file, text);
        fs.fsyncSync(file);
      });
      this.#keepOld(text);
      fs.renameSync(staged, this.path);
      isStaged = false;
      const place = fs.openSync(directory, "r");
      this.#closing(place, () => fs.fsyncSync(place));
    } catch (error) {
      const what = `the key file ${this.path} cannot be written: ${error.message}; the login was not confirmed`;
      throw new KeyError(what, { cause: error });
    } finally {
      if (isStaged) this.#tryWithout(staged);
    }
  }

  /** @param {string} text What is written now. */
  #keepOld(text) {
    const before = this.#text();
    if (before === undefined || before === text) return;
    const old = `${this.path}.old`;
    this.#without(old);
    this.#fs.linkSync(this.path, old);
    console.warn(`lockstep: the hub issued a new unique ID for id ${this.#id}; the one before is kept in ${old}`);
  }

  /** @param {number} file @param {() => void} work */
  #closing(file, work) {
    try {
      work();
    } finally {
      this.#fs.closeSync(file);
    }
  }

  /** What stays is a file of its own name, which nobody reads. @param {string} path */
  #tryWithout(path) {
    try {
      this.#without(path);
    } catch {
      // The error that led here is told.
    }
  }

  /** @param {string} path */
  #without(path) {
    try {
      this.#fs.unlinkSync(path);
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
  }
}
