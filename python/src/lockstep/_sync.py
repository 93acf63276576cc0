"""The client for programs with threads."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from . import _base
from ._words import Acknowledge, Do, Keep, Leave, Link, Peer, Say, Value
from .errors import Closed, KeyFileError, TimedOut

_LOG = logging.getLogger("lockstep")
_T = TypeVar("_T")


class Client(_base.Base):
    """A client of a hub, for programs with threads::

        with lockstep.Client("http://127.0.0.1:7118", 7) as client:
            client.on_change("price", lambda value: print(value.payload))
            client.put("price", 42)
            print(client["price"])

    ``with`` connects and returns once all there is has come. From then on the client comes back by itself after every cut,
    and goes on with exactly the newest of what it missed; but not where the hub ended it for good.
    """

    def _prepare(self) -> None:
        from . import _threads  # only now: who only mirrors does without python-socketio

        self._wire = _threads
        self._closing = threading.Event()
        self._bell = threading.Event()
        self._core.telling.wake = self._bell.set
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to connect, and returns at once. Done twice it does nothing.

        :raises KeyFileError: the key file cannot be used.
        :raises Error: it was closed, or has ended.
        """
        if self._threads and not self.ended:
            return
        self._begin()
        for target in (self._connect, self._tell):
            self._threads.append(threading.Thread(target=target, name=f"lockstep {self.id}", daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Leaves the hub, and returns once it has. No callback is called any more, except the one that closes. Done twice it
        does nothing."""
        self._core.end(Closed("the client was closed"))
        self._closing.set()
        self._bell.set()
        if link := self._core.link:
            link.connection.over.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_base.CLOSE_S)

    def __enter__(self) -> Client:
        """:meth:`start`, and :meth:`wait_current`."""
        try:
            self.start()
            self.wait_current()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait_current(self, timeout: float | None = None) -> None:
        """Returns once the client is :attr:`current`.

        :raises Refused: the hub does not let it in, or ended it for good.
        :raises TimedOut: not within so many seconds; the text says why there is no connection, where there is none.
        """
        future: Future[Link] = Future()
        self._core.when(self._core.is_current, future)
        self._result(future, self.timeout if timeout is None else timeout, "the latest data")

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the client was closed, from another thread or a callback; without a timeout it waits for ever.

        :raises Refused: the hub ended it for good.
        :raises TimedOut: it goes on after so many seconds.
        """
        future: Future[Link] = Future()
        self._core.when(self._core.is_closed, future)
        self._result(future, timeout, "the end")

    def put(self, name: str, value: Any, content_type: str | None = None, *, timeout: float | None = None) -> int:
        """Puts a value: whatever JSON has, a text, or bytes; at most 256 KiB. Without a connection it waits for one. Integers
        beyond 64 bits lose digits as JSON; put them as a text.

        :returns: its version, once it is on the hub's disk.
        :raises Refused: it was not done, and why.
        :raises Unanswered, TimedOut: it may or may not have been done.
        :raises ValueError, TypeError: it is nothing that can be put.
        """
        return self._ask(timeout, "put", _base.putting(name, value, content_type), _base.version)

    def remove(self, name: str, *, timeout: float | None = None) -> int:
        """Removes a value, if it is there; as :meth:`put`."""
        return self._ask(timeout, "remove", (name,), _base.version)

    def fetch(self, name: str, *, timeout: float | None = None) -> Value | None:
        """Asks the hub for a value, whether it is followed or not; None if there is none. (``get`` is the mapping's, and asks
        nobody.)"""
        return self._ask(timeout, "get", (name,), _base.fetched)

    def clients(self, *, timeout: float | None = None) -> list[Peer]:
        """Who is logged in at the hub, this client among them."""
        return self._call(timeout, self._core.clients)

    def follow(self, pattern: str, *, timeout: float | None = None) -> None:
        """Follows a name, or the names that begin with what stands before ``*``, from now on and after every login;
        :meth:`wait_current` returns once they are here. Without a connection they are asked for at the next login.

        :raises Refused: it is too long, or there are too many.
        """
        self._settle(timeout, lambda future: self._core.follow(pattern, future))

    def unfollow(self, pattern: str, *, timeout: float | None = None) -> None:
        """Follows it no more. What no other pattern covers is no longer in the mapping, and no callback is told of that."""
        self._settle(timeout, lambda future: self._core.unfollow(pattern, future))

    # --- Asking

    def _ask(self, timeout: float | None, event: str, args: tuple[Any, ...], read: Callable[[Any], _T]) -> _T:
        return self._call(timeout, lambda link, future: self._core.ask(link, future, event, args, read))

    def _call(self, timeout: float | None, ask: Callable[[Link, Future[_T]], list[Do]]) -> _T:
        seconds = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        logged_in: Future[Link] = Future()
        self._core.when(self._core.is_in, logged_in)
        link = self._result(logged_in, seconds, "a connection")
        answer: Future[_T] = Future()
        self._do(link, ask(link, answer))
        return self._result(answer, max(deadline - time.monotonic(), 0), "the hub's answer")

    def _settle(self, timeout: float | None, ask: Callable[[Future[Any]], tuple[Link | None, list[Do]]]) -> None:
        future: Future[None] = Future()
        self._send(*ask(future))
        self._result(future, self.timeout if timeout is None else timeout, "the hub's answer")

    def _result(self, future: Future[_T], timeout: float | None, what: str) -> _T:
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            self._core.give_up(future)
            if not future.cancelled():
                return future.result()
            raise TimedOut(self._late(what, timeout or 0)) from None

    # --- The threads

    def _connect(self) -> None:
        pause_s: float | None = 0.0
        while pause_s is not None and not self._closing.wait(pause_s):
            pause_s = self._connect_once()

    def _connect_once(self) -> float | None:
        def hear(event: str, args: list[Any], number: int | None) -> None:
            self._do(link, self._core.heard(link, event, args, number))

        connection = self._wire.Connection(self._ca, hear, lambda trouble: self._core.lost(link, trouble))
        link = self._core.begin(connection)
        if self._core.over:
            # Ended in between, by somebody who did not see this connection yet.
            connection.over.set()
        try:
            connection.run(self.url, self._core.auth, self._transports)
        except Exception:
            _LOG.exception("the connection to %s failed in a way that was not foreseen", self.url)
        return self._core.pause_s(link)

    def _tell(self) -> None:
        while not self._closing.is_set():
            self._bell.wait()
            self._bell.clear()
            while (calls := self._core.take()) is not None:
                for call in calls:
                    try:
                        call()
                    except Exception:
                        _LOG.exception("a callback failed; the next is called")
                self._send(*self._core.told())

    def _send(self, link: Link | None, dos: list[Do]) -> None:
        if link:
            self._do(link, dos)

    def _do(self, link: Link, dos: list[Do]) -> None:
        connection = link.connection
        for do in dos:
            match do:
                case Say(event, args, None):
                    connection.say(event, args, None)
                case Say(event, args, then):
                    connection.say(event, args, lambda answer, then=then: self._do(link, then(answer)))
                case Acknowledge(number):
                    connection.acknowledge(number)
                case Keep(unique_id, number):
                    self._keep(link, unique_id, number)
                case Leave():
                    connection.over.set()

    def _keep(self, link: Link, unique_id: str, number: int | None) -> None:
        try:
            self._key.write(unique_id)
        except KeyFileError as error:
            # Not acknowledged: the hub forgets it again, and meanwhile takes it for lost.
            self._do(link, self._core.end(error))
            return
        self._core.kept(unique_id)
        if number is not None:
            link.connection.acknowledge(number)
