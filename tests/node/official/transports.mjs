// Which transport carries a session, and what goes with its requests.

// Writes down how each session is begun and continued, with these headers.
function watch(server, ...headers) {
  const see = (kind, request) => {
    const sid = request.url.includes("sid=") ? "upgrade" : "open";
    server.requests.say(
      `${kind} ${sid}${headers.map((name) => ` ${name}=${request.headers[name]?.replaceAll(", ", ",")}`).join("")}`,
    );
  };
  server.http.prependListener("request", (request) => request.url.includes("sid=") || see("polling", request));
  server.http.prependListener("upgrade", (request) => see("websocket", request));
}

export default {
  polling_becomes_a_websocket: {
    async play({ server, io }) {
      const chat = await io("chat", "", { transports: ["polling", "websocket"] });
      await chat.hears("connect");
      await chat.transports.hears("upgrade");
      await chat.emit("echo", 1);
      await chat.hears("event");
      await chat.state();
      await server.upgraded();
      server.drop();
      await chat.hears("disconnect");
      await chat.hears("connect");
      await chat.transports.hears("upgrade");
      await server.upgraded();
    },
  },

  without_upgrade_polling_stays: {
    async play({ server, io }) {
      const chat = await io("chat", "", { transports: ["polling", "websocket"], upgrade: false });
      await chat.hears("connect");
      await chat.emit("echo", 1);
      await chat.hears("event");
      await chat.state();
    },
  },

  a_server_without_upgrades_is_left_alone: {
    server: { allowUpgrades: false },
    async play({ server, io }) {
      const chat = await io("chat", "", { transports: ["polling", "websocket"] });
      await chat.hears("connect");
      await chat.emit("echo", 1);
      await chat.hears("event");
      await chat.state();
    },
  },

  an_upgrade_that_fails_leaves_polling: {
    async play({ server, io }) {
      server.http.removeAllListeners("upgrade");
      const refused = new Promise((resolve) =>
        server.http.on("upgrade", (_request, stream) => resolve(stream.destroy())),
      );
      const chat = await io("chat", "", { transports: ["polling", "websocket"] });
      await chat.hears("connect");
      await refused;
      for (let i = 0; i < 5; i++) {
        await chat.emit("echo", i);
        await chat.hears("event");
      }
      await chat.state();
    },
  },

  a_websocket_that_failed_at_first: {
    server: { pingInterval: 200, pingTimeout: 5_000 },
    async play({ server, io }) {
      const [attached] = server.http.listeners("upgrade");
      server.http.removeAllListeners("upgrade");
      server.http.once("upgrade", (_request, stream) => {
        stream.destroy();
        server.http.on("upgrade", attached);
      });
      const chat = await io("chat");
      await chat.hears("connect");
      // Long after an upgrade would have begun.
      for (let i = 0; i < 5; i++) await new Promise((heartbeat) => server.session.once("heartbeat", heartbeat));
    },
  },

  events_during_an_upgrade_keep_their_order: {
    async play({ server, io }) {
      const chat = await io("chat", "", { transports: ["polling", "websocket"], autoConnect: false });
      for (let i = 0; i < 50; i++) await chat.emit("echo", i);
      chat.once("connect", () => {
        for (let i = 50; i < 100; i++) chat.emit("echo", i);
      });
      await chat.connect();
      await chat.transports.hears("upgrade");
      for (let i = 100; i < 110; i++) await chat.emit("ordered", i);
      await chat.hears('event "echo" [99]');
      await server.hears("event / ordered [109]");
    },
  },

  an_upgrade_is_remembered: {
    async play({ server, io }) {
      watch(server);
      const chat = await io("chat", "", { transports: ["polling", "websocket"], rememberUpgrade: true });
      await chat.hears("connect");
      await chat.transports.hears("upgrade");
      await server.upgraded();
      server.session.transport.socket.close(1001);
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  headers_go_with_every_request: {
    async play({ server, io }) {
      watch(server, "x-one", "x-two");
      const options = { extraHeaders: { "X-One": "1", "x-two": "2" }, transports: ["polling", "websocket"] };
      const chat = await io("chat", "", options);
      await chat.transports.hears("upgrade");
    },
  },

  cookies_of_the_server_come_back: {
    differences: [
      {
        rows: [16],
        of: "server requests",
        official: ["websocket upgrade cookie=sticky=sid1", "polling open cookie=undefined"],
        siod: ["websocket upgrade cookie=sticky=sid1", "polling open cookie=sticky=sid1"],
      },
    ],
    server: { cookie: { name: "sticky", path: "/" } },
    random: { sid: /(?<=sticky=)[\w-]+/g },
    async play({ server, io }) {
      watch(server, "cookie");
      const chat = await io("chat", "", { transports: ["polling", "websocket"] });
      await chat.transports.hears("upgrade");
      await server.upgraded();
      server.drop();
      await chat.hears("disconnect");
      await chat.transports.hears("upgrade");
      await server.upgraded();
    },
  },

  sub_protocols_are_offered: {
    async play({ server, io }) {
      watch(server, "sec-websocket-protocol");
      const chat = await io("chat", "", { protocols: ["one", "two"] });
      await chat.hears("connect");
    },
  },

  a_close_during_the_upgrade: {
    async play({ server, io }) {
      const [attached] = server.http.listeners("upgrade");
      server.http.removeAllListeners("upgrade");
      const held = new Promise((resolve) =>
        server.http.on("upgrade", (...upgrade) => resolve(() => attached(...upgrade))),
      );
      const chat = await io("chat", "", { transports: ["polling", "websocket"] });
      await chat.hears("connect");
      const release = await held;
      await chat.emit("last");
      await chat.disconnect();
      release();
      await server.hears("event / last");
      await server.idle();
      await chat.state();
    },
  },

  more_than_the_server_takes_in_one_request: {
    server: { maxHttpBufferSize: 1_000 },
    async play({ io }) {
      const chat = await io("chat", "", { transports: ["polling"], autoConnect: false });
      for (let i = 0; i < 10; i++) await chat.emit("echo", i, "x".repeat(300));
      await chat.connect();
      await chat.hears('event "echo" [9');
    },
  },
};
