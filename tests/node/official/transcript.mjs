// What happened, in lines: one transcript for each socket, one for the server.

// How long anything may take that is expected to happen.
const DEADLINE = 15_000;

export class Transcript {
  lines = [];
  #heard = 0;
  #waiters = [];

  constructor(name) {
    this.name = name;
  }

  say(line) {
    this.lines.push(line);
    this.#waiters = this.#waiters.filter((waiter) => !waiter());
  }

  // Waits for a line that begins with `start`, in whole words, after the one that was heard last.
  hears(start) {
    const within = (line) => start !== "" && /^\w\w/.test(line.slice(start.length - 1));
    const begins = (line) => line.startsWith(start) && !within(line);
    return new Promise((resolve, reject) => {
      const look = () => {
        const at = this.lines.findIndex((line, i) => i >= this.#heard && begins(line));
        if (at < 0) return false;
        this.#heard = at + 1;
        clearTimeout(deadline);
        resolve(this.lines[at]);
        return true;
      };
      const deadline = setTimeout(() => reject(new Error(`${this.name} waited in vain for "${start}"`)), DEADLINE);
      if (!look()) this.#waiters.push(look);
    });
  }
}

// All that is written down of one socket. What comes in an order of its own has a transcript of its own.
export class Record {
  constructor(name) {
    this.transcript = new Transcript(name);
    this.emits = new Transcript(`${name} emits`);
    // To wait for an answer; what is compared is its line among the others.
    this.answers = new Transcript(`${name} answers`);
    this.outgoing = new Transcript(`${name} outgoing`);
    this.transports = new Transcript(`${name} transports`);
  }

  get all() {
    return [this.transcript, this.emits, this.outgoing, this.transports];
  }

  answered(line) {
    this.transcript.say(`answer ${line}`);
    this.answers.say(line);
  }

  hears(start) {
    return this.transcript.hears(start);
  }
}

// Names for ids, which are random: #1 for the first that is seen, and so on.
export class Names {
  #ids = [];

  of(id) {
    if (id === undefined || id === null) return "none";
    if (!this.#ids.includes(id)) this.#ids.push(id);
    return `#${this.#ids.indexOf(id) + 1}`;
  }
}

// A value as text; bytes as <base64>, and long strings as their length.
export function text(value) {
  return JSON.stringify(value, function (key, plain) {
    const raw = this[key];
    if (raw instanceof Uint8Array) return `<${Buffer.from(raw).toString("base64")}>`;
    return typeof raw === "string" && raw.length > 200 ? `${raw.length} × ${raw[0]}` : plain;
  });
}

// The lines that both programs write for what happens to a socket. What is not given is left out.
export const lines = {
  connect: ({ id, recovered, active }) => `connect ${id} recovered=${recovered} active=${active}`,
  connectError: ({ message, code, data, active }) =>
    `connect_error ${message}${optional("code", code)}${optional("data", data)} active=${active}`,
  disconnect: ({ reason, message, code, active }) =>
    `disconnect ${reason}${optional("details", message)}${optional("code", code)} active=${active}`,
  event: (name, args, asks) => `event ${text(name)} ${text(args)}${asks ? " asks" : ""}`,
  answer: (name, args) => `${name} ${text(args)}`,
  failure: (name, message) => `${name} failed: ${message}`,
  state: ({ connected, active, id, recovered, transport, buffered, pending }) =>
    `state connected=${connected} active=${active} id=${id} recovered=${recovered}` +
    ` transport=${transport} buffered=${buffered} pending=${pending}`,
};

function optional(name, value) {
  return value === undefined ? "" : ` ${name}=${text(value)}`;
}
