"""A bridge with python-socketio and asyncio: python bridge.py PORT SOCKET"""

import asyncio
import json
import sys

import socketio

port, path = sys.argv[1:]
upstream = socketio.AsyncClient(
    reconnection_delay=0.05, reconnection_delay_max=0.05, randomization_factor=0
)
programs = set()
connected = asyncio.Event()
seq = 0


def encode(message):
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


@upstream.on("*")
def event(name, *args):
    global seq
    seq += 1
    params = {"connection": "c", "seq": seq, "event": name, "args": args}
    line = encode({"jsonrpc": "2.0", "method": "event", "params": params})
    for program in programs:
        program.write(line)


@upstream.event
def connect():
    connected.set()


@upstream.event
def disconnect(reason):
    connected.clear()


async def serve(reader, writer):
    def answer(request, result):
        writer.write(encode({"jsonrpc": "2.0", "id": request["id"], "result": result}))

    try:
        while line := await reader.readline():
            request = json.loads(line)
            if request["method"] == "subscribe":
                answer(request, {})
                programs.add(writer)
            else:
                await connected.wait()
                params = request["params"]
                await upstream.emit(
                    params["event"],
                    tuple(params["args"]),
                    callback=lambda *args, request=request: answer(request, {"args": args}),
                )
    except ConnectionError:
        pass
    finally:
        programs.discard(writer)
        writer.close()


async def main():
    server = await asyncio.start_unix_server(serve, path, limit=16 * 1024 * 1024)
    await upstream.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
    await server.serve_forever()


asyncio.run(main())
