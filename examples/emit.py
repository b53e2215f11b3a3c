#!/usr/bin/env python3
"""Emits an event, waits for the server's answer and prints it: emit.py CONNECTION EVENT [JSON...]

Needs nothing but the standard library.
"""

import json
import os
import socket
import sys


def socket_path():
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = runtime and os.getuid() != 0
    return os.environ.get("SIOD_SOCKET") or (f"{runtime}/siod.sock" if own else "/run/siod/siod.sock")


def call(siod, method, **params):
    """One request and its answer; for a program that has not subscribed, so nothing else can come in between."""
    siod.write(json.dumps({"id": 1, "method": method, "params": params}) + "\n")
    siod.flush()
    answer = json.loads(siod.readline())
    if "error" in answer:
        sys.exit(answer["error"]["message"])
    return answer["result"]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    connection, event, *args = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(socket_path())
        with stream.makefile("rw", encoding="utf-8") as siod:
            args = [json.loads(arg) for arg in args]
            result = call(siod, "emit", connection=connection, event=event, args=args, ack=True, timeout=5000)
            print(json.dumps(result["args"]))


if __name__ == "__main__":
    main()
