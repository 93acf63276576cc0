// Our client for JavaScript in a real Chromium: a page of its own origin, from a server here, and lines of JSON that say what to
// evaluate in it. What the page writes to its console comes out as it is.
//
// Its one argument: {port, page, policy}: where this directory is served, which page is opened, and the Content-Security-Policy it
// is served with, if any. Lines: {"call": ["eval", expression], "ask": number}, answered by {answer, value} or {answer, error};
// {"call": ["reload"], "ask": number} loads the page again; ["open", page] a second one, which is the one spoken to from then on.
// {event: "ready", address} says where others can drive the browser as well.

import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const { port, page: first, policy } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const SCRIPT = "text/javascript; charset=utf-8";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": SCRIPT, ".mjs": SCRIPT };
// A browser connects before it has anything to ask, and takes what comes on such a connection after a minute, that no request came,
// for the answer to its next request: none comes.
const server = createServer({ headersTimeout: 0, requestTimeout: 0 }, (request, response) => {
  const path = normalize(new URL(request.url, "http://here").pathname);
  const file = createReadStream(join(process.cwd(), path));
  file.on("error", () => response.writeHead(404).end());
  file.on("open", () => {
    const headers = { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" };
    response.writeHead(200, policy ? { ...headers, "Content-Security-Policy": policy } : headers);
    file.pipe(response);
  });
});
await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));

// A child in this program's process group, so that whoever kills the group leaves nothing of it behind.
const child = spawn(
  process.env.LOCKSTEP_CHROMIUM || "/usr/bin/chromium",
  [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // No process that reports crashes to anybody: it would leave the group.
    "--disable-breakpad",
    // Whoever drives it asks which port it took.
    "--remote-debugging-port=0",
    `--user-data-dir=${join(process.cwd(), "profile")}`,
    "about:blank",
  ],
  { stdio: ["ignore", "ignore", "pipe"] },
);
process.on("exit", () => child.kill("SIGKILL"));
const address = await new Promise((found, failed) => {
  let said = "";
  child.on("exit", (code, signal) => failed(new Error(`chromium ended (${code ?? signal})\n${said}`)));
  child.stderr.on("data", (text) => {
    said = (said + text).slice(-10_000);
    const [, address] = /DevTools listening on (\S+)/.exec(said) ?? [];
    if (address) found(address);
  });
});
const browser = await chromium.connectOverCDP(address);
// One context: its pages share localStorage, as the tabs of a person do.
const context = await browser.newContext();
const open = async (path) => {
  const page = await context.newPage();
  page.on("console", (message) => say({ event: "console", text: message.text() }));
  page.on("pageerror", (error) => say({ event: "pageerror", text: String(error) }));
  await page.goto(`http://127.0.0.1:${port}/${path}`);
  return page;
};
let page = await open(first);
say({ event: "ready", address });

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ask } = JSON.parse(line);
  try {
    if (call[0] === "reload") await page.reload();
    else if (call[0] === "open") page = await open(call[1]);
    say({ answer: ask, value: call[0] === "eval" ? ((await page.evaluate(call[1])) ?? null) : null });
  } catch (error) {
    say({ answer: ask, error: { text: String(error) } });
  }
}
await browser.close();
process.exit(0);
