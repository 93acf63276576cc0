// Our client for JavaScript, which does what lines of JSON tell it and prints what it is told, a line of JSON each.
//
// Its one argument: {url, id, options, slowMs, key}. `slowMs`: how long the callback for changes takes. `key`: how the keeper of
// the unique ID misbehaves (see KEEPERS). Lines: {"call": [method, argument ...], "ask": number}; what is asked for is answered by
// {answer, value} or {answer, error}. Bytes are {"$hex": "00ff"}.

import { Client } from "lockstep-client";
import { Socket } from "socket.io-client";
// The package shows it to nobody.
import { KeyFile } from "./node_modules/lockstep-client/src/key_file.js";

const { url, id, options = {}, slowMs, key } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(JSON.stringify(line, (_, value) => show(value)) + "\n");
const show = (value) => {
  if (value instanceof Uint8Array) return { $hex: Buffer.from(value).toString("hex") };
  if (value instanceof Error) return { name: value.name, code: value.code, text: value.message };
  if (value instanceof Map) return Object.fromEntries(value);
  return value;
};
const read = (value) => (value?.$hex === undefined ? value : Buffer.from(value.$hex, "hex"));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What the hub sends, whatever the client makes of it.
const sent = { reset: 0, value: 0, gone: 0, welcome: 0 };
const { emitEvent } = Socket.prototype;
Socket.prototype.emitEvent = function (event) {
  if (event[0] in sent) sent[event[0]] += 1;
  return emitEvent.call(this, event);
};

const KEEPERS = {
  // Killed once the hub has issued a unique ID, before and after it is kept.
  "dies before": () => process.kill(process.pid, "SIGKILL"),
  "dies after": (file, uniqueId) => {
    file.save(uniqueId);
    process.kill(process.pid, "SIGKILL");
  },
  // A disk that takes for ever.
  hangs: () => {
    say({ event: "saving" });
    return new Promise(() => {});
  },
  // Known to be wrong: says that it is kept, and is not.
  lies: () => say({ event: "saving" }),
};
if (key) {
  const file = new KeyFile(options.keyFile, id);
  options.key = { load: () => file.load(), save: (uniqueId) => KEEPERS[key](file, uniqueId) };
}

const client = new Client(url, id, options);
client.onChange("*", async (value) => {
  say({ event: "change", value });
  if (slowMs) await pause(slowMs);
});
client.onGone("*", (name) => say({ event: "gone", name }));
client.onCurrent(() => say({ event: "current" }));
client.onTrouble((trouble) => say({ event: "trouble", error: trouble }));
client.onEnd((error) => say({ event: "end", error }));

const OTHERS = {
  // All that is held.
  view: () => [...client.values.keys()].map((name) => client.held(name)),
  conflated: () => client.conflated,
  /** What the hub sent since the last look. */
  sent: () => {
    const counts = { ...sent };
    for (const event of Object.keys(sent)) sent[event] = 0;
    return counts;
  },
  watch: () => void client.onClient((peer, here) => say({ event: "client", peer, here })),
};

/** The lines of stdin, one after another: no package is needed for that. */
async function* lines() {
  let rest = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

for await (const line of lines()) {
  const {
    call: [method, ...args],
    ask,
  } = JSON.parse(line);
  const answer = (told) => say({ answer: ask, ...told });
  // Asked at once, so that many are under way together.
  new Promise((resolve) => resolve(method in OTHERS ? OTHERS[method]() : client[method](...args.map(read)))).then(
    (value) => answer({ value: value ?? null }),
    (error) => answer({ error }),
  );
}
await client.close();
