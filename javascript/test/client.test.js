import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { BaseClient } from "../src/client.js";
import * as errors from "../src/errors.js";
import { codeOf } from "../src/login.js";
import { memory, met, welcomed } from "./fake.js";

const KEY = "ls-7-AAAAA-BBBBB-CCCCC-DDDDD-EEEEE-FFFFF";
const follow = (cursor, pattern = "*") => ["follow", { board: "data", pattern, cursor }];
const RESET = ["reset", { pattern: "*" }];
const value = (name, version, payload = version) => ["value", { name, version, payload }];

/** A promise that a test settles. */
function gate() {
  let open, fail;
  const shut = new Promise((resolve, reject) => ([open, fail] = [resolve, reject]));
  return { shut, open, fail };
}

test("what cannot be right is refused before anything is connected", () => {
  const face = { io: () => assert.fail("connected"), keeper: memory };
  const make =
    (url, id, options = {}) =>
    () =>
      void new BaseClient(url, id, options, face);
  for (const id of ["7", 7.5, true, 0, -1, 2 ** 53, undefined, NaN])
    assert.throws(make("http://localhost:1", id), /an id is an integer/);
  for (const url of ["", "localhost:7118", "ftp://hub", undefined])
    assert.throws(make(url, 7), /is no address of a hub/);
  assert.throws(make("http://hub.example:7118", 7), /show the unique ID to everybody/);
  assert.throws(make("http://127.0.0.1.example:7118", 7), /show the unique ID to everybody/);
  assert.throws(make("http://localhost", 7, { follow: "a*" }), /\["a\*"\]/);
  assert.throws(make("http://localhost", 7, { key: { load: () => {} } }), /load\(\) and save/);
});

/** Runs a first login whose keeper takes its time; whether the hub was told only when the key was kept. */
async function keptFirst(client, end, saving) {
  let acknowledged = 0;
  assert.deepEqual(await end.connected(), { id: 7, unique_id: undefined, name: "test", invite: undefined, follow: [] });
  end.hub("unique_id", KEY, () => acknowledged++);
  await turn();
  const early = acknowledged;
  saving.open();
  await turn();
  assert.equal(acknowledged, 1);
  end.cut();
  assert.equal((await end.connected()).unique_id, KEY);
  await client.close();
  return early === 0;
}

test("m3_3 a unique ID is kept before its event is acknowledged", async () => {
  const saving = gate();
  const { client, end } = await met({}, { ...memory(), save: () => saving.shut });
  assert.ok(await keptFirst(client, end, saving));
});

test("the same finds a keeper that does not wait for its disk", async () => {
  const saving = gate();
  const { client, end } = await met({}, { ...memory(), save: () => void saving.shut });
  assert.ok(!(await keptFirst(client, end, saving)));
});

test("a unique ID that cannot be kept is not acknowledged, and that is the end", async () => {
  const full = Object.assign(new Error("no space left"), { code: "ENOSPC" });
  const { client, end } = await met({}, { ...memory(), save: () => Promise.reject(full) });
  await end.connected();
  end.hub("unique_id", KEY, () => assert.fail("acknowledged"));
  const why = await client.ended;
  assert.ok(why instanceof errors.KeyError && /no space left/.test(why.message) && /not confirmed/.test(why.message));
  assert.deepEqual(end.log, ["disconnected"]);
  for (const other of ["ls-8-A", 7]) {
    const { client, end } = await met();
    await end.connected();
    end.hub("unique_id", other, () => assert.fail("acknowledged"));
    assert.ok((await client.ended) instanceof errors.KeyError);
  }
});

test("what was kept after its connection was over is not acknowledged on another", async () => {
  const saving = gate();
  const { client, end, keeper } = await met({}, { ...memory(), save: () => saving.shut });
  await end.connected();
  end.hub("unique_id", KEY, () => assert.fail("acknowledged"));
  end.cut();
  keeper.kept = KEY;
  await end.connected();
  saving.open();
  await turn();
  await client.close();
});

test("a key that cannot be loaded is the end, and nothing is said to the hub", async () => {
  for (const load of [
    () => {
      throw new Error("gone");
    },
    () => 7,
  ]) {
    const { client, end } = await met({ key: { load, save: () => {} } });
    assert.equal(await end.connected(), undefined);
    assert.ok((await client.ended) instanceof errors.KeyError);
  }
});

