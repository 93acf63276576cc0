// Lets whoever drives the page start a client in it, which says what it hears to the page's console.

import { io } from "./node_modules/socket.io-client/dist/socket.io.esm.min.js";
import { stock } from "./stock.mjs";

window.begin = (options) => {
  window.client = stock(io, options.url, options, (line) => console.log(JSON.stringify(line)));
};
