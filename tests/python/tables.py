"""The hub's tables, read by pandas as they are.

    tables.py DATA_DIRECTORY SCENE.json

SCENE.json says what there is: the values that were put (as lists of bytes), the clients as `clients list --all --json`
tells them, and the port. No option of read_csv helps: whoever has pandas can do the same. Exits 0, or 1 after saying what
was wrong. First the checks prove themselves on tables that are wrong.
"""

import base64
import json
import re
import sys
from pathlib import Path

import pandas

CLIENTS = ["id", "name", "state", "address", "transport", "enrolled_at", "last_login", "last_seen", "shares", "version",
           "in_sync", "tags"]
SERVER = ["name", "started_at", "addresses", "shares", "clients_active", "version"]
VALUES = ["name", "version", "changed_at", "changed_by", "size", "value"]
SHOWN_BYTES_MAX = 64 * 1024


def plain(name):
    """A name as it was put: what could be misread stands escaped."""
    escaped = re.sub(rb"\\\\|(?:\\x[0-9a-f]{2})", lambda m: b"\\" if m[0] == b"\\\\" else bytes([int(m[0][2:], 16)]),
                     name.encode())
    return escaped.decode()


def check_clients(clients, rows):
    assert list(clients.columns) == CLIENTS, list(clients.columns)
    assert clients["id"].dtype == "int64" and clients["in_sync"].dtype == "bool", clients.dtypes
    assert list(clients["id"]) == [row["id"] for row in rows], list(clients["id"])
    by_state = clients.groupby("state")["id"].apply(list).to_dict()
    assert by_state == {"active": [1, 2], "away": [3], "provisional": [41], "revoked": [40]}, by_state
    by_id = clients.set_index("id")
    for row in rows:
        told = by_id.loc[row["id"]]
        assert told["state"] == row["state"].lower() and told["in_sync"] == row["in_sync"], (told, row)
        enrolled = pandas.Timestamp(told["enrolled_at"])
        assert enrolled == pandas.Timestamp(row["enrolled_at_ms"], unit="ms", tz="UTC"), (enrolled, row)
    # Times are times: they can be subtracted and compared, and a missing one is missing.
    enrolled = pandas.to_datetime(clients["enrolled_at"])
    login = pandas.to_datetime(clients["last_login"])
    seen = pandas.to_datetime(clients["last_seen"])
    assert str(enrolled.dt.tz) == "UTC"
    there = login.notna()
    assert list(clients.loc[~there, "id"]) == [41], "only the one whose login was cut never logged in"
    assert ((login - enrolled)[there] >= pandas.Timedelta(0)).all()
    assert ((seen - login)[there] >= pandas.Timedelta(0)).all()
    now = pandas.Timestamp.now(tz="UTC")
    assert ((now - enrolled) < pandas.Timedelta(minutes=30)).all() and (enrolled <= now).all()
    agents = clients[clients["shares"] == "share"]
    assert list(agents["id"]) == [1, 2, 3], list(agents["id"])
    assert agents["address"].str.match(r"^127\.0\.0\.1:\d+$").all() and (agents["transport"] == "native").all()


def check_server(server, clients, port):
    assert list(server.columns) == SERVER and len(server) == 1, server
    hub = server.iloc[0]
    assert hub["clients_active"] == (clients["state"] == "active").sum(), hub
    assert hub["addresses"].split() == [f"127.0.0.1:{port}"] and hub["shares"] == "share", hub
    assert pandas.Timestamp(hub["started_at"]) <= pandas.to_datetime(clients["last_login"]).min()


def check_values(values, expected):
    assert list(values.columns) == VALUES, list(values.columns)
    assert values["version"].dtype == "int64" and values["size"].dtype == "int64", values.dtypes
    assert values["name"].notna().all(), values
    names = [plain(name) for name in values["name"]]
    assert sorted(names) == sorted(expected), sorted(names)
    assert values["size"].sum() == sum(len(value) for value in expected.values())
    assert values["version"].is_unique and (values["changed_by"] == 0).all()
    pandas.to_datetime(values["changed_at"])
    for name, size, shown in zip(names, values["size"], values["value"]):
        put = bytes(expected[name])
        assert size == len(put), (name, size)
        # What is missing is either empty or too long to be shown, which its size tells.
        if pandas.isna(shown):
            assert size == 0 or size > SHOWN_BYTES_MAX, name
            continue
        assert size <= SHOWN_BYTES_MAX, name
        shown = str(shown)
        got = base64.b64decode(shown[len("base64:"):]) if shown.startswith("base64:") else shown.encode()
        assert got == put, (name, put, shown)
    assert float(values.set_index("name").loc["number", "value"]) * 2 == 85


def check(tables, scene):
    clients, server, values = tables
    check_clients(clients, scene["clients"])
    check_server(server, clients, scene["port"])
    check_values(values, scene["values"])


def prove_checks(tables, scene):
    """Each known-bad table must be refused."""
    def blind(name, change):
        changed = [table.copy() for table in tables]
        change(changed)
        try:
            check(changed, scene)
        except (AssertionError, TypeError, ValueError, KeyError):
            return
        sys.exit(f"the checks are blind: {name} passed")

    def drop_client(changed):
        changed[0] = changed[0].iloc[1:]

    def id_as_text(changed):
        changed[0]["id"] = changed[0]["id"].astype(str)

    def wrong_state(changed):
        changed[0].loc[changed[0]["id"] == 3, "state"] = "active"

    def wrong_count(changed):
        changed[1].loc[0, "clients_active"] += 1

    def one_byte_off(changed):
        changed[2].loc[changed[2]["name"] == "text", "value"] = "plaim"

    def old_version_twice(changed):
        changed[2].loc[:, "version"] = 7

    def value_missing(changed):
        changed[2].loc[changed[2]["name"] == "text", "value"] = None

    for change in [value_missing, drop_client, id_as_text, wrong_state, wrong_count, one_byte_off, old_version_twice]:
        blind(change.__name__, change)


def main():
    directory, scene = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    tables = [pandas.read_csv(directory / name) for name in ("clients.csv", "server.csv", "values.csv")]
    try:
        check(tables, scene)
    except AssertionError as error:
        sys.exit(f"{type(error).__name__}: {error}\n" + "\n".join(table.to_string() for table in tables))
    prove_checks(tables, scene)
    print(f"{len(tables[0])} clients, {len(tables[2])} values, pandas {pandas.__version__}")


if __name__ == "__main__":
    main()
