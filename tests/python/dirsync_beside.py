"""The real dirsync and lockstep.sync, each on a copy of the same random trees: SCRATCH SEED ROUNDS [broken].

Compared are the files of both sides, the paths returned, the lines of a diff, the counters, and what is raised. Where the two
differ on purpose (docs/dirsync.md) the trees do not go, or it is said below. With `broken` ours is asked for something else,
which has to be found.
"""

import contextlib
import filecmp
import io
import logging
import os
import random
import shutil
import sys
from pathlib import Path

import dirsync
import dirsync.run
import lockstep
from lockstep.__main__ import main

PARTS = ["a", "b", "d"]
LEAVES = ["c.x", "c", "b.x", "A", "ä é", "t\nx"]
# And no name with a backslash, which dirsync takes for a slash. 2001, far from now: what is written meanwhile is always later.
BASE = 1_000_000_000
CALLS = [
    ("sync", {}),
    ("sync", {"purge": True}),
    ("sync", {"purge": True, "content": True}),
    ("sync", {"content": True}),
    ("sync", {"ctime": True}),
    ("sync", {"force": True, "verbose": True}),
    ("sync", {"twoway": True, "purge": True}),
    ("sync", {"exclude": [r".*\.x$"], "purge": True}),
    ("sync", {"ignore": ["b"], "purge": True}),
    ("sync", {"ignore": ["a/b"], "exclude": [r".*/c$"], "purge": True}),
    ("sync", {"only": ["a|b"], "exclude": ["b/"], "include": [r"b/.*c\.x"]}),
    ("update", {}),
    ("update", {"content": True}),
    ("update", {"ctime": True}),
    ("update", {"twoway": True}),
    ("update", {"twoway": True, "content": True}),
    ("update", {"purge": True, "exclude": [".*c"]}),
    ("diff", {}),
    ("diff", {"ignore": [".*/A$"], "exclude": [r".*\.x$"]}),
]


class Lines(logging.Handler):
    """Keeps what is told, both directories named alike."""

    def __init__(self, names):
        super().__init__()
        self.lines, self.names = [], names
        self.logger = logging.Logger("kept")
        self.logger.addHandler(self)

    def emit(self, record):
        line = record.getMessage()
        for directory, name in self.names:
            line = line.replace(str(directory), name)
        self.lines.append(line)

    def counter(self, what):
        return sum(int(line.split(what)[0].split(", ")[-1]) for line in self.lines if what in line)


def fill(top, rng, contents):
    """Directories that are always the same, so that dirsync's making of empty ones shows nowhere, and random files."""
    for x in PARTS:
        for y in PARTS:
            (top / x / y).mkdir(parents=True)
    for _ in range(20):
        place = Path(*rng.choices(PARTS, k=rng.randrange(3)))
        name = place / rng.choice(LEAVES)
        # As a file of one time has one content, so that who looks at times sees what who looks at contents does.
        version = rng.randrange(3)
        (top / name).write_text(f"{name} {version}" if not contents else f"{name} {rng.randrange(3)}")
        os.utime(top / name, (BASE + version, BASE + version))
    options_file(top, "")


def options_file(top, text):
    (top / ".dirsync").write_text(text)
    os.utime(top / ".dirsync", (BASE, BASE))


def files(top, by_time):
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            time = path.stat().st_mtime_ns if by_time else None
            found[str(path.relative_to(top))] = (path.read_bytes(), time)
    return found


def returned(paths, sides):
    """The paths as they would be of sides called so, files and what is gone apart from directories."""
    files, directories = set(), set()
    for path in paths:
        path = Path(path)
        side, top = next((name, top) for top, name in sides if path.is_relative_to(top))
        (directories if path.is_dir() else files).add(f"{side}/{path.relative_to(top)}")
    return files, directories


def check(same, what, ours, theirs):
    if same:
        return
    if isinstance(ours, dict):
        ours, theirs = set(ours.items()), set(theirs.items())
    if isinstance(ours, set):
        ours, theirs = sorted(ours - theirs), sorted(theirs - ours)
        what += ": what only one has"
    raise AssertionError(f"{what}\n ours: {ours}\n dirsync's: {theirs}")


def one(scratch, rng, action, options, broken):
    by_content = options.get("content", False)
    base, sides = scratch / "base", {}
    fill(base / "src", rng, by_content)
    fill(base / "dst", rng, by_content)
    before = files(base / "dst", True)
    results = {}
    for who, call in (("ours", lockstep.sync), ("theirs", dirsync.sync)):
        shutil.copytree(base, scratch / who)
        sides[who] = [(scratch / who / "src", "S"), (scratch / who / "dst", "D")]
        told = Lines(sides[who])
        asked = dict(options)
        if broken and who == "ours":
            asked["purge"] = not asked.get("purge")
            asked["content"] = not asked.get("content")
        # It remembers by path, size and time what was the same, also when it no longer is.
        filecmp.clear_cache()
        paths = call(str(scratch / who / "src"), str(scratch / who / "dst"), action, logger=told.logger, **asked)
        results[who] = (returned(paths, sides[who]), told)
    # Where contents are compared, dirsync leaves the times of what is the same, and ours mends them.
    for side in ("src", "dst"):
        ours, theirs = (files(scratch / who / side, not by_content) for who in sides)
        check(ours == theirs, f"the files of {side}", ours, theirs)
    (ours, our_dirs), our_lines = results["ours"]
    (theirs, their_dirs), their_lines = results["theirs"]
    # dirsync does not name what goes with its directory, in an order that is no order; and has empty ones made by update.
    gone = {f"D/{name}" for name in before if not (scratch / "ours/dst" / name).exists()}
    ours_stay = {path for path in ours - gone if not mended(path, base, by_content)}
    check(theirs - gone == ours_stay, "the paths", ours_stay, theirs - gone)
    check(ours & gone == gone, "the paths deleted", ours, gone)
    check(our_dirs <= their_dirs or action == "sync", "the directories", our_dirs, their_dirs)
    if action == "diff":
        ours, theirs = ([line for line in lines.lines if is_true(line, base)] for lines in (our_lines, their_lines))
        check(ours == theirs, "the lines", ours, theirs)
    for what in (" files copied", *(() if by_content else (" files were updated by timestamp",))):
        ours, theirs = our_lines.counter(what), their_lines.counter(what)
        check(ours == theirs, what, our_lines.lines, their_lines.lines)
    shutil.rmtree(base)
    for who in sides:
        shutil.rmtree(scratch / who)


