"""Whatever is put, removed, cut, forgotten and followed, and however late callbacks are: the client ends with what the hub has."""

import os
import unittest

from lockstep._core import Core
from lockstep._data import Data
from model import Scene

SOAK = os.environ.get("LOCKSTEP_TEST_SIZE") == "soak"
RUNS = 20_000 if SOAK else 600


def run(seed, core=Core):
    scene = Scene(seed, core)
    for _ in range(120):
        scene.step()
    scene.settle()
    scene.check()


# Each is wrong in one way, and the model has to find it out.


class HearsWhatComesLate(Core):
    def heard(self, link, event, args, number):
        return super().heard(self.link, event, args, number)


def with_data(data):
    class Wrong(Core):
        def __init__(self, id, name, invite, patterns):
            super().__init__(id, name, invite, patterns)
            self.data.__class__ = data

    Wrong.__name__ = data.__name__
    return Wrong


class KnowsNoReset(Data):
    def reset(self, told):
        if follow := self._follow_of(told):
            follow.awaits_reset = False


class NeverSweeps(Data):
    def mark(self, told, current):
        for follow in self._follows.values():
            follow.unproven.clear()
        super().mark(told, current)


class BelievesEarlierFollows(Data):
    def resume(self, pattern):
        cursor = super().resume(pattern)
        self._follows[pattern].awaits_reset = False
        return cursor


class ForgetsNothingUnfollowed(Data):
    def forget(self, pattern):
        return self._follows.pop(pattern, None) is not None


class TellsChangesOnly(Data):
    def _drop(self, name):
        self._proven(name)
        self.values.pop(name, None)


class Model(unittest.TestCase):
    def test_it_ends_with_what_the_hub_has(self):
        first = int(os.environ.get("LOCKSTEP_TEST_SEED", 1))
        for seed in range(first, first + RUNS):
            with self.subTest(seed=seed):
                run(seed)

    def test_wrong_clients_are_found_out(self):
        wrongs = [KnowsNoReset, NeverSweeps, BelievesEarlierFollows, ForgetsNothingUnfollowed, TellsChangesOnly]
        for wrong in [HearsWhatComesLate, *map(with_data, wrongs)]:
            with self.subTest(wrong=wrong.__name__), self.assertRaises(AssertionError):
                for seed in range(1, 3000):
                    run(seed, wrong)


if __name__ == "__main__":
    unittest.main()
