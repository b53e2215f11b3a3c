// The official server, which writes each event to the WebSocket by itself: node official.mjs MODULES
//
// Prints its port on loopback. `flood COUNT SIZE` on stdin sends everybody so many events; the word is said back when the
// last is written. It waits where a client does not keep up.

import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules] = process.argv.slice(2);
const { Server } = createRequire(`${modules}/package.json`)("socket.io-4");

// Events between two looks at how much the system has yet to take.
const TURN = 64;
const UNSENT = 1024 * 1024;

const http = createServer();
const io = new Server(http, { transports: ["websocket"], pingInterval: 300000 });
io.on("connection", (socket) => {
  socket.on("echo", (...args) => args.pop()(...args));
});

async function flood(count, size) {
  const text = "x".repeat(size);
  const sockets = [...io.sockets.sockets.values()];
  for (let i = 0; i < count; ) {
    for (const end = Math.min(count, i + TURN); i < end; i++) {
      for (const socket of sockets) socket.emit("n", i, 0, text);
    }
    await new Promise(setImmediate);
    for (const { conn } of sockets) {
      const stream = conn.transport.socket._socket;
      if (stream.writableLength > UNSENT) await once(stream, "drain");
    }
  }
}

http.listen(0, "127.0.0.1", () => console.log(http.address().port));
for await (const line of createInterface({ input: process.stdin })) {
  const [name, count, size] = line.split(" ");
  await flood(Number(count), Number(size));
  console.log(name);
}
process.exit(0);
