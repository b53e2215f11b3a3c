#!/usr/bin/env node
// Listens to a connection of siod, asks its server and answers it: node attach.mjs [CONNECTION]
//
// Node 16 or newer, without any package. README.md says what happens here, step by step.

import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

const { SIOD_SOCKET, XDG_RUNTIME_DIR: runtime } = process.env;
const own = runtime && process.getuid() !== 0;
const path = SIOD_SOCKET || (own ? `${runtime}/siod.sock` : "/run/siod/siod.sock");
const connection = process.argv[2] ?? "chat";

let position = { stream: "", seq: 0 };

const ask = (siod, request) => siod.write(`${JSON.stringify(request)}\n`);

// All messages of one attachment. What the end has cut off stays in `rest`; it will come again.
async function* messages(siod) {
  let rest = "";
  for await (const chunk of siod.setEncoding("utf8")) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    yield* lines.map((line) => JSON.parse(line));
  }
}

function subscribed(siod, { stream }) {
  if (!position.stream) {
    ask(siod, { id: 2, method: "emit", params: { connection, event: "add", args: [2, 3], ack: true, timeout: 5000 } });
  }
  if (stream !== position.stream) position = { stream, seq: 0 };
}

function number(siod, { seq, event, args, ack }) {
  if (seq > position.seq + 1) console.error(`missed ${seq - position.seq - 1} before ${seq}`);
  console.log(seq, event, ...(args ? [JSON.stringify(args)] : []));
  position.seq = seq;
  if (ack !== undefined) ask(siod, { method: "ack", params: { connection, ack, args: ["yes"] } });
}

async function attend(siod) {
  ask(siod, { id: 1, method: "subscribe", params: { connection, after: position } });
  for await (const { id, result, error, method, params } of messages(siod)) {
    if (error) {
      console.error(error.message);
      if (id === 1) return;
    }
    if (result && id === 1) subscribed(siod, result);
    if (result && id === 2) console.log("answer", JSON.stringify(result.args));
    if (method === "event" || method === "lifecycle") number(siod, params);
    if (method === "goodbye") console.error(`siod says goodbye: ${params.reason}`);
  }
}

do {
  try {
    await attend(connect(path));
  } catch (error) {
    // What a socket can meet names a system call; all else is a mistake in here.
    if (!error.syscall) throw error;
    if (!position.stream) console.error(`no siod at ${path} (${error.code}): start \`siod run\`, or set SIOD_SOCKET`);
  }
} while (position.stream && (await pause(500, true)));
process.exitCode = 1;
