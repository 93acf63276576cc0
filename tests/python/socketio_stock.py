"""A stock Socket.IO client that does what lines of JSON tell it and prints what it hears, a line of JSON each.

Its one argument: {"url", "transports", "auth", "hold"}. An auth with "resume" becomes a function that gives the cursors of
what was heard last. Lines: {"emit": [name, argument ...], "ask": number} and {"confirm": true}: one that holds
acknowledges `unique_id` only then. Bytes are {"$hex": "00ff"}.
"""

import asyncio
import json
import sys

import socketio

options = json.loads(sys.argv[1])
client = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=0.5)
auth = options.get("auth")
cursors = dict((auth or {}).get("cursors", {}))
confirmed = asyncio.Event()


def show(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$hex": value.hex()}
    if isinstance(value, dict):
        return {key: show(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [show(item) for item in value]
    return value


def read(value):
    if isinstance(value, dict) and "$hex" in value:
        return bytes.fromhex(value["$hex"])
    return value


def say(line):
    print(json.dumps(line), flush=True)


def current_auth():
    known = {key: value for key, value in auth.items() if key != "resume"}
    return {**known, "cursors": cursors} if auth.get("resume") else known


@client.on("*")
async def heard(event, *args):
    if event in ("cursor", "current"):
        cursors[args[0]["board"]] = args[0]["cursor"]
    if event == "unique_id" and auth is not None:
        auth["unique_id"] = args[0]
    say({"event": event, "args": show(args)})
    if event == "unique_id" and options.get("hold"):
        await confirmed.wait()


@client.event
async def connect():
    say({"event": "connect", "args": []})


@client.event
async def disconnect(reason):
    say({"event": "disconnect", "args": [str(reason)]})


async def obey(order):
    if "confirm" in order:
        confirmed.set()
        return
    name, *args = order["emit"]
    number = order.get("ask")
    answer = None if number is None else lambda *got: say({"ack": number, "args": show(got)})
    await client.emit(name, tuple(read(arg) for arg in args), callback=answer)


async def main():
    known = current_auth if auth is not None else None
    await client.connect(options["url"], transports=options["transports"], auth=known, retry=True)
    lines = asyncio.StreamReader(limit=8 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        await obey(json.loads(line))
    await client.disconnect()


asyncio.run(main())
