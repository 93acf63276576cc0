// A stock Socket.IO client that does what lines of JSON tell it and prints what it hears, a line of JSON each.
//
// Its one argument: {url, transports, auth, silent}. An auth with "resume" becomes a function that gives the cursors of what
// was heard last. Lines: {"emit": [name, argument ...], "ask": number} and {"pause": seconds}, for which it reads
// nothing. Bytes are {"$hex": "00ff"}. A silent one never calls the callback of an event.

const { io } = require("socket.io-client");

const options = JSON.parse(process.argv[2]);
const cursors = {};
const auth = options.auth;
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const show = (value) => {
  if (Buffer.isBuffer(value)) return { $hex: value.toString("hex") };
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return { $hex: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(show);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, show(v)]));
  return value;
};
const read = (value) => (value && value.$hex !== undefined ? Buffer.from(value.$hex, "hex") : value);

const socket = io(options.url, {
  transports: options.transports,
  reconnectionDelay: 100,
  reconnectionDelayMax: 500,
  auth: auth && ((give) => {
    const { resume, ...known } = auth;
    give(resume ? { ...known, cursors } : known);
  }),
});
socket.onAny((event, ...args) => {
  const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
  if (event === "cursor" || event === "current") cursors[args[0].board] = args[0].cursor;
  if (event === "unique_id" && auth) auth.unique_id = args[0];
  say({ event, args: show(args) });
  if (callback && !options.silent) callback();
});
socket.on("connect", () => say({ event: "connect", args: [] }));
socket.on("disconnect", (reason) => say({ event: "disconnect", args: [reason] }));

require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line);
    if (order.pause !== undefined) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.pause * 1000);
      return;
    }
    const args = order.emit.map(read);
    if (order.ask !== undefined) args.push((...got) => say({ ack: order.ask, args: show(got) }));
    socket.emit(...args);
  })
  .on("close", () => socket.disconnect());
