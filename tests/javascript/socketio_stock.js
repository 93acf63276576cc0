// A stock Socket.IO client on Node that does what lines of JSON tell it and prints what it hears, a line of JSON each.
//
// Its one argument: {url, transports, auth, silent, hold}; see stock.mjs, also for its lines.

const { io } = require("socket.io-client");

const options = JSON.parse(process.argv[2]);

import("./stock.mjs").then(({ stock }) => {
  const client = stock(io, options.url, options, (line) => process.stdout.write(JSON.stringify(line) + "\n"));
  require("node:readline")
    .createInterface({ input: process.stdin })
    .on("line", (line) => client.obey(JSON.parse(line)))
    .on("close", () => client.close());
});
