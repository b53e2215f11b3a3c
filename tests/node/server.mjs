// The official server, steered by the test that starts it.
//
//   node server.mjs MODULES [OPTIONS]
//
// MODULES is the folder that holds node_modules. OPTIONS is a JSON object: `package` (default "socket.io-4", back to
// "socket.io-2"), `parser` (the package of another parser), `refuse` to let nobody into `/`, all else goes to the
// server. The first line printed is the port on loopback. Each line of stdin is a command, a JSON
// object with the member `do`; when it has taken effect, its name is printed. The end of stdin ends the server.

import { EventEmitter, once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, options = "{}"] = process.argv.slice(2);
const { package: name = "socket.io-4", parser, refuse = false, ...serverOptions } = JSON.parse(options);
const require = createRequire(`${modules}/package.json`);
const loaded = require(name);
const Server = loaded.Server ?? loaded;
if (parser) serverOptions.parser = require(parser);

let io;
const sockets = new Set();
const streams = new Set();
// How often each thing was heard, whoever said it.
const heard = new Map();
const hearing = new EventEmitter();

function start(port) {
  const http = createServer().on("connection", (stream) => streams.add(stream));
  io = new Server(http, serverOptions);
  if (refuse) io.use((socket, next) => next(new Error("not today")));
  io.on("connection", serve);
  io.of("/room").on("connection", serve);
  io.of("/private")
    .use((socket, next) => {
      if (token(socket) === "secret") return next();
      next(Object.assign(new Error("not authorized"), { data: { code: "E1" } }));
    })
    .on("connection", serve);
  return new Promise((started) => http.listen(port, "127.0.0.1", started));
}

// Old clients have no auth object; what they send instead is found here or there.
const token = ({ handshake }) => handshake.auth?.token ?? handshake.query.token;

function serve(socket) {
  sockets.add(socket);
  socket.on("disconnect", () => sockets.delete(socket));
  // Gives back what it got: to the acknowledgement where one is asked for, else as an event.
  socket.on("echo", (...args) => {
    const answer = typeof args.at(-1) === "function" ? args.pop() : (...back) => socket.emit("echo", ...back);
    answer(...args);
  });
  // Asks the client in turn, and tells what it answered.
  socket.on("ask", (question) => socket.emit("question", question, (...answer) => socket.emit("answered", ...answer)));
  // Says what kind of value arrived, and sends binary at several depths.
  socket.on("binary", (value) => {
    const bytes = value.nested[0].bytes;
    socket.emit("binary", Buffer.isBuffer(bytes), { nested: [{ bytes }, Buffer.from([0, 255])] });
  });
  // Sends what JSON has no word for.
  socket.on("oddities", () => {
    const buffer = Uint8Array.of(1, 2).buffer;
    socket.emit("oddities", { left: undefined, out: [undefined, NaN] }, new Date(1767323045678), buffer, 2 ** 40, -0.5);
  });
  socket.on("flood", (count) => {
    for (let i = 0; i < count; i++) socket.emit("n", i);
  });
  socket.on("who", (answer) => answer(socket.nsp.name, socket.handshake.auth, socket.conn.transport.name));
  socket.on("self", (answer) => answer(socket.id, token(socket)));
  socket.on("kick", () => socket.disconnect());
  // An ERROR packet to who is connected, which only old servers have.
  socket.on("complain", (what) => socket.error(what));
  socket.on("beats", () => socket.conn.on("heartbeat", () => socket.emit("beat")));
  // Answers only when it hears something for the nth time: with everything heard so far, how often each.
  socket.on("insist", (what, nth, answer) => {
    heard.set(what, (heard.get(what) ?? 0) + 1);
    hearing.emit(what);
    if (heard.get(what) >= nth) answer(...heard);
  });
  socket.on("join", (room, answer) => {
    socket.join(room);
    answer();
  });
}

const commands = {
  emit: ({ to, event, args = [] }) => (to ? io.to(to) : io).emit(event, ...args),
  // Leaves the namespace for the client.
  kick: () => sockets.forEach((socket) => socket.disconnect()),
  // Ends the sessions below, as a proxy that restarts would.
  drop: () => Object.values(io.engine.clients).forEach((client) => client.close()),
  // Ends the streams below, as a network that fails would.
  cut: () => streams.forEach((stream) => stream.destroy()),
  // Loses everybody, and emits before anyone can be back: to each `count` events with their number and as many bytes.
  outage: ({ by, count }) => {
    commands[by]({});
    for (let i = 0; i < count; i++) io.emit("missed", i, Buffer.alloc(i));
  },
  // One that is not kept for those who are away.
  tick: () => io.volatile.emit("tick"),
  restart: async () => {
    const { port } = io.httpServer.address();
    await stop();
    await start(port);
  },
  // Waits until it has heard something.
  hear: ({ what }) => heard.has(what) || once(hearing, what),
  stop: () => stop(),
};

// Says goodbye to the clients, and waits for none of them.
async function stop() {
  const closed = new Promise((closed) => io.close(closed));
  for (const stream of streams) stream.end(() => stream.destroy());
  streams.clear();
  await closed;
}

await start(0);
console.log(io.httpServer.address().port);
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await commands[command.do](command);
  console.log(command.do);
}
process.exit(0);
