// Never run: what compiles here is what the types promise, and that the classes keep it.

import * as promised from "lockstep-client";
import { clientWith } from "lockstep-client/bare";
import { BaseClient } from "../src/client.js";
import * as errors from "../src/errors.js";
import * as node from "../src/node.js";

export async function use(io: unknown): Promise<void> {
  const options: promised.Options = {
    follow: ["a/*"],
    ca: new URL("file:///ca.pem"),
    key: { load: () => null, save: async () => {} },
  };
  const client = new promised.Client("http://127.0.0.1:7118", 7, options);
  const takeBack: promised.TakeBack = client.onChange("a/*", async ({ name, version }) => name + version);
  client.onClient((peer, here) => here && peer.id);
  client.onEnd((why) => why instanceof promised.Refused && why.code);
  const version: number = await client.put("a/b", new Uint8Array(1), { contentType: "image/png", timeoutMs: 5 });
  const got: promised.Value | undefined = await client.get("a/b");
  for (const [name, payload] of client.values) console.log(name, payload, version, got?.by);
  takeBack();
  const why: promised.LockstepError | undefined = await client.ended;
  new (clientWith(io))("http://127.0.0.1:7118", 7).close().catch(() => why);
  // @ts-expect-error an id is a number
  new promised.Client("http://127.0.0.1:7118", "7");
  // @ts-expect-error only the hub changes values
  client.values.set("a", 1);
}

// What is written is what is there.
export const base: new (...args: any[]) => promised.Client = BaseClient;
export const face: typeof promised.Client = node.Client;
export const kinds: Pick<typeof promised, Exclude<keyof typeof promised, "Client">> = errors;
export const members: keyof promised.Client = null as unknown as keyof BaseClient;
