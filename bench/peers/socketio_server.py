"""python-socketio on aiohttp as a plain fan-out: it welcomes who connects, and tells what one puts to all."""

import asyncio
import socket
import time

import socketio
from aiohttp import web

sio = socketio.AsyncServer(async_mode="aiohttp", ping_interval=5, ping_timeout=10)
app = web.Application()
sio.attach(app)
ids = {}
version = 0


@sio.event
async def connect(sid, environ, auth):
    ids[sid] = auth["id"]

    async def greet():
        await sio.emit("welcome", {"id": auth["id"]}, to=sid)
        await sio.emit("current", {"board": "data", "pattern": "*", "cursor": "", "conflated": 0}, to=sid)

    # Not before the connection is acknowledged.
    sio.start_background_task(greet)


@sio.event
async def put(sid, name, payload):
    global version
    version += 1
    told = {
        "board": "data", "name": name, "version": version, "content_type": "text/plain; charset=utf-8",
        "by": ids[sid], "at_ms": int(time.time() * 1000), "payload": payload,
    }
    await sio.emit("value", told)
    return {"ok": True, "version": version}


async def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
