// The official server, steered by the test that starts it.
//
//   node server.mjs MODULES [OPTIONS]
//
// MODULES is the folder that holds node_modules. OPTIONS is a JSON object: `package` (default "socket.io-4"), all else
// goes to the server. The first line printed is the port on loopback. Each line of stdin is a command, a JSON
// object with the member `do`; when it has taken effect, its name is printed. The end of stdin ends the server.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, options = "{}"] = process.argv.slice(2);
const { package: name = "socket.io-4", ...serverOptions } = JSON.parse(options);
const { Server } = createRequire(`${modules}/package.json`)(name);

let io;
const streams = new Set();

function start(port) {
  const http = createServer().on("connection", (stream) => streams.add(stream));
  io = new Server(http, serverOptions);
  io.on("connection", serve);
  io.of("/room").on("connection", serve);
  io.of("/private")
    .use((socket, next) => {
      if (socket.handshake.auth.token === "secret") return next();
      next(Object.assign(new Error("not authorized"), { data: { code: "E1" } }));
    })
    .on("connection", serve);
  return new Promise((started) => http.listen(port, "127.0.0.1", started));
}

function serve(socket) {
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
  socket.on("flood", (count) => {
    for (let i = 0; i < count; i++) socket.emit("n", i);
  });
  socket.on("who", (answer) => answer(socket.nsp.name, socket.handshake.auth, socket.conn.transport.name));
  socket.on("kick", () => socket.disconnect());
  socket.on("join", (room, answer) => {
    socket.join(room);
    answer();
  });
}

const commands = {
  emit: ({ to, event, args = [] }) => (to ? io.to(to) : io).emit(event, ...args),
  // Leaves the namespace for the client.
  kick: () => io.disconnectSockets(),
  // Ends the sessions below, as a proxy that restarts would.
  drop: () => Object.values(io.engine.clients).forEach((client) => client.close()),
  restart: async () => {
    const { port } = io.httpServer.address();
    await stop();
    await start(port);
  },
  stop: () => stop(),
};

// Says goodbye to the clients, and waits for none of them.
async function stop() {
  const closed = io.close();
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