test("m3_4 a known id is proven with what is kept; where nothing is, it is looked for once more, and then said to be lost", async () => {
  const { client, end, keeper } = await met();
  await end.connected();
  // Another program with the same key file has just got it.
  keeper.kept = KEY;
  end.hub("unique_id?");
  await turn();
  assert.deepEqual(end.take(), [["unique_id", KEY]]);
  await client.close();
  const none = await met();
  await none.end.connected();
  none.end.hub("unique_id?");
  await turn();
  assert.deepEqual(none.end.take(), [["lost"]]);
  none.end.hub("refused", { code: "not_proven", text: "no" });
  const why = await none.client.ended;
  assert.ok(
    why instanceof errors.NotProven && why.code === "not_proven" && /not in memory/.test(why.text),
    String(why),
  );
});

test("an invite is a code, or what is printed with it", () => {
  const code = "K7M2P9QX4T".padEnd(26, "A");
  for (const text of [
    code,
    `lsj1.hub.example.7117.${"F".repeat(52)}.${code}.AB12`,
    `lockstep join lsj1.::1.7117.F.${code}.AB12\n`,
  ]) {
    assert.equal(codeOf(text), code);
  }
  for (const nothing of [undefined, "", " "]) assert.equal(codeOf(nothing), undefined);
});

test("a refusal that says when to come again is not the end", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { client, end } = await met();
  await end.connected();
  end.hub("refused", { code: "rate_limited", text: "too many", retry_ms: 60_000 });
  assert.deepEqual(end.log, ["disconnected"]);
  t.mock.timers.tick(59_999);
  assert.deepEqual(end.log, ["disconnected"]);
  t.mock.timers.tick(1001);
  assert.deepEqual(end.log, ["disconnected", "connecting"]);
  assert.equal(end.troubles[0].code, "rate_limited");
  await client.close();
});

test("nothing is said before the login, and what was left over of the last connection never", async () => {
  const { client, end } = await met({ follow: ["a*", "b"] });
  const put = client.put("x", 1);
  const removed = client.remove("y");
  client.follow("c");
  client.onClient(() => {});
  await end.connected();
  assert.deepEqual([end.take(), end.sendBuffer], [[], []]);
  end.hub("welcome", { id: 7 });
  end.answer("put", { ok: true, version: 5 });
  end.answer("remove", { ok: false, code: "limit", text: "no" });
  assert.deepEqual(end.take(), [
    follow(undefined, "a*"),
    follow(undefined, "b"),
    follow(undefined, "c"),
    ["clients"],
    ["put", "x", 1],
    ["remove", "y"],
  ]);
  assert.equal(await put, 5);
  await assert.rejects(removed, errors.LimitExceeded);
  await client.close();
});

test("m3_7 a connection goes on with the cursors of the last, each of its own pattern", async () => {
  const { client, end } = await welcomed({ follow: ["a*", "b*"] });
  end.take();
  end.batch([["reset", { pattern: "a*" }], value("a", 3)], { pattern: "a*", cursor: "c3" });
  end.hub("reset", { board: "data", pattern: "b*" });
  assert.equal(client.isCurrent, false);
  end.cut();
  await end.welcome();
  assert.deepEqual(end.take(), [follow("c3", "a*"), follow(undefined, "b*")]);
  await client.close();
});

test("current resolves when all is here, own puts as well, and says why it did not", async (t) => {
  const { client, end } = await met();
  await assert.rejects(client.current({ timeoutMs: 1 }), /did not come within 1 ms: there is no connection yet/);
  end.hub("connect_error", new Error("refused"));
  await assert.rejects(
    client.current({ timeoutMs: 1 }),
    (error) => error instanceof errors.TimedOut && /refused/.test(error.message),
  );
  let current = false;
  const waited = client.current().then(() => (current = true));
  await end.welcome();
  end.batch([RESET, value("a", 1)], { current: false });
  await turn();
  assert.ok(!current);
  end.batch([]);
  await waited;
  assert.deepEqual([...client.values], [["a", 1]]);
  const put = client.put("b", "own");
  end.answer("put", { ok: true, version: 2 });
  await put;
  current = false;
  const own = client.current().then(() => (current = true));
  await turn();
  assert.ok(!current && !client.isCurrent);
  end.batch([value("b", 2, "own")]);
  await own;
  await client.close();
  await assert.rejects(client.current(), errors.Closed);
});

