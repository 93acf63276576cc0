"""What a client knows, and what it decides. Free of sockets, files, threads and tasks, so that the client for threads and the
one for asyncio are thin, and the same.

A face (:mod:`lockstep._sync`, :mod:`lockstep._aio`) gives every event of a connection to :meth:`Core.heard`, in the order in
which the hub said them, does what is answered (:data:`lockstep._words.Do`), and lets one thread or task of its own take what
callbacks are to be told (:meth:`Core.take`).

- Nothing is heard of a connection that was given up: what comes of it late would say more than was heard.
- Callbacks are told names, and look at what is newest by then: however slow they are, no more than one state of each name
  waits. A batch is acknowledged to the hub once they are through with it, so that the hub leaves out what they have no time for.
- Futures are of either kind, ``concurrent.futures`` or asyncio: they are filled here, and waited for by the face.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ._data import Data
from ._telling import Kind, Telling
from ._words import Acknowledge, Do, Keep, Leave, Link, Peer, Say
from .errors import Closed, Error, Refused, Unanswered

# Before the next connection, in seconds: about this, twice as much after each that failed, at most that.
_PAUSE_S = 0.25
_PAUSE_MAX_S = 5.0


class Core:
    """The state of one client. Each method may be called from any thread, and none waits."""

    def __init__(self, id: int, name: str, invite: str | None, patterns: Iterable[str]) -> None:
        self.id = id
        self.unique_id: str | None = None
        #: What people call the hub; empty before the first login.
        self.hub = ""
        self.link: Link | None = None
        #: Why this client has ended for good.
        self.over: Error | None = None
        #: Why there is no connection just now, for people.
        self.trouble = "it was not started"
        self.telling = Telling()
        self.data = Data(patterns, self.telling)
        self._lock = threading.Lock()
        self._about = {"id": id, "name": name} | ({"invite": invite} if invite else {})
        self._watches = False
        self._peers: dict[int, Peer] = {}
        self._peers_left: dict[int, Peer] = {}
        self._peers_since_asked: dict[int, Peer | None] = {}
        self._waiters: list[tuple[Callable[[], bool], Any]] = []
        self._failures = 0
        self._pause_min_s = 0.0

    # --- Connections

    def begin(self, connection: Any) -> Link:
        """A new connection takes the place of the one before."""
        with self._lock:
            self.link = Link(connection)
            self.telling.drop_batches()
            return self.link

    def auth(self) -> dict[str, Any]:
        """What a connection logs in with. What is followed is said after the welcome, each pattern with its own cursor."""
        proof = {"unique_id": self.unique_id} if self.unique_id else {}
        return {**self._about, **proof, "follow": []}

    def heard(self, link: Link, event: str, args: list[Any], number: int | None) -> list[Do]:
        """An event of the hub; `number` where it is to be acknowledged."""
        told: Any = args[0] if args else None
        with self._lock:
            if link is not self.link:
                return []
            dos: list[Do] = []
            match event:
                case "value":
                    self.data.value(told)
                case "gone":
                    self.data.gone(told)
                case "reset":
                    self.data.reset(told)
                case "cursor" | "current":
                    self.data.mark(told, event == "current")
                case "client":
                    peer = Peer.of(told) if told["active"] else None
                    self._peers_since_asked[told["id"]] = peer
                    self._set_peer(told["id"], peer)
                case "welcome":
                    dos = self._welcomed(link, told)
                case "unique_id":
                    return [Keep(told, number)]
                case "unique_id?" if not self.unique_id:
                    # Issued before, it may never have arrived. Where it was not lost, the hub refuses, and says what to do.
                    dos = [Say("lost")]
                case "refused" | "bye":
                    dos = self._turned_away(told)
            if number is not None:
                dos += self._acknowledge(self.telling.batch(number))
            self._resolve()
            return dos

    def _welcomed(self, link: Link, welcome: dict[str, Any]) -> list[Do]:
        link.is_in = True
        self.hub = welcome["hub"]

        def refused(answer: dict[str, Any]) -> list[Do]:
            # It would be refused at every login.
            return [] if answer["ok"] else self._end(Refused.of(answer))

        follows: list[Do] = [self._say_follow(pattern, refused) for pattern in self.data.patterns]
        return [*follows, self._say_clients(lambda answer: [])] if self._watches else follows

    def _turned_away(self, why: dict[str, Any]) -> list[Do]:
        if "retry_ms" in why:
            self.trouble = str(why["text"])
            self._pause_min_s = why["retry_ms"] / 1000
            return []
        # Asked once more, there would be nothing else to say.
        return self._end(Refused.of(why))

    def kept(self, unique_id: str) -> None:
        """It is on disk."""
        self.unique_id = unique_id

    def lost(self, link: Link, trouble: str) -> None:
        """The connection is over. Nothing of it is heard any more, and who waits for an answer is told that none comes."""
        with self._lock:
            if link is self.link:
                self.link = None
                self.data.cut()
                self.trouble = trouble
                self._fail(link, self.over or Unanswered(f"the connection was lost before the hub answered: {trouble}"))

    def pause_s(self, link: Link) -> float | None:
        """How long to wait after `link` before the next connection; None: there is none."""
        with self._lock:
            if self.over:
                return None
            self._failures = 0 if link.is_in else self._failures + 1
            pause = min(_PAUSE_S * 2.0 ** min(self._failures, 10), _PAUSE_MAX_S)
            least, self._pause_min_s = self._pause_min_s, 0.0
            # Apart from one another, as all clients of a hub lose it at the same moment.
            return max(pause * random.uniform(0.5, 1.0), least)

    def end(self, why: Error) -> list[Do]:
        """This client ends for good."""
        with self._lock:
            return self._end(why)

    def _end(self, why: Error) -> list[Do]:
        if not self.over:
            self.over = why
            if self.link:
                self._fail(self.link, why)
            self._resolve()
            self.telling.queue("end")
        return [Leave()]

    @staticmethod
    def _fail(link: Link, why: Error) -> None:
        for future in link.asked:
            if not future.done():
                future.set_exception(why)
        link.asked.clear()

    # --- Asking

    def ask(self, link: Link, future: Any, event: str, args: tuple[Any, ...], read: Callable[[Any], Any]) -> list[Do]:
        """An event whose acknowledgement, read by `read`, becomes the result of `future`."""
        with self._lock:
            return [Say(event, args, self._locked(self._answers(future, read)))] if self._asks(link, future) else []

    def clients(self, link: Link, future: Any) -> list[Do]:
        """Who is here, as the result of `future`."""
        with self._lock:
            answered = self._answers(future, lambda answer: [Peer.of(told) for told in answer["clients"]])
            return [self._say_clients(answered)] if self._asks(link, future) else []

    def follow(self, pattern: str, future: Any) -> tuple[Link | None, list[Do]]:
        """Follows one pattern more, now and after every login. `future`: once the hub agreed, or at once where it is not asked."""
        with self._lock:
            if self.over or not self.data.follow(pattern) or not self.is_in():
                return self._at_once(future)
            answers = self._answers(future, lambda _: None)

            def answered(answer: dict[str, Any]) -> list[Do]:
                if not answer["ok"]:
                    self.data.forget(pattern)
                    self._resolve()
                return answers(answer)

            self._asks(self.link, future)
            return self.link, [self._say_follow(pattern, answered)]

    def unfollow(self, pattern: str, future: Any) -> tuple[Link | None, list[Do]]:
        """Follows it no more; `future` as in :meth:`follow`."""
        with self._lock:
            if self.over or not self.data.forget(pattern) or not self.is_in():
                return self._at_once(future)
            self._resolve()
            told = ({"board": "data", "pattern": pattern},)
            answers = self._locked(self._answers(future, lambda _: None))
            self._asks(self.link, future)
            return self.link, [Say("unfollow", told, answers)]

    def _say_follow(self, pattern: str, answered: Callable[[dict[str, Any]], list[Do]]) -> Say:
        cursor = self.data.resume(pattern)
        told = {"board": "data", "pattern": pattern} | ({"cursor": cursor} if cursor else {})
        return Say("follow", (told,), self._locked(answered))

    def _asks(self, link: Link | None, future: Any) -> bool:
        """Notes who waits; False, and told, where the connection is over."""
        if link is None or link is not self.link:
            future.set_exception(self.over or Unanswered(f"the connection was lost: {self.trouble}"))
            return False
        link.asked.add(future)
        return True

    def _answers(self, future: Any, read: Callable[[Any], Any]) -> Callable[[dict[str, Any]], list[Do]]:
        def answered(answer: dict[str, Any]) -> list[Do]:
            if self.link:
                self.link.asked.discard(future)
            if not future.done():
                future.set_result(read(answer)) if answer["ok"] else future.set_exception(Refused.of(answer))
            return []

        return answered

    def _locked(self, then: Callable[[dict[str, Any]], list[Do]]) -> Callable[[dict[str, Any]], list[Do]]:
        def locked(answer: dict[str, Any]) -> list[Do]:
            with self._lock:
                return then(answer)

        return locked

    def _at_once(self, future: Any) -> tuple[None, list[Do]]:
        future.set_exception(self.over) if self.over else future.set_result(None)
        return None, []

    # --- Who is here

    def watch(self) -> tuple[Link | None, list[Do]]:
        """From now on comings and goings are told; first all who are here."""
        with self._lock:
            if self._watches:
                return None, []
            self._watches = True
            self._peers.clear()
            return (self.link, [self._say_clients(lambda answer: [])]) if self.is_in() else (None, [])

    def _say_clients(self, answered: Callable[[dict[str, Any]], list[Do]]) -> Say:
        self._peers_since_asked.clear()

        def listed(answer: dict[str, Any]) -> list[Do]:
            if answer["ok"]:
                here: dict[int, Peer | None] = {told["id"]: Peer.of(told) for told in answer["clients"]}
                # By polling, what came after the list may overtake it.
                here |= self._peers_since_asked
                for id in here.keys() | self._peers.keys():
                    self._set_peer(id, here.get(id))
            return answered(answer)

        return Say("clients", (), self._locked(listed))

    def _set_peer(self, id: int, peer: Peer | None) -> None:
        before = self._peers.pop(id, None)
        if peer:
            self._peers[id] = peer
        if self._watches and peer != before:
            if before and not peer:
                self._peers_left[id] = before
            self.telling.queue("client", id)

    # --- Waiting

    def is_in(self) -> bool:
        """Whether it is logged in."""
        return self.over is None and self.link is not None and self.link.is_in

    def is_current(self) -> bool:
        """Whether it is logged in and all that it follows is as the hub had it, by what that said last."""
        return self.is_in() and self.data.is_current()

    def when(self, condition: Callable[[], bool], future: Any) -> None:
        """`future` becomes the link once `condition` holds, or fails with the reason for which this client has ended."""
        with self._lock:
            self._waiters.append((condition, future))
            self._resolve()

    def is_closed(self) -> bool:
        """Whether it was closed here."""
        return isinstance(self.over, Closed)

    def _resolve(self) -> None:
        waiters, self._waiters = self._waiters, []
        for condition, future in waiters:
            if future.done():
                continue
            if condition():
                future.set_result(self.link)
            elif self.over:
                future.set_exception(self.over)
            else:
                self._waiters.append((condition, future))

    def give_up(self, future: Any) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            future.cancel()
            if self.link:
                self.link.asked.discard(future)

    # --- Telling

    def on(self, kind: Kind, pattern: str, callback: Callable[..., Any]) -> Callable[[], None]:
        """Registers a callback; what is returned takes it back."""
        with self._lock:
            number = self.telling.on(kind, pattern, callback)

        def take_back() -> None:
            with self._lock:
                self.telling.off(number)

        return take_back

    def take(self) -> list[Callable[[], Any]] | None:
        """What is to be called next; None when there is nothing. :meth:`told` is to follow."""
        with self._lock:
            match None if self.is_closed() else self.telling.take():
                case None:
                    return None
                case ("name", name):
                    value = self.data.values.get(name)
                    return self.telling.calls("change" if value else "gone", name, value or name)
                case ("client", id):
                    here, left = self._peers.get(id), self._peers_left.pop(id, Peer(id))
                    return self.telling.calls("client", "", here or left, here is not None)
                case ("end", _):
                    return self.telling.calls("end", "", self.over)
                case _:
                    return self.telling.calls("current", "")

    def told(self) -> tuple[Link | None, list[Do]]:
        """What was taken has been told. What is to be done now, on which connection."""
        with self._lock:
            return self.link, self._acknowledge(self.telling.told())

    @staticmethod
    def _acknowledge(numbers: list[int]) -> list[Do]:
        return [Acknowledge(number) for number in numbers]

    def snapshot(self) -> dict[str, Any]:
        """All names with their payloads, as of one moment."""
        with self._lock:
            return {name: value.payload for name, value in self.data.values.items()}
