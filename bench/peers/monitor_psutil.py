"""What a script with psutil costs that does what `lockstep monitor` does by default: CPU, memory, one line in a log.

    monitor_psutil.py LOG INTERVAL_MS        a line every interval, at absolute deadlines
    monitor_psutil.py scan SCANS             prints the median of CPU microseconds a process
"""

import statistics
import sys
import time
from datetime import datetime, timezone

import psutil


def follow(log, interval):
    psutil.cpu_percent(None)
    due = time.monotonic()
    while True:
        due += interval
        time.sleep(max(0.0, due - time.monotonic()))
        now, cpu, memory = datetime.now(timezone.utc), psutil.cpu_percent(None), psutil.virtual_memory()
        log.write(f"{now.isoformat()} cpu {cpu} memory {memory.percent} used {memory.used} available {memory.available}\n")
        log.flush()


def scan(scans):
    """The processes by CPU and by memory, as a look at all of them gives them."""
    costs = []
    for _ in range(scans + 1):
        time.sleep(1)
        before, count = time.process_time(), 0
        for process in psutil.process_iter(["name", "cpu_times", "create_time", "memory_info"]):
            count += 1
        costs.append((time.process_time() - before) * 1e6 / count)
    # The first finds them; what is asked is what each later one costs.
    print(statistics.median(costs[1:]))


if __name__ == "__main__":
    if sys.argv[1] == "scan":
        scan(int(sys.argv[2]))
    else:
        with open(sys.argv[1], "a") as log:
            follow(log, int(sys.argv[2]) / 1000)
