"""A program of ten lines that speaks text: what it reads it says to the hub, what the hub says it prints. It ends with the
connection, which `nc` does only once nothing is typed any more.

Its arguments: the hub's address and port.
"""

import socket
import sys
import threading

hub = socket.create_connection((sys.argv[1], int(sys.argv[2])))
type_lines = threading.Thread(target=lambda: [hub.sendall(line.encode()) for line in sys.stdin], daemon=True)
type_lines.start()
try:
    for line in hub.makefile(encoding="utf-8", newline="\n"):
        print(line, end="", flush=True)
except ConnectionResetError:
    pass
