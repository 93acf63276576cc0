"""`sync`: makes one directory what another one is, called as dirsync's function of that name, done by `lockstep mirror`."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import NotMirrored

if TYPE_CHECKING:
    StrPath = str | os.PathLike[str]

ACTIONS = ("sync", "update", "diff")
SWITCHES = ("verbose", "purge", "force", "twoway", "create", "ctime", "content", "allow_mass_delete")
LISTS = ("only", "exclude", "include", "ignore")
# What dirsync leaves out by itself: its own files of options.
_OPTION_FILE = r"^\.dirsync$"
_DEFAULT_SUFFIX = "-mirror"
_USAGE, _NOTHING_DONE, _HELD_BACK = 2, 3, 4
_ESCAPED = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


@dataclass
class Outcome:
    """What came of it, in more detail than dirsync tells."""

    #: Every path changed, added or deleted, as `sync` returns it.
    paths: set[str] = field(default_factory=set)
    #: How many entries failed; each was told to the logger.
    failed: int = 0


def sync(
    source: StrPath,
    destination: StrPath | None,
    action: str,
    *,
    logger: logging.Logger | None = None,
    program: StrPath | None = None,
    **options: Any,
) -> set[str]:
    """Has `lockstep mirror` make `destination` what `source` is, with dirsync's actions and options.

    `action` is ``"sync"``, ``"update"`` or ``"diff"``; the options are ``purge``, ``create``, ``force``, ``twoway``, ``ctime``,
    ``content``, ``verbose``, and the lists of regular expressions ``only``, ``exclude``, ``include``, ``ignore``; beyond
    dirsync's, ``allow_mass_delete``. Without a destination (None) it is the source with the suffix ``-mirror``, made
    if it is not there. Lines for people go to ``logger.info``. `program` is the binary; else it is looked for as
    ``lockstep`` on the PATH.

    Returns the paths changed, added and deleted. An entry that fails is told to the logger and fails no other.

    :raises ValueError: if a directory is not there or an option has no meaning; nothing was done.
    :raises NotMirrored: if the program could not run, or held deletions back. :attr:`NotMirrored.paths` is what was done.
    """
    return run(source, destination, action, logger=logger, program=program, **options).paths


def run(
    source: StrPath,
    destination: StrPath | None,
    action: str,
    *,
    logger: logging.Logger | None = None,
    program: StrPath | None = None,
    **options: Any,
) -> Outcome:
    """As :func:`sync`, and also tells how many entries failed."""
    wanted = _checked(action, options)
    source = os.fsdecode(source)
    if not os.path.isdir(source):
        raise ValueError("Error: Source directory does not exist.")
    is_default = destination is None
    destination = os.path.realpath(source) + _DEFAULT_SUFFIX if destination is None else os.fsdecode(destination)
    if not (is_default or wanted["create"] or os.path.isdir(destination)):
        raise ValueError(
            f"Error: Target directory {destination} does not exist. (Try the -c or --create option to create it)."
        )
    work = _Work(source, destination, wanted, logger or _to_stdout(), os.fsdecode(program or _found_program()))
    return work.diff() if action == "diff" else work.sync(action)


def _checked(action: str, options: dict[str, Any]) -> dict[str, Any]:
    if action not in ACTIONS:
        raise ValueError(f'Argument error: the action is one of "sync", "update" and "diff", not {action!r}')
    unknown = sorted(set(options) - {*SWITCHES, *LISTS})
    if unknown:
        raise TypeError(f"sync() has no option {', '.join(unknown)}")
    wanted = {name: bool(options.get(name)) for name in SWITCHES}
    for name in LISTS:
        given = options.get(name) or ()
        # dirsync takes a text for a list of single characters.
        if isinstance(given, (str, bytes)):
            raise TypeError(f"{name} is a list of regular expressions, not one: {[given]!r}")
        wanted[name] = list(given)
    if wanted["twoway"] and action == "update" and wanted["ctime"]:
        raise ValueError(
            "twoway and ctime do not go together: the ctime of a copy is always later than the time it was given, so every"
            " file would be copied to and fro for ever. Leave one of them out"
        )
    return wanted


def _found_program() -> str:
    found = shutil.which("lockstep")
    if found is None:
        raise NotMirrored(
            "the program lockstep is not on the PATH; nothing was done. Install it, or say where it is with program=",
            _NOTHING_DONE,
        )
    return found


class _ToStdout(logging.StreamHandler):  # type: ignore[type-arg] # which Python 3.10 cannot be given
    """To whatever standard output is when a line comes, not when the first was wanted."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(message)s"))

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stdout


