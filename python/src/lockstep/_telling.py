"""What callbacks are to be told, and which batches of the hub wait for that. Bounded: see :mod:`lockstep._core`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["change", "gone", "current", "client", "end"]

# The hub has at most two batches on their way; of a third it has given up the first.
_ACKS_MAX = 2


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is meant by `pattern`: a name, or the beginning of names with ``*`` behind it."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


class Telling:
    """Callbacks, and in order what they are to be told. The caller holds its own lock."""

    def __init__(self) -> None:
        #: Called when there is something to take.
        self.wake: Callable[[], None] = lambda: None
        self._callbacks: dict[int, tuple[Kind, str, Callable[..., Any]]] = {}
        self._made = 0
        self._pending: deque[tuple[str, Any]] = deque()
        self._waiting: set[tuple[str, Any]] = set()
        self._queued = self._told = 0
        self._acks: deque[tuple[int, int]] = deque(maxlen=_ACKS_MAX)

    def on(self, kind: Kind, pattern: str, callback: Callable[..., Any]) -> int:
        """Registers a callback; the number is for :meth:`off`."""
        self._made += 1
        self._callbacks[self._made] = (kind, pattern, callback)
        return self._made

    def off(self, number: int) -> None:
        self._callbacks.pop(number, None)

    def queue(self, kind: str, key: Any = None) -> None:
        """Something is to be told; at most once, however often it changes before it is."""
        if (kind, key) not in self._waiting:
            self._waiting.add((kind, key))
            self._append(kind, key)

    def queue_current(self) -> None:
        """All that was queued so far is a state that the hub had. One that waits with nothing behind it says that too."""
        if not self._pending or self._pending[-1][0] != "current":
            self._append("current", None)

    def _append(self, kind: str, key: Any) -> None:
        self._pending.append((kind, key))
        self._queued += 1
        self.wake()

    def take(self) -> tuple[str, Any] | None:
        """What is to be told next; :meth:`told` is to follow."""
        if not self._pending:
            return None
        kind, key = self._pending.popleft()
        self._waiting.discard((kind, key))
        return kind, key

    def calls(self, kind: Kind, name: str, *args: Any) -> list[Callable[[], Any]]:
        """The callbacks for it, each with its arguments."""

        def call(callback: Callable[..., Any]) -> Callable[[], Any]:
            return lambda: callback(*args)

        all = self._callbacks.values()
        return [call(callback) for its, pattern, callback in all if its == kind and matches(pattern, name)]

    def told(self) -> list[int]:
        """What was taken has been told; the numbers of the batches that are acknowledged by that."""
        self._told += 1
        return self._due()

    def batch(self, number: int) -> list[int]:
        """A batch is to be acknowledged by `number` once all that is queued now was told; as :meth:`told`."""
        self._acks.append((number, self._queued))
        return self._due()

    def drop_batches(self) -> None:
        """The connection on which their numbers meant something is over."""
        self._acks.clear()

    def _due(self) -> list[int]:
        due = []
        while self._acks and self._acks[0][1] <= self._told:
            due.append(self._acks.popleft()[0])
        return due
