"""A hub as docs/socketio.md tells it, small and without any network: a board, and one session of a client."""

import random

from lockstep._core import Core
from lockstep._telling import matches
from lockstep._words import Say

NAMES = ["a", "a/1", "a/2", "b", "b/1", "c"]
PATTERNS = ["*", "a*", "a/*", "b", "c"]


class Board:
    """The newest of each name, tombstones included."""

    def __init__(self):
        self.epoch, self.head, self.entries = 1, 0, {}

    def write(self, name, payload):
        self.head += 1
        self.entries[name] = (self.head, payload)

    def lose_history(self, rng):
        """Versions begin anew, and some names are gone without a trace."""
        kept = {name: payload for name, (_, payload) in self.entries.items() if payload is not None and rng.random() < 0.7}
        self.epoch, self.head, self.entries = self.epoch + 1, 0, {}
        for name, payload in kept.items():
            self.write(name, payload)

    def latest(self, patterns):
        """What a client that follows these has to hold."""
        return {
            name: (version, payload)
            for name, (version, payload) in self.entries.items()
            if payload is not None and any(matches(pattern, name) for pattern in patterns)
        }


class Place:
    """How far one follow is: live behind a version, or in a walk by name."""

    def __init__(self, board, pattern, cursor):
        self.board, self.pattern, self.greeted = board, pattern, False
        self.resets = True
        self.version, self.walk = 0, (board.head, "")
        if cursor:
            epoch, of, version, *walk = cursor.split("|")
            if int(epoch) == board.epoch and of == pattern:
                self.resets = False
                self.version = int(version)
                self.walk = (int(walk[0]), walk[1]) if walk else None

    def next(self, rng):
        """A batch as events; None at the head."""
        size, board = rng.randint(1, 3), self.board
        newer = [(name, *entry) for name, entry in board.entries.items() if matches(self.pattern, name)]
        if self.walk:
            head, after = self.walk
            batch = sorted(entry for entry in newer if entry[1] > self.version and entry[0] > after)[:size]
            last = len(batch) < size
            self.walk = None if last else (head, batch[-1][0])
            self.version = head if last else self.version
        else:
            batch = sorted((entry for entry in newer if entry[1] > self.version), key=lambda entry: entry[1])[:size]
            if not batch and self.greeted and self.version == board.head:
                return None
            self.version = batch[-1][1] if len(batch) == size else board.head
        # A walk may end at the head, and says that in a batch of its own.
        self.greeted = self.walk is None and self.version == board.head and bool(not batch or not self.walk)
        current = self.greeted and not any(entry[1] > self.version for entry in newer)
        return [*self._reset(), *map(told, batch), ("current" if current else "cursor", self._end())]

    def _reset(self):
        if not self.resets:
            return []
        self.resets = False
        return [("reset", {"board": "data", "pattern": self.pattern})]

    def _end(self):
        walk = "" if self.walk is None else f"|{self.walk[0]}|{self.walk[1]}"
        cursor = f"{self.board.epoch}|{self.pattern}|{self.version}{walk}"
        return {"board": "data", "pattern": self.pattern, "cursor": cursor, "conflated": 0}


def told(entry):
    name, version, payload = entry
    if payload is None:
        return "gone", {"board": "data", "name": name, "version": version}
    more = {"content_type": "text/plain", "by": 1, "at_ms": 0, "payload": payload}
    return "value", {"board": "data", "name": name, "version": version, **more}


class Future:
    def __init__(self):
        self.result, self.error = None, None

    def done(self):
        return self.result is not None or self.error is not None

    def set_result(self, result):
        self.result = (result,)

    def set_exception(self, error):
        self.error = error


