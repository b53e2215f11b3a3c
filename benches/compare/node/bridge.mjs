// A bridge as one would write it: node bridge.mjs MODULES PORT SOCKET
//
// Each event is encoded when it comes and written to each program; each answer is written when it comes.

import { serve, upstream } from "./api.mjs";

const programs = new Set();
let seq = 0;

upstream.onAny((event, ...args) => {
  seq += 1;
  const line = JSON.stringify({ jsonrpc: "2.0", method: "event", params: { connection: "c", seq, event, args } });
  for (const program of programs) program.write(line + "\n");
});

serve(
  (line, program) => {
    const { id, method, params } = JSON.parse(line);
    const answer = (result) => program.write(JSON.stringify({ jsonrpc: "2.0", id, result }) + "\n");
    if (method === "subscribe") {
      programs.add(program);
      answer({});
    } else {
      upstream.emit(params.event, ...params.args, (...args) => answer({ args }));
    }
  },
  (program) => programs.delete(program),
);
