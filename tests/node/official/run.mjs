// Plays scenarios twice against servers of their own: with socket.io-client, and with the daemon's local API.
//
//   node run.mjs MODULES SOCKET GROUP
//
// MODULES is the folder that holds node_modules, SOCKET the daemon's, GROUP the file beside this one with the
// scenarios. All are played at once. The first line printed is their number, then comes a JSON object for each:
// `name`, `official` and `siod` with the lines of each transcript, `differences`, and `error` where one got stuck.

import { Client } from "./client.mjs";
import { Daemon } from "./daemon.mjs";
import { QUICK } from "./options.mjs";
import { Literal, Official } from "./server.mjs";

const [modules, path, group] = process.argv.slice(2);
const { default: scenarios } = await import(`./${group}.mjs`);

async function play(scenario, program) {
  const options = (typeof scenario.server === "function" ? scenario.server() : scenario.server) ?? {};
  const server = new (options.packets ? Literal : Official)(modules, options);
  await server.start();
  const io = (name, namespace = "", more = {}) => program.io(name, server.url + namespace, { ...QUICK, ...more });
  let error;
  try {
    await scenario.play({ server, io });
    await program.settle();
  } catch (thrown) {
    error = thrown.stack;
  }
  const transcripts = program.sockets.flatMap((socket) => socket.all);
  const lines = Object.fromEntries(transcripts.map(({ name, lines }) => [name, lines.slice()]));
  // What the server hears of the end belongs to it.
  await program.leave();
  if (!error) await server.idle();
  lines[server.transcript.name] = server.transcript.lines.slice();
  lines[server.requests.name] = server.requests.lines.slice();
  lines[server.leaving.name] = server.leaving.lines.slice().sort();
  return { lines: named(lines, scenario.random), error };
}

// Puts names in place of what is random, the same name wherever it comes again.
function named(lines, patterns = []) {
  let text = JSON.stringify(lines);
  for (const [name, pattern] of Object.entries(patterns)) {
    const seen = [...new Set(text.match(pattern))];
    text = text.replace(pattern, (match) => `${name}${seen.indexOf(match) + 1}`);
  }
  return JSON.parse(text);
}

console.log(Object.keys(scenarios).length);
const played = Object.entries(scenarios).map(async ([name, scenario], i) => {
  const [official, siod] = await Promise.all([
    play(scenario, new Client(modules)),
    play(scenario, new Daemon(path, `${i}-`)),
  ]);
  const error = official.error ? `official: ${official.error}` : siod.error && `siod: ${siod.error}`;
  const { differences = [] } = scenario;
  console.log(JSON.stringify({ name, official: official.lines, siod: siod.lines, differences, error }));
});
await Promise.all(played);
process.exit(0);
