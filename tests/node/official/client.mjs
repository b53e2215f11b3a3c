// socket.io-client as it is, writing down what happens to each of its sockets.

import { createRequire } from "node:module";

import { Names, Record, lines, text } from "./transcript.mjs";

// Where the daemon's defaults differ by design; see docs/compatibility.md.
const DEFAULTS = { transports: ["websocket", "polling"], tryAllTransports: true, withCredentials: true };

export class Client {
  sockets = [];

  constructor(modules) {
    this.require = createRequire(`${modules}/package.json`);
    this.connect = this.require("socket.io-client-4").io;
  }

  async io(name, url, options) {
    const parser = options.parser === "msgpack" && { parser: this.require("socket.io-msgpack-parser") };
    const socket = new Socket(name, this.connect(url, { ...DEFAULTS, ...options, ...parser }), options);
    this.sockets.push(socket);
    return socket;
  }

  // Waits until everything that has happened is written down, which here is at once.
  async settle() {}

  // Leaves, as a program that ends.
  async leave() {
    for (const { socket } of this.sockets) socket.disconnect();
  }
}

class Socket extends Record {
  #names = new Names();
  #questions = [];
  #sent = false;

  constructor(name, socket, options) {
    super(name);
    this.socket = socket;
    this.ackTimeout = options.ackTimeout;
    const say = (line) => this.transcript.say(line);

    socket.on("connect", () => say(lines.connect(this.#seen())));
    socket.on("connect_error", (error) => {
      const { message, data } = error;
      say(lines.connectError({ message, data, code: status(error), active: socket.active }));
    });
    socket.on("disconnect", (reason, details) => {
      const message = details?.message ?? details?.description;
      const code = details && (status(details) ?? details.context?.code);
      say(lines.disconnect({ reason, message, code, active: socket.active }));
    });
    socket.onAny((event, ...args) => {
      const asks = typeof args.at(-1) === "function";
      if (asks) this.#questions.push(args.pop());
      say(lines.event(event, args, asks));
    });
    socket.onAnyOutgoing((event, ...args) => {
      this.#sent = true;
      this.outgoing.say(`${event} ${text(args)}`);
    });

    // The Manager's events, as far as they concern this socket.
    const manager = socket.io;
    const tell = (line) => socket.active && say(`${line} active=${socket.active}`);
    manager.on("reconnect_attempt", (attempt) => tell(`reconnect_attempt ${attempt}`));
    manager.on("reconnect_error", (error) => tell(`reconnect_error ${error.message}`));
    manager.on("reconnect_failed", () => tell("reconnect_failed"));
    manager.on("reconnect", (attempt) => tell(`reconnect ${attempt}`));
    const watch = () =>
      manager.engine.on("upgrade", ({ name }) => socket.active && this.transports.say(`upgrade ${name}`));
    manager.on("open", watch);
    if (manager._readyState === "open") watch();
  }

  async connect() {
    this.socket.connect();
  }

  async disconnect() {
    this.socket.disconnect();
  }

  async setAuth(auth) {
    this.socket.auth = auth;
  }

  async emit(event, ...args) {
    this.#emit(this.socket, event, args);
  }

  async volatile(event, ...args) {
    this.#emit(this.socket.volatile, event, args);
  }

  async uncompressed(event, ...args) {
    this.#emit(this.socket.compress(false), event, args);
  }

  #emit(socket, event, args) {
    const waiting = this.#buffered();
    this.#sent = false;
    try {
      socket.emit(event, ...args);
    } catch (error) {
      return this.emits.say(`${event}: ${error.message}`);
    }
    const status = this.#sent ? "sent" : this.#buffered() > waiting ? "buffered" : "dropped";
    this.emits.say(`${event}: ${status}`);
  }

  // Emits and wants all of the answer.
  async ask(event, args = [], { timeout, volatile } = {}) {
    let socket = volatile ? this.socket.volatile : this.socket;
    if (timeout !== undefined) socket = socket.timeout(timeout);
    if (timeout === undefined && this.ackTimeout === undefined) {
      socket.emit(event, ...args, (...answer) => this.answered(lines.answer(event, answer)));
    } else {
      socket.emit(event, ...args, (error, ...answer) => this.#answered(event, error, answer));
    }
  }

  // Emits and wants the answer as emitWithAck gives it: its first argument alone, or why there is none.
  async askForOne(event, args = [], { timeout } = {}) {
    const socket = timeout === undefined ? this.socket : this.socket.timeout(timeout);
    socket.emitWithAck(event, ...args).then(
      (answer) => this.#answered(event, null, answer === undefined ? [] : [answer]),
      (error) => this.#answered(event, error),
    );
  }

  #answered(event, error, answer) {
    this.answered(error ? lines.failure(event, error.message) : lines.answer(event, answer));
  }

  // Answers the question that came as number `n`, from 0.
  async answer(n, ...args) {
    this.#questions[n](...args);
  }

  // Does something the moment it happens, once.
  once(event, action) {
    this.socket.once(event, action);
  }

  async state() {
    const pending = Object.keys(this.socket.acks).length;
    this.transcript.say(lines.state({ ...this.#seen(), buffered: this.#buffered(), pending }));
  }

  // With `retries`, emits wait in a queue of their own.
  #buffered() {
    return this.socket.sendBuffer.length + this.socket._queue.length;
  }

  #seen() {
    const { connected, active, id, recovered } = this.socket;
    const transport = connected ? this.socket.io.engine.transport.name : "none";
    return { connected, active, id: this.#names.of(id), recovered: connected && !!recovered, transport };
  }
}

// The status of an answer, which for a WebSocket stands only in a message; 0 means that there was none.
function status({ description }) {
  if (typeof description === "number") return description || undefined;
  const code = /^Unexpected server response: (\d+)$/.exec(description?.message)?.[1];
  return code && Number(code);
}
