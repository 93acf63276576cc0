"""The latest values of a Lockstep hub, live; and directories made the same.

:class:`Client` is for programs with threads, :class:`AsyncClient` for asyncio. Both need python-socketio, which is looked for
when one is made; importing this package needs nothing but Python. :func:`sync` is dirsync's function, done by `lockstep mirror`:
it needs that program, and nothing else.
"""

from ._aio import AsyncClient
from ._dirsync import sync
from ._sync import Client
from ._words import Peer, Value
from .errors import (
    Closed,
    Error,
    KeyFileError,
    LimitExceeded,
    NotInvited,
    NotMirrored,
    NotProven,
    Refused,
    Revoked,
    TakenOver,
    TimedOut,
    Unanswered,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "Closed",
    "Error",
    "KeyFileError",
    "LimitExceeded",
    "NotInvited",
    "NotMirrored",
    "NotProven",
    "Peer",
    "Refused",
    "Revoked",
    "TakenOver",
    "TimedOut",
    "Unanswered",
    "Value",
    "sync",
]
