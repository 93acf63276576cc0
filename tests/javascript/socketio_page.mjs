// A stock Socket.IO client in a page of a Chromium that runs already, as socketio_stock.js is one on Node: the same lines, and
// {"still": true}, by which the page stands still, as at a breakpoint, until {"still": false}.
//
// Its one argument: what stock.mjs takes, {url}, and {browser, page}: where the browser is driven, and what to open in it. The page
// has a context of its own, which the browser closes when this program is gone, however it went.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const { browser, page: address, ...options } = JSON.parse(process.argv[2]);

const context = await (await chromium.connectOverCDP(browser)).newContext();
const page = await context.newPage();
page.on("console", (message) => process.stdout.write(message.text() + "\n"));
page.on("pageerror", (error) => process.stderr.write(`${error}\n`));
await page.goto(address, { waitUntil: "load" });
await page.evaluate((options) => window.begin(options), options);
const debug = await context.newCDPSession(page);
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.still) {
    await debug.send("Debugger.enable");
    await debug.send("Debugger.pause");
  } else if (order.still === false) await debug.send("Debugger.disable");
  else await page.evaluate((order) => window.client.obey(order), order);
}
await context.close();
process.exit(0);