class Scene:
    """A hub, a client, and what lies between them; `core` is the class that is tried."""

    def __init__(self, seed, core=Core):
        self.rng = random.Random(seed)
        self.board = Board()
        self.core = core(7, "model", None, self.rng.sample(PATTERNS, 2))
        self.told = {}
        self.core.on("change", "*", lambda value: self.told.__setitem__(value.name, (value.version, value.payload)))
        self.core.on("gone", "*", lambda name: self.told.pop(name, None))
        self.log = []
        self.connect()

    def connect(self):
        self.places, self.way, self.number = {}, [], 0
        self.link = self.core.begin(None)
        self.do(self.core.heard(self.link, "welcome", [{"hub": "model"}], None))

    def do(self, dos):
        for do in dos:
            if isinstance(do, Say):
                self.log.append(f"-> {do.event} {do.args}")
                answer = {"ok": True}
                if do.event == "follow":
                    (asked,) = do.args
                    self.places[asked["pattern"]] = Place(self.board, asked["pattern"], asked.get("cursor"))
                elif do.event == "unfollow":
                    self.places.pop(do.args[0]["pattern"], None)
                self.do(do.then(answer))

    def cut(self):
        """The connection ends; what was on its way is lost, or comes late and with gaps."""
        self.log.append("cut")
        late = [event for event in self.way if self.rng.random() < 0.5]
        if self.rng.random() < 0.3:
            self.board.lose_history(self.rng)
            self.log.append("history lost")
        link = self.link
        self.core.lost(link, "cut")
        for event, told in late[: len(late) // 2]:
            self.do(self.core.heard(link, event, [told], None))
        self.connect()
        for event, told in late[len(late) // 2 :]:
            self.do(self.core.heard(link, event, [told], None))

    def say(self):
        """The hub makes a batch, for whichever follow."""
        for pattern in self.rng.sample(list(self.places), len(self.places)):
            if batch := self.places[pattern].next(self.rng):
                self.way += batch
                return True
        return False

    def hear(self):
        if not self.way:
            return False
        event, told = self.way.pop(0)
        self.log.append(f"<- {event} {told}")
        self.number += 1
        self.do(self.core.heard(self.link, event, [told], self.number if event in ("cursor", "current") else None))
        return True

    def tell(self):
        calls = self.core.take()
        if calls is None:
            return False
        for call in calls:
            call()
        self.do(self.core.told()[1])
        return True

    def step(self):
        rng = self.rng
        steps = {"write": 6, "say": 6, "hear": 16, "tell": 6, "cut": 2, "follow": 2, "unfollow": 2, "follow anew": 2}
        match rng.choices(list(steps), list(steps.values()))[0]:
            case "write":
                name = rng.choice(NAMES)
                self.board.write(name, None if rng.random() < 0.3 else f"{name} {self.board.head}")
                self.log.append(f"hub: {name} = {self.board.entries[name]}")
            case "say":
                self.say()
            case "hear":
                self.hear()
            case "tell":
                self.tell()
            case "cut":
                self.cut()
            case "follow":
                self.do(self.core.follow(rng.choice(PATTERNS), Future())[1])
            case "unfollow":
                self.unfollow(rng.choice(PATTERNS))
            case "follow anew":
                pattern = rng.choice(self.core.data.patterns or PATTERNS)
                self.unfollow(pattern)
                self.do(self.core.follow(pattern, Future())[1])

    def unfollow(self, pattern):
        self.do(self.core.unfollow(pattern, Future())[1])
        # What is no longer followed is forgotten without a word.
        kept = self.core.data.patterns
        self.told = {n: v for n, v in self.told.items() if any(matches(p, n) for p in kept)}

    def settle(self):
        while self.say() or self.hear() or self.tell():
            pass

    def check(self):
        """What is held, and what was told, is what the hub has; and the client says so."""
        held = {name: (value.version, value.payload) for name, value in self.core.data.values.items()}
        latest = self.board.latest(self.core.data.patterns)
        scene = "\n".join(self.log[-60:])
        assert held == latest, f"held {held}\nbut it is {latest}\n{scene}"
        assert self.told == latest, f"told {self.told}\nbut it is {latest}\n{scene}"
        assert self.core.is_current(), f"not current\n{scene}"
