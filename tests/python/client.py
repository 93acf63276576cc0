"""Our own client, doing what lines of JSON tell it, and printing what it hears, a line of JSON each.

Its one argument: {"async": bool, "url", "id", "slow": seconds that a callback takes, "unsaved": bool, "forgetful": bool, ...}, the
rest as options of the client. With "unsaved" the disk is full when the key is to be written; a "forgetful" one has no cursors, and
shows that tests find that out. Lines: [number, method, argument ...]. Bytes are {"$hex": "00ff"}.
"""

import asyncio
import json
import os
import sys
import threading
import time

import lockstep

options = json.loads(sys.argv[1])
slow, forgetful = options.pop("slow", 0), options.pop("forgetful", False)
kind = lockstep.AsyncClient if options.pop("async") else lockstep.Client
if options.pop("unsaved", False):

    def full(descriptor):
        raise OSError(28, "No space left on device")

    os.fsync = full


def show(value):
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    if isinstance(value, dict):
        return {key: show(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [show(item) for item in value]
    if isinstance(value, (lockstep.Value, lockstep.Peer)):
        return show({key: getattr(value, key) for key in value.__slots__})
    return failed(value) if isinstance(value, Exception) else value


def read(value):
    if isinstance(value, dict) and "$hex" in value:
        return bytes.fromhex(value["$hex"])
    return value


def say(**line):
    sys.stdout.write(json.dumps(show(line)) + "\n")
    sys.stdout.flush()


def failed(error):
    return {"error": type(error).__name__, "code": getattr(error, "code", None), "text": str(error)}


def watch(core):
    """Says what came over the network, whether it was news or not."""
    heard = core.heard

    def noted(link, event, args, number):
        if event in ("value", "gone", "reset"):
            say(event="wire", what=event)
        return heard(link, event, args, number)

    core.heard = noted
    if forgetful:
        core.data.resume = lambda pattern: None


def register(client):
    watch(client._core)
    where = set()

    def on_change(value):
        where.add(threading.current_thread())
        if len(where) > 1:
            say(event="callbacks run side by side")
        say(event="change", value=value)

    def on_slow_change(value):
        on_change(value)
        if slow:
            time.sleep(slow)

    async def on_slow_change_async(value):
        on_change(value)
        if slow:
            await asyncio.sleep(slow)

    client.on_change("*", on_slow_change_async if kind is lockstep.AsyncClient else on_slow_change)
    client.on_gone("*", lambda name: say(event="gone", name=name))
    client.on_current(lambda: say(event="current", conflated=client.conflated))
    client.on_client(lambda peer, here: say(event="client", peer=peer, here=here))
    client.on_end(lambda error: say(event="end", **failed(error)))
    return client


def threads():
    client = register(kind(**options))
    try:
        client.__enter__()
        say(event="in", values=client.snapshot())
        for line in sys.stdin:
            number, method, *args = json.loads(line)
            try:
                result = getattr(client, method)
                say(answer=number, result=result(*map(read, args)) if callable(result) else result)
            except Exception as error:
                say(answer=number, **failed(error))
    except lockstep.Error as error:
        say(event="failed", **failed(error))
    began = time.monotonic()
    client.close()
    say(
        event="closed",
        seconds=time.monotonic() - began,
        left=[t.name for t in threading.enumerate() if t.name.startswith("lockstep")],
    )


async def tasks():
    client = register(kind(**options))
    try:
        await client.__aenter__()
        say(event="in", values=client.snapshot())
        lines = asyncio.StreamReader(limit=8 << 20)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            number, method, *args = json.loads(line)
            try:
                result = getattr(client, method)
                result = result(*map(read, args)) if callable(result) else result
                say(answer=number, result=await result if asyncio.iscoroutine(result) else result)
            except Exception as error:
                say(answer=number, **failed(error))
    except lockstep.Error as error:
        say(event="failed", **failed(error))
    began = time.monotonic()
    await client.close()
    say(
        event="closed",
        seconds=time.monotonic() - began,
        left=[str(t) for t in asyncio.all_tasks() if t is not asyncio.current_task()],
    )


asyncio.run(tasks()) if kind is lockstep.AsyncClient else threads()
