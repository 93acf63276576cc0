"""`sync`, over a stand-in for the program that notes how it is called and tells what a test wants told."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import lockstep
from lockstep._dirsync import name_of
from lockstep.__main__ import main

STAND_IN = """#!{python}
import json, os, sys
note = {{"args": sys.argv[1:], "settings": sorted(n for n in os.environ if n.startswith("LOCKSTEP_"))}}
with open({notes!r}, "a") as notes:
    notes.write(json.dumps(note) + "\\n")
print(open({told!r}).read(), end="")
print("log: none", file=sys.stderr)
print(open({said!r}).read(), end="", file=sys.stderr)
sys.exit(int(open({code!r}).read()))
"""
PASS = {"action": "pass", "directories": 2, "files_copied": 1, "files_updated": 0, "files_deleted": 0}


class Sync(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.top = Path(directory.name).resolve()
        self.source, self.destination = self.top / "src", self.top / "dst"
        self.source.mkdir()
        self.destination.mkdir()
        self.program = self.top / "lockstep"
        files = {name: str(self.top / name) for name in ("notes", "told", "said", "code")}
        self.program.write_text(STAND_IN.format(python=sys.executable, **files))
        self.program.chmod(0o755)
        self.will_tell([PASS])
        self.lines = []
        self.logger = mock.Mock(spec=logging.Logger)
        self.logger.info.side_effect = self.lines.append

    def will_tell(self, records, said="", code=0):
        (self.top / "told").write_text("".join(json.dumps(record) + "\n" for record in records))
        (self.top / "said").write_text(said)
        (self.top / "code").write_text(str(code))

    def sync(self, action="sync", destination="dst", **options):
        destination = destination and self.top / destination
        return lockstep.sync(self.source, destination, action, logger=self.logger, program=self.program, **options)

    def flags(self):
        """What the last calls were given, without what each is given, and forgets them."""
        calls = [json.loads(line) for line in (self.top / "notes").read_text().splitlines()]
        (self.top / "notes").unlink()
        found = []
        for call in calls:
            args = call["args"]
            self.assertEqual(args[:4], ["mirror", "--json", "--log", "none"])
            self.assertEqual(args[-3], "--")
            found.append(([arg for arg in args[4:-3] if arg != r"--exclude-regex=^\.dirsync$"], args[-2:]))
        return found

    def test_each_action_and_option_asks_for_what_it_means(self):
        there, back = [str(self.source), str(self.destination)], [str(self.destination), str(self.source)]
        for action, options, expected in [
            ("sync", {}, [(["--no-delete", "--update"], there)]),
            ("sync", {"purge": True}, [(["--update"], there)]),
            ("sync", {"purge": True, "allow_mass_delete": True}, [(["--allow-mass-delete", "--update"], there)]),
            ("sync", {"content": True, "ctime": True}, [(["--no-delete", "--content"], there)]),
            ("sync", {"ctime": True, "twoway": True}, [(["--no-delete", "--update", "--ctime"], there)]),
            ("sync", {"force": True, "verbose": True, "create": True}, [(["--no-delete", "--update"], there)]),
            ("update", {"purge": True}, [(["--existing", "--update"], there)]),
            ("update", {"twoway": True}, [(["--existing", "--update"], there), (["--existing", "--update"], back)]),
            ("update", {"twoway": True, "content": True}, [(["--existing", "--content"], there)]),
            ("diff", {"purge": True, "only": ["a", "-b"]}, [(["--diff", "--only-regex=a", "--only-regex=-b"], there)]),
        ]:
            with self.subTest(action=action, **options):
                self.sync(action, **options)
                self.assertEqual(self.flags(), expected)

    def test_what_it_leaves_out_of_itself_can_be_taken_back(self):
        self.sync(include=[r"\.dirsync"])
        (line,) = (self.top / "notes").read_text().splitlines()
        self.assertIn(r"--exclude-regex=^\.dirsync$", line.replace("\\\\", "\\"))
        self.assertIn(r"--include-regex=\.dirsync", line.replace("\\\\", "\\"))

    def test_settings_of_the_program_change_nothing(self):
        settings = {"LOCKSTEP_MIRROR_DELETE_EXCLUDED": "true", "LOCKSTEP_CONFIG": "/nowhere", "LOCKSTEP_OTHER": "1"}
        with mock.patch.dict(os.environ, settings):
            self.sync()
        note = json.loads((self.top / "notes").read_text())
        self.assertFalse({"LOCKSTEP_MIRROR_DELETE_EXCLUDED", "LOCKSTEP_CONFIG"} & set(note["settings"]))
        self.assertIn("LOCKSTEP_OTHER", note["settings"])

    def test_paths_and_lines_come_from_what_the_program_tells(self):
        record = lambda action, path, kind="file": {"action": action, "path": path, "kind": kind, "error": None}
        self.will_tell(
            [
                record("copied", "d", "directory"),
                record("copied", "d/a\\x0ab"),
                record("updated", "u\\\\v"),
                record("updated", "only its time", "directory"),
                record("deleted", "raw\\xff"),
                record("deleted", "old", "directory"),
                record("skipped", "same"),
                {"action": "failed", "path": "no", "kind": "file", "error": "permission denied"},
                PASS | {"files_updated": 1, "files_deleted": 1},
            ],
            said="no: permission denied\n",
            code=1,
        )
        names = ("d", "d/a\nb", "u\\v", "raw\udcff", "old")
        self.assertEqual(self.sync(verbose=True), {f"{self.destination}/{name}" for name in names})
        self.assertEqual(
            [line for line in self.lines if "finished in" not in line],
            [
                f"Synchronizing directory {self.destination} with {self.source}",
                f"Creating directory {self.destination}/d",
                f"Copying file a\nb from {self.source}/d to {self.destination}/d",
                f"Updating file {self.destination}/u\\v",
                f"Deleting {self.destination}/raw\udcff",
                f"Deleting {self.destination}/old",
                f"{self.destination}/no: permission denied",
                "2 directories parsed, 1 files copied",
                "1 files were purged.",
                "1 directories were purged.",
                "1 directories were created.",
                "1 files were updated by timestamp.",
                "",
                "there were errors in 1 entries.",
            ],
        )

    def test_names_come_back_from_how_they_are_shown(self):
        for shown, name in [("a\\\\x0a", b"a\\x0a"), ("\\x0a\\xe2\\x80\\xaeé", "\n\u202eé".encode()), ("\\xff", b"\xff")]:
            self.assertEqual(os.fsencode(name_of(shown)), name)

    def test_without_a_destination_it_is_beside_the_source_and_made(self):
        link = self.top / "link"
        link.symlink_to(self.source)
        self.will_tell([{"action": "copied", "path": "x", "kind": "file"}, PASS])
        done = lockstep.sync(link, None, "sync", logger=self.logger, program=self.program)
        self.assertEqual(done, {f"{self.source}-mirror/x"})
        self.assertEqual(self.flags()[0][1], [str(link), f"{self.source}-mirror"])

    def test_held_deletions_are_raised_and_say_what_was_done(self):
        self.will_tell([{"action": "copied", "path": "x", "kind": "file"}, PASS], "much: --allow-mass-delete\n", 4)
        with self.assertRaisesRegex(lockstep.NotMirrored, "much: allow_mass_delete=True") as raised:
            self.sync(purge=True)
        self.assertEqual((raised.exception.code, raised.exception.paths), (4, {f"{self.destination}/x"}))

    def test_what_cannot_be_done_is_a_value_error_in_the_programs_words(self):
        for code in (2, 3):
            self.will_tell([], "lockstep: the destination is in the source; nothing was done\n", code)
            with self.assertRaisesRegex(ValueError, "^the destination is in the source; nothing was done$"):
                self.sync()

    def test_an_end_that_nobody_expects_is_raised(self):
        for code in (1, 101, 130):
            self.will_tell([], "", code)
            with self.assertRaisesRegex(lockstep.NotMirrored, f"ended with {code}") as raised:
                self.sync()
            self.assertEqual(raised.exception.code, code)
        with mock.patch.dict(os.environ, {"PATH": "/nowhere"}):
            with self.assertRaisesRegex(lockstep.NotMirrored, "not on the PATH; nothing was done"):
                lockstep.sync(self.source, self.destination, "sync")
        self.program.chmod(0o644)
        with self.assertRaisesRegex(lockstep.NotMirrored, "cannot be run.*nothing was done"):
            self.sync()

    def test_what_is_wrong_is_told_before_anything_is_done(self):
        for error, options in [
            (ValueError, {"action": "mirror"}),
            (ValueError, {"action": None}),
            (ValueError, {"destination": "none"}),
            (ValueError, {"action": "update", "twoway": True, "ctime": True}),
            (TypeError, {"pruge": True}),
            (TypeError, {"only": ".*"}),
        ]:
            with self.subTest(**options), self.assertRaises(error):
                self.sync(**options)
        self.assertFalse((self.top / "notes").exists())

    def test_a_logger_that_raises_ends_the_program_and_is_heard(self):
        record = {"action": "copied", "path": "x", "kind": "file"}
        self.program.write_text(f"#!/bin/sh\necho $$ > {self.top}/pid\necho '{json.dumps(record)}'\nexec sleep 600\n")
        for trouble in (RuntimeError("enough"), KeyboardInterrupt("enough")):
            self.logger.info.side_effect = [None, trouble]
            # Held, and with it all that was going on.
            with self.assertRaisesRegex(type(trouble), "enough") as raised:
                self.sync(verbose=True)
            self.assertIsNotNone(raised.exception)
            with self.assertRaises(ProcessLookupError):
                os.kill(int((self.top / "pid").read_text()), 0)

    def test_the_command_line_tells_how_it_went(self):
        with mock.patch.dict(os.environ, {"PATH": str(self.top), "HOME": str(self.top)}):
            given = [str(self.source), str(self.destination)]
            with mock.patch("sys.stdout"):
                self.assertEqual(main(given), 0)
                self.assertEqual(main([str(self.top / "none"), str(self.destination)]), 2)
                self.will_tell([{"action": "failed", "path": "x", "error": "no"}, PASS], code=1)
                self.assertEqual(main([*given, "--update"]), 1)
                (self.source / ".dirsync").write_text("no section\n")
                self.assertEqual(main(given), 2)
                # After the flags as well, where dirsync does not see it.
                (self.source / ".dirsync").write_text("[defaults]\npurge = 1\nallow-mass-delete = 1\n")
                (self.top / "notes").unlink()
                main(["-s", *given])
        self.assertEqual(self.flags()[0][0], ["--allow-mass-delete", "--update"])

    def test_it_needs_nothing_from_elsewhere(self):
        script = (
            "import sys; sys.modules.update(dict.fromkeys(['socketio', 'engineio', 'aiohttp', 'requests']));"
            "from lockstep import sync; import lockstep.__main__"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(lockstep.__file__).parent.parent)}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)


if __name__ == "__main__":
    unittest.main()
