"""Reads a hub's tables with pandas, as files on its machine, or by their address from anywhere: pip install pandas

    python table.py /var/lib/lockstep/hub
    TOKEN=... python table.py https://hub.example:7118
    KEY_FILE=~/.local/state/lockstep/client/....json python table.py http://127.0.0.1:7118

For HTTPS: SSL_CERT_FILE=hub-ca.pem, from `lockstep cert > hub-ca.pem` on the hub's machine. No secret stands on the command
line, where others could read it: either a token, which `lockstep token` prints on the hub's machine, or the key file of a client.
"""

import base64
import json
import os
import pathlib
import sys

import pandas

where = sys.argv[1].rstrip("/")
options = {}
if where.startswith(("http://", "https://")):
    if token := os.environ.get("TOKEN"):
        options = {"Authorization": "Bearer " + token}
    elif key_file := os.environ.get("KEY_FILE"):
        key = json.loads(pathlib.Path(key_file).expanduser().read_text())
        options = {"Authorization": "Basic " + base64.b64encode(f"{key['id']}:{key['unique_id']}".encode()).decode()}

clients = pandas.read_csv(f"{where}/clients.csv", storage_options=options or None, parse_dates=["last_seen"])
values = pandas.read_csv(f"{where}/values.csv", storage_options=options or None)
print(clients.groupby("state")["id"].count().to_string())
print(f"{len(values)} values, {values['size'].sum()} bytes, the newest version is {values['version'].max()}")
print(values.nlargest(5, "version")[["name", "version", "value"]].to_string(index=False))
