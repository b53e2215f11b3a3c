// A monitoring server as its clients see one: who joins logs in by an event, few logins are let in, and only after it the
// list of monitors is pushed, once, and then heartbeats.
//
//   node monitor.mjs MODULES LIMIT
//
// MODULES is the folder that holds node_modules, LIMIT how many logins are let in until the end: a minute that is never
// over. The first line printed is the port on loopback. Each line of stdin is a command: `beat`, `drop`, or `logins`,
// which is answered with how many were tried. The end of stdin ends the server.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, limit] = process.argv.slice(2);
const { Server } = createRequire(`${modules}/package.json`)("socket.io-4");

const monitors = { 1: { id: 1, name: "website" }, 2: { id: 2, name: "mail" } };
let logins = 0;

const http = createServer();
const io = new Server(http);
io.on("connection", (socket) => {
  socket.on("login", ({ username, password }, answer) => {
    logins += 1;
    if (logins > limit) return answer({ ok: false, msg: "Too frequently, try again later." });
    if (username !== "me" || password !== "secret") return answer({ ok: false, msg: "Incorrect username or password." });
    socket.join("users");
    answer({ ok: true, token: "abc" });
    socket.emit("monitorList", monitors);
  });
});

const commands = {
  beat: () => io.to("users").emit("heartbeat", { monitorID: 2, status: 0, msg: "timeout" }),
  drop: () => Object.values(io.engine.clients).forEach((client) => client.close()),
  logins: () => console.log(logins),
};

await new Promise((started) => http.listen(0, "127.0.0.1", started));
console.log(http.address().port);
for await (const line of createInterface({ input: process.stdin })) commands[line]();
process.exit(0);
