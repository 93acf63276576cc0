"""A connection by python-socketio's client for asyncio."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

try:
    import aiohttp
    import socketio  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(
        f"lockstep.AsyncClient needs python-socketio and aiohttp, and there is no {error.name}: "
        "pip install python-socketio aiohttp"
    ) from error

LOG = logging.getLogger("lockstep.socketio")
# Below that whole packets are logged, the unique ID in them; and that a connection was lost, which is no error.
LOG.setLevel(logging.ERROR)
# From the connection to its acceptance.
_CONNECT_S = 10.0
# What is still to be said is given so long, and the engine to end.
_LEAVE_S = 1.0


class Connection(socketio.AsyncClient):  # type: ignore[misc]
    """One connection, and no other after it. `hear(event, args, number)` is called for every event, and `lost(trouble)` before
    anything that was still to be heard could get lost. The library makes a task for each message; tasks begin in the order in
    which they were made, so events are heard in theirs, if nothing is waited for before."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        hear: Callable[[str, list[Any], int | None], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> None:
        self._hear, self._lost = hear, lost
        self.over = asyncio.Event()
        super().__init__(reconnection=False, handle_sigint=False, logger=LOG, engineio_logger=LOG, http_session=http)

    async def run(self, url: str, auth: Callable[[], dict[str, Any]], transports: Sequence[str]) -> None:
        """Connects, and returns when the connection is over, however it ended."""
        try:
            await self.connect(url, auth=auth, transports=transports, wait_timeout=_CONNECT_S)
            await self.over.wait()
        except (socketio.exceptions.ConnectionError, OSError, ValueError) as error:
            self._lost(str(error))
        finally:
            self._lost("it was ended")
            await self._leave()

    async def _leave(self) -> None:
        # Said and sent before the engine is stopped, which may drop what it was to send: then the hub would keep this client on
        # its list until it misses it.
        queue = self.eio.queue
        await self._send_packet(self.packet_class(socketio.packet.DISCONNECT, namespace="/"))
        if writer := self.eio.write_loop_task:
            await _one_of(queue.join(), writer)
        await self.eio.disconnect(abort=True)
        # Also dropped may be what ends the engine's writer, for which its reader then waits.
        await queue.put(None)
        if reader := self.eio.read_loop_task:
            await _one_of(reader)

    async def say(self, event: str, args: tuple[Any, ...], then: Callable[[dict[str, Any]], Awaitable[None]] | None) -> None:
        """Emits an event. Of a connection that is over nothing is said, and nobody is told: :attr:`over` tells."""
        try:
            await self.emit(event, args, callback=then)
        except socketio.exceptions.SocketIOError:
            self.over.set()

    async def acknowledge(self, number: int) -> None:
        """Acknowledges an event, whenever that is."""
        await self._send_packet(self.packet_class(socketio.packet.ACK, namespace="/", id=number, data=[]))

    # What follows is called by the library.

    async def _handle_eio_message(self, data: Any) -> None:
        try:
            await super()._handle_eio_message(data)
        except Exception:
            # Going on would leave something out. Come again, the hub says it again.
            if not self.over.is_set():
                LOG.exception("what the hub said was not understood; connecting again")
            self.over.set()

    async def _handle_event(self, namespace: str, id: int | None, data: list[Any]) -> None:
        # Acknowledged by us, and not when the handler returns: see lockstep._core.
        await self._hear(data[0], data[1:], id)

    async def _handle_disconnect(self, namespace: str) -> None:
        # Left to :meth:`run`, that one task ends the connection and no other.
        self.over.set()

    async def _handle_eio_disconnect(self, reason: str) -> None:
        self._lost(f"the connection has ended ({reason})")
        await super()._handle_eio_disconnect(reason)
        self.over.set()


async def _one_of(*works: Awaitable[Any]) -> None:
    """Waits for the first of them, for a while; and has none of them go on."""
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.wait(tasks, timeout=_LEAVE_S, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """What connections are made by. Whoever made it closes it."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True))
