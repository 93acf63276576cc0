"""What the client for threads and the one for asyncio have in common: everything that neither waits nor sends."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any
from urllib.parse import urlsplit

from ._core import Core
from ._key import KeyFile, default_path, is_loopback
from ._words import Do, Link, Peer, Value
from .errors import Error

ID_MAX = 2**53 - 1
#: How long ends are waited for.
CLOSE_S = 5.0


class Base(Mapping[str, Any]):
    """A mapping of the latest values of a hub: names and what was put under them.

    It holds what is followed, goes only forward, and stays readable without a connection and after the end;
    :attr:`current` says whether it is what the hub had when it was heard of last. All may be called from any thread of a
    :class:`lockstep.Client`, and in the loop of an :class:`lockstep.AsyncClient`.
    """

    def __init__(
        self,
        url: str,
        id: int,
        *,
        name: str | None = None,
        invite: str | None = None,
        follow: Iterable[str] = ("*",),
        ca: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        plain: bool = False,
        transports: Sequence[str] = ("polling", "websocket"),
    ) -> None:
        """Nothing is connected yet; ``with`` does that, or ``start``.

        :param url: the hub's HTTP address, as it prints it: ``http://127.0.0.1:7118``, ``https://hub.example:7118``.
        :param id: the number of this client, from 1 on. No two programs that run at once have the same.
        :param name: what people call it; the machine's host name if not given.
        :param invite: where the hub wants one for a new id, or to get a new unique ID for a known one: the line that
            ``lockstep invite`` or ``lockstep clients reissue`` prints, or the code in it.
        :param follow: which names: a name, or the beginning of names with ``*`` behind it. All of them if not given.
        :param ca: a file with the certificate that ``lockstep cert`` prints on the hub's machine; without it, the
            certificates that this system trusts. There is no way to trust any.
        :param key_file: where the unique ID is kept, which proves the id at every later login. If not given, below
            ``/var/lib/lockstep/client`` for root, else ``$XDG_STATE_HOME/lockstep/client`` or
            ``~/.local/state/lockstep/client``, a file for each hub and id.
        :param timeout: how many seconds calls wait that are not told otherwise.
        :param plain: allows ``http://`` to another machine, which shows the unique ID to everybody on the way.
        :param transports: as of python-socketio: by default long polling, and WebSocket as soon as possible.

        :raises ValueError: what is given cannot be right.
        :raises KeyFileError: no place for the key file is known.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a hub: it looks like http://127.0.0.1:7118")
        if parts.scheme == "http" and not plain and not is_loopback(parts.hostname):
            raise ValueError(
                f"{url} would show the unique ID to everybody on the way: use https:// and ca=FILE, with what "
                "'lockstep cert' prints on the hub's machine; or say plain=True"
            )
        if isinstance(id, bool) or not isinstance(id, int) or not 1 <= id <= ID_MAX:
            raise ValueError(f"an id is an integer from 1 to {ID_MAX}, not {id!r}")
        if isinstance(follow, str):
            raise ValueError(f"follow is a list of patterns: [{follow!r}]")
        self.url = url
        self.timeout = timeout
        self._transports = list(transports)
        self._ca = None if ca is None else os.fspath(ca)
        self._tls: ssl.SSLContext | None = None
        if self._ca is not None:
            try:
                self._tls = ssl.create_default_context(cafile=self._ca)
            except OSError as error:
                raise ValueError(
                    f"{self._ca} is no certificate to trust ({error}): 'lockstep cert > {self._ca}' on the hub's machine"
                ) from error
        self._key = KeyFile(key_file if key_file is not None else default_path(url, id), id)
        self._core = Core(id, socket.gethostname() if name is None else name, code_of(invite), follow)
        self._prepare()

    # --- The latest values

    def __getitem__(self, name: str) -> Any:
        return self._core.data.values[name].payload

    def __contains__(self, name: object) -> bool:
        return name in self._core.data.values

    def __len__(self) -> int:
        return len(self._core.data.values)

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot())

    def items(self) -> ItemsView[str, Any]:
        """Names and payloads, of one moment."""
        return self.snapshot().items()

    def values(self) -> ValuesView[Any]:
        """Payloads, of one moment."""
        return self.snapshot().values()

    def snapshot(self) -> dict[str, Any]:
        """All names with their payloads, of one moment; yours to change."""
        return self._core.snapshot()

    def held(self, name: str) -> Value | None:
        """What is held of a name, with its version, type, time, and who put it; None if nothing is."""
        return self._core.data.values.get(name)

    # --- How it stands

    @property
    def id(self) -> int:
        """The number of this client."""
        return self._core.id

    @property
    def hub(self) -> str:
        """What people call the hub; empty before the first login."""
        return self._core.hub

    @property
    def connected(self) -> bool:
        """Whether it is logged in."""
        return self._core.is_in()

    @property
    def current(self) -> bool:
        """Whether it is logged in and all that is followed is as the hub had it, by what that said last."""
        return self._core.is_current()

    @property
    def ended(self) -> Error | None:
        """Why this client has ended for good; None while it goes on."""
        return self._core.over

    @property
    def conflated(self) -> int:
        """How many versions the hub left out, as newer ones had replaced them by the time there was room for them."""
        return self._core.data.conflated

    def __repr__(self) -> str:
        core = self._core
        if core.over:
            state = f"ended: {core.over}"
        else:
            state = "current" if core.is_current() else "behind" if core.is_in() else f"not connected: {core.trouble}"
        return f"<lockstep.{type(self).__name__} {self.id} at {self.url}, {len(self)} values, {state}>"

    # --- Callbacks

    def on_change(self, pattern: str, callback: Callable[[Value], Any]) -> Callable[[], None]:
        """Calls back with each new value of a name, or of the names that begin with what stands before ``*``.

        Callbacks run one after another, in the order in which things changed, and never in the way of the network. What
        changes again before its turn comes is told once, with its newest: a callback may take as long as it likes, and
        ends with the newest of every name. An exception in one is logged, and the next is called.

        :returns: a function that takes the callback back, as do the others.
        """
        return self._core.on("change", pattern, callback)

    def on_gone(self, pattern: str, callback: Callable[[str], Any]) -> Callable[[], None]:
        """Calls back with each name that was removed."""
        return self._core.on("gone", pattern, callback)

    def on_current(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Calls back whenever all that changed was told and the mapping is as the hub had it: after each login, and after
        each batch of changes."""
        return self._core.on("current", "", callback)

    def on_client(self, callback: Callable[[Peer, bool], Any]) -> Callable[[], None]:
        """Calls back with each client of the hub that comes (True) or leaves (False); first with all who are here.
        Who registers a second one hears only what changes from then on."""
        take_back = self._core.on("client", "", callback)
        self._send(*self._core.watch())
        return take_back

    def on_end(self, callback: Callable[[Error], Any]) -> Callable[[], None]:
        """Calls back, last of all, when the hub ended this client for good: :class:`TakenOver`, :class:`Revoked`, or
        another :class:`Refused`. Not when it was closed here."""
        return self._core.on("end", "", callback)

    # --- For the faces

    def _prepare(self) -> None:
        """Makes what a face needs, and finds the libraries that it needs, or says which are missing."""
        raise NotImplementedError

    def _send(self, link: Link | None, dos: list[Do]) -> None:
        """Does it, now or soon; nothing without a connection."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Reads the key."""
        if self._core.over:
            raise self._core.over
        self._core.unique_id = self._key.read()
        self._core.trouble = "it has not been reached yet"

    def _late(self, what: str, timeout: float) -> str:
        core = self._core
        why = "" if core.is_in() else f"; there is no connection to {self.url}: {core.trouble}"
        return f"{what} did not come within {timeout:g} s{why}"


def code_of(invite: str | None) -> str | None:
    """The code in a join line, in its link, or alone."""
    word = (invite or "").split()[-1:]
    # lsj1.HOST.PORT.FINGERPRINT.INVITE.CHECK
    return None if not word else word[0].split(".")[-2] if word[0].startswith("lsj1.") else word[0]


def putting(name: str, value: Any, content_type: str | None) -> tuple[Any, ...]:
    """The arguments of a put.

    :raises ValueError, TypeError: it is neither JSON, nor a text, nor bytes.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
    elif not isinstance(value, str):
        json.dumps(value, allow_nan=False)
    return (name, value) if content_type is None else (name, value, content_type)


def version(answer: dict[str, Any]) -> int:
    """Of a put or a removal that is done."""
    return int(answer["version"])


def fetched(answer: dict[str, Any]) -> Value | None:
    """The answer to ``get``."""
    return None if answer["value"] is None else Value.of(answer["value"])
