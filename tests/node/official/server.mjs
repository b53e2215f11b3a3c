// The servers of the scenarios: the official one, and one that speaks literal packets over the official Engine.IO.

import { createServer } from "node:http";
import { createRequire } from "node:module";

import { Transcript, text } from "./transcript.mjs";

class Listener {
  // Engine.IO sessions in the order in which they were opened.
  sessions = [];
  scheme = "http";
  #streams = new Set();
  #stopped = false;
  #waiting = [];

  constructor(options) {
    this.transcript = new Transcript("server");
    // Who left, and why, sorted in the end: which of several leavings a server notices first is a matter of chance.
    this.leaving = new Transcript("server leaving");
    this.requests = new Transcript("server requests");
    this.options = options;
    this.http = createServer().on("connection", (stream) => {
      if (this.#stopped) return stream.destroy();
      this.#streams.add(stream);
      stream.on("close", () => this.#streams.delete(stream));
    });
  }

  get url() {
    return `${this.scheme}://127.0.0.1:${this.http.address().port}`;
  }

  say(line) {
    this.transcript.say(line);
  }

  hears(start) {
    return this.transcript.hears(start);
  }

  // Listens, or serves again after stop().
  async start() {
    this.#stopped = false;
    this.http.removeAllListeners("request").removeAllListeners("upgrade");
    this.http.on("request", (_request, response) => response.writeHead(404).end());
    this.attach();
    this.engine.on("connection", (session) => {
      this.sessions.push(session);
      session.on("close", () => this.#look());
    });
    if (!this.http.listening) await new Promise((listening) => this.http.listen(0, "127.0.0.1", listening));
  }

  // Forgets its sessions without a word and serves nobody. The port stays taken, so that nobody else gets it.
  async stop() {
    this.#stopped = true;
    this.cut();
    await this.idle();
  }

  // Ends every TCP connection without a word.
  cut() {
    for (const stream of this.#streams) stream.destroy();
  }

  // Ends the sessions as a server does that shuts down.
  drop() {
    for (const session of this.sessions) session.close();
  }

  // The session that was opened last.
  get session() {
    return this.sessions.at(-1);
  }

  // Waits until the server may send on the session that was opened last: over polling, until a GET is pending.
  async polled() {
    const { transport } = this.session;
    if (!transport.writable) await new Promise((resolve) => transport.once("ready", resolve));
  }

  // Waits until the session that was opened last is on a WebSocket.
  async upgraded() {
    const { session } = this;
    if (session.transport.name !== "websocket") await new Promise((resolve) => session.once("upgrade", resolve));
  }

  // Waits until no session is left.
  idle() {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#look();
    });
  }

  #look() {
    // The count goes down only after the event.
    setImmediate(() => {
      if (this.engine.clientsCount === 0) for (const resolve of this.#waiting.splice(0)) resolve();
    });
  }
}

// `options` are the server's own, and `namespaces` with what else is to be there, each with a function or null.
export class Official extends Listener {
  constructor(modules, { namespaces = {}, ...options }) {
    const require = createRequire(`${modules}/package.json`);
    if (options.parser === "msgpack") options.parser = require("socket.io-msgpack-parser");
    super(options);
    this.namespaces = { "/": null, "/room": null, ...namespaces };
    this.Server = require("socket.io-4").Server;
  }

  attach() {
    this.io = new this.Server(this.http, this.options);
    this.engine = this.io.engine;
    for (const [name, setUp] of Object.entries(this.namespaces)) {
      const namespace = this.io.of(name);
      setUp?.(namespace, this);
      namespace.on("connection", (socket) => this.#serve(socket));
    }
  }

  #serve(socket) {
    const name = socket.nsp.name;
    const { EIO, transport, sid, t, b64, ...query } = socket.handshake.query;
    const session = this.sessions.indexOf(socket.conn) + 1;
    this.say(`connection ${name} session=${session} auth=${text(socket.handshake.auth)} query=${text(query)}`);
    socket.onAny((event, ...args) => {
      const asks = typeof args.at(-1) === "function";
      if (asks) args.pop();
      this.say(`event ${name} ${event} ${text(args)}${asks ? " asks" : ""}`);
    });
    socket.on("disconnect", (reason) => this.leaving.say(`${name} ${reason}`));
    // Gives back what it got: to who asks for an answer, else as an event.
    socket.on("echo", (...args) => {
      if (typeof args.at(-1) === "function") args.pop()(...args);
      else socket.emit("echo", ...args);
    });
    // Asks the client in turn, and tells what it answered.
    socket.on("ask", (question) =>
      socket.emit("question", question, (...answer) => socket.emit("answered", ...answer)),
    );
  }
}

// Speaks literal Socket.IO packets: `packets` is called with the session, each packet that came, and the listener.
export class Literal extends Listener {
  constructor(modules, { packets, ...options }) {
    super(options);
    this.packets = packets;
    const server = createRequire(`${modules}/package.json`).resolve("socket.io-4");
    this.Engine = createRequire(server)("engine.io").Server;
  }

  attach() {
    this.engine = new this.Engine(this.options);
    this.engine.attach(this.http, { path: "/socket.io", ...this.options });
    this.engine.on("connection", (session) => {
      session.on("message", (packet) => {
        this.say(`packet ${Buffer.isBuffer(packet) ? text(packet) : packet}`);
        this.packets(session, packet, this);
      });
      this.packets(session, null, this);
    });
  }
}
