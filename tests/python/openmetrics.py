"""A scrape of `lockstep monitor --prometheus`, as Prometheus' own parsers read it, beside the kernel's numbers.

    openmetrics.py URL
"""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

# What the dashboards made for node_exporter ask for, with its types.
EXPECTED = {
    "node_cpu_seconds": "counter", "node_memory_MemTotal_bytes": "gauge", "node_memory_MemFree_bytes": "gauge",
    "node_memory_MemAvailable_bytes": "gauge", "node_memory_Cached_bytes": "gauge", "node_memory_Buffers_bytes": "gauge",
    "node_memory_SReclaimable_bytes": "gauge", "node_memory_SwapTotal_bytes": "gauge", "node_load1": "gauge",
    "node_load5": "gauge", "node_load15": "gauge", "node_context_switches": "counter", "node_intr": "counter",
    "node_boot_time_seconds": "gauge", "node_time_seconds": "gauge", "node_procs_running": "gauge",
    "node_network_receive_bytes": "counter", "node_network_transmit_bytes": "counter", "node_uname_info": "gauge",
    "process_cpu_seconds": "counter", "process_resident_memory_bytes": "gauge",
}


def scrape(url, accept):
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def kernel_cpu():
    """Seconds of each CPU and mode."""
    modes = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"]
    lines = [line.split() for line in open("/proc/stat") if line.startswith("cpu") and line[3].isdigit()]
    return {(line[0][3:], mode): int(ticks) / 100 for line in lines for mode, ticks in zip(modes, line[1:])}


def families(parse, text):
    found = list(parse(text))
    names = [family.name for family in found]
    assert len(names) == len(set(names)), "a family is there twice"
    return {family.name: family for family in found}


def main():
    url = sys.argv[1]
    before = kernel_cpu()
    kind, text = scrape(url, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    after = kernel_cpu()
    assert kind.startswith("application/openmetrics-text; version=1.0.0"), kind
    found = families(openmetrics, text)
    for name, expected in EXPECTED.items():
        assert found[name].type == expected, (name, found[name].type)
    told = {(s.labels["cpu"], s.labels["mode"]): s.value for s in found["node_cpu_seconds"].samples}
    assert set(told) == set(before)
    for key, seconds in told.items():
        assert before[key] - 1 <= seconds <= after[key] + 1, (key, before[key], seconds, after[key])
        if key[1] in ("user", "system"):
            assert before[key] <= seconds <= after[key], (key, before[key], seconds, after[key])
    total = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal:")) * 1024
    assert found["node_memory_MemTotal_bytes"].samples[0].value == total
    kind, text = scrape(url, None)
    assert kind.startswith("text/plain; version=0.0.4"), kind
    older = families(prometheus, text)
    assert set(older) == set(found), set(older) ^ set(found)
    assert {name: family.type for name, family in older.items()} == {name: family.type for name, family in found.items()}
    print(f"{len(found)} families")


if __name__ == "__main__":
    main()
