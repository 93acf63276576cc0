// A stock Socket.IO client on Node that does what lines of JSON tell it and prints what it hears, a line of JSON each.
//
// Its one argument: {url, transports, auth, silent, hold}; see stock.mjs, also for its lines. One more is {"pause": seconds}, for
// which it reads nothing.

const { io } = require("socket.io-client");

const options = JSON.parse(process.argv[2]);

import("./stock.mjs").then(({ stock }) => {
  const client = stock(io, options.url, options, (line) => process.stdout.write(JSON.stringify(line) + "\n"));
  require("node:readline")
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
      const order = JSON.parse(line);
      if (order.pause === undefined) client.obey(order);
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.pause * 1000);
    })
    .on("close", () => client.close());
});
