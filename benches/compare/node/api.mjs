// What both bridges have in common: the part of the local API that the load generator speaks, on a Unix socket.

import { createRequire } from "node:module";
import { createServer } from "node:net";

const [modules, port, path] = process.argv.slice(2);
const { io } = createRequire(`${modules}/package.json`)("socket.io-client-4");

// All peers come back at the same pace.
export const upstream = io(`http://127.0.0.1:${port}`, {
  transports: ["websocket"],
  reconnectionDelay: 50,
  reconnectionDelayMax: 50,
  randomizationFactor: 0,
});

// Calls `request(line, program)` for each line of a program.
export function serve(request, gone) {
  const server = createServer((program) => {
    let rest = "";
    program.setEncoding("utf8");
    program.on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) request(line, program);
    });
    program.on("error", () => {});
    program.on("close", () => gone(program));
  });
  server.listen(path);
}
