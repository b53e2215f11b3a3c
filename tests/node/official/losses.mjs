// How a connection is lost, and comes back or does not.

import { givenUp, lastFailure } from "./differences.mjs";
import { UNHURRIED } from "./options.mjs";

const WAYS = { websocket: ["websocket"], polling: ["polling"] };

// What the server gives out for connection state recovery.
const RECOVERY = { pid: /(?<=\\")[\w-]{20}(?=\\")/g, offset: /(?<=\\")[\w-]{7}(\.\d+)?(?=\\")/g };

// What is no packet; the connection ends with the words of the official decoder.
const NO_PACKETS = [
  "9",
  "x",
  "2{}",
  '2["a"',
  "2[]",
  "2[null]",
  '2["disconnect"]',
  '3{"a":1}',
  '0"x"',
  "4[1]",
  '5-["a"]',
  '50-["a"]',
  '511-["a"]',
  '51-["a",{"_placeholder":true,"num":1}]',
];

// The same on each transport, one after the other.
function onEach(play, options = {}) {
  return async (stage) => {
    for (const [name, transports] of Object.entries(WAYS)) {
      const socket = await stage.io(name, "", { transports, forceNew: true, ...options });
      await socket.hears("connect");
      await stage.server.polled();
      await play({ ...stage, socket });
      await socket.disconnect();
    }
  };
}

