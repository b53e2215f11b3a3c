// A program that uses what it hears, at the local socket or with a connection of its own:
//
//   node listener.mjs MODULES api SOCKET
//   node listener.mjs MODULES direct PORT
//
// Says `ready` once it listens. `hear COUNT` on stdin: says `ready`, and `heard` after so many events that were numbered
// from 0 without a hole, else what was wrong. `trip SIZE MILLISECONDS`: asks the server, one question after the other,
// and says the times in nanoseconds, a JSON array.

import { createRequire } from "node:module";
import { connect } from "node:net";
import { createInterface } from "node:readline";

const [modules, way, target] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${line}\n`);

let next = 0;
let count = 0;

function event(name, [number]) {
  if (name !== "n" || number !== next) {
    say(`event ${next} was expected, ${name} ${number} came`);
    process.exit(1);
  }
  next += 1;
  if (next === count) say("heard");
  if (next > count) say(`more than ${count} events`);
}

// Asks the server, and calls back with its answer.
let ask;

if (way === "direct") {
  const { io } = createRequire(`${modules}/package.json`)("socket.io-client-4");
  const socket = io(`http://127.0.0.1:${target}`, { transports: ["websocket"] });
  socket.onAny((name, ...args) => event(name, args));
  socket.on("connect", () => say("ready"));
  ask = (args, answer) => socket.emit("echo", ...args, (...args) => answer(args));
} else {
  const siod = connect(target);
  const open = new Map();
  let rest = "";
  let id = 0;
  const request = (method, params, answer) => {
    open.set(++id, answer);
    siod.write(JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n");
  };
  siod.setEncoding("utf8");
  siod.on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const { id, method, params, result } = JSON.parse(line);
      if (method) {
        event(params.event, params.args);
      } else {
        open.get(id)(result);
        open.delete(id);
      }
    }
  });
  request("subscribe", { connection: "c", lifecycle: false }, () => say("ready"));
  ask = (args, answer) =>
    request("emit", { connection: "c", event: "echo", args, ack: true }, (result) => answer(result.args));
}

const commands = {
  hear: (expected) => {
    next = 0;
    count = Number(expected);
    say("ready");
  },
  trip: async (size, milliseconds) => {
    const text = "x".repeat(Number(size));
    const times = [];
    const end = performance.now() + Number(milliseconds);
    for (let i = 0; performance.now() < end; i++) {
      const start = process.hrtime.bigint();
      const answer = await new Promise((answer) => ask([i, text], answer));
      times.push(Number(process.hrtime.bigint() - start));
      if (answer[0] !== i || answer[1] !== text) throw new Error(`not the answer to ${i}`);
    }
    say(JSON.stringify(times));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(" ");
  await commands[name](...words);
}
process.exit(0);
