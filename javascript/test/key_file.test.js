import assert from "node:assert/strict";
import * as disk from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KeyError } from "../src/errors.js";
import { KeyFile, defaultPath } from "../src/key_file.js";

const OLD = "ls-7-OLDER-AAAAA-AAAAA-AAAAA-AAAAA-AAAAA";
const NEW = "ls-7-NEWER-BBBBB-BBBBB-BBBBB-BBBBB-BBBBB";

/** @param {import("node:test").TestContext} t */
function scratch(t) {
  const directory = disk.mkdtempSync(join(tmpdir(), "lockstep-test-"));
  t.after(() => disk.rmSync(directory, { recursive: true }));
  return directory;
}

const quiet = (/** @type {import("node:test").TestContext} */ t) => t.mock.method(console, "warn", () => {}).mock;

test("a key is kept for its owner alone, in a directory of its own, and loaded again", (t) => {
  const path = join(scratch(t), "deep", "er", "7.json");
  const file = new KeyFile(path, 7);
  assert.equal(file.load(), undefined);
  file.save(NEW);
  assert.equal(new KeyFile(path, 7).load(), NEW);
  assert.equal(disk.statSync(path).mode & 0o7777, 0o600);
  assert.equal(disk.statSync(join(path, "..")).mode & 0o7777, 0o700);
  assert.deepEqual(disk.readdirSync(join(path, "..")), ["7.json"]);
  // As lockstep for Python writes it.
  assert.equal(disk.readFileSync(path, "utf8"), `{\n  "format": 1,\n  "id": 7,\n  "unique_id": "${NEW}"\n}\n`);
});

test("a file that was open to others is closed to them", (t) => {
  const warned = quiet(t);
  const path = join(scratch(t), "7.json");
  new KeyFile(path, 7).save(NEW);
  disk.chmodSync(path, 0o644);
  assert.equal(new KeyFile(path, 7).load(), NEW);
  assert.equal(disk.statSync(path).mode & 0o7777, 0o600);
  assert.match(String(warned.calls[0].arguments[0]), /open to others/);
});

test("an old key is kept beside the new one", (t) => {
  quiet(t);
  const path = join(scratch(t), "7.json");
  const file = new KeyFile(path, 7);
  for (const key of [OLD, OLD, NEW]) file.save(key);
  assert.equal(file.load(), NEW);
  assert.equal(new KeyFile(`${path}.old`, 7).load(), OLD);
  assert.equal(disk.statSync(`${path}.old`).mode & 0o7777, 0o600);
});

test("what is no key file of this id is refused, and its content is not told", (t) => {
  const path = join(scratch(t), "7.json");
  new KeyFile(path, 7).save(NEW);
  assert.throws(() => new KeyFile(path, 8).load(), KeyError);
  for (const text of [
    "",
    NEW,
    `{"format": 2, "id": 7, "unique_id": "${NEW}"}`,
    `{"format": 1, "id": "7", "unique_id": "${NEW}"}`,
  ]) {
    disk.writeFileSync(path, text);
    assert.throws(
      () => new KeyFile(path, 7).load(),
      (error) => {
        return (
          error instanceof KeyError &&
          error.message.includes(path) &&
          error.message.includes("reissue 7") &&
          !error.message.includes("NEWER")
        );
      },
    );
  }
  assert.throws(() => new KeyFile(join(path, "below"), 7).load(), KeyError);
});

/** The calls of `node:fs` that work until the `fuse`th, and never after: as if the program died there. */
function dying(fuse) {
  const calls = [];
  const dead = () => calls.length >= fuse;
  return {
    calls,
    fs: new Proxy(disk, {
      get:
        (_, name) =>
        (...args) => {
          if (dead()) throw Object.assign(new Error("dead"), { code: "EIO" });
          calls.push(name);
          const done = disk[name](...args);
          // Died in the middle of the write.
          if (name === "writeFileSync" && dead()) disk.ftruncateSync(args[0], 10);
          return done;
        },
    }),
  };
}

/** Dies at each call in turn; whether the old or the new key was there after each, whole. */
function survives(t, makeFile) {
  quiet(t);
  for (let fuse = 1; ; fuse++) {
    const path = join(scratch(t), "7.json");
    new KeyFile(path, 7).save(OLD);
    const { fs, calls } = dying(fuse);
    let died = false;
    try {
      makeFile(path, fs).save(NEW);
    } catch {
      died = true;
    }
    let found;
    try {
      found = new KeyFile(path, 7).load();
    } catch {
      return false;
    }
    if (found !== OLD && found !== NEW) return false;
    // What returns was written for good.
    if (!died) return found === NEW && calls.filter((name) => name === "fsyncSync").length === 2;
  }
}

test("whenever the program dies, the old key is there whole, or the new one", (t) => {
  assert.ok(survives(t, (path, fs) => new KeyFile(path, 7, fs)));
});

/** Known to be wrong: writes over what was there. */
class InPlace extends KeyFile {
  constructor(path, id, fs) {
    super(path, id, fs);
    this.fs = fs;
  }

  save(uniqueId) {
    const file = this.fs.openSync(this.path, "w", 0o600);
    this.fs.writeFileSync(file, JSON.stringify({ format: 1, id: 7, unique_id: uniqueId }));
    this.fs.fsyncSync(file);
    this.fs.closeSync(file);
  }
}

test("dying in the middle finds what is known to be wrong", (t) => {
  assert.ok(!survives(t, (path, fs) => new InPlace(path, 7, fs)));
});

test("what is written is on disk before it gets its name, and the name before anybody is told", (t) => {
  const { fs, calls } = dying(Infinity);
  new KeyFile(join(scratch(t), "7.json"), 7, fs).save(NEW);
  const order = calls.filter((name) => ["writeFileSync", "fsyncSync", "renameSync"].includes(name));
  assert.deepEqual(order, ["writeFileSync", "fsyncSync", "renameSync", "fsyncSync"]);
});

test("a key has its place by hub and id, where all of Lockstep is", (t) => {
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) process.env[name] = value;
  };
  const before = { ...process.env };
  t.after(() => set(before));
  const path = (url) => defaultPath(new URL(url), 7);
  t.mock.method(process, "geteuid", () => 0);
  assert.equal(path("https://hub.example"), "/var/lib/lockstep/client/hub.example_443_7.json");
  t.mock.method(process, "geteuid", () => 1000);
  set({ XDG_STATE_HOME: "/state", HOME: "/home/me" });
  for (const host of ["localhost", "127.0.0.1", "[::1]", "127.9.9.9"]) {
    assert.equal(path(`http://${host}:7118`), "/state/lockstep/client/localhost_7118_7.json");
  }
  assert.equal(path("https://[fd00::2]:7118"), "/state/lockstep/client/fd00%3A%3A2_7118_7.json");
  set({ XDG_STATE_HOME: "relative" });
  assert.equal(path("http://hub:80"), "/home/me/.local/state/lockstep/client/hub_80_7.json");
  set({ HOME: "" });
  assert.throws(() => path("http://hub:80"), KeyError);
});
