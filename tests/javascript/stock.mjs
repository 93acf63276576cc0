// What a stock Socket.IO client does that is told by orders what to say, and says what it hears; on Node and in a page.
//
// `options`: {transports, auth, silent, hold}. An auth with "resume" becomes a function that gives the cursors of what was heard
// last. Orders: {emit: [name, argument ...], ask: number}, and {confirm: true}. Bytes are {"$hex": "00ff"}. A silent one never
// calls the callback of an event; one that holds calls that of `unique_id` when it is told to confirm.

const hex = (bytes) => {
  const all = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
  return [...all].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};
const show = (value) => {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return { $hex: hex(value) };
  if (Array.isArray(value)) return value.map(show);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, show(v)]));
  return value;
};
const read = (value) =>
  value && value.$hex !== undefined ? Uint8Array.from(value.$hex.match(/../g) ?? [], (pair) => parseInt(pair, 16)) : value;

/** The client, as {obey, close}. */
export const stock = (io, url, options, say) => {
  const auth = options.auth;
  const cursors = { ...auth?.cursors };
  let confirm;
  const socket = io(url, {
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
    if (event === "unique_id" && options.hold) confirm = callback;
    else if (callback && !options.silent) callback();
  });
  socket.on("connect", () => say({ event: "connect", args: [] }));
  socket.on("disconnect", (reason) => say({ event: "disconnect", args: [reason] }));
  const obey = (order) => {
    if (order.confirm) return confirm();
    const args = order.emit.map(read);
    if (order.ask !== undefined) args.push((...got) => say({ ack: order.ask, args: show(got) }));
    socket.emit(...args);
  };
  return { obey, close: () => socket.disconnect() };
};
