"""Takes part in a hub with nothing but python-socketio: pip install "python-socketio[client]".

    python bare.py http://127.0.0.1:7118 7

The first time the hub issues a unique ID for the number; it is kept in a file and asked for ever after. Where the hub wants an
invite for a new id: INVITE=lsj1…, the link that `lockstep invite` prints.
"""

import json
import os
import pathlib
import sys

import socketio

url, number = sys.argv[1], int(sys.argv[2])
kept = pathlib.Path(f"lockstep-{number}.json")
known = json.loads(kept.read_text()) if kept.exists() else {}
client = socketio.Client()
latest, versions = {}, {}


def say(line):
    sys.stdout.write(line + "\n")  # one write: handlers run in threads of their own
    sys.stdout.flush()


@client.on("unique_id")
def keep(unique_id):
    known["unique_id"] = unique_id
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(known))  # returning acknowledges it, and only then it counts


@client.on("value")
def value(new):
    # Handlers run side by side: the version says which of two is the newer.
    if new["version"] > versions.get(new["name"], 0):
        versions[new["name"]] = new["version"]
        latest[new["name"]] = new["payload"]
        say(f"{new['name']} = {new['payload']}")


@client.on("gone")
def gone(old):
    if old["version"] > versions.get(old["name"], 0):
        versions[old["name"]] = old["version"]
        latest.pop(old["name"], None)


@client.on("refused")
def refused(why):
    print("refused:", why["text"], file=sys.stderr, flush=True)


# A function, so that every reconnect logs in with what is known by then.
client.connect(url, auth=lambda: {"id": number, "invite": os.environ.get("INVITE"), **known}, retry=True)
for line in sys.stdin:  # NAME VALUE
    name, _, text = line.strip().partition(" ")
    say(f"put: {client.call('put', (name, text))}")
client.disconnect()
