// Takes part in a hub with lockstep-client: npm install lockstep-client
//
//     node client.mjs http://127.0.0.1:7118 7
//
// Where the hub wants an invite for a new id: INVITE=lsj1…, the link that `lockstep invite` prints. Lines "NAME VALUE" are put. Its unique ID is kept by the client, and what it missed after a cut comes by itself.

import { createInterface } from "node:readline";
import { Client } from "lockstep-client";

const [url, id] = process.argv.slice(2);
const client = new Client(url, Number(id), { ca: process.env.LOCKSTEP_CA, invite: process.env.INVITE });

client.onChange("*", ({ name, payload }) => console.log(name, "=", payload));
client.onGone("*", (name) => console.log(name, "is gone"));
client.onEnd((why) => {
  console.error(why.message);
  process.exit(1);
});

await client.current();
console.log(client.values.size, "values");
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(" ");
  console.log("put: version", await client.put(name, words.join(" ")));
}
await client.close();
