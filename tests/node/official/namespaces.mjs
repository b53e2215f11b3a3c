// Several sockets, and what they share.

import { lastFailure } from "./differences.mjs";
import { UNHURRIED } from "./options.mjs";

export default {
  two_namespaces_share_a_session: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      const room = await io("room", "/room");
      await room.hears("connect");
      await chat.emit("echo", "chat");
      await room.emit("echo", "room");
      await chat.hears("event");
      await room.hears("event");
      server.drop();
      await chat.hears("disconnect");
      await chat.hears("connect");
      await room.hears("connect #2");
    },
  },

  two_that_are_opened_at_once_share_a_session: {
    async play({ io }) {
      const [chat, room] = await Promise.all([io("chat"), io("room", "/room")]);
      await chat.hears("connect");
      await room.hears("connect");
    },
  },

  one_leaves_and_the_other_stays: {
    async play({ server, io }) {
      const [chat, room] = [await io("chat"), await io("room", "/room")];
      await chat.hears("connect");
      await room.hears("connect");
      await chat.disconnect();
      await server.leaving.hears("/");
      await room.emit("echo", "still here");
      await room.hears("event");
      await chat.connect();
      await chat.hears("connect");
      await chat.disconnect();
      await room.disconnect();
      await server.idle();
      await chat.connect();
      await chat.hears("connect");
      await room.state();
    },
  },

  one_is_kicked_and_the_other_stays: {
    async play({ server, io }) {
      const [chat, room] = [await io("chat"), await io("room", "/room")];
      await chat.hears("connect");
      await room.hears("connect");
      server.io.of("/room").disconnectSockets();
      await room.hears("disconnect");
      await chat.emit("echo", "still here");
      await chat.hears("event");
      await room.state();
      server.drop();
      await chat.hears("disconnect");
      await chat.hears("connect");
      await room.state();
      await room.connect();
      await room.hears("connect");
    },
  },

  both_are_kicked_and_the_session_ends: {
    async play({ server, io }) {
      const [chat, room] = [await io("chat"), await io("room", "/room")];
      await chat.hears("connect");
      await room.hears("connect");
      server.io.of("/room").disconnectSockets();
      await room.hears("disconnect");
      server.io.disconnectSockets();
      await chat.hears("disconnect");
      await server.idle();
      await room.connect();
      await room.hears("connect");
      await chat.state();
    },
  },

  one_is_refused_and_the_other_is_not: {
    async play({ io }) {
      const [chat, nowhere] = [await io("chat"), await io("nowhere", "/nowhere")];
      await chat.hears("connect");
      await nowhere.hears("connect_error");
      await chat.emit("echo", "still here");
      await chat.hears("event");
      await nowhere.connect();
      await nowhere.hears("connect_error");
      await chat.state();
    },
  },

  the_same_namespace_again_is_a_session_of_its_own: {
    async play({ server, io }) {
      const first = await io("first");
      await first.hears("connect");
      const second = await io("second");
      await second.hears("connect");
      const third = await io("third", "/room", { forceNew: true });
      await third.hears("connect");
      const fourth = await io("fourth", "/room", { multiplex: false });
      await fourth.hears("connect");
      await second.disconnect();
      await server.leaving.hears("/");
      await first.state();
    },
  },

  slashes_and_names_are_kept: {
    server: { namespaces: { "/a/": null, "/a": null, "/%C3%A4/%20": null } },
    async play({ io }) {
      for (const path of ["/a/", "/a", "/%C3%A4/%20"]) {
        const socket = await io(path, path);
        await socket.hears("connect");
      }
    },
  },

  another_query_on_the_same_server: {
    differences: [
      {
        rows: [5],
        of: "server",
        official: ['connection /room session=1 auth={} query={"x":"1"}'],
        siod: ['connection /room session=2 auth={} query={"x":"2"}'],
      },
    ],
    async play({ io }) {
      const chat = await io("chat", "?x=1");
      await chat.hears("connect");
      const room = await io("room", "/room?x=2");
      await room.hears("connect");
    },
  },

  both_hear_of_the_manager: {
    differences: [lastFailure("chat", "websocket error"), lastFailure("room", "websocket error")],
    async play({ server, io }) {
      const options = { transports: ["websocket"], reconnectionAttempts: 2 };
      const [chat, room] = [await io("chat", "", options), await io("room", "/room", options)];
      await chat.hears("connect");
      await room.hears("connect");
      await server.stop();
      await chat.hears("reconnect_failed");
      await room.hears("reconnect_failed");
      await server.start();
      await chat.connect();
      await chat.hears("connect");
      await room.connect();
      await room.hears("connect");
    },
  },

  two_spellings_of_one_server: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.scheme = "ws";
      const room = await io("room", "/room");
      await room.hears("connect");
    },
  },

  auto_connect_on_the_same_server: {
    differences: [
      {
        rows: [5],
        of: "room",
        official: [
          "connect #1 recovered=false active=true",
          "state connected=true active=true id=#1 recovered=false transport=websocket buffered=0 pending=0",
        ],
        siod: ["state connected=false active=false id=none recovered=false transport=none buffered=0 pending=0"],
      },
      { rows: [5], of: "server", official: ["connection /room session=1 auth={} query={}"], siod: [] },
      { rows: [5], of: "server leaving", official: ["/room client namespace disconnect"], siod: [] },
    ],
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      const room = await io("room", "/room", { autoConnect: false });
      // Answered after what may have been sent without being asked for.
      for (let i = 0; i < 2; i++) {
        await chat.ask("echo");
        await chat.answers.hears("");
      }
      await room.state();
    },
  },

  one_gives_up_during_the_wait_and_another_joins: {
    async play({ server, io }) {
      const asked = new Promise((resolve) => {
        server.engine.opts.allowRequest = (_request, decide) => resolve(() => decide(null, false));
      });
      const slow = { transports: ["websocket"], ...UNHURRIED };
      const [chat, room] = [await io("chat", "", slow), await io("room", "/room", slow)];
      const refuse = await asked;
      server.engine.opts.allowRequest = undefined;
      refuse();
      await chat.hears("connect_error");
      await room.hears("connect_error");
      await room.disconnect();
      await room.state();
      const third = await io("third", "/third", slow);
      await third.hears("connect_error");
      await chat.hears("connect");
      await room.state();
    },
  },

  two_connects_before_the_answer: {
    differences: [{ rows: [9], of: "server", official: ["packet 0", "packet 0"], siod: ["packet 0"] }],
    server: { packets() {} },
    async play({ server, io }) {
      const chat = await io("chat");
      await server.hears("packet 0");
      await chat.connect();
      await chat.emit("end");
      server.session.send('0{"sid":"s"}');
      await chat.hears("connect");
      await server.hears('packet 2["end"]');
    },
  },

  the_answer_comes_after_disconnect: {
    differences: [
      { rows: [10], of: "server", official: ['packet 2["now"]'], siod: ['packet 2["now"]', "packet 1/slow,"] },
    ],
    server: {
      packets(session, packet) {
        if (packet === "0") session.send('0{"sid":"s"}');
        if (packet === '2["now"]') ['0/slow,{"sid":"t"}', '2["done"]'].forEach((answer) => session.send(answer));
      },
    },
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      const slow = await io("slow", "/slow");
      await server.hears("packet 0/slow,");
      await slow.disconnect();
      await chat.emit("now");
      await chat.hears("event");
      await slow.state();
      await chat.emit("end");
      await server.hears('packet 2["end"]');
    },
  },
};
