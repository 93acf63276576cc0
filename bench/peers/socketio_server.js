// The npm server as a plain fan-out: it welcomes who connects, and tells what one puts to all. Nothing is kept, proved or paced.

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { pingInterval: 5000, pingTimeout: 10000 });
let version = 0;

io.on("connection", (socket) => {
  const { id } = socket.handshake.auth;
  socket.emit("welcome", { id });
  socket.emit("current", { board: "data", pattern: "*", cursor: "", conflated: 0 });
  socket.on("put", (name, payload, acknowledge) => {
    version += 1;
    const content_type = "text/plain; charset=utf-8";
    io.emit("value", { board: "data", name, version, content_type, by: id, at_ms: Date.now(), payload });
    acknowledge({ ok: true, version });
  });
});

http.listen(0, "127.0.0.1", 4096, () => console.log(`listening on 127.0.0.1:${http.address().port}`));
