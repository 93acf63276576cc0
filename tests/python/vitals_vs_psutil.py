"""`lockstep monitor` against psutil, over generated procfs trees.

    vitals_vs_psutil.py LOCKSTEP SEED COUNT

makes COUNT pairs of trees from SEED (counters that fall, fields a kernel does not print, guests above user, 1 to 512
CPUs, gaps of offline ones), lets both read them, and demands: memory equal to the byte, CPU equal at 0.1 wherever
lockstep gives a number, and no number only for the reasons that are defined. The rules are computed here once more, so
that neither side is the judge of its own case. First the checks prove themselves: lines changed to what other tools
show must be refused. Exits 0, or 1 after naming the pair.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path

import psutil

PSUTIL_MIN = (7, 1)  # before, `used` meant something else
COLUMNS = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"]
SHARES = COLUMNS[:8]
IDLE_RESET_TICKS = 3 * os.sysconf("SC_CLK_TCK")
SEQUENCE = 50  # trees a run of lockstep reads; each with the one before is a pair
TIE = Fraction(1, 10**6)


class Machine:
    """Counters that move as a kernel's do, and as they should not."""

    def __init__(self, rng):
        self.rng = rng
        self.columns = rng.choice([10, 10, 10, 10, 8, 7])
        count = rng.choice([1, 1, 2, 2, 3, 4, 8, 16, 64, rng.randint(1, 512), 512])
        ids = list(range(count))
        for _ in range(rng.choice([0, 0, 1, count // 4])):
            if len(ids) > 1:
                ids.remove(rng.choice(ids))
        # A tree of a container may have no line for each CPU.
        self.cpus = {} if rng.random() < 0.05 else {cpu: self.counters() for cpu in ids}
        self.sum = self.counters() if not self.cpus else self.added_up()
        self.missing = {field for field in OPTIONAL if rng.random() < 0.08}
        self.boot = self.boot_id() if rng.random() < 0.8 else None

    def counters(self):
        scale = self.rng.choice([10, 10**4, 10**7, 10**10])
        return [self.rng.randint(0, scale) for _ in range(self.columns)]

    def added_up(self):
        return [sum(column) for column in zip(*self.cpus.values())]

    def boot_id(self):
        return "%08x-%04x-%04x-%04x-%012x" % tuple(self.rng.getrandbits(bits) for bits in (32, 16, 16, 16, 48))

    def step(self):
        rng = self.rng
        lines = list(self.cpus.values()) or [self.sum]
        busy = rng.random()
        for line in lines:
            for column in range(self.columns):
                weight = busy if COLUMNS[column] not in ("idle", "iowait") else 1 - busy
                line[column] += int(rng.random() * weight * rng.choice([1, 20, 100, 3000]))
        if self.columns == 10 and rng.random() < 0.1:
            line = rng.choice(lines)
            line[8] = line[0] + rng.randint(1, 1000)  # guest above user
        # Counters that fall: a little (rounding), a lot (a CPU that was off and on), all (a new boot).
        if rng.random() < 0.3:
            line, column = rng.choice(lines), rng.randrange(self.columns)
            line[column] = max(0, line[column] - rng.randint(1, 250))
        if rng.random() < 0.08:
            line, column = rng.choice(lines), rng.randrange(self.columns)
            line[column] = max(0, line[column] - rng.randint(250, 10**5))
        if rng.random() < 0.03:
            for line in lines:
                line[:] = [rng.randint(0, 50) for _ in line]
        if rng.random() < 0.05 and self.cpus:
            if rng.random() < 0.5 and len(self.cpus) > 1:
                self.cpus.pop(rng.choice(list(self.cpus)))
            else:
                self.cpus.setdefault(rng.randint(0, 600), self.counters())
        if rng.random() < 0.04 and self.boot:
            self.boot = self.boot_id()
        if self.cpus:
            self.sum = self.added_up()

    def memory(self):
        rng = self.rng
        total = rng.choice([4 << 10, 1 << 20, 24_684_096, 1 << 32])
        part = lambda: rng.randint(0, total)
        fields = {"MemTotal": total, "MemFree": part(), "MemAvailable": part(), "Buffers": part() // 8,
                  "Cached": part() // 2, "SReclaimable": part() // 8, "Shmem": part() // 8,
                  "SwapTotal": rng.choice([0, part()]), "SwapFree": 0}
        fields["SwapFree"] = rng.randint(0, fields["SwapTotal"])
        odd = rng.random()
        if odd < 0.05:
            fields["MemAvailable"] = 0
        elif odd < 0.1:
            fields["MemAvailable"] = total + rng.randint(1, total)  # LXC
        elif odd < 0.15:
            fields["Cached"] = total * 2  # the host's, in a container
        for field in self.missing:
            fields.pop(field)
        return fields


OPTIONAL = ["MemAvailable", "Buffers", "Cached", "SReclaimable", "Shmem"]


def write_tree(directory, machine, memory):
    (directory / "sys/kernel/random").mkdir(parents=True)
    cpu = lambda name, ticks: name + " " + " ".join(map(str, ticks)) + "\n"
    stat = cpu("cpu ", machine.sum) + "".join(cpu(f"cpu{id}", machine.cpus[id]) for id in sorted(machine.cpus))
    stat += "intr 12345" + " 0" * machine.rng.choice([0, 100, 100, 100, 20000]) + "\nctxt 1\nbtime 1700000000\nprocesses 1\n"
    (directory / "stat").write_text(stat)
    # Every tenth tree ends in the middle of nothing: without the last newline.
    text = "".join(f"{key + ':':<15} {kib:>8} kB\n" for key, kib in memory.items()) + "HugePages_Total:       0\n"
    (directory / "meminfo").write_text(text.rstrip("\n") if machine.rng.random() < 0.1 else text)
    (directory / "vmstat").write_text("pswpin 0\npswpout 0\n")
    if machine.boot:
        (directory / "sys/kernel/random/boot_id").write_text(machine.boot + "\n")


def psutil_reads(directory):
    """What psutil makes of one tree."""
    psutil.PROCFS_PATH = str(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each field that is missing
        return psutil.cpu_times(), psutil.virtual_memory(), psutil.swap_memory()


def psutil_busy(older, newer):
    """psutil's cpu_percent of two readings it took, by the functions it uses itself; not rounded."""
    delta = psutil._cpu_times_deltas(older, newer)
    total = psutil._cpu_tot_time(delta)
    return psutil._cpu_busy_time(delta) / total * 100 if total else 0.0


def reason_expected(older, newer):
    """Why there can be no rate, by the definitions; None if there must be one."""
    if older["boot"] and newer["boot"] and older["boot"] != newer["boot"]:
        return "boot_changed"
    if set(older["cpus"]) != set(newer["cpus"]):
        return "cpus_changed"
    if sum(newer["sum"][:8]) <= sum(older["sum"][:8]):
        return "total_not_larger"
    idle_pairs = [(older["sum"][3], newer["sum"][3])]
    idle_pairs += [(older["cpus"][cpu][3], newer["cpus"][cpu][3]) for cpu in older["cpus"]]
    if any(old - new >= IDLE_RESET_TICKS for old, new in idle_pairs):
        return "idle_fell"
    return None


def check_cpu(line, older, newer, expected):
    assert line["cpu_null_reason"] == expected, f"reason {line['cpu_null_reason']}, expected {expected}"
    if expected:
        assert all(line[f"cpu_{share}_pct"] is None for share in ["busy", *SHARES]), "a number without a baseline"
        return
    deltas = [max(0, new - old) for old, new in zip(older["sum"][:8], newer["sum"][:8])]
    exact = Fraction(100 * (sum(deltas) - deltas[3] - deltas[4]), sum(deltas))
    assert abs(Fraction(line["cpu_busy_pct"]) - exact) < Fraction(1, 10**9), f"{line['cpu_busy_pct']}, exactly {exact}"
    theirs = psutil_busy(older["psutil"], newer["psutil"])
    near_tie = abs(exact * 10 % 1 - Fraction(1, 2)) <= TIE
    equal = round(line["cpu_busy_pct"], 1) == round(theirs, 1)
    assert equal or (near_tie and abs(line["cpu_busy_pct"] - theirs) < 0.1), f"{line['cpu_busy_pct']}, psutil {theirs}"
    for share, delta in zip(SHARES, deltas):
        assert abs(Fraction(line[f"cpu_{share}_pct"]) - Fraction(100 * delta, sum(deltas))) < Fraction(1, 10**9), share
    clamped = sum(new < old for old, new in zip(older["sum"][:8], newer["sum"][:8]))
    assert line["cpu_clamped_fields"] == clamped, f"clamped {line['cpu_clamped_fields']}, expected {clamped}"


def check_memory(line, memory, virtual, swap):
    kib = memory.get
    assert line["mem_total_bytes"] == virtual.total
    assert line["mem_free_bytes"] == virtual.free
    if kib("MemAvailable"):
        assert line["mem_available_bytes"] == virtual.available, (line["mem_available_bytes"], virtual.available)
        assert line["mem_used_bytes"] == virtual.used, (line["mem_used_bytes"], virtual.used)
        assert abs(line["mem_used_pct"] - virtual.percent) <= 0.05 + 1e-9
    else:
        # psutil estimates from zones or caches here; the rule taken is that of procps: what is free.
        assert line["mem_available_bytes"] == kib("MemFree") * 1024
        assert line["mem_used_bytes"] == (kib("MemTotal") - kib("MemFree")) * 1024
    for key, field, theirs in [("buffers", "Buffers", virtual.buffers), ("cached", "Cached", virtual.cached),
                               ("shared", "Shmem", virtual.shared)]:
        # psutil says 0 for what is not known.
        ours = line[f"mem_{key}_bytes"]
        assert ours == (theirs if field in memory else None), (key, ours, theirs)
    assert (line["swap_total_bytes"], line["swap_used_bytes"]) == (swap.total, swap.used)


def known_bad():
    """Definitions that must not pass, each as what it does to a right line."""
    def iowait_is_busy(line):
        if line["cpu_busy_pct"] is not None:
            line["cpu_busy_pct"] += line["cpu_iowait_pct"]

    def steal_is_idle(line):
        if line["cpu_busy_pct"] is not None:
            line["cpu_busy_pct"] -= line["cpu_steal_pct"] or 0

    def zero_without_baseline(line):
        if line["cpu_busy_pct"] is None:
            line.update({f"cpu_{share}_pct": 0.0 for share in ["busy", *SHARES]}, cpu_null_reason=None)

    def number_after_hotplug(line):
        if line["cpu_null_reason"] in ("cpus_changed", "idle_fell"):
            line["cpu_null_reason"] = "total_not_larger"

    def used_as_htop(line):
        line["mem_used_bytes"] = line["mem_used_htop_bytes"]

    def one_byte_off(line):
        line["mem_available_bytes"] += 1

    def zero_for_unknown(line):
        line["mem_cached_bytes"] = line["mem_cached_bytes"] or 0

    return [iowait_is_busy, steal_is_idle, zero_without_baseline, number_after_hotplug, used_as_htop, one_byte_off,
            zero_for_unknown]


def read_sequence(lockstep, rng, pairs):
    """Makes the trees of one machine; what they hold and psutil reads in them, and what lockstep says of them."""
    machine = Machine(rng)
    with tempfile.TemporaryDirectory(prefix="lockstep-vitals-") as scratch:
        states, command = [], [lockstep, "monitor", "--format", "json", "--log", "none"]
        for number in range(pairs + 1):
            tree = Path(scratch, str(number))
            if number and rng.random() > 0.03:  # else nothing moved at all
                machine.step()
            memory = machine.memory()
            write_tree(tree, machine, memory)
            if number == 0:
                # psutil learns which columns there are at import, from the machine's own /proc.
                psutil._psplatform.ntp.scputimes = psutil._psplatform._scputimes_ntuple(str(tree))
            times, virtual, swap = psutil_reads(tree)
            states.append({"sum": list(machine.sum), "cpus": {id: list(t) for id, t in machine.cpus.items()},
                           "boot": machine.boot, "memory": memory, "psutil": times, "virtual": virtual, "swap": swap})
            command += ["--procfs", str(tree)]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout
    return states, [json.loads(line) for line in output.splitlines()]


def check_sequence(states, lines):
    """Holds each line against psutil and the definitions; how often each reason was told."""
    told = {}
    assert len(lines) == len(states), f"{len(lines)} lines for {len(states)} trees"
    for number, (line, state) in enumerate(zip(lines, states)):
        older = states[number - 1] if number else state
        expected = reason_expected(older, state) if number else "first_sample"
        told[expected] = told.get(expected, 0) + 1
        try:
            check_memory(line, state["memory"], state["virtual"], state["swap"])
            check_cpu(line, older, state, expected)
            assert line["cpus_online"] == (len(state["cpus"]) or None)
        except AssertionError as error:
            plain = {key: state[key] for key in ("sum", "memory")}
            raise AssertionError(f"tree {number}: {error}\nolder {older['sum']}\nnewer {plain}\nline {line}") from error
    return told


def prove_checks(lockstep):
    """Each known-bad definition must be refused in some sequence, in which the right one passes."""
    blind = {change.__name__: change for change in known_bad()}
    for attempt in range(20):
        states, lines = read_sequence(lockstep, random.Random(attempt), SEQUENCE)
        check_sequence(states, lines)
        for name, change in list(blind.items()):
            changed = [dict(line) for line in lines]
            for line in changed:
                change(line)
            try:
                check_sequence(states, changed)
            except (AssertionError, TypeError):
                del blind[name]
        if not blind:
            return
    sys.exit(f"the checks are blind: {', '.join(blind)} passed")


def main():
    lockstep, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    version = tuple(int(part) for part in psutil.__version__.split(".")[:2])
    if version < PSUTIL_MIN:
        sys.exit(f"psutil {psutil.__version__} counts used memory differently: at least 7.1 is needed")
    prove_checks(lockstep)
    told, done = {}, 0
    while done < count:
        pairs = min(SEQUENCE, count - done)
        # Each sequence has a seed of its own, so that one can be repeated alone: SEED+DONE, COUNT up to SEQUENCE.
        try:
            states, lines = read_sequence(lockstep, random.Random(seed + done), pairs)
            for reason, times in check_sequence(states, lines).items():
                told[reason] = told.get(reason, 0) + times
        except AssertionError as error:
            sys.exit(f"seed {seed + done}, {pairs} pairs: {error}")
        done += pairs
    print(json.dumps({"pairs": done, "psutil": psutil.__version__, "told": {str(k): v for k, v in told.items()}}))


if __name__ == "__main__":
    main()
