// Events both ways: what they carry, what waits, and in which order.

export default {
  values_arrive_as_they_were: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.emit("echo");
      await chat.emit("echo", null, true, 0, -1.5, 'é😀\u2028"\\\n', [], {}, [[{ a: [null] }]]);
      await chat.emit("echo", Buffer.from([0, 255]), { deep: [{ bytes: Buffer.from("x") }, Buffer.alloc(0)] });
      await chat.emit("echo", { $binary: "AAEC" }, { _placeholder: true, num: 0 });
      await chat.emit("echo", "x".repeat(200_000));
      for (let i = 0; i < 5; i++) await chat.hears("event");
      server.io.emit("two words", 1);
      server.io.emit("", 2);
      server.io.emit("error", 3);
      server.io.emit("message");
      await chat.hears('event "message"');
    },
  },

  values_arrive_as_they_were_in_messagepack: {
    server: { parser: "msgpack" },
    async play({ server, io }) {
      for (const transports of [["websocket"], ["polling"]]) {
        const chat = await io(transports[0], "", { transports, parser: "msgpack", forceNew: true });
        await chat.hears("connect");
        await chat.emit("echo");
        await chat.emit("echo", null, true, 0, -1.5, 2 ** 40, 'é😀\u2028"\\\n', [], {}, [[{ a: [null] }]]);
        await chat.emit("echo", Buffer.from([0, 255]), { deep: [{ bytes: Buffer.from("x") }, Buffer.alloc(0)] });
        await chat.emit("echo", { $binary: "AAEC" }, { _placeholder: true, num: 0 });
        await chat.emit("echo", "x".repeat(200_000));
        for (let i = 0; i < 5; i++) await chat.hears("event");
        await chat.ask("echo", [Buffer.from([1]), "asked"]);
        await chat.answers.hears("");
        await chat.emit("ask", "ready?");
        await chat.hears('event "question"');
        await chat.answer(0, "yes", Buffer.from([2]));
        await chat.hears('event "answered"');
        server.io.emit("", new Date(0), undefined, { left: undefined });
        await chat.hears("event");
        await chat.disconnect();
        await server.leaving.hears("/");
      }
    },
  },

  a_namespace_is_refused_and_left_in_messagepack: {
    server: { parser: "msgpack" },
    async play({ server, io }) {
      const nowhere = await io("nowhere", "/nowhere", { parser: "msgpack" });
      await nowhere.hears("connect_error");
      const chat = await io("chat", "", { parser: "msgpack", auth: { token: "a" } });
      await chat.hears("connect");
      server.io.disconnectSockets();
      await chat.hears("disconnect");
      await chat.state();
      await chat.connect();
      await chat.hears("connect");
    },
  },

  a_number_is_a_name_too: {
    differences: [{ rows: [15], of: "chat", official: ['event 7 ["seven"]'], siod: ['event "7" ["seven"]'] }],
    server: {
      packets(session, packet) {
        if (packet === "0") ['0{"sid":"s"}', '2[7,"seven"]', '2["7","text"]'].forEach((answer) => session.send(answer));
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears('event "7" ["text"');
    },
  },

  reserved_names_are_refused: {
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      const reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
      for (const name of reserved) await chat.emit(name, 1);
      for (const name of ["error", "reconnect", "connection", "ping", "", "toString"]) await chat.emit(name);
    },
  },

  what_is_emitted_before_connect_waits_in_order: {
    async play({ server, io }) {
      const chat = await io("chat", "", { autoConnect: false });
      for (let i = 0; i < 5; i++) await chat.emit("early", i);
      await chat.emit("early", Buffer.from([5]));
      await chat.volatile("early", "dropped");
      await chat.state();
      chat.once("connect", () => chat.emit("late"));
      await chat.connect();
      await server.hears("event / late");
      await chat.state();
    },
  },

  what_is_emitted_before_the_connect_answer_waits: {
    server: { packets() {} },
    async play({ server, io }) {
      const chat = await io("chat");
      await server.hears("packet 0");
      await chat.emit("early", 1);
      await chat.state();
      server.session.send('0{"sid":"s"}');
      await chat.hears("connect");
      await server.hears('packet 2["early",1]');
    },
  },

  what_is_emitted_before_disconnect_arrives: {
    async play({ server, io }) {
      for (const transports of [["websocket"], ["polling"]]) {
        const chat = await io(transports[0], "", { transports, forceNew: true });
        await chat.hears("connect");
        for (let i = 0; i < 5; i++) await chat.emit("last", i, Buffer.from([i]));
        await chat.disconnect();
        await server.leaving.hears("/");
      }
    },
  },

  what_is_emitted_while_it_is_lost_waits: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      chat.once("disconnect", () => {
        chat.emit("lost", 1);
        chat.emit("lost", 2);
      });
      server.drop();
      await chat.hears("connect");
      await server.hears("event / lost [2]");
      await chat.state();
    },
  },

  what_waits_survives_a_kick_and_a_disconnect: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.io.disconnectSockets();
      await chat.hears("disconnect");
      await chat.emit("kept", 1);
      await chat.connect();
      await chat.hears("connect");
      await chat.disconnect();
      await chat.emit("kept", 2);
      await chat.state();
      await chat.connect();
      await chat.hears("connect");
      await server.hears("event / kept [2]");
    },
  },

  volatile_goes_out_while_it_can: {
    async play({ server, io }) {
      for (const transports of [["websocket"], ["polling"]]) {
        const chat = await io(transports[0], "", { transports, forceNew: true });
        await chat.hears("connect");
        await chat.volatile("now", 1);
        await server.hears("event / now");
      }
    },
  },

  volatile_after_a_loss: {
    differences: [
      { rows: [11], of: "chat emits", official: ["position: buffered"], siod: ["position: dropped"] },
      { rows: [11], of: "chat outgoing", official: ["position [1]"], siod: [] },
      { rows: [11], of: "server", official: ["event / position [1]"], siod: [] },
    ],
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      const emitted = new Promise((resolve) => chat.once("disconnect", () => resolve(chat.volatile("position", 1))));
      server.drop();
      await emitted;
      await chat.hears("connect");
      await chat.emit("end");
      await server.hears("event / end");
    },
  },

  events_of_the_server_come_in_order: {
    server: {
      namespaces: {
        "/burst": (namespace) =>
          namespace.on("connection", (socket) => {
            for (let i = 0; i < 20; i++) socket.emit("n", i, i % 3 ? null : Buffer.from([i]));
          }),
      },
    },
    async play({ io }) {
      for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
        const chat = await io(transports.join(), "/burst", { transports, forceNew: true });
        await chat.hears('event "n" [19');
        if (transports.length > 1) await chat.transports.hears("upgrade");
      }
    },
  },

  events_before_the_connect_answer_come_with_it: {
    server: {
      packets(session, packet) {
        if (packet === "0")
          ['2["early",1]', '2["early",2]', '0{"sid":"s"}', '2["late"]'].forEach((answer) => session.send(answer));
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears('event "late"');
    },
  },

  what_is_for_another_namespace_is_ignored: {
    server: {
      packets(session, packet) {
        if (packet === "0")
          [
            '0{"sid":"s"}',
            '2/other,["no"]',
            "1/other,",
            '4/other,{"message":"no"}',
            "3/other,0[]",
            '39["no"]',
            '2["end"]',
          ].forEach((answer) => session.send(answer));
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears('event "end"');
      await chat.state();
    },
  },

  compression_changes_nothing_that_is_seen: {
    server: { perMessageDeflate: { threshold: 0 } },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.emit("echo", "x".repeat(4_000));
      await chat.uncompressed("echo", "y".repeat(4_000));
      await chat.hears("event");
      await chat.hears("event");
    },
  },
};