export default {
  a_server_that_says_goodbye: {
    play: onEach(async ({ server, socket }) => {
      server.session.close();
      await socket.hears("disconnect");
      await socket.hears("connect");
      await socket.state();
    }),
  },

  a_connection_that_breaks: {
    play: onEach(async ({ server, socket }) => {
      server.cut();
      await socket.hears("disconnect");
      await socket.hears("connect");
    }),
  },

  a_close_packet_over_a_websocket: {
    differences: [
      {
        rows: [18],
        of: "chat",
        official: ['disconnect transport close details="websocket connection closed" code=1000 active=true'],
        siod: ['disconnect transport close details="transport closed by the server" active=true'],
      },
    ],
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.session.transport.socket.send("1");
      server.session.transport.socket.close(1000);
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  every_code_of_a_websocket: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      for (const code of [undefined, 1000, 1001, 1008, 1009, 1011, 1012, 1013, 3000, 4999]) {
        server.session.transport.socket.close(code, code && "a reason");
        await chat.hears("disconnect");
        await chat.hears("connect");
      }
      server.session.transport.socket.terminate();
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  a_server_that_starts_afresh: {
    play: onEach(async ({ server, socket }) => {
      await server.stop();
      await socket.hears("disconnect");
      await socket.hears("connect_error");
      await server.start();
      await socket.hears("reconnect");
      await socket.hears("connect");
    }, UNHURRIED),
  },

  a_session_that_the_server_does_not_know_any_more: {
    async play({ server, io }) {
      const chat = await io("chat", "", { transports: ["polling"] });
      await chat.hears("connect");
      await server.polled();
      // The pending poll is answered, and the next one is for nobody.
      delete server.engine.clients[server.session.id];
      server.engine.clientsCount--;
      server.io.emit("last");
      await chat.hears("event");
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  a_kick_is_final_until_connect: {
    play: onEach(async ({ server, socket }) => {
      server.io.disconnectSockets();
      await socket.hears("disconnect");
      await socket.state();
      await socket.connect();
      await socket.hears("connect");
      await socket.state();
    }),
  },

  a_kick_is_answered_with_connect: {
    async play({ server, io }) {
      const chat = await io("chat");
      chat.once("disconnect", () => chat.connect());
      await chat.hears("connect");
      server.io.disconnectSockets();
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  a_refusal_after_a_loss_is_final: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      let open = false;
      server.io.use((_socket, next) => next(open ? undefined : new Error("closed for today")));
      server.drop();
      await chat.hears("connect_error");
      await server.idle();
      await chat.state();
      open = true;
      await chat.connect();
      await chat.hears("connect");
    },
  },

  a_kick_that_closes_the_session_is_final_too: {
    play: onEach(async ({ server, socket }) => {
      server.io.disconnectSockets(true);
      await socket.hears("disconnect");
      await socket.state();
      await socket.connect();
      await socket.hears("connect");
    }),
  },

  a_server_that_falls_silent: {
    server: { pingInterval: 700, pingTimeout: 700 },
    play: onEach(async ({ server, socket }) => {
      clearTimeout(server.session.pingIntervalTimer);
      clearTimeout(server.session.pingTimeoutTimer);
      await socket.hears("disconnect");
      await socket.hears("connect");
    }),
  },

  heartbeats_keep_a_connection: {
    server: { pingInterval: 100, pingTimeout: 5_000 },
    play: onEach(async ({ server, socket }) => {
      for (let i = 0; i < 4; i++) await new Promise((heartbeat) => server.session.once("heartbeat", heartbeat));
      await socket.state();
    }),
  },

  without_reconnection_a_loss_is_final: {
    differences: [
      {
        rows: [3],
        of: "chat",
        official: ['disconnect transport close details="websocket connection closed" code=1005 active=true'],
        siod: ['disconnect transport close details="websocket connection closed" code=1005 active=false'],
      },
      givenUp("chat"),
    ],
    async play({ server, io }) {
      const chat = await io("chat", "", { reconnection: false });
      await chat.hears("connect");
      server.drop();
      await chat.hears("disconnect");
      await chat.state();
      await chat.connect();
      await chat.hears("connect");
      await chat.state();
    },
  },

  attempts_are_used_up_after_a_loss: {
    differences: [lastFailure("chat", "xhr poll error"), givenUp("chat")],
    async play({ server, io }) {
      const chat = await io("chat", "", { reconnectionAttempts: 2 });
      await chat.hears("connect");
      await server.stop();
      await chat.hears("reconnect_failed");
      await chat.state();
      await server.start();
      await chat.connect();
      await chat.hears("connect");
    },
  },

  attempts_are_counted_from_one_after_each_success: {
    async play({ server, io }) {
      const chat = await io("chat");
      for (let i = 0; i < 3; i++) {
        await chat.hears("connect");
        server.drop();
        await chat.hears("reconnect 1");
      }
      await chat.hears("connect");
    },
  },

  a_message_that_is_no_packet: {
    async play({ server, io }) {
      const chat = await io("chat");
      for (const packet of NO_PACKETS) {
        await chat.hears("connect");
        server.session.send(packet);
        if (packet.startsWith("51-")) server.session.send(Buffer.from([1]));
        await chat.hears("disconnect");
      }
      await chat.hears("connect");
    },
  },

  a_disconnect_with_words_of_its_own: {
    differences: [
      {
        rows: [29],
        of: "chat",
        official: [
          'disconnect parse error details="invalid payload" active=true',
          "reconnect_attempt 1 active=true",
          "reconnect 1 active=true",
        ],
        siod: ["disconnect io server disconnect active=false"],
      },
    ],
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.session.send('1{"why":"late"}');
      await chat.hears("disconnect");
      await chat.connect();
      await chat.hears("connect");
    },
  },

  bytes_that_nothing_announced: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.session.send(Buffer.from([1]));
      await chat.hears("disconnect");
      await chat.hears("connect");
      server.session.send('51-["a",{"_placeholder":true,"num":0}]');
      server.session.send('2["b"]');
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  a_frame_that_is_no_engine_packet: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.session.transport.socket.send("x");
      await chat.hears("disconnect");
      await chat.hears("connect");
    },
  },

  a_session_is_recovered_with_what_was_missed: {
    server: { connectionStateRecovery: {} },
    random: RECOVERY,
    async play({ server, io }) {
      const chat = await io("chat", "", UNHURRIED);
      await chat.hears("connect");
      server.io.emit("before", 1);
      await chat.hears("event");
      await chat.state();
      // The client is kept away until there is something to miss.
      server.engine.opts.allowRequest = (_request, decide) => decide(null, false);
      server.cut();
      await server.leaving.hears("/");
      await chat.hears("connect_error");
      server.io.emit("missed", 2);
      server.io.emit("missed", Buffer.from([3]));
      server.engine.opts.allowRequest = undefined;
      await chat.hears("reconnect");
      await chat.hears("connect");
      await chat.state();
      await chat.emit("echo", "after");
      await chat.hears('event "echo"');
    },
  },

  a_session_is_not_recovered_after_a_restart: {
    server: { connectionStateRecovery: {} },
    random: RECOVERY,
    async play({ server, io }) {
      const chat = await io("chat", "", UNHURRIED);
      await chat.hears("connect");
      server.io.emit("before", 1);
      await chat.hears("event");
      await server.stop();
      await chat.hears("disconnect");
      await server.start();
      await chat.hears("reconnect");
      await chat.hears("connect");
      await chat.state();
    },
  },

  an_event_of_a_session_that_was_never_joined: {
    differences: [
      {
        rows: [6],
        of: "chat",
        official: ['disconnect transport close details="websocket connection closed" code=1005 active=true'],
        siod: ["connect_error websocket connection closed code=1005 active=true"],
      },
      {
        rows: [23],
        of: "chat",
        official: ['event "stale" []', "connect #1 recovered=false active=true"],
        siod: ["connect #1 recovered=false active=true"],
      },
    ],
    server: {
      packets(session, packet, { sessions }) {
        if (packet !== "0") return;
        session.send(sessions.length === 1 ? '2["stale"]' : '0{"sid":"second"}');
        if (sessions.length === 1) session.close();
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
    },
  },

  an_offset_belongs_to_its_session: {
    differences: [
      { rows: [23], of: "server", official: ['packet 0{"pid":"p2","offset":"o1"}'], siod: ['packet 0{"pid":"p2"}'] },
    ],
    server: {
      packets(session, packet, { sessions }) {
        const n = sessions.length;
        if (packet?.startsWith("0")) session.send(`0{"sid":"${n}","pid":"p${n}"}`);
        if (packet?.startsWith("0") && n === 1) session.send('2["event","o1"]');
      },
    },
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("event");
      for (let i = 0; i < 2; i++) {
        server.drop();
        await chat.hears("disconnect");
        await chat.hears("connect");
      }
    },
  },

  a_session_is_not_recovered_after_disconnect: {
    server: { connectionStateRecovery: {} },
    random: RECOVERY,
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      server.io.emit("before", 1);
      await chat.hears("event");
      await chat.disconnect();
      await server.leaving.hears("/");
      await chat.connect();
      await chat.hears("connect");
      await chat.state();
    },
  },
};
