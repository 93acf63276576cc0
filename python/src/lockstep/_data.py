"""The latest values, and how far each follow is. The caller holds a lock.

- A name never goes back to an older version. The hub says each name's in their order, and they are heard in that order; what
  comes a second time is ignored. So nothing is remembered of what was removed.
- What counts no longer after a ``reset`` stays readable until its newest comes, or until ``current`` proves that it is gone.
- A cursor says that all up to it was heard. So none is kept that belongs to what was forgotten since.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._telling import Telling, matches
from ._words import Value


class _Follow:
    def __init__(self) -> None:
        self.cursor: str | None = None
        self.current = False
        #: Without a cursor a reset comes first; what is said before it is of an earlier follow of the same pattern.
        self.awaits_reset = True
        #: Names whose value is from before its reset, and of which nothing was heard since: whatever comes is newer.
        self.unproven: set[str] = set()


class Data:
    """What is known of the hub's values; what changes is queued for callbacks in `telling`, as ("name", name)."""

    def __init__(self, patterns: Iterable[str], telling: Telling) -> None:
        self.values: dict[str, Value] = {}
        #: Versions that were not sent, since newer ones had replaced them.
        self.conflated = 0
        self._telling = telling
        self._follows = {pattern: _Follow() for pattern in patterns}

    @property
    def patterns(self) -> list[str]:
        """All that is followed."""
        return list(self._follows)

    def follow(self, pattern: str) -> bool:
        """Whether it was not followed already."""
        return self._follows.setdefault(pattern, follow := _Follow()) is follow

    def forget(self, pattern: str) -> bool:
        """Follows it no more, and forgets what is held by no other follow. Whether it was followed."""
        if self._follows.pop(pattern, None) is None:
            return False
        for name in [name for name in self.values if not self._is_followed(name)]:
            del self.values[name]
            self._proven(name)
        return True

    def resume(self, pattern: str) -> str | None:
        """A connection begins to follow it; the cursor to go on from."""
        follow = self._follows[pattern]
        follow.awaits_reset = follow.cursor is None
        return follow.cursor

    def cut(self) -> None:
        """There is no connection."""
        for follow in self._follows.values():
            follow.current = False

    def is_current(self) -> bool:
        """Whether all that is followed is as the hub had it when it last said so on the present connection."""
        return all(follow.current for follow in self._follows.values())

    def reset(self, told: dict[str, Any]) -> None:
        """What is held of the pattern counts no longer."""
        follow, pattern = self._follow_of(told), told["pattern"]
        if not follow:
            return
        follow.awaits_reset = follow.current = False
        follow.cursor = None
        follow.unproven = {name for name in self.values if matches(pattern, name)}

    def value(self, told: dict[str, Any]) -> None:
        """The newest of a name."""
        if not self._counts(told):
            return
        name, value = told["name"], Value.of(told)
        # After a reset it may be what it was.
        if self.values.get(name) != value:
            self._telling.queue("name", name)
        self.values[name] = value
        self._proven(name)

    def gone(self, told: dict[str, Any]) -> None:
        """A name was removed."""
        if self._counts(told):
            self._drop(told["name"])

    def mark(self, told: dict[str, Any], current: bool) -> None:
        """The end of a batch: how far a follow is, and whether there is nothing newer."""
        follow = self._follow_of(told)
        if not follow or follow.awaits_reset:
            return
        follow.cursor = told["cursor"]
        follow.current = current
        self.conflated += told["conflated"]
        if not current:
            return
        for name in list(follow.unproven):
            self._drop(name)
        if self.is_current():
            self._telling.queue_current()

    def _follow_of(self, told: dict[str, Any]) -> _Follow | None:
        return self._follows.get(told["pattern"]) if told["board"] == "data" else None

    def _is_followed(self, name: str) -> bool:
        return any(matches(pattern, name) for pattern in self._follows)

    def _counts(self, told: dict[str, Any]) -> bool:
        name = told["name"]
        if told["board"] != "data" or not self._is_followed(name):
            return False
        held = self.values.get(name)
        return held is None or told["version"] > held.version or any(name in f.unproven for f in self._follows.values())

    def _proven(self, name: str) -> None:
        for follow in self._follows.values():
            follow.unproven.discard(name)

    def _drop(self, name: str) -> None:
        self._proven(name)
        if self.values.pop(name, None):
            self._telling.queue("name", name)
