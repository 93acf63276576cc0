"""`lockstep monitor` beside psutil and free, while the load of this machine goes up and down.

    vitals_live.py LOCKSTEP ROUNDS

Used memory must rise by what is taken. Then each round steps through nothing and a busy loop on every CPU: our raw counters must
lie between what psutil reads just before and just after, and CPU must rise under the loop.
"""

import json
import os
import subprocess
import sys
import time

import psutil

MODES = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"]
TICK = 1 / os.sysconf("SC_CLK_TCK")
TAKEN = 256 << 20
# Of the counters these may fall a little: proc_stat(5).
MAY_FALL = {"idle", "iowait", "steal"}
FREE_TOLERANCE = 64 << 20  # what others take between two looks


class Monitor:
    """A monitor whose lines are read as they come."""

    def __init__(self, lockstep):
        command = [lockstep, "monitor", "--interval", "250ms", "--format", "json", "--log", "none"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def line(self):
        return json.loads(self.process.stdout.readline())

    def fresh(self):
        """The first line that is taken from now on; older ones may wait in the pipe."""
        start = time.monotonic()
        while True:
            line = self.line()
            if line["monotonic_seconds"] >= start:
                return line

    def bracketed(self):
        """The next line, with psutil's reads before and after it was taken."""
        before = psutil.cpu_times()
        return before, self.fresh(), psutil.cpu_times()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def check_between(before, line, after):
    for mode in MODES:
        if not hasattr(before, mode):
            continue
        low, high = sorted([getattr(before, mode), getattr(after, mode)])
        slack = 1.0 if mode in MAY_FALL else TICK
        # psutil reads guests inside user and nice, as the kernel prints them.
        assert low - slack <= line[f"cpu_{mode}_seconds"] <= high + slack, (mode, low, line, high)


def busy_loops():
    code = "while True: pass"
    return [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count())]


def free():
    text = subprocess.run(["free", "-b"], stdout=subprocess.PIPE, check=True, env={**os.environ, "LC_ALL": "C"}).stdout
    lines = text.decode().splitlines()
    return dict(zip(lines[0].split(), map(int, lines[1].split()[1:])))


def check_memory(line):
    virtual, by_free = psutil.virtual_memory(), free()
    assert line["mem_total_bytes"] == virtual.total == by_free["total"]
    for key, theirs in [("mem_available_bytes", virtual.available), ("mem_used_bytes", virtual.used),
                        ("mem_available_bytes", by_free["available"]), ("mem_shared_bytes", by_free["shared"])]:
        assert abs(line[key] - theirs) <= FREE_TOLERANCE, (key, line[key], theirs)
    swap = psutil.swap_memory()
    assert line["swap_total_bytes"] == swap.total


def retried(check, attempts=10):
    """Others use this machine too: a look they spoiled is taken again."""
    for attempt in range(attempts):
        try:
            return check()
        except AssertionError:
            if attempt == attempts - 1:
                raise


def round_of(monitor):
    retried(lambda: check_between(*monitor.bracketed()))
    retried(lambda: check_memory(monitor.fresh()))
    loops = busy_loops()
    try:
        def all_busy():
            before, line, after = monitor.bracketed()
            check_between(before, line, after)
            assert line["cpu_busy_pct"] > 80, line["cpu_busy_pct"]

        retried(all_busy, 40)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def rises_by_what_is_taken(monitor):
    # Once, and holding what was taken until it was seen: what somebody gave back may wait in lists of each CPU, which the
    # kernel still counts as used, and would be taken from there.
    held = []

    def rises():
        used = monitor.fresh()["mem_used_bytes"]
        assert psutil.virtual_memory().available > 4 * TAKEN, "no memory left to take"
        held.append(bytearray(TAKEN))
        held[-1][::4096] = b"x" * (TAKEN // 4096)  # a byte of each page makes it ours
        grown = monitor.fresh()["mem_used_bytes"] - used
        assert abs(grown - TAKEN) < FREE_TOLERANCE, grown

    retried(rises, 16)


def main():
    lockstep, rounds = sys.argv[1], int(sys.argv[2])
    wrong = {f"cpu_{mode}_seconds": 0.0 for mode in MODES}
    now = psutil.cpu_times()
    try:
        check_between(now, wrong, now)
    except AssertionError:
        pass
    else:
        sys.exit("the check is blind: counters of 0 passed")
    monitor = Monitor(lockstep)
    try:
        rises_by_what_is_taken(monitor)
        for _ in range(rounds):
            round_of(monitor)
    finally:
        monitor.stop()
    print(json.dumps({"rounds": rounds, "psutil": psutil.__version__}))


if __name__ == "__main__":
    main()
