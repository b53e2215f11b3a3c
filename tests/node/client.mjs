// The official client against a server of the test's own: node client.mjs MODULES URL OPTIONS
//
// Prints one JSON line for whatever happens to it. Each line of stdin is an event to emit, a JSON array, and a line
// with `null` disconnects and ends.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, url, options] = process.argv.slice(2);
const { io } = createRequire(`${modules}/package.json`)("socket.io-client-4");
const socket = io(url, JSON.parse(options));
const tell = (...what) => console.log(JSON.stringify(what));

socket.on("connect", () => tell("connect", socket.io.engine.transport.name));
socket.on("disconnect", (reason) => tell("disconnect", reason));
socket.on("connect_error", (error) => tell("connect_error", error.message));
socket.io.engine.on("upgrade", (transport) => tell("upgrade", transport.name));
socket.onAny((...args) => {
  if (typeof args.at(-1) === "function") args.pop()("heard");
  tell("event", ...args);
});

for await (const line of createInterface({ input: process.stdin })) {
  const event = JSON.parse(line);
  if (event === null) break;
  socket.emit(...event);
}
socket.disconnect();
