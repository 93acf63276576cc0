// Makes clients in a page without an import map, a bundler or inline code; the test evaluates the rest.

import { clientWith } from "./node_modules/lockstep-client/src/bare.js";
import { io } from "./node_modules/socket.io-client/dist/socket.io.esm.min.js";

const Client = clientWith(io);
window.make = (url, id, options) => {
  const client = (window.client = new Client(url, id, options));
  window.told = [];
  client.onChange("*", ({ name, version, payload }) => void told.push([name, version, payload]));
  client.onGone("*", (name) => void told.push([name]));
  client.onTrouble((trouble) => console.log("trouble", trouble.message));
  client.onEnd((why) => console.log("end", why.name));
};
console.log("loaded");
