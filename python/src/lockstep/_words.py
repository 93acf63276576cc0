"""What is spoken of: values, clients that are here, connections, and what is to be done on one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """The newest of a name, as the hub has it."""

    name: str
    #: Grows with every change on the hub.
    version: int
    #: What was put: what JSON has, a text, or bytes.
    payload: Any
    content_type: str
    #: The id of the client that put it; 0: the hub's own machine.
    by: int
    #: When, in milliseconds since 1970.
    at_ms: int

    @staticmethod
    def of(told: dict[str, Any]) -> Value:
        """The value in an event."""
        return Value(told["name"], told["version"], told["payload"], told["content_type"], told["by"], told["at_ms"])


@dataclass(frozen=True, slots=True)
class Peer:
    """A client that is logged in, of whatever kind."""

    id: int
    name: str = ""
    address: str = ""
    transport: str = ""

    @staticmethod
    def of(told: dict[str, Any]) -> Peer:
        """The client in an event; of one that left, only the id is told."""
        return Peer(told["id"], told.get("name", ""), told.get("address", ""), told.get("transport", ""))


class Link:
    """One connection, from its first packet to its end."""

    def __init__(self, connection: Any) -> None:
        #: The face's own.
        self.connection = connection
        self.is_in = False
        #: Futures of what was asked on it.
        self.asked: set[Any] = set()


@dataclass(slots=True)
class Say:
    """Emit an event; `then`, if any, with its acknowledgement, and what that answers is to be done as well."""

    event: str
    args: tuple[Any, ...] = ()
    then: Callable[[dict[str, Any]], list[Do]] | None = None


@dataclass(slots=True)
class Acknowledge:
    """Acknowledge the hub's event of this number."""

    number: int


@dataclass(slots=True)
class Keep:
    """Write the unique ID to the key file; only when it is on disk, acknowledge the event of this number."""

    unique_id: str
    number: int | None


@dataclass(slots=True)
class Leave:
    """End the connection."""


Do = Say | Acknowledge | Keep | Leave