test("who asked on a connection that is lost is told that nobody knows; who was not asked yet waits", async () => {
  const { client, end } = await welcomed();
  const asked = client.put("a", 1);
  end.cut();
  const waits = client.put("b", 2);
  await assert.rejects(asked, errors.Unanswered);
  await end.welcome();
  assert.deepEqual(
    end.take().filter(([event]) => event === "put"),
    [
      ["put", "a", 1],
      ["put", "b", 2],
    ],
  );
  end.cut();
  await assert.rejects(waits, errors.Unanswered);
  await assert.rejects(client.put("c", 3, { timeoutMs: 1 }), /was not asked within 1 ms/);
  await end.welcome();
  assert.ok(!end.take().some((event) => event[1] === "c"));
  await assert.rejects(client.put("d", 3, { timeoutMs: 1 }), /did not answer within 1 ms/);
  await client.close();
});

test("a batch is acknowledged when its callbacks are done, and only on its own connection", async () => {
  const { client, end } = await welcomed();
  const [told, acknowledged] = [[], []];
  let slow = gate();
  client.onChange("*", async ({ payload }) => {
    told.push(payload);
    await slow.shut;
  });
  end.batch([RESET, value("a", 1)], {}, () => acknowledged.push("first"));
  await turn();
  assert.deepEqual([told, acknowledged, client.values.get("a")], [[1], [], 1]);
  slow.open();
  await turn();
  assert.deepEqual(acknowledged, ["first"]);
  slow = gate();
  end.batch([value("a", 2)], {}, () => acknowledged.push("of the connection that is over"));
  await turn();
  end.cut();
  await end.welcome();
  slow.open();
  await turn();
  assert.deepEqual(acknowledged, ["first"]);
  await client.close();
});

test("m3_4 who is taken over, revoked or refused is told, and does not come back", async () => {
  for (const [event, code, Kind] of [
    ["bye", "taken_over", errors.TakenOver],
    ["bye", "revoked", errors.Revoked],
    ["refused", "not_invited", errors.NotInvited],
    ["refused", "bad_id", errors.Refused],
  ]) {
    const { client, end } = event === "bye" ? await welcomed() : await met();
    if (event === "refused") await end.connected();
    const told = [];
    client.onEnd((why) => told.push(why));
    const [waits, asked] = [client.current(), client.put("a", 1)];
    end.hub(event, { code, text: "because" });
    const why = await client.ended;
    assert.ok(
      why instanceof Kind && why.code === code && why.text === "because" && why.message === `because (${code})`,
    );
    await assert.rejects(waits, Kind);
    await assert.rejects(asked, Kind);
    await assert.rejects(client.get("a"), Kind);
    await assert.rejects(client.follow("a"), Kind);
    await turn();
    assert.deepEqual([told, end.log], [[why], ["disconnected"]]);
    end.take();
    end.hub("welcome", { id: 7 });
    assert.deepEqual(end.take(), []);
  }
});

test("an end without a word is an end: coming back could take over from another", async () => {
  const { client, end } = await welcomed();
  end.active = false;
  end.cut("io server disconnect");
  assert.equal((await client.ended).code, "ended");
});

test("a hub that stops is come back to, and that is told once", async () => {
  const { client, end } = await welcomed();
  end.hub("bye", { code: "stopping", text: "the hub is stopping", retry_ms: 0 });
  end.cut();
  end.hub("connect_error", new Error("refused"));
  end.hub("connect_error", new Error("refused"));
  assert.deepEqual(
    end.troubles.map(({ message }) => message),
    ["the hub is stopping (stopping)", "no connection to http://127.0.0.1:7118: refused"],
  );
  assert.ok(!end.log.includes("disconnected"));
  await end.welcome();
  await client.close();
});

test("what is not understood ends the connection, and nothing of it is heard any more", async () => {
  const { client, end } = await welcomed();
  end.batch([RESET, value("a", 1)], { cursor: "c1" });
  end.batch([["value", { name: "b" }]], { cursor: "c2" });
  assert.deepEqual(end.log, ["engine closed"]);
  end.batch([value("c", 3)], { cursor: "c3" });
  assert.deepEqual([...client.values.keys()], ["a"]);
  end.cut();
  end.take();
  await end.welcome();
  assert.deepEqual(end.take(), [follow("c1")]);
  assert.match(end.troubles[0].message, /current was not understood/);
  const other = await met();
  await other.end.connected();
  other.end.hub("welcome", { id: 8 });
  assert.deepEqual(other.end.log, ["engine closed"]);
  await Promise.all([client.close(), other.client.close()]);
});

