"""The key file: for its owner alone, on disk before it counts, and never half."""

import os
import stat
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lockstep import KeyFileError
from lockstep._key import KeyFile, default_path

SECRET = "ls-7-AAAAA-BBBBB"


class Key(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = Path(self.directory.name, "below", "key.json")
        self.key = KeyFile(self.path, 7)

    def test_it_reads_back_and_is_for_its_owner_alone(self):
        self.assertIsNone(self.key.read())
        before = os.umask(0)
        try:
            self.key.write(SECRET)
        finally:
            os.umask(before)
        self.assertEqual(self.key.read(), SECRET)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode) & 0o077, 0)
        self.assertEqual(os.listdir(self.path.parent), ["key.json"])

    def test_it_is_on_disk_before_it_has_its_name_and_its_name_before_it_counts(self):
        self.key.read()
        done = []
        fsync, replace = os.fsync, os.replace

        def noted_fsync(descriptor):
            done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            fsync(descriptor)

        def noted_replace(*names):
            done.append("name")
            replace(*names)

        with mock.patch.object(os, "fsync", noted_fsync), mock.patch.object(os, "replace", noted_replace):
            self.key.write(SECRET)
        self.assertEqual(done, ["file", "name", "directory"])

    def test_after_a_failed_write_the_old_one_is_there_and_nothing_else(self):
        self.key.read()
        self.key.write(SECRET)
        for step in ("fsync", "replace"):
            full = mock.patch.object(os, step, side_effect=OSError(28, "No space left on device"))
            with full, self.assertRaisesRegex(KeyFileError, "No space left.*not confirmed"):
                self.key.write("ls-7-OTHER")
            self.assertEqual(self.key.read(), SECRET)
            self.assertEqual(set(os.listdir(self.path.parent)) - {"key.json.old"}, {"key.json"})

    def test_a_new_one_does_not_take_the_old_one_away(self):
        self.key.read()
        with self.assertLogs("lockstep", "WARNING") as logged:
            for unique_id in ("first", "second", "second", "third"):
                self.key.write(unique_id)
        self.assertEqual(len(logged.output), 2)
        self.assertEqual((self.key.read(), KeyFile(f"{self.path}.old", 7).read()), ("third", "second"))

    def test_one_that_others_may_read_is_closed_to_them(self):
        self.key.read()
        self.key.write(SECRET)
        self.path.chmod(0o644)
        with self.assertLogs("lockstep", "WARNING"):
            self.assertEqual(self.key.read(), SECRET)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_a_damaged_one_is_told_with_what_to_do_and_without_the_secret(self):
        self.key.read()
        self.key.write(SECRET)
        text = self.path.read_text()
        for damaged in (text[:30], "[]", "{}", text.replace("7,", "8,"), text.replace('"ls', '["ls').replace('BB"', 'BB"]')):
            self.path.write_text(damaged)
            with self.assertRaisesRegex(KeyFileError, "reissue 7") as caught:
                self.key.read()
            self.assertNotIn("AAAAA", str(caught.exception))

    def test_a_place_that_is_none_is_told_before_a_hub_issues_anything(self):
        self.path.parent.mkdir()
        blocked = KeyFile(self.path / "key.json" / "below.json", 7)
        self.path.write_text("a file, where a directory was to be")
        with self.assertRaisesRegex(KeyFileError, "key_file="):
            blocked.read()

    def test_its_place_is_the_product_s_and_all_names_of_this_machine_are_one(self):
        def place(url, **environment):
            with mock.patch.object(os, "geteuid", return_value=1000), mock.patch.dict(os.environ, environment, clear=True):
                return str(default_path(url, 7))

        home = {"HOME": "/home/u"}
        self.assertEqual(
            place("http://127.0.0.1:7118", **home), "/home/u/.local/state/lockstep/client/localhost_7118_7.json"
        )
        for url in ("http://localhost:7118/", "http://[::1]:7118", "http://127.0.0.9:7118"):
            self.assertEqual(place(url, **home), place("http://127.0.0.1:7118", **home))
        self.assertEqual(place("https://hub.example", XDG_STATE_HOME="/x"), "/x/lockstep/client/hub.example_443_7.json")
        # By the XDG rules a relative one counts as unset.
        self.assertIn("/home/u/.local", place("https://hub.example", XDG_STATE_HOME="x", **home))
        with self.assertRaisesRegex(KeyFileError, "key_file="):
            place("https://hub.example")
        with mock.patch.object(os, "geteuid", return_value=0):
            self.assertEqual(str(default_path("https://h:1", 7)), "/var/lib/lockstep/client/h_1_7.json")


if __name__ == "__main__":
    unittest.main()
