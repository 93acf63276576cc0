"""Takes part in a hub with the client of this repository: pip install ./python

    python client.py http://127.0.0.1:7118 7
    python client.py https://hub.example:7118 7 hub-ca.pem

What others put is printed; lines of standard input, NAME VALUE, are put. Where it is cut it comes back by itself. The unique ID
that the hub issues is kept in the file KEY_FILE, or where the package keeps it by itself. Where the hub wants an invite for a new id:
INVITE=lsj1…, the link that `lockstep invite` prints.
"""

import os
import sys

import lockstep

url, number, *ca = sys.argv[1:]


def say(line):
    sys.stdout.write(line + "\n")  # one write: callbacks come from a thread of their own
    sys.stdout.flush()


with lockstep.Client(url, int(number), ca=ca[0] if ca else None, key_file=os.environ.get("KEY_FILE"), invite=os.environ.get("INVITE")) as hub:
    for name, value in hub.items():
        say(f"{name} = {value}")
    hub.on_change("*", lambda new: say(f"{new.name} = {new.payload}"))
    hub.on_gone("*", lambda name: say(f"{name} is gone"))
    hub.on_end(lambda why: say(f"the end: {why}"))
    for line in sys.stdin:
        name, _, text = line.strip().partition(" ")
        say(f"put: version {hub.put(name, text)}")  # it is on the hub's disk
