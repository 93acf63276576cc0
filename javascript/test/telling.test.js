import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Telling } from "../src/telling.js";

/** A telling over values that a test changes; `failed` gathers what callbacks threw. */
function telling() {
  const values = new Map();
  const failed = [];
  const read = ({ what, key }) => {
    if (what !== "name") return { kind: what, name: "", args: [key] };
    return values.has(key)
      ? { kind: "change", name: key, args: [values.get(key)] }
      : { kind: "gone", name: key, args: [key] };
  };
  return { values, failed, telling: new Telling(read, (error) => failed.push(error)) };
}

/** A promise and what resolves it. */
function gate() {
  let open;
  const shut = new Promise((resolve) => (open = resolve));
  return { shut, open };
}

test("callbacks are told in order, each of what its pattern means, until they are taken back", async () => {
  const { telling: t, values } = telling();
  const told = [];
  const off = t.on("change", "a*", (value) => told.push(`a ${value}`));
  t.on("change", "*", (value) => told.push(value));
  t.on("gone", "*", (name) => told.push(`gone ${name}`));
  values.set("a", 1).set("b", 2);
  for (const name of ["a", "b", "c"]) t.queue("name", name);
  assert.deepEqual(told, [], "not at once");
  await turn();
  assert.deepEqual(told, ["a 1", 1, 2, "gone c"]);
  off();
  t.queue("name", "a");
  await turn();
  assert.equal(told.at(-1), 1);
  assert.throws(() => t.on("change", "*", undefined), TypeError);
});

test("a slow callback is told the newest, once, and holds back what its batches brought", async () => {
  const { telling: t, values } = telling();
  const [told, acknowledged] = [[], []];
  const { shut, open } = gate();
  t.on("change", "*", async (value) => {
    told.push(value);
    if (told.length === 1) await shut;
  });
  values.set("a", 0).set("b", 0);
  t.queue("name", "a");
  t.batch(() => acknowledged.push(1));
  await turn();
  for (let n = 1; n <= 10_000; n++) {
    values.set("a", n).set("b", -n);
    t.queue("name", "b");
    t.queue("name", "a");
  }
  t.batch(() => acknowledged.push(2));
  await turn();
  assert.deepEqual([told, acknowledged], [[0], []]);
  open();
  await turn();
  assert.deepEqual(told, [0, -10_000, 10_000]);
  assert.deepEqual(acknowledged, [1, 2]);
});

test("of batches that the hub has given up none is acknowledged, nor of a connection that is over", async () => {
  const { telling: t } = telling();
  const acknowledged = [];
  const { shut, open } = gate();
  t.on("gone", "*", () => shut);
  t.queue("name", "a");
  for (let n = 0; n < 100; n++) t.batch(() => acknowledged.push(n));
  await turn();
  open();
  await turn();
  assert.deepEqual(acknowledged, [98, 99]);
  t.queue("name", "a");
  t.batch(() => acknowledged.push("old"));
  t.dropBatches();
  t.batch(() => acknowledged.push("new"));
  await turn();
  assert.deepEqual(acknowledged, [98, 99, "new"]);
  t.batch(() => acknowledged.push("nothing to tell"));
  assert.equal(acknowledged.at(-1), "nothing to tell");
});

test("current is told behind what it is about, and once where nothing came between", async () => {
  const { telling: t } = telling();
  const told = [];
  t.on("gone", "*", (name) => told.push(name));
  t.on("current", "*", () => told.push("current"));
  t.queue("name", "a");
  t.queueCurrent();
  t.queueCurrent();
  t.queue("name", "b");
  t.queueCurrent();
  await turn();
  assert.deepEqual(told, ["a", "current", "b", "current"]);
  t.queueCurrent();
  await turn();
  assert.equal(told.length, 5);
});

test("a callback that throws or rejects is told of, and the next is called", async () => {
  const { telling: t, failed } = telling();
  const told = [];
  t.on("gone", "*", () => {
    throw new Error("thrown");
  });
  t.on("gone", "*", async () => {
    throw new Error("rejected");
  });
  t.on("gone", "*", (name) => told.push(name));
  t.queue("name", "a");
  let acknowledged = false;
  t.batch(() => (acknowledged = true));
  await turn();
  assert.deepEqual([told, failed.map((error) => error.message)], [["a"], ["thrown", "rejected"]]);
  assert.ok(acknowledged);
});

test("once stopped nothing more is told", async () => {
  const { telling: t } = telling();
  const told = [];
  t.on("gone", "*", (name) => {
    told.push(name);
    t.stop();
  });
  t.on("gone", "*", (name) => told.push(`second ${name}`));
  t.queue("name", "a");
  t.queue("name", "b");
  await turn();
  t.queue("name", "c");
  await turn();
  assert.deepEqual(told, ["a"]);
});
