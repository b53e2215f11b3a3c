// The same bridge, made fast: node tuned.mjs MODULES PORT SOCKET
//
// Constant parts of a line are made once. What comes in one turn of the event loop is encoded into one buffer, which
// is written to every program with one call; so are the answers of one program.

import { serve, upstream } from "./api.mjs";

const programs = new Set();
const answered = new Map();
let seq = 0;
let lines = "";
let planned = false;

function plan() {
  if (planned) return;
  planned = true;
  setImmediate(flush);
}

function flush() {
  planned = false;
  if (lines) {
    const bytes = Buffer.from(lines);
    lines = "";
    for (const program of programs) program.write(bytes);
  }
  for (const [program, answers] of answered) program.write(answers);
  answered.clear();
}

function answer(program, line) {
  answered.set(program, (answered.get(program) ?? "") + line);
  plan();
}

const names = new Map();

upstream.onAny((event, ...args) => {
  let name = names.get(event);
  if (!name) names.set(event, (name = JSON.stringify(event)));
  seq += 1;
  lines += `{"jsonrpc":"2.0","method":"event","params":{"connection":"c","seq":${seq},"event":${name},"args":${JSON.stringify(args)}}}\n`;
  plan();
});

serve(
  (line, program) => {
    const { id, method, params } = JSON.parse(line);
    if (method === "subscribe") {
      answer(program, `{"jsonrpc":"2.0","id":${id},"result":{}}\n`);
      programs.add(program);
    } else {
      upstream.emit(params.event, ...params.args, (...args) => {
        answer(program, `{"jsonrpc":"2.0","id":${id},"result":{"args":${JSON.stringify(args)}}}\n`);
      });
    }
  },
  (program) => {
    programs.delete(program);
    answered.delete(program);
  },
);
