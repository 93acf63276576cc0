"""The key file: the unique ID that a hub issued for an id. For its owner alone, and whole at any moment."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote, urlsplit

from .errors import KeyFileError

_LOG = logging.getLogger("lockstep")
_FORMAT = 1
# A key file is a few hundred bytes; nobody makes us read more.
_BYTES_MAX = 16 * 1024
_LOOPBACK = "localhost"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine itself."""
    return host == _LOOPBACK or host == "::1" or (host.startswith("127.") and host.replace(".", "").isdigit())


def default_path(url: str, id: int) -> Path:
    """Where the key of `id` at the hub of `url` is kept: below /var/lib/lockstep for root, else below $XDG_STATE_HOME or
    ~/.local/state, as with everything of Lockstep. All names of this machine itself count as one."""
    parts = urlsplit(url)
    host = _LOOPBACK if is_loopback(parts.hostname or "") else parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return _state() / "client" / f"{quote(host, safe='')}_{port}_{id}.json"


def _state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/lockstep")
    # By the XDG rules a value that is not absolute counts as unset.
    for variable, below in (("XDG_STATE_HOME", ""), ("HOME", ".local/state")):
        base = os.environ.get(variable, "")
        if os.path.isabs(base):
            return Path(base, below, "lockstep")
    raise KeyFileError("neither XDG_STATE_HOME nor HOME names an absolute directory: say where with key_file=")


class KeyFile:
    """The place of one key."""

    def __init__(self, path: str | os.PathLike[str], id: int) -> None:
        self.path = Path(path).absolute()
        self._id = id

    def read(self) -> str | None:
        """The unique ID, or None where there is no file yet. Makes the directory, so that a place that cannot be written
        is told before a hub issues anything. A file that others may read is closed to them, which is logged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise PermissionError(f"{self.path.parent} cannot be written")
            with open(self.path, "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    os.fchmod(file.fileno(), mode & 0o700)
                    _LOG.warning("the key file %s was open to others; it is closed to them now", self.path)
                text = file.read(_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileError(f"the key file {self.path} cannot be used: {error}; say where with key_file=") from error
        try:
            kept = json.loads(text)
            unique_id: object = kept["unique_id"]
            if isinstance(unique_id, str) and kept["format"] == _FORMAT and kept["id"] == self._id:
                return unique_id
        except (ValueError, TypeError, KeyError):
            pass
        # What is in it is not told: it could be the secret.
        raise KeyFileError(
            f"the key file {self.path} is damaged, or not of id {self._id}: restore it, or move it away and pass the "
            f"invite that 'lockstep clients reissue {self._id}' prints on the hub"
        )

    def write(self, unique_id: str) -> None:
        """Puts `unique_id` in place of what was there. On disk, for good, when this returns; after an error, and after a
        crash at any moment, the old file is still there. An old key that is another is kept beside it, as NAME.old."""
        text = json.dumps({"format": _FORMAT, "id": self._id, "unique_id": unique_id}, indent=2) + "\n"
        staged = None
        try:
            descriptor, staged = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # mode 0600
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if self.path.exists() and self.path.read_text() != text:
                old = self.path.with_name(self.path.name + ".old")
                old.unlink(missing_ok=True)
                os.link(self.path, old)
                _LOG.warning("the hub issued a new unique ID for id %d; the one before is kept in %s", self._id, old)
            os.replace(staged, self.path)
            staged = None
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise KeyFileError(
                f"the key file {self.path} cannot be written: {error}; the login was not confirmed"
            ) from error
        finally:
            if staged is not None:
                Path(staged).unlink(missing_ok=True)
