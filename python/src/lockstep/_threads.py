"""A connection by python-socketio's client for threads."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

try:
    import engineio  # type: ignore[import-untyped]
    import requests
    import socketio  # type: ignore[import-untyped]
    import websocket  # noqa: F401  (python-socketio would quietly do without)
except ImportError as error:
    raise ImportError(
        f"lockstep.Client needs python-socketio, and there is no {error.name}: pip install 'python-socketio[client]'"
    ) from error

LOG = logging.getLogger("lockstep.socketio")
# Below that whole packets are logged, the unique ID in them; and that a connection was lost, which is no error.
LOG.setLevel(logging.ERROR)
# From the connection to its acceptance.
_CONNECT_S = 10.0
# What is still to be said is given so long, and the engine to end.
_LEAVE_S = 1.0


class _Engine(engineio.Client):  # type: ignore[misc]
    """Leaves messages in :attr:`inbox`, in their order. The engine would start a thread for each, and threads overtake one
    another: a cursor would come before the values it is behind, and bytes before the value they are of."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if target == self.handlers.get("message"):
            return self.inbox.put(args[0])
        return super().start_background_task(target, *args, **kwargs)


class Connection(socketio.Client):  # type: ignore[misc]
    """One connection, and no other after it. `hear(event, args, number)` is called for every event, in their order, on a thread
    of its own; `lost(trouble)` before anything that was still to be heard could get lost."""

    def __init__(
        self, ca: str | None, hear: Callable[[str, list[Any], int | None], None], lost: Callable[[str], None]
    ) -> None:
        http = requests.Session()
        if ca is not None:
            http.verify = ca
            # REQUESTS_CA_BUNDLE would be preferred to it.
            http.trust_env = False
        self._hear, self._lost, self._http = hear, lost, http
        self._sending = threading.RLock()
        self.over = threading.Event()
        super().__init__(reconnection=False, handle_sigint=False, logger=LOG, engineio_logger=LOG, http_session=http)

    def run(self, url: str, auth: Callable[[], dict[str, Any]], transports: Sequence[str]) -> None:
        """Connects, and returns when the connection is over, however it ended."""
        listening = threading.Thread(target=self._listen, name="lockstep hears", daemon=True)
        listening.start()
        try:
            self.connect(url, auth=auth, transports=transports, wait_timeout=_CONNECT_S)
            self.over.wait()
        except (socketio.exceptions.ConnectionError, OSError, ValueError) as error:
            self._lost(str(error))
        finally:
            self._lost("it was ended")
            self._leave()
            self.eio.inbox.put(None)
            listening.join()
            self._http.close()

    def _leave(self) -> None:
        # Said and sent before the engine is stopped, which may drop what it was to send: then the hub would keep this client on
        # its list until it misses it.
        queue = self.eio.queue
        with self._sending:
            self._send_packet(self.packet_class(socketio.packet.DISCONNECT, namespace="/"))
        deadline = time.monotonic() + _LEAVE_S
        while queue.unfinished_tasks and self.eio.write_loop_task and time.monotonic() < deadline:
            time.sleep(0.001)
        self.eio.disconnect(abort=True)
        # Also dropped may be what ends the engine's writer, for which its reader then waits; now, or when the reader ends it too.
        deadline = time.monotonic() + _LEAVE_S
        while (reader := self.eio.read_loop_task) and reader.is_alive() and time.monotonic() < deadline:
            queue.put(None)
            reader.join(0.01)

    def say(self, event: str, args: tuple[Any, ...], then: Callable[[dict[str, Any]], None] | None) -> None:
        """Emits an event. Of a connection that is over nothing is said, and nobody is told: :attr:`over` tells."""
        try:
            # The library does not allow for several threads.
            with self._sending:
                self.emit(event, args, callback=then)
        except socketio.exceptions.SocketIOError:
            self.over.set()

    def acknowledge(self, number: int) -> None:
        """Acknowledges an event, whenever that is."""
        with self._sending:
            self._send_packet(self.packet_class(socketio.packet.ACK, namespace="/", id=number, data=[]))

    def _listen(self) -> None:
        while (message := self.eio.inbox.get()) is not None:
            try:
                self._handle_eio_message(message)
            except Exception:
                # Going on would leave something out. Come again, the hub says it again.
                if not self.over.is_set():
                    LOG.exception("what the hub said was not understood; connecting again")
                self.over.set()

    # What follows is called by the library.

    def _engineio_client_class(self) -> type[_Engine]:
        return _Engine

    def _handle_event(self, namespace: str, id: int | None, data: list[Any]) -> None:
        # Acknowledged by us, and not when the handler returns: see lockstep._core.
        self._hear(data[0], data[1:], id)

    def _handle_disconnect(self, namespace: str) -> None:
        # Left to :meth:`run`: of two threads that end a connection one may wait for the other's queue for long.
        self.over.set()

    def _handle_eio_disconnect(self, reason: str) -> None:
        self._lost(f"the connection has ended ({reason})")
        super()._handle_eio_disconnect(reason)
        self.over.set()