test("what a follow that overlaps is ended leaves in doubt is followed anew", async () => {
  const { client, end } = await welcomed({ follow: ["*", "a*"] });
  end.batch([RESET], { cursor: "c1" });
  end.take();
  const done = client.unfollow("a*");
  end.answer("unfollow", { ok: true, followed: true });
  await done;
  assert.deepEqual(end.take(), [
    ["unfollow", { board: "data", pattern: "*" }],
    follow(undefined),
    ["unfollow", { board: "data", pattern: "a*" }],
  ]);
  const refused = client.follow("x".repeat(9999));
  end.answer("follow", { ok: false, code: "limit", text: "too long" });
  await assert.rejects(refused, errors.LimitExceeded);
  end.cut();
  end.take();
  await end.welcome();
  assert.deepEqual(end.take().length, 1);
  await client.close();
});

test("m3_5 who is here is told first, then who comes and goes, and what changed while it was away", async () => {
  const { client, end } = await welcomed();
  const told = [];
  client.onClient((peer, here) => told.push([peer.id, peer.name, here]));
  end.answer("clients", {
    ok: true,
    clients: [
      { id: 7, name: "test" },
      { id: 8, name: "b" },
    ],
  });
  end.hub("client", { id: 9, name: "c", active: true });
  end.hub("client", { id: 8, active: false });
  await turn();
  assert.deepEqual(told.splice(0), [
    [7, "test", true],
    [8, "b", false],
    [9, "c", true],
  ]);
  end.cut();
  await end.welcome();
  // By polling, what is newer may overtake the list: it is asked for once more.
  end.io.engine.transport.name = "polling";
  end.hub("client", { id: 10, name: "d", active: true });
  end.answer("clients", { ok: true, clients: [{ id: 7, name: "test" }] });
  await turn();
  assert.deepEqual(told, [
    [10, "d", true],
    [9, "c", false],
  ]);
  assert.deepEqual(end.take().at(-1), ["clients"]);
  await client.close();
});

test("what cannot be put is told where it was written", async () => {
  const { client, end } = await welcomed();
  end.take();
  const loop = {};
  loop.self = loop;
  for (const bad of [undefined, () => {}, Symbol("s"), 1n, { deep: [new Uint8Array(1)] }, loop, new Blob(["x"]), NaN, { k: Infinity }]) {
    await assert.rejects(client.put("a", bad), TypeError);
  }
  await assert.rejects(client.put(7, 1), TypeError);
  assert.deepEqual(end.take(), []);
  for (const good of [null, "", 0, [], new Uint8Array(1), new ArrayBuffer(1)]) client.put("a", good).catch(() => {});
  client.put("a", "{}", { contentType: "application/json" }).catch(() => {});
  assert.deepEqual(
    end.take().map((event) => event.length),
    [3, 3, 3, 3, 3, 3, 4],
  );
  await client.close();
});

test("closed, it is over: nothing is called, asked or connected any more", async () => {
  const { client, end } = await welcomed();
  client.onChange("*", () => assert.fail("called"));
  client.onEnd(() => assert.fail("called"));
  end.batch([RESET, value("a", 1)]);
  const asked = client.put("a", 1);
  const closed = client.close();
  await assert.rejects(asked, errors.Closed);
  await closed;
  await client.close();
  assert.equal(await client.ended, undefined);
  await assert.rejects(client.put("a", 1), errors.Closed);
  assert.equal(client.values.get("a"), 1, "what it held stays readable");
  await turn();
  const never = new BaseClient("http://localhost", 7, {}, { io: () => assert.fail("connected"), keeper: memory });
  await never.close();
  await turn();
});

test("the values are a map that only the hub changes", async () => {
  const { client, end } = await welcomed();
  end.batch([RESET, value("a", 1, null), value("b", 2, { k: 1 })]);
  const { values } = client;
  assert.deepEqual(
    [values.size, values.has("a"), values.has("c"), values.get("a"), values.get("c")],
    [2, true, false, null, undefined],
  );
  assert.deepEqual(
    new Map(values),
    new Map([
      ["a", null],
      ["b", { k: 1 }],
    ]),
  );
  assert.deepEqual(
    [[...values.keys()], [...values.values()]],
    [
      ["a", "b"],
      [null, { k: 1 }],
    ],
  );
  const seen = [];
  values.forEach((payload, name, all) => seen.push([payload, name, all === values]));
  assert.deepEqual(seen, [
    [null, "a", true],
    [{ k: 1 }, "b", true],
  ]);
  assert.equal(values.set, undefined);
  assert.deepEqual(client.held("b"), { name: "b", version: 2, payload: { k: 1 }, contentType: "", by: 1, atMs: 1 });
  assert.ok(Object.isFrozen(client.held("b")));
  await client.close();
});
