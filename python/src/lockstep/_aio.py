"""The client for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import logging
from asyncio import Future
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from . import _base
from ._words import Acknowledge, Do, Keep, Leave, Link, Peer, Say, Value
from .errors import Closed, KeyFileError, TimedOut

_LOG = logging.getLogger("lockstep")
_T = TypeVar("_T")


class AsyncClient(_base.Base):
    """A client of a hub, for asyncio; :class:`lockstep.Client` for programs with threads is the same::

        async with lockstep.AsyncClient("http://127.0.0.1:7118", 7) as client:
            client.on_change("price", lambda value: print(value.payload))
            await client.put("price", 42)
            print(client["price"])

    All of it is used in one event loop. Callbacks may be coroutine functions: one task awaits them, one after another.
    """

    def _prepare(self) -> None:
        from . import _tasks  # only now: who only mirrors does without python-socketio

        self._wire = _tasks
        self._tasks: list[asyncio.Task[None]] = []
        self._sends: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._bell = asyncio.Event()
        self._core.telling.wake = self._bell.set

    async def start(self) -> None:
        """Begins to connect, and returns at once. Done twice it does nothing.

        :raises KeyFileError: the key file cannot be used.
        :raises Error: it was closed, or has ended.
        """
        if self._tasks and not self.ended:
            return
        self._begin()
        self._tasks = [asyncio.create_task(self._connect()), asyncio.create_task(self._tell())]

    async def close(self) -> None:
        """Leaves the hub, and returns once it has. No callback is called any more, except the one that closes. Done twice it
        does nothing."""
        self._core.end(Closed("the client was closed"))
        if not self._tasks:
            return
        self._closing.set()
        self._bell.set()
        if link := self._core.link:
            link.connection.over.set()
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        # Whoever does not end by itself in time is cancelled.
        _, late = await asyncio.wait(others, timeout=_base.CLOSE_S)
        for task in late:
            task.cancel()

    async def __aenter__(self) -> AsyncClient:
        """:meth:`start`, and :meth:`wait_current`."""
        try:
            await self.start()
            await self.wait_current()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_current(self, timeout: float | None = None) -> None:
        """Returns once the client is :attr:`current`.

        :raises Refused: the hub does not let it in, or ended it for good.
        :raises TimedOut: not within so many seconds; the text says why there is no connection, where there is none.
        """
        future = self._future()
        self._core.when(self._core.is_current, future)
        await self._result(future, self.timeout if timeout is None else timeout, "the latest data")

    async def wait(self, timeout: float | None = None) -> None:
        """Returns when the client was closed, by another task or a callback; without a timeout it waits for ever.

        :raises Refused: the hub ended it for good.
        :raises TimedOut: it goes on after so many seconds.
        """
        future = self._future()
        self._core.when(self._core.is_closed, future)
        await self._result(future, timeout, "the end")

    async def put(self, name: str, value: Any, content_type: str | None = None, *, timeout: float | None = None) -> int:
        """Puts a value: whatever JSON has, a text, or bytes; at most 256 KiB. Without a connection it waits for one. Integers
        beyond 64 bits lose digits as JSON; put them as a text.

        :returns: its version, once it is on the hub's disk.
        :raises Refused: it was not done, and why.
        :raises Unanswered, TimedOut: it may or may not have been done.
        :raises ValueError, TypeError: it is nothing that can be put.
        """
        return await self._ask(timeout, "put", _base.putting(name, value, content_type), _base.version)

    async def remove(self, name: str, *, timeout: float | None = None) -> int:
        """Removes a value, if it is there; as :meth:`put`."""
        return await self._ask(timeout, "remove", (name,), _base.version)

    async def fetch(self, name: str, *, timeout: float | None = None) -> Value | None:
        """Asks the hub for a value, whether it is followed or not; None if there is none. (``get`` is the mapping's, and asks
        nobody.)"""
        return await self._ask(timeout, "get", (name,), _base.fetched)

    async def clients(self, *, timeout: float | None = None) -> list[Peer]:
        """Who is logged in at the hub, this client among them."""
        return await self._call(timeout, self._core.clients)

    async def follow(self, pattern: str, *, timeout: float | None = None) -> None:
        """Follows a name, or the names that begin with what stands before ``*``, from now on and after every login;
        :meth:`wait_current` returns once they are here. Without a connection they are asked for at the next login.

        :raises Refused: it is too long, or there are too many.
        """
        await self._settle(timeout, lambda future: self._core.follow(pattern, future))

    async def unfollow(self, pattern: str, *, timeout: float | None = None) -> None:
        """Follows it no more. What no other pattern covers is no longer in the mapping, and no callback is told of that."""
        await self._settle(timeout, lambda future: self._core.unfollow(pattern, future))

    # --- Asking

    @staticmethod
    def _future() -> Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def _ask(self, timeout: float | None, event: str, args: tuple[Any, ...], read: Callable[[Any], _T]) -> _T:
        return await self._call(timeout, lambda link, future: self._core.ask(link, future, event, args, read))

    async def _call(self, timeout: float | None, ask: Callable[[Link, Future[_T]], list[Do]]) -> _T:
        seconds = self.timeout if timeout is None else timeout
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        logged_in = self._future()
        self._core.when(self._core.is_in, logged_in)
        link = await self._result(logged_in, seconds, "a connection")
        answer = self._future()
        await self._do(link, ask(link, answer))
        return await self._result(answer, max(deadline - clock(), 0), "the hub's answer")

    async def _settle(self, timeout: float | None, ask: Callable[[Future[Any]], tuple[Link | None, list[Do]]]) -> None:
        future = self._future()
        link, dos = ask(future)
        if link:
            await self._do(link, dos)
        await self._result(future, self.timeout if timeout is None else timeout, "the hub's answer")

    async def _result(self, future: Future[_T], timeout: float | None, what: str) -> _T:
        try:
            done, _ = await asyncio.wait([future], timeout=timeout)
        except asyncio.CancelledError:
            self._core.give_up(future)
            raise
        if not done:
            self._core.give_up(future)
            raise TimedOut(self._late(what, timeout or 0))
        return future.result()

    # --- The tasks

    async def _connect(self) -> None:
        pause_s: float | None = 0.0
        async with self._wire.session(self._tls) as http:
            while pause_s is not None and not await self._closes_within(pause_s):
                pause_s = await self._connect_once(http)

    async def _connect_once(self, http: Any) -> float | None:
        async def hear(event: str, args: list[Any], number: int | None) -> None:
            await self._do(link, self._core.heard(link, event, args, number))

        connection = self._wire.Connection(http, hear, lambda trouble: self._core.lost(link, trouble))
        link = self._core.begin(connection)
        try:
            await connection.run(self.url, self._core.auth, self._transports)
        except Exception:
            _LOG.exception("the connection to %s failed in a way that was not foreseen", self.url)
        return self._core.pause_s(link)

    async def _closes_within(self, seconds: float) -> bool:
        if not self._closing.is_set() and seconds:
            waiting = asyncio.ensure_future(self._closing.wait())
            await asyncio.wait([waiting], timeout=seconds)
            waiting.cancel()
        return self._closing.is_set()

    async def _tell(self) -> None:
        while not self._closing.is_set():
            await self._bell.wait()
            self._bell.clear()
            while (calls := self._core.take()) is not None:
                for call in calls:
                    try:
                        called = call()
                        if inspect.isawaitable(called):
                            await called
                    except Exception:
                        _LOG.exception("a callback failed; the next is called")
                link, dos = self._core.told()
                if link:
                    await self._do(link, dos)
                # Many that wait for nothing would else keep everything else waiting.
                await asyncio.sleep(0)

    def _send(self, link: Link | None, dos: list[Do]) -> None:
        if link:
            task = asyncio.ensure_future(self._do(link, dos))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)

    async def _do(self, link: Link, dos: list[Do]) -> None:
        connection = link.connection
        for do in dos:
            match do:
                case Say(event, args, None):
                    await connection.say(event, args, None)
                case Say(event, args, then):

                    async def answered(answer: dict[str, Any], then: Any = then) -> None:
                        await self._do(link, then(answer))

                    await connection.say(event, args, answered)
                case Acknowledge(number):
                    await connection.acknowledge(number)
                case Keep(unique_id, number):
                    await self._keep(link, unique_id, number)
                case Leave():
                    connection.over.set()

    async def _keep(self, link: Link, unique_id: str, number: int | None) -> None:
        try:
            await asyncio.to_thread(self._key.write, unique_id)
        except KeyFileError as error:
            # Not acknowledged: the hub forgets it again, and meanwhile takes it for lost.
            await self._do(link, self._core.end(error))
            return
        self._core.kept(unique_id)
        if number is not None:
            await link.connection.acknowledge(number)
