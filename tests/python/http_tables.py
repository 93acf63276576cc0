"""Reads the hub's tables by their address with pandas, and its metrics with Prometheus' own parser."""

import base64
import sys
import urllib.request

import pandas
from prometheus_client.parser import text_string_to_metric_families

url, user, password = sys.argv[1:4]
headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def table(name, **how):
    return pandas.read_csv(f"{url}/{name}", storage_options=headers, **how)


clients = table("clients.csv", parse_dates=["last_login"]).set_index("id")
assert sorted(clients.index) == [1, 2, 7], clients
assert clients.loc[1, "state"] == "active" and clients.loc[2, "state"] == "away", clients
assert clients.loc[1, "last_login"] <= pandas.Timestamp.now(tz="UTC")
server = table("server.csv")
assert len(server) == 1 and server.loc[0, "clients_active"] == 1, server
values = table("values.csv").set_index("name")
assert float(values.loc["a", "value"]) == 42.5 and values.loc["b", "size"] == 2, values
vitals = table("vitals.csv", parse_dates=["sampled_at"]).set_index("id")
assert list(vitals.index) == [1], vitals
assert (vitals["mem_used_bytes"] < vitals["mem_total_bytes"]).all(), vitals

request = urllib.request.Request(f"{url}/metrics", headers=headers)
with urllib.request.urlopen(request) as answer:
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def sample(family, name=None, **labels):
    found = [s.value for s in families[family].samples if s.labels == labels and s.name == (name or family)]
    assert len(found) == 1, (family, labels, families[family].samples)
    return found[0]


for family in families.values():
    assert family.name.startswith("lockstep_") and family.documentation and family.type in ("gauge", "counter"), family
assert sample("lockstep_clients", state="active") == 1
assert sample("lockstep_clients", state="away") == 2
assert sample("lockstep_clients_active", transport="native") == 1
assert sample("lockstep_clients_in_sync") == 1 and sample("lockstep_clients_not_in_sync") == 0
assert sample("lockstep_share_complete", share="share") == 1 and sample("lockstep_share_entries", share="share") >= 1
assert sample("lockstep_values") == 2
assert sample("lockstep_puts", "lockstep_puts_total") == 2
assert sample("lockstep_put_bytes", "lockstep_put_bytes_total") == 6
assert sample("lockstep_http_responses", "lockstep_http_responses_total", **{"class": "4xx"}) >= 1
for transport in ("native", "http"):
    assert sample("lockstep_connections", transport=transport) >= 1
    assert sample("lockstep_sent_bytes", "lockstep_sent_bytes_total", transport=transport) > 100
    assert sample("lockstep_received_bytes", "lockstep_received_bytes_total", transport=transport) > 100