def is_true(line, base):
    """Whether a line of a diff names something: dirsync also names parents without their last letter."""
    mark, _, name = line.partition(" ")
    if mark in (">>", "<<", "--"):
        return bool(name) and not name.endswith("/") and any((base / side / name).exists() for side in ("src", "dst"))
    return "finished in" not in line


def mended(path, base, by_content):
    """Whether nothing but the time of it was another one."""
    sides = [base / side / path[2:] for side in ("src", "dst")]
    return by_content and all(side.exists() for side in sides) and len({side.read_bytes() for side in sides}) == 1


def what_is_raised(scratch):
    (scratch / "src").mkdir()
    (scratch / "src/x").write_text("x")
    calls = (("no", "src", "sync"), ("src", "no", "sync"), ("src", "no", "diff"), ("src", "no/no", "update"))
    for source, target, action in calls:
        texts = []
        for call in (lockstep.sync, dirsync.sync):
            try:
                call(str(scratch / source), str(scratch / target), action, logger=Lines([]).logger)
                texts.append("nothing")
            except ValueError as error:
                texts.append(str(error))
        check(texts[0] == texts[1] != "nothing", f"what is raised of {source} and {target}", *texts)
    # Missing directories are made with all that is above them, when asked for.
    for who, call in (("ours", lockstep.sync), ("theirs", dirsync.sync)):
        call(str(scratch / "src"), str(scratch / who / "deep/dst"), "sync", create=True, logger=Lines([]).logger)
    ours, theirs = (files(scratch / who, True) for who in ("ours", "theirs"))
    check(ours == theirs and ours, "what create makes", ours, theirs)
    for name in ("src", "ours", "theirs"):
        shutil.rmtree(scratch / name)


def command_lines(scratch):
    """Both command lines, with files of options of the user and of the source."""
    home = scratch / "home"
    home.mkdir()
    os.environ["HOME"] = str(home)
    lists = "\nexclude = \n    b.*\n    .*x\n"
    for n, (users, sources, flags) in enumerate(
        [
            ("", None, []),
            ("", None, ["-s", "-c"]),
            ("[defaults]\naction = sync\npurge = 1\n", None, ["-c"]),
            ("[defaults]\naction = sync\n", f"[defaults]\ncreate = true{lists}", ["-p"]),
            ("[defaults]\npurge = 1\n", f"[defaults]\ncreate = 1\npurge = 0\naction = sync{lists}", []),
            ("[defaults]\naction = nonsense\n", None, ["-c"]),
            ("[defaults]\ncreate = 1\n", None, []),
            ("[defaults]\ncreate = 1\n", None, ["-u", "-s", "-e", "c", "d/.*", "-i", "d/d.*"]),
            ("[defaults]\ncreate = 1\naction = diff\n", None, ["-x", "a", "-o", ".*", "-v", "-f", "--ctime"]),
            ("[defaults]\ncreate = 0\naction = update\n", None, ["-2"]),
        ]
    ):
        (home / ".dirsync").unlink(missing_ok=True)
        if users:
            (home / ".dirsync").write_text(users)
        codes, found = [], []
        for who, call in (("ours", main), ("theirs", dirsync.run.from_cmdline)):
            top = scratch / f"{n}-{who}"
            fill(top / "src", random.Random(n), False)
            if n % 2 == 0:
                fill(top / "dst", random.Random(n + 1), False)
            if sources:
                options_file(top / "src", sources)
            sys.argv = ["dirsync", str(top / "src"), str(top / "dst"), *flags]
            code = 0
            # Their default logger keeps the first standard output it saw.
            logging.getLogger("dirsync").handlers.clear()
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    code = call() or 0
                except SystemExit as end:
                    code = end.code
            codes.append(code)
            found.append(files(top, True))
            if who == "ours":
                check((home / ".dirsync").exists() == bool(users), "nothing is made in the home", users, None)
        check(codes[0] == codes[1], f"the exit code of command line {n} {flags}", *codes)
        check(found[0] == found[1], f"the files of command line {n} {flags}", *found)


def run():
    scratch, seed, rounds, *rest = sys.argv[1:]
    scratch, rng, broken = Path(scratch), random.Random(int(seed)), rest == ["broken"]
    count = 0
    for _ in range(int(rounds)):
        for action, options in CALLS:
            try:
                one(scratch, rng, action, options, broken)
            except AssertionError as error:
                raise AssertionError(f"{action} {options}: {error}") from None
            count += 1
    if not broken:
        what_is_raised(scratch)
        command_lines(scratch)
    print(f"{count} calls compared")


run()
