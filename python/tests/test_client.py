"""What the two clients are without any hub: what they refuse, what they need, and in which order they hear."""

import asyncio
import collections.abc
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import engineio

import lockstep
from lockstep import _tasks, _threads
from lockstep._base import code_of, putting
from model import told

URL = "http://127.0.0.1:9"


def python(script):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)


class Needs(unittest.TestCase):
    def test_importing_needs_nothing_but_python(self):
        script = (
            "import sys, lockstep; found = {'socketio', 'engineio', 'requests', 'aiohttp', 'websocket'} & set(sys.modules);"
            "sys.exit(f'imported {found}' if found else 0)"
        )
        self.assertEqual(python(script).stderr, "")

    def test_what_is_missing_is_said_with_what_to_install(self):
        for client, missing, what in [
            ("Client", "socketio", "'python-socketio[client]'"),
            ("Client", "websocket", "'python-socketio[client]'"),
            ("AsyncClient", "aiohttp", "python-socketio aiohttp"),
        ]:
            done = python(f"import sys; sys.modules[{missing!r}] = None; import lockstep; lockstep.{client}({URL!r}, 7)")
            self.assertRegex(done.stderr, rf"ImportError: .*no {missing}: pip install {re.escape(what)}")


class Arguments(unittest.TestCase):
    def test_what_cannot_be_right_is_refused_with_the_reason(self):
        for kind in (lockstep.Client, lockstep.AsyncClient):
            for id in ("7", 7.0, True, 0, -7, 2**53, None):
                with self.assertRaisesRegex(ValueError, "integer from 1"):
                    kind(URL, id)
            for url in ("127.0.0.1:7118", "ws://h", "http://"):
                with self.assertRaisesRegex(ValueError, "looks like http://"):
                    kind(url, 7)
            with self.assertRaisesRegex(ValueError, r"\['a\*'\]"):
                kind(URL, 7, follow="a*")
            with self.assertRaisesRegex(ValueError, "lockstep cert"):
                kind("https://h", 7, ca="/nowhere.pem")
            # The unique ID would be readable on the way.
            with self.assertRaisesRegex(ValueError, "plain=True"):
                kind("http://hub.example:7118", 7)
            kind("http://hub.example:7118", 7, plain=True)

    def test_an_invite_is_the_code_its_link_or_the_whole_line(self):
        for invite in ("CODE", " CODE\n", "lsj1.h.1.FP.CODE.CHEC", "lsj1.2001:db8::7.7117.FP.CODE.CHEC"):
            for line in (invite, f"lockstep join {invite}"):
                self.assertEqual(code_of(line), "CODE")
        self.assertEqual((code_of(None), code_of("")), (None, None))

    def test_what_can_be_put_is_json_a_text_or_bytes(self):
        self.assertEqual(putting("n", bytearray(b"\xff"), None), ("n", b"\xff"))
        self.assertEqual(
            putting("n", {"k": [1, None]}, "application/geo+json"), ("n", {"k": [1, None]}, "application/geo+json")
        )
        for wrong in (float("nan"), {1, 2}, {"deep": b"bytes"}):
            with self.assertRaises((ValueError, TypeError)):
                putting("n", wrong, None)


class Mapping(unittest.TestCase):
    def test_it_is_a_mapping_of_payloads(self):
        client = lockstep.Client(URL, 7)
        self.assertIsInstance(client, collections.abc.Mapping)
        link = client._core.begin(None)
        for entry in [("a", 1, "x"), ("b", 2, b"\xff")]:
            event, value = told(entry)
            client._core.heard(link, event, [value], None)
        self.assertEqual((client["a"], client.get("b"), client.get("c", 5), len(client)), ("x", b"\xff", 5, 2))
        self.assertEqual((list(client), "a" in client, 7 in client), (["a", "b"], True, False))
        self.assertEqual((dict(client), dict(client.items())), ({"a": "x", "b": b"\xff"},) * 2)
        self.assertEqual((list(client.values()), client == {"a": "x", "b": b"\xff"}), (["x", b"\xff"], True))
        self.assertEqual((client.held("b").version, client.held("c")), (2, None))
        with self.assertRaises(KeyError):
            client["c"]
        with self.assertRaises(TypeError):
            client["a"] = 1  # puts go to the hub, and are named so
        # Who goes through it is not disturbed by what comes meanwhile.
        for name in client:
            event, value = told((f"{name}+", 9, "x"))
            client._core.heard(link, event, [value], None)
        self.assertIn("4 values", repr(client))

    def test_without_a_hub_it_says_so_and_closes(self):
        with tempfile.TemporaryDirectory() as directory:
            client = lockstep.Client(URL, 7, key_file=f"{directory}/key", timeout=0.3)
            with self.assertRaisesRegex(lockstep.TimedOut, "no connection to http://127.0.0.1:9: .*refused"), client:
                self.fail("it entered")
            self.assertIsInstance(client.ended, lockstep.Closed)
            with self.assertRaises(lockstep.Closed):
                client.put("a", 1)
            with self.assertRaises(lockstep.Closed):
                client.start()
            client.close()

            async def the_same():
                client = lockstep.AsyncClient(URL, 7, key_file=f"{directory}/key", timeout=0.3)
                with self.assertRaisesRegex(lockstep.TimedOut, "no connection to http://127.0.0.1:9"):
                    async with client:
                        self.fail("it entered")
                with self.assertRaises(lockstep.Closed):
                    await client.put("a", 1)
                await client.close()

            asyncio.run(the_same())
        self.assertEqual([t.name for t in threading.enumerate() if "lockstep" in t.name], [])


def order_of(engine, messages=200):
    """In which order an engine has its messages heard, where hearing takes its time."""
    heard = []

    def hear(number):
        time.sleep(0.002 if number % 2 else 0)
        heard.append(number)

    engine.on("message", hear)
    for number in range(messages):
        engine._trigger_event("message", number, run_async=True)
    if hasattr(engine, "inbox"):
        while not engine.inbox.empty():
            hear(engine.inbox.get())
    deadline = time.monotonic() + 10
    while len(heard) < messages and time.monotonic() < deadline:
        time.sleep(0.001)
    return heard


class Order(unittest.TestCase):
    def test_messages_are_heard_in_their_order_by_threads(self):
        self.assertEqual(order_of(_threads._Engine()), list(range(200)))
        # The library's own does not keep it: so this test can fail, and the engine of ours is needed.
        self.assertNotEqual(order_of(engineio.Client()), list(range(200)))

    def test_messages_are_heard_in_their_order_by_tasks_bytes_with_their_value(self):
        heard = []

        async def run():
            async with _tasks.session(None) as http:

                async def hear(event, args, number):
                    heard.append((event, args))
                    # What comes of it may take its time.
                    await asyncio.sleep(0.001 * (number or 0))

                connection = _tasks.Connection(http, hear, lambda trouble: None)
                for n in range(50):
                    for message in (f'2["e{n}"]', f'51-7["v{n}",{{"_placeholder":true,"num":0}}]', b"%d" % n):
                        await connection.eio._trigger_event("message", message, run_async=True)
                deadline = time.monotonic() + 10
                while len(heard) < 100 and time.monotonic() < deadline:
                    await asyncio.sleep(0.001)

        asyncio.run(run())
        self.assertEqual(heard, [event for n in range(50) for event in ((f"e{n}", []), (f"v{n}", [b"%d" % n]))])


if __name__ == "__main__":
    unittest.main()
