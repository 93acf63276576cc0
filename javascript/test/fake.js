// `io` of a library that connects to nothing: a test says what the hub says, and sees what it is told.

import { setImmediate as turn } from "node:timers/promises";
import { BaseClient } from "../src/client.js";

/** A client, and the hub's end of it. @param {any} [options] @param {any} [keeper] */
export async function met(options = {}, keeper = memory()) {
  const end = new End();
  const face = { io: (url, opts) => Object.assign(end, { url, opts }), keeper: () => keeper };
  const client = new BaseClient("http://127.0.0.1:7118/", 7, { name: "test", ...options }, face);
  client.onTrouble((trouble) => end.troubles.push(trouble));
  await turn();
  return { client, end, keeper };
}

/** As `met`, and logged in. @param {any} [options] */
export async function welcomed(options) {
  const all = await met(options);
  await all.end.welcome();
  return all;
}

/** A keeper that notes what it is asked. */
export function memory() {
  return {
    where: "memory",
    kept: undefined,
    load() {
      return this.kept;
    },
    save(uniqueId) {
      this.kept = uniqueId;
    },
  };
}

class End {
  /** What the client emitted since last looked at, a list each, without the function that is called with the answer. */
  said = [];
  /** What it ever asked, with that function. */
  asked = [];
  troubles = [];
  log = [];
  sendBuffer = ["left over"];
  active = true;
  #heard = new Map();
  io = { engine: { transport: { name: "websocket" }, close: () => void this.log.push("engine closed") } };

  on(event, hear) {
    this.#heard.set(event, hear);
  }

  emit(...event) {
    if (typeof event.at(-1) === "function") this.asked.push([event[0], event.pop()]);
    this.said.push(event);
  }

  disconnect() {
    this.log.push("disconnected");
    this.active = false;
    this.hub("disconnect", "io client disconnect");
  }

  connect() {
    this.log.push("connecting");
    this.active = true;
  }

  /** The hub says something. */
  hub(event, ...args) {
    this.#heard.get(event)(...args);
  }

  /** A connection begins; what the client logs in with. */
  async connected() {
    let auth;
    this.opts.auth((given) => (auth = given));
    await turn();
    return auth;
  }

  async welcome() {
    await this.connected();
    this.hub("welcome", { id: 7 });
  }

  cut(reason = "transport close") {
    this.hub("disconnect", reason);
  }

  batch(events, end = {}, acknowledge = undefined) {
    for (const [what, told] of events) this.hub(what, { board: "data", by: 1, at_ms: 1, content_type: "", ...told });
    const { current = true, cursor = "c", pattern = "*" } = end;
    this.hub(current ? "current" : "cursor", { board: "data", pattern, cursor, conflated: 0 }, acknowledge);
  }

  /** What was said since the last look. */
  take() {
    return this.said.splice(0);
  }

  /** Answers the last event of this name. */
  answer(name, answer) {
    this.asked.findLast(([event]) => event === name)[1](answer);
  }
}
