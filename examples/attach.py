#!/usr/bin/env python3
"""Listens to a connection of siod, asks its server and answers it: attach.py [CONNECTION]

Python 3.6 or newer and its standard library. README.md says what happens here, step by step.
"""

import contextlib
import json
import os
import socket
import sys
import time


def socket_path():
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = runtime and os.getuid() != 0
    return os.environ.get("SIOD_SOCKET") or (f"{runtime}/siod.sock" if own else "/run/siod/siod.sock")


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def ask(siod, method, params, **request_id):
    with contextlib.suppress(OSError):  # If siod is gone, the next read says so.
        siod.sendall(compact({**request_id, "method": method, "params": params}).encode() + b"\n")


def messages(siod):
    """All of one attachment. A line that the end has cut off will come again, from another attachment."""
    with contextlib.suppress(OSError):
        for line in siod.makefile("rb"):
            if line.endswith(b"\n"):
                yield json.loads(line)


def attend(siod, connection, position):
    ask(siod, "subscribe", {"connection": connection, "after": position}, id=1)
    for message in messages(siod):
        params = message.get("params", {})
        if "error" in message:
            print(message["error"]["message"], file=sys.stderr)
            if message["id"] == 1:
                return
        elif message.get("id") == 1:
            if not position["stream"]:
                question = {"connection": connection, "event": "add", "args": [2, 3], "ack": True, "timeout": 5000}
                ask(siod, "emit", question, id=2)
            if message["result"]["stream"] != position["stream"]:
                position.update(stream=message["result"]["stream"], seq=0)
        elif message.get("id") == 2:
            print("answer", compact(message["result"]["args"]), flush=True)
        elif message.get("method") in ("event", "lifecycle"):
            seq, missed = params["seq"], params["seq"] - position["seq"] - 1
            if missed:
                print(f"missed {missed} before {seq}", file=sys.stderr)
            print(seq, params["event"], *[compact(params["args"])] if "args" in params else [], flush=True)
            position["seq"] = seq
            if "ack" in params:
                ask(siod, "ack", {"connection": connection, "ack": params["ack"], "args": ["yes"]})
        elif message.get("method") == "goodbye":
            print(f"siod says goodbye: {params['reason']}", file=sys.stderr)


path, position = socket_path(), {"stream": "", "seq": 0}
while True:
    with socket.socket(socket.AF_UNIX) as siod:
        try:
            siod.connect(path)
        except OSError as error:
            if not position["stream"]:
                sys.exit(f"no siod at {path} ({error}): start `siod run`, or set SIOD_SOCKET")
        else:
            attend(siod, sys.argv[1] if len(sys.argv) > 1 else "chat", position)
    if not position["stream"]:
        sys.exit(1)
    time.sleep(0.5)
