// A program at the daemon's local API that takes each `open` for an `io()`, and writes down the same as client.mjs.

import { connect } from "node:net";
import { createInterface } from "node:readline";

import { Names, Record, lines, text } from "./transcript.mjs";

// The words of socket.io-client for what the API calls by a kind.
const MESSAGES = {
  ack_timeout: "operation has timed out",
  disconnected: "socket has been disconnected",
  reserved_event: (event) => `"${event}" is a reserved event name`,
};

export class Daemon {
  sockets = [];
  #requests = new Map();
  #byName = new Map();

  // `prefix` keeps the names of one program apart from those of others.
  constructor(path, prefix) {
    this.prefix = prefix;
    this.stream = connect(path);
    createInterface({ input: this.stream }).on("line", (line) => this.#read(JSON.parse(line)));
    this.subscribed = this.request("subscribe", { connection: `${prefix}*`, outgoing: true });
  }

  async io(name, url, options) {
    await this.subscribed;
    const socket = new Socket(this, name, this.prefix + name);
    this.sockets.push(socket);
    this.#byName.set(socket.connection, socket);
    await this.request("open", { name: socket.connection, url, persist: true, ...snakeCased(options) });
    return socket;
  }

  async settle() {
    await this.request("list");
  }

  async leave() {
    await Promise.all(this.sockets.map(({ connection }) => this.request("close", { connection })));
    this.stream.end();
  }

  request(method, params) {
    return new Promise((resolve, reject) => this.call(method, params, resolve, reject));
  }

  // As request, but called back before the next line is read, which no promise can do.
  call(method, params, resolve, reject) {
    const id = this.#requests.size;
    this.#requests.set(id, { resolve, reject });
    this.stream.write(`${JSON.stringify({ id, method, params })}\n`);
  }

  #read({ id, result, error, method, params }) {
    if (method) this.#byName.get(params.connection).hear(method, params);
    else if (error) this.#requests.get(id).reject(Object.assign(new Error(error.message), error.data));
    else this.#requests.get(id).resolve(result);
  }
}

class Socket extends Record {
  #names = new Names();
  #questions = [];
  #actions = [];

  constructor(daemon, name, connection) {
    super(name);
    this.daemon = daemon;
    this.connection = connection;
  }

  hear(method, params) {
    const { event, args, ack, binary } = params;
    if (method === "lifecycle" && event === "upgrade") return this.transports.say(`upgrade ${params.transport}`);
    if (method === "outgoing") return this.outgoing.say(`${event} ${text(plain(args, binary))}`);
    const line =
      method === "event" ? lines.event(event, plain(args, binary), ack !== undefined) : this.#lifecycle(params);
    if (line === null) return;
    if (ack !== undefined) this.#questions.push(ack);
    this.transcript.say(line);
    const due = this.#actions.findIndex(({ name }) => name === event);
    if (due >= 0) this.#actions.splice(due, 1)[0].action();
  }

  #lifecycle({ event, active, ...more }) {
    switch (event) {
      case "connect":
        return lines.connect({ ...more, id: this.#names.of(more.id), active });
      case "connect_error":
        return lines.connectError({ ...more, active });
      case "disconnect":
        return lines.disconnect({ reason: more.reason, ...more.details, active });
      case "reconnect_error":
        return `reconnect_error ${more.message} active=${active}`;
      case "reconnect_failed":
        return `reconnect_failed active=${active}`;
      case "reconnect_attempt":
      case "reconnect":
        return `${event} ${more.attempt} active=${active}`;
      case "opened":
      case "closed":
        return null;
    }
    throw new Error(`unknown lifecycle event ${event}`);
  }

  connect() {
    return this.#request("connect");
  }

  disconnect() {
    return this.#request("disconnect");
  }

  setAuth(auth) {
    return this.#request("set_auth", { auth });
  }

  emit(event, ...args) {
    return this.#emit({ event, ...encoded(args) });
  }

  volatile(event, ...args) {
    return this.#emit({ event, ...encoded(args), volatile: true });
  }

  uncompressed(event, ...args) {
    return this.#emit({ event, ...encoded(args), compress: false });
  }

  async #emit(params) {
    const at = this.emits.lines.push(`${params.event}: …`) - 1;
    const became = await this.#request("emit", params).then(
      ({ status }) => status,
      (error) => words(error, params.event),
    );
    this.emits.lines[at] = `${params.event}: ${became}`;
  }

  async ask(event, args = [], { timeout, volatile } = {}) {
    this.#ask(event, args, { timeout, volatile }, (answer) => answer);
  }

  async askForOne(event, args = [], { timeout } = {}) {
    this.#ask(event, args, { timeout }, (answer) => answer.slice(0, 1));
  }

  #ask(event, args, flags, wanted) {
    this.daemon.call(
      "emit",
      { connection: this.connection, event, ...encoded(args), ack: true, ...flags },
      ({ args, binary, status }) => status ?? this.answered(lines.answer(event, wanted(plain(args, binary)))),
      (error) => this.answered(lines.failure(event, words(error, event))),
    );
  }

  // The first answer wins and later ones are refused, which the official client does not tell.
  answer(n, ...args) {
    return this.#request("ack", { ack: this.#questions[n], ...encoded(args) }).catch((error) => {
      if (error.kind !== "unknown_ack") throw error;
    });
  }

  once(name, action) {
    this.#actions.push({ name, action });
  }

  async state() {
    const { connections } = await this.daemon.request("status", { connection: this.connection });
    const { connected, active, id, recovered, buffered, pending_acks: pending } = connections[0];
    // There is one before the namespace is joined too, which says nothing about it.
    const transport = connected ? connections[0].transport : "none";
    this.transcript.say(
      lines.state({ connected, active, id: this.#names.of(id), recovered, transport, buffered, pending }),
    );
  }

  #request(method, params) {
    return this.daemon.request(method, { connection: this.connection, ...params });
  }
}

function words(error, event) {
  const known = MESSAGES[error.kind];
  return typeof known === "function" ? known(event) : (known ?? error.message);
}

function snakeCased(options) {
  const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [snake(name), value]));
}

// Bytes as the API writes them, and the flag that says that there are some.
function encoded(args) {
  let binary = false;
  const json = JSON.stringify(args, function (key, value) {
    if (!(this[key] instanceof Uint8Array)) return value;
    binary = true;
    return { $binary: Buffer.from(this[key]).toString("base64") };
  });
  return { args: JSON.parse(json), ...(binary && { binary }) };
}

function plain(args, binary) {
  if (!binary) return args;
  return JSON.parse(JSON.stringify(args), (_key, value) =>
    typeof value?.$binary === "string" ? Buffer.from(value.$binary, "base64") : value,
  );
}
