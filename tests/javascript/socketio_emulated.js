// The npm server with a hub's handlers (docs/socketio.md), in memory: what a hub says to a stock client is compared with what this says.
//
// Its one argument: "wrong" leaves out what a client may rely on, for the comparison to see; anything else is right.

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const wrong = process.argv[2] === "wrong";
const http = createServer();
const io = new Server(http, { pingInterval: 5000, pingTimeout: 10000, maxHttpBufferSize: 1 << 20 });
const keys = new Map(); // by id: its unique ID
const here = new Map(); // by id: its session
const board = new Map(); // by name: the newest
let head = 0;

const byName = (a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
const fits = (pattern, name) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern);
const client = (session, active) =>
  active ? { id: session.id, name: session.name, address: "", transport: "socketio", active } : { id: session.id, active };

function put(name, payload, content_type, by) {
  const value = { board: "data", name, version: ++head, content_type, by, at_ms: Date.now(), payload };
  board.set(name, value);
  for (const session of here.values()) session.tell(name, () => session.socket.emit("value", value));
  return value.version;
}

function remove(name) {
  board.delete(name);
  const version = ++head;
  for (const session of here.values()) session.tell(name, () => session.socket.emit("gone", { board: "data", name, version }));
  return version;
}

class Session {
  constructor(socket, id, name) {
    Object.assign(this, { socket, id, name, follows: new Set(), watches: false });
  }

  end(pattern, board = "data") {
    const more = { board, pattern, cursor: `at-${head}`, conflated: 0 };
    this.socket.emit("current", more, () => {});
  }

  tell(name, say) {
    for (const pattern of this.follows) {
      if (fits(pattern, name)) {
        say();
        this.end(pattern);
      }
    }
  }

  follow(pattern) {
    this.follows.add(pattern);
    if (!wrong) this.socket.emit("reset", { board: "data", pattern });
    const values = [...board.values()].filter(({ name }) => fits(pattern, name));
    values.sort(byName).forEach((value) => this.socket.emit("value", value));
    this.end(pattern);
  }

  enter(patterns) {
    const before = here.get(this.id);
    here.set(this.id, this);
    if (before) before.leave("taken_over");
    this.socket.emit("welcome", { id: this.id, hub: "", version: "", shares: [] });
    patterns.forEach((pattern) => this.follow(pattern));
    this.told(true);
    this.socket.on("disconnect", () => {
      if (here.get(this.id) !== this) return;
      here.delete(this.id);
      this.told(false);
    });
  }

  told(active) {
    for (const other of here.values()) {
      if (!other.watches || other === this) continue;
      other.socket.emit("client", client(this, active));
      other.end("client/*", "fleet");
    }
  }

  leave(code) {
    this.socket.emit("bye", { code, text: "somebody else is in" });
    this.socket.disconnect();
  }

  done(event, [a, b, c]) {
    switch (event) {
      case "put": {
        if (typeof a !== "string" || b === undefined) return { code: "protocol" };
        if (a === "" || Buffer.byteLength(a) > 256) return { code: "limit" };
        const own = Buffer.isBuffer(b) ? "application/octet-stream" : typeof b === "string" ? "text/plain; charset=utf-8" : "application/json";
        const version = put(a, b, c ?? own, this.id);
        return wrong ? {} : { version };
      }
      case "remove":
        return { version: remove(a) };
      case "get":
        return { value: board.get(a) ?? null };
      case "follow":
        setImmediate(() => this.follow(a.pattern ?? a));
        return {};
      case "unfollow":
        return { followed: this.follows.delete(a.pattern ?? a) };
      case "clients":
        this.watches = true;
        this.end("client/*", "fleet");
        return { clients: [...here.values()].sort((a, b) => a.id - b.id).map((session) => client(session, true)) };
      default:
        return { code: "protocol" };
    }
  }
}

io.on("connection", (socket) => {
  let session;
  let asked = socket.handshake.auth ?? {};
  let bad = 0;
  const refuse = (code) => {
    socket.emit("refused", { code, text: "not so" });
    if (++bad < 3) return false;
    socket.emit("bye", { code, text: "not so" });
    socket.disconnect();
    return true;
  };
  const enter = () => {
    session = new Session(socket, asked.id, asked.name ?? "");
    session.enter(asked.follow ?? ["*"]);
  };
  const id = () => {
    if (!Number.isSafeInteger(asked.id) || asked.id < 1) return refuse("bad_id") || socket.emit("id?");
    if (!keys.has(asked.id)) {
      keys.set(asked.id, `ls-${asked.id}-${Math.random()}`);
      return socket.emit("unique_id", keys.get(asked.id), enter);
    }
    if (asked.unique_id === undefined) return socket.emit("unique_id?");
    return keys.get(asked.id) === asked.unique_id ? enter() : refuse("not_proven") || socket.emit("unique_id?");
  };
  socket.onAny((event, ...args) => {
    const acknowledge = typeof args.at(-1) === "function" ? args.pop() : undefined;
    if (session) {
      const done = session.done(event, args);
      const told = done.code ? { ok: false, ...done, text: "not so" } : { ok: true, ...done };
      if (acknowledge) acknowledge(told);
      else if (done.code) socket.emit("failed", { event, ...done, text: "not so" });
    } else if (event === "id") {
      asked = typeof args[0] === "object" ? args[0] : { ...asked, id: args[0] };
      id();
    } else if (event === "unique_id") {
      asked.unique_id = args[0];
      id();
    }
  });
  if (asked.id === undefined) socket.emit("id?");
  else id();
});

http.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${http.address().port}`));
