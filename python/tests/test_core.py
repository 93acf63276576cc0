"""What the core decides, event by event."""

import unittest
from concurrent.futures import Future

import lockstep
from lockstep._core import Core
from lockstep._words import Acknowledge, Keep, Leave, Say
from model import told


def value(name, version, payload="x"):
    return told((name, version, payload))


def mark(cursor="c", pattern="*", conflated=0):
    return {"board": "data", "pattern": pattern, "cursor": cursor, "conflated": conflated}


def reset(pattern="*"):
    return {"board": "data", "pattern": pattern}


class CoreTest(unittest.TestCase):
    def setUp(self):
        self.core = Core(7, "test", "invite", ["*"])
        self.calls = []

    def hear(self, event, *args, number=None, link=None):
        return self.core.heard(link or self.link, event, list(args), number)

    def log_in(self):
        self.link = self.core.begin("connection")
        return self.hear("welcome", {"hub": "the hub"})

    def log_in_and_settle(self):
        self.log_in()
        self.hear("reset", reset())
        self.hear("current", mark("c0"))
        while self.core.take() is not None:
            self.core.told()

    def tell(self):
        calls = self.core.take()
        for call in calls or []:
            call()
        return self.core.told()[1]

    # --- Logging in

    def test_a_unique_id_is_kept_before_it_is_acknowledged_and_said_ever_after(self):
        self.link = self.core.begin(None)
        self.assertEqual(self.core.auth(), {"id": 7, "name": "test", "invite": "invite", "follow": []})
        self.assertEqual(self.hear("unique_id", "ls-7-X", number=4), [Keep("ls-7-X", 4)])
        self.core.kept("ls-7-X")
        self.assertEqual(self.core.auth()["unique_id"], "ls-7-X")

    def test_what_never_arrived_is_said_to_be_lost_but_not_what_is_held(self):
        self.link = self.core.begin(None)
        self.assertEqual(self.hear("unique_id?"), [Say("lost")])
        self.core.kept("ls-7-X")
        self.assertEqual(self.hear("unique_id?"), [])

    def test_each_pattern_goes_on_from_its_own_cursor(self):
        self.core = Core(7, "test", None, ["a*", "b"])
        self.assertEqual([say.args[0].get("cursor") for say in self.log_in()], [None, None])
        self.hear("reset", reset("a*"))
        self.hear("cursor", mark("a-1", "a*"))
        self.core.lost(self.link, "cut")
        asked = {say.args[0]["pattern"]: say.args[0].get("cursor") for say in self.log_in()}
        self.assertEqual(asked, {"a*": "a-1", "b": None})

    def test_refusals_end_it_by_their_code_unless_it_is_worth_trying_again(self):
        for code, kind in [
            ("taken_over", lockstep.TakenOver),
            ("revoked", lockstep.Revoked),
            ("not_proven", lockstep.NotProven),
            ("not_invited", lockstep.NotInvited),
            ("bad_id", lockstep.Refused),
        ]:
            for event in ("refused", "bye"):
                self.setUp()
                self.link = self.core.begin(None)
                waiting = Future()
                self.core.when(self.core.is_current, waiting)
                self.assertEqual(self.hear(event, {"code": code, "text": "why"}), [Leave()])
                error = waiting.exception(0)
                self.assertIs(type(error), kind)
                self.assertEqual((error.code, error.text, str(error)), (code, "why", f"why ({code})"))
                self.core.lost(self.link, "over")
                self.assertIsNone(self.core.pause_s(self.link))
        self.setUp()
        self.link = self.core.begin(None)
        self.assertEqual(self.hear("refused", {"code": "rate_limited", "text": "wait", "retry_ms": 7000}), [])
        self.core.lost(self.link, "cut")
        self.assertGreaterEqual(self.core.pause_s(self.link), 7)
        self.assertLess(self.core.pause_s(self.link), 7)

    def test_pauses_grow_to_a_limit_and_begin_anew_after_a_login(self):
        pauses = []
        for _ in range(2000):
            link = self.core.begin(None)
            self.core.lost(link, "refused")
            pauses.append(self.core.pause_s(link))
        self.assertLessEqual(pauses[0], 0.5)
        self.assertTrue(2.5 <= min(pauses[10:]) and max(pauses) <= 5, max(pauses))
        self.log_in()
        self.core.lost(self.link, "cut")
        self.assertLessEqual(self.core.pause_s(self.link), 0.25)

    # --- The latest values

    def test_what_is_not_newer_is_ignored(self):
        self.log_in_and_settle()
        self.hear(*value("a", 5, "new"))
        self.hear(*value("a", 4, "old"))
        self.hear("gone", {"board": "data", "name": "a", "version": 3})
        self.hear(*value("a", 5, "the same again"))
        self.assertEqual(self.core.snapshot(), {"a": "new"})

    def test_after_a_reset_what_is_held_stays_readable_until_it_is_proven_gone(self):
        self.log_in_and_settle()
        self.hear(*value("a", 50, "old"))
        self.hear(*value("b", 51, "old"))
        self.core.lost(self.link, "cut")
        self.log_in()
        self.hear("reset", reset())
        self.assertEqual(self.core.snapshot(), {"a": "old", "b": "old"})
        # Of another history, where versions began anew.
        self.hear(*value("a", 1, "new"))
        self.assertEqual(self.core.snapshot(), {"a": "new", "b": "old"})
        self.hear("cursor", mark())
        self.assertIn("b", self.core.snapshot())
        self.hear("current", mark())
        self.assertEqual(self.core.snapshot(), {"a": "new"})

    def test_nothing_is_heard_of_a_connection_that_was_given_up(self):
        self.log_in_and_settle()
        old = self.link
        self.core.lost(old, "cut")
        self.hear(*value("a", 5), link=old)
        self.log_in()
        self.hear("current", mark("too far"), number=3, link=old)
        self.assertEqual((self.core.snapshot(), self.core.data.resume("*")), ({}, "c0"))
        self.assertEqual(self.tell(), [])

    def test_the_cursor_of_an_earlier_follow_of_the_same_pattern_does_not_count(self):
        self.log_in_and_settle()
        self.hear(*value("a", 5))
        self.core.unfollow("*", Future())
        self.core.follow("*", Future())
        self.hear("current", mark("of the earlier"))
        self.assertFalse(self.core.is_current())
        self.assertIsNone(self.core.data.resume("*"))

    def test_what_one_follow_has_to_hear_anew_another_does_not_drop(self):
        self.core = Core(7, "test", None, ["a*", "ab"])
        self.log_in()
        self.hear("reset", reset("ab"))
        self.hear(*value("ab", 5))
        self.hear("reset", reset("a*"))
        self.hear("current", mark(pattern="ab"))
        self.core.unfollow("a*", Future())
        self.assertEqual(self.core.snapshot(), {"ab": "x"})

    # --- Telling

    def test_a_batch_is_acknowledged_once_callbacks_are_through_with_it(self):
        self.core.on("change", "*", lambda value: self.calls.append(value.name))
        self.log_in_and_settle()
        self.hear(*value("a", 1))
        self.hear(*value("b", 2))
        self.assertEqual(self.hear("current", mark(), number=9), [])
        self.assertEqual((self.tell(), self.tell()), ([], []))
        self.assertEqual((self.tell(), self.calls), ([Acknowledge(9)], ["a", "b"]))
        # And at once, where nothing is to be told.
        self.assertEqual(self.hear("cursor", mark(), number=10), [Acknowledge(10)])

    def test_a_callback_that_takes_long_costs_no_more_than_one_state_of_each_name(self):
        self.core.on("change", "hot*", lambda value: self.calls.append(value.payload))
        self.core.on("current", "", lambda: self.calls.append("current"))
        self.log_in_and_settle()
        for n in range(1, 30_001):
            self.hear(*value(f"hot{n % 3}", n, n))
            if n % 100 == 0:
                self.hear("current", mark(conflated=1), number=n)
        self.assertLess(len(self.core.telling._pending), 10)
        acknowledged = []
        while self.core.telling._pending:
            acknowledged += self.tell()
        self.assertEqual(sorted(self.calls[:-1]), [29_998, 29_999, 30_000])
        self.assertEqual(self.calls[-1], "current")
        # Of earlier ones the hub has given up waiting.
        self.assertEqual(acknowledged, [Acknowledge(29_900), Acknowledge(30_000)])
        self.assertEqual(self.core.data.conflated, 300)

    def test_what_changes_while_it_is_told_is_told_again(self):
        def change(value):
            self.calls.append(value.payload)
            if value.version == 1:
                self.hear(*globals()["value"]("a", 2, "second"))

        self.core.on("change", "a", change)
        self.log_in_and_settle()
        self.hear(*value("a", 1, "first"))
        self.tell()
        self.tell()
        self.assertEqual(self.calls, ["first", "second"])
        self.assertIsNone(self.core.take())

    def test_callbacks_hear_what_they_asked_for_until_they_are_taken_back(self):
        take_back = self.core.on("change", "a/*", lambda value: self.calls.append(value.name))
        self.core.on("gone", "a/1", lambda name: self.calls.append(f"-{name}"))
        self.log_in_and_settle()
        for name in ("a", "a/1", "b"):
            self.hear(*value(name, 1))
            self.tell()
        self.hear("gone", {"board": "data", "name": "a/1", "version": 2})
        self.tell()
        take_back()
        self.hear(*value("a/2", 3))
        self.tell()
        self.assertEqual(self.calls, ["a/1", "-a/1"])

    def test_the_end_is_told_last_and_after_closing_nothing(self):
        self.core.on("change", "*", lambda value: self.calls.append(value.name))
        self.core.on("end", "", lambda error: self.calls.append(error.code))
        self.log_in_and_settle()
        self.hear(*value("a", 1))
        self.hear("bye", {"code": "revoked", "text": "why"})
        self.tell()
        self.tell()
        self.assertEqual(self.calls, ["a", "revoked"])
        self.setUp()
        self.log_in_and_settle()
        self.hear(*value("a", 1))
        self.core.end(lockstep.Closed("closed"))
        self.assertIsNone(self.core.take())

    # --- Asking

    def test_who_waits_for_an_answer_is_told_that_none_comes(self):
        self.log_in_and_settle()
        answered, unanswered, closed = Future(), Future(), Future()
        (say,) = self.core.ask(self.link, answered, "put", ("a", 1), lambda answer: answer["version"])
        say.then({"ok": True, "version": 5})
        (say,) = self.core.ask(self.link, unanswered, "put", ("a", 1), lambda answer: answer["version"])
        self.core.lost(self.link, "cut")
        say.then({"ok": True, "version": 6})
        self.assertEqual(answered.result(0), 5)
        self.assertIsInstance(unanswered.exception(0), lockstep.Unanswered)
        self.assertEqual(self.core.ask(self.link, late := Future(), "put", ("a", 1), dict), [])
        self.assertIsInstance(late.exception(0), lockstep.Unanswered)
        self.log_in()
        self.core.ask(self.link, closed, "put", ("a", 1), dict)
        self.core.end(lockstep.Closed("closed"))
        self.assertIsInstance(closed.exception(0), lockstep.Closed)

    def test_a_follow_that_is_refused_is_none_and_at_a_login_it_is_the_end(self):
        self.log_in_and_settle()
        future = Future()
        _, (say,) = self.core.follow("long", future)
        self.assertFalse(self.core.is_current())
        say.then({"ok": False, "code": "limit", "text": "too long"})
        self.assertIsInstance(future.exception(0), lockstep.LimitExceeded)
        self.assertEqual((self.core.data.patterns, self.core.is_current()), (["*"], True))
        self.core.lost(self.link, "cut")
        (say,) = self.log_in()
        self.assertEqual(say.then({"ok": False, "code": "limit", "text": "too long"}), [Leave()])
        self.assertIsInstance(self.core.over, lockstep.LimitExceeded)

    # --- Who is here

    def test_comings_and_goings_are_told_also_those_that_were_missed(self):
        self.core.on("client", "", lambda peer, here: self.calls.append((peer.id, peer.name, here)))
        self.core.watch()
        _, say = self.log_in()
        # By polling, this may come before the list that is older.
        self.hear("client", {"id": 2, "active": False})
        say.then({"ok": True, "clients": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]})
        self.hear("client", {"id": 3, "name": "three", "active": True})
        while self.core.telling._pending:
            self.tell()
        self.assertEqual(sorted(self.calls), [(1, "one", True), (3, "three", True)])
        self.calls.clear()
        self.core.lost(self.link, "cut")
        _, say = self.log_in()
        say.then({"ok": True, "clients": [{"id": 1, "name": "one"}, {"id": 4, "name": "four"}]})
        while self.core.telling._pending:
            self.tell()
        self.assertEqual(sorted(self.calls), [(3, "three", False), (4, "four", True)])


if __name__ == "__main__":
    unittest.main()
