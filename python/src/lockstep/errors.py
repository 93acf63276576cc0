"""What can go wrong, by who must act. Everything that this package raises on its own is an :class:`Error`."""

from __future__ import annotations


class Error(Exception):
    """The root of all of them."""


class Closed(Error):
    """The client was closed here; make a new one to go on."""


class KeyFileError(Error):
    """The key file cannot be read or written. The text says which, why, and what to do."""


class TimedOut(Error, TimeoutError):
    """It did not come in time. What was asked of the hub may or may not have been done."""


class Unanswered(Error):
    """The connection was lost before the hub answered: what was asked may or may not have been done."""


class Refused(Error):
    """The hub said no. :attr:`code` is for programs and is on the list in docs/socketio.md; :attr:`text` is for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} ({self.code})"

    @staticmethod
    def of(answer: dict[str, object]) -> Refused:
        """The exception for ``{code, text}`` as the hub says it."""
        code, text = str(answer.get("code", "")), str(answer.get("text", ""))
        return _BY_CODE.get(code, Refused)(code, text)


class NotProven(Refused):
    """Unknown id, wrong unique ID, or revoked: the hub gives one answer for all."""


class NotInvited(Refused):
    """This hub takes no new clients, or not without an invite."""


class TakenOver(Refused):
    """Another login with the same id and unique ID took over. This client does not come back by itself: two programs
    would take over from each other for ever."""


class Revoked(Refused):
    """The id was revoked."""


class LimitExceeded(Refused):
    """Too large, too long, or too many."""


_BY_CODE: dict[str, type[Refused]] = {
    "not_proven": NotProven,
    "not_invited": NotInvited,
    "taken_over": TakenOver,
    "revoked": Revoked,
    "limit": LimitExceeded,
}


class NotMirrored(Error):
    """`lockstep mirror` did not do all of it. :attr:`code` is what it exited with: 3 if nothing was done, 4 if deletions were
    held back and all else is done; :attr:`paths` is what was changed, added and deleted."""

    def __init__(self, text: str, code: int, paths: frozenset[str] | set[str] = frozenset()) -> None:
        super().__init__(text)
        self.code = code
        self.paths = set(paths)