def _to_stdout() -> logging.Logger:
    logger = logging.getLogger("lockstep.sync")
    if not logger.handlers:
        logger.setLevel(logging.INFO)
        logger.addHandler(_ToStdout())
        logger.propagate = False
    return logger


class _Work:
    def __init__(
        self, source: str, destination: str, wanted: dict[str, Any], logger: logging.Logger, program: str
    ) -> None:
        self._source = source
        self._destination = destination
        self._wanted = wanted
        self._log = logger.info
        self._program = program
        self._outcome = Outcome()
        self._counts = dict.fromkeys(("directories", "files_copied", "files_deleted", "files_updated"), 0)
        self._directories_made = self._directories_deleted = 0
        self._began = time.monotonic()

    def sync(self, action: str) -> Outcome:
        self._make_destination()
        by_content = self._wanted["content"]
        flags = []
        if action == "update":
            flags.append("--existing")
        elif not self._wanted["purge"]:
            flags.append("--no-delete")
        elif self._wanted["allow_mass_delete"]:
            flags.append("--allow-mass-delete")
        # dirsync's rule: an older source overwrites nothing, unless contents are compared.
        flags.append("--content" if by_content else "--update")
        if self._wanted["ctime"] and not by_content:
            flags.append("--ctime")
        doing = "Synchronizing" if action == "sync" else "Updating"
        self._tell(f"{doing} directory {self._destination} with {self._source}")
        self._mirror(self._source, self._destination, flags)
        # The second way, for what is newer there; where contents are compared, the source is right.
        if action == "update" and self._wanted["twoway"] and not by_content:
            self._tell(f"Updating directory {self._source} with {self._destination}")
            self._mirror(self._destination, self._source, flags)
        self._report()
        return self._outcome

    def diff(self) -> Outcome:
        self._log(f"Difference of directory {self._destination} from {self._source}")
        self._counts["directories"] = 1
        named: dict[str, list[str]] = {"only-source": [], "only-destination": [], "both": []}
        with self._records(self._source, self._destination, ["--diff"]) as records:
            for record in records:
                if record["action"] in named:
                    named[record["action"]].append(name_of(record["path"]))
                    self._counts["directories"] += record["kind"] == "directory"
        for side, directory, mark in (
            ("only-source", self._source, ">>"),
            ("only-destination", self._destination, "<<"),
        ):
            if named[side]:
                self._log(f"Only in {directory}")
                for path in sorted(named[side]):
                    self._log(f"{mark} {path}")
                self._log("")
        if named["both"]:
            self._log(f"Common to {self._source} and {self._destination}")
            for path in sorted(named["both"]):
                self._log(f"-- {path}")
        else:
            self._log("No common files or sub-directories!")
        self._report()
        return self._outcome

    def _make_destination(self) -> None:
        if os.path.isdir(self._destination):
            return
        self._tell(f"Creating directory {self._destination}")
        # The program makes the last of it, and dirsync all of them.
        os.makedirs(os.path.dirname(os.path.abspath(self._destination)), exist_ok=True)
        self._directories_made += 1

    def _mirror(self, source: str, destination: str, flags: Sequence[str]) -> None:
        with self._records(source, destination, flags) as records:
            for record in records:
                action, path = record["action"], name_of(record.get("path") or "")
                if action == "pass":
                    for name in self._counts:
                        self._counts[name] += record[name]
                elif action in ("copied", "updated", "deleted"):
                    self._done(action, record["kind"], source, destination, path)

    def _done(self, action: str, kind: str | None, source: str, destination: str, path: str) -> None:
        is_directory = kind == "directory"
        # A directory that got a mode or time, which dirsync does not do.
        if action == "updated" and is_directory:
            return
        full = os.path.join(destination, path)
        self._outcome.paths.add(full)
        if action == "deleted":
            self._directories_deleted += is_directory
            self._tell(f"Deleting {full}")
        elif action == "updated":
            self._tell(f"Updating file {full}")
        elif is_directory:
            self._directories_made += 1
            self._tell(f"Creating directory {full}")
        else:
            place, name = os.path.split(path)
            there, here = (os.path.join(root, place) for root in (source, destination))
            self._tell(f"Copying file {name} from {there} to {here}")

    def _records(
        self, source: str, destination: str, flags: Sequence[str]
    ) -> AbstractContextManager[Iterator[dict[str, Any]]]:
        """Runs the program and gives what it tells, line by line; it has ended when this is left, however it is left."""
        return closing(self._told(source, destination, flags))

    def _told(
        self, source: str, destination: str, flags: Sequence[str]
    ) -> Generator[dict[str, Any], None, None]:
        command = [self._program, "mirror", "--json", "--log", "none", *flags]
        lists = {**self._wanted, "exclude": [*self._wanted["exclude"], _OPTION_FILE]}
        command += [f"--{name}-regex={expression}" for name in LISTS for expression in lists[name]]
        with tempfile.TemporaryFile() as said:
            try:
                child = subprocess.Popen(
                    [*command, "--", source, destination],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    env=_environment(),
                )
            except OSError as error:
                raise NotMirrored(f"{self._program} cannot be run: {error}; nothing was done", _NOTHING_DONE) from error
            with child:
                try:
                    assert child.stdout is not None
                    for line in child.stdout:
                        record = json.loads(line)
                        if record["action"] == "failed":
                            self._outcome.failed += 1
                            self._log(f"{os.path.join(destination, name_of(record['path']))}: {record['error']}")
                        yield record
                except BaseException:
                    # Whoever stops listening has it stop in order.
                    child.terminate()
                    raise
            said.seek(0)
            self._judge(child.returncode, said.read().decode(errors="replace"))

    def _judge(self, code: int, said: str) -> None:
        text = said.removeprefix("log: none\n").strip().removeprefix("lockstep: ")
        if code in (_USAGE, _NOTHING_DONE) and not self._outcome.paths:
            raise ValueError(text)
        if code == _HELD_BACK:
            self._report()
            text = text.replace("--allow-mass-delete", "allow_mass_delete=True")
        # 1 is said of entries that failed, which were told one by one.
        if code not in (0, 1) or (code == 1 and not self._outcome.failed):
            raise NotMirrored(text or f"{self._program} ended with {code}", code, self._outcome.paths)

    def _tell(self, line: str) -> None:
        if self._wanted["verbose"]:
            self._log(line)

    def _report(self) -> None:
        counts, updated_by = self._counts, "content" if self._wanted["content"] else "timestamp"
        self._log(f"lockstep finished in {time.monotonic() - self._began:.2f} seconds.")
        self._log(f"{counts['directories']} directories parsed, {counts['files_copied']} files copied")
        for count, what in (
            (counts["files_deleted"], "files were purged."),
            (self._directories_deleted, "directories were purged."),
            (self._directories_made, "directories were created."),
            (counts["files_updated"], f"files were updated by {updated_by}."),
        ):
            if count:
                self._log(f"{count} {what}")
        self._log("")
        if self._outcome.failed:
            self._log(f"there were errors in {self._outcome.failed} entries.")


def name_of(shown: str) -> str:
    """The name that the program shows with control characters and bytes that are no UTF-8 escaped."""
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]) if found[1] else b"\\", shown.encode())
    return os.fsdecode(plain)


def _environment() -> dict[str, str]:
    """Without the program's own settings: what is asked for here is all that is asked for."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOCKSTEP_MIRROR_") and name != "LOCKSTEP_CONFIG"
    }
