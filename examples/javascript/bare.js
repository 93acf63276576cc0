// Takes part in a hub with nothing but socket.io-client: npm install socket.io-client
//
//     node bare.js http://127.0.0.1:7118 7
//
// The first time the hub issues a unique ID for the number; it is kept in a file and asked for ever after.

const fs = require("node:fs");
const { io } = require("socket.io-client");

const [url, number] = [process.argv[2], Number(process.argv[3])];
const file = `lockstep-${number}.json`;
const known = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : {};
const cursors = {}; // where to go on after a cut
const latest = new Map();

// A function, so that every reconnect logs in with what is known by then.
const socket = io(url, { auth: (give) => give({ id: number, ...known, cursors }) });
socket.on("unique_id", (uniqueId, acknowledge) => {
  known.unique_id = uniqueId;
  fs.writeFileSync(file, JSON.stringify(known), { mode: 0o600 });
  acknowledge(); // only now it counts
});
socket.on("reset", () => latest.clear());
socket.on("value", ({ name, payload }) => {
  latest.set(name, payload);
  console.log(name, "=", payload);
});
socket.on("gone", ({ name }) => latest.delete(name));
for (const end of ["cursor", "current"]) {
  socket.on(end, ({ board, cursor }, acknowledge) => {
    cursors[board] = cursor;
    acknowledge?.();
  });
}
socket.on("refused", ({ text }) => console.error("refused:", text));

require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [name, ...words] = line.split(" ");
    socket.emit("put", name, words.join(" "), (done) => console.log("put:", done));
  })
  .on("close", () => socket.disconnect());
