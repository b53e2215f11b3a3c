#!/usr/bin/env python3
"""Prints what happens on a connection: listen.py [CONNECTION]

Needs nothing but the standard library. Ends when the daemon does.
"""

import json
import os
import socket
import sys


def socket_path():
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = runtime and os.getuid() != 0
    return os.environ.get("SIOD_SOCKET") or (f"{runtime}/siod.sock" if own else "/run/siod/siod.sock")


def main():
    connection = sys.argv[1] if len(sys.argv) > 1 else "*"
    with socket.socket(socket.AF_UNIX) as siod:
        siod.connect(socket_path())
        request = {"id": 1, "method": "subscribe", "params": {"connection": connection, "last": 10}}
        siod.sendall(json.dumps(request).encode() + b"\n")
        for line in siod.makefile(encoding="utf-8"):
            message = json.loads(line)
            if "error" in message:
                sys.exit(message["error"]["message"])
            params = message.get("params", {})
            match message.get("method"):
                case "event":
                    print(params["connection"], params["seq"], params["event"], *params["args"], flush=True)
                case "lifecycle":
                    print(params["connection"], params["seq"], f"({params['event']})", flush=True)
                case "lagged":
                    print(params["connection"], "too slow, missed", params["missed"], flush=True)
                case "goodbye":
                    print("siod says goodbye:", params["reason"], flush=True)


if __name__ == "__main__":
    main()
