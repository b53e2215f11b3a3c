// Coming to be connected, or not.

import { givenUp, lastFailure } from "./differences.mjs";
import { UNHURRIED } from "./options.mjs";

// Turns the first attempts away.
const refusing = (count) => () => {
  let left = count;
  return { allowRequest: (_request, decide) => decide(null, left-- <= 0) };
};

const REFUSALS = [
  "{}",
  '{"message":7}',
  '{"message":true}',
  '{"message":null}',
  '{"message":{"code":7}}',
  '{"message":"m","data":null}',
  '{"data":[false]}',
  '{"message":"m","data":"text"}',
];

const OLD_SERVER =
  "connect_error It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client, but they are not" +
  " compatible (more information here: https://socket.io/docs/v3/migrating-from-2-x-to-3-0/)";

export default {
  a_socket_connects_and_says_who_it_is: {
    differences: [
      {
        rows: [4],
        of: "server",
        official: ['connection /room session=1 auth={"token":"a","list":[1]} query={"x":"1"}'],
        siod: ['connection /room session=1 auth={"token":"a","list":[1]} query={"x":"1","y":"2"}'],
      },
    ],
    async play({ server, io }) {
      const chat = await io("chat", "/room?x=1", { auth: { token: "a", list: [1] }, query: { y: "2" } });
      await chat.hears("connect");
      await chat.state();
      await chat.disconnect();
      await chat.state();
      await server.leaving.hears("/room");
    },
  },

  without_auto_connect_it_waits_for_connect: {
    async play({ io }) {
      const chat = await io("chat", "", { autoConnect: false });
      await chat.state();
      await chat.connect();
      await chat.connect();
      await chat.hears("connect");
      await chat.connect();
      await chat.state();
    },
  },

  an_unknown_namespace_is_refused_for_good: {
    async play({ server, io }) {
      const chat = await io("chat", "/nowhere");
      await chat.hears("connect_error");
      await chat.state();
      await server.idle();
      await chat.connect();
      await chat.hears("connect_error");
      await chat.state();
    },
  },

  a_middleware_refuses_until_auth_is_another: {
    server: {
      namespaces: {
        "/private": (namespace) =>
          namespace.use((socket, next) => {
            if (socket.handshake.auth.token === "secret") return next();
            next(Object.assign(new Error("not authorized"), { data: { code: "E1", tries: [1, 2] } }));
          }),
      },
    },
    async play({ io }) {
      const chat = await io("chat", "/private", { auth: { token: "wrong" } });
      await chat.hears("connect_error");
      await chat.emit("echo", "kept");
      await chat.state();
      await chat.setAuth({ token: "secret" });
      await chat.connect();
      await chat.hears("event");
      await chat.state();
    },
  },

  new_auth_is_used_at_the_next_connect: {
    async play({ server, io }) {
      const chat = await io("chat", "", { auth: { n: 1 } });
      await chat.hears("connect");
      await chat.setAuth({ n: 2 });
      server.drop();
      await chat.hears("disconnect");
      await chat.hears("connect");
      await chat.disconnect();
      await chat.setAuth({});
      await chat.connect();
      await chat.hears("connect");
    },
  },

  a_failed_first_attempt_is_retried: {
    server: refusing(3),
    async play({ io }) {
      const chat = await io("chat", "", { transports: ["websocket"] });
      await chat.hears("reconnect 3");
      await chat.hears("connect");
      await chat.state();
    },
  },

  no_attempts_are_as_many_as_it_takes: {
    server: refusing(3),
    async play({ io }) {
      const chat = await io("chat", "", { transports: ["websocket"], reconnectionAttempts: 0 });
      await chat.hears("connect");
    },
  },

  attempts_are_used_up_and_connect_begins_anew: {
    differences: [lastFailure("chat", "xhr poll error"), givenUp("chat")],
    async play({ server, io }) {
      await server.stop();
      const chat = await io("chat", "", { reconnectionAttempts: 2 });
      await chat.hears("reconnect_failed");
      await chat.state();
      await server.start();
      await chat.connect();
      await chat.hears("connect");
      await chat.state();
    },
  },

  without_reconnection_a_failure_is_final: {
    differences: [
      {
        rows: [3],
        of: "chat",
        official: ["connect_error xhr poll error active=true"],
        siod: ["connect_error xhr poll error active=false"],
      },
      givenUp("chat"),
      {
        rows: [3],
        of: "chat",
        official: ["connect_error xhr poll error active=true"],
        siod: ["connect_error xhr poll error active=false"],
      },
    ],
    async play({ server, io }) {
      await server.stop();
      const chat = await io("chat", "", { reconnection: false });
      await chat.hears("connect_error");
      await chat.state();
      await chat.connect();
      await chat.hears("connect_error");
      await server.start();
      await chat.connect();
      await chat.hears("connect");
    },
  },

  a_wrong_path_over_polling_says_404: {
    differences: [lastFailure("chat", "xhr poll error")],
    async play({ io }) {
      const chat = await io("chat", "", { path: "/nowhere", transports: ["polling"], reconnectionAttempts: 1 });
      await chat.hears("reconnect_failed");
    },
  },

  a_wrong_path_over_websocket_is_an_error: {
    differences: [lastFailure("chat", "websocket error")],
    server: { destroyUpgradeTimeout: 10 },
    async play({ io }) {
      const chat = await io("chat", "", { path: "/nowhere", transports: ["websocket"], reconnectionAttempts: 1 });
      await chat.hears("reconnect_failed");
    },
  },

  another_path_is_as_good: {
    server: { path: "/other" },
    async play({ io }) {
      const chat = await io("chat", "", { path: "/other/" });
      await chat.hears("connect");
    },
  },

  a_path_without_its_slash: {
    server: { path: "/other", addTrailingSlash: false },
    async play({ io }) {
      const chat = await io("chat", "", { path: "/other", addTrailingSlash: false });
      await chat.hears("connect");
    },
  },

  a_request_that_is_not_allowed_is_forbidden: {
    differences: [lastFailure("poll", "xhr poll error"), lastFailure("socket", "websocket error")],
    server: { allowRequest: (_request, decide) => decide("not today", false) },
    async play({ io }) {
      const poll = await io("poll", "", { transports: ["polling"], reconnectionAttempts: 1 });
      await poll.hears("reconnect_failed");
      const socket = await io("socket", "", { transports: ["websocket"], reconnectionAttempts: 1, forceNew: true });
      await socket.hears("reconnect_failed");
    },
  },

  the_next_transport_is_tried_in_the_same_attempt: {
    differences: [lastFailure("strict", "websocket error")],
    server: { allowRequest: ({ url }, decide) => decide(null, url.includes("transport=polling")) },
    async play({ io }) {
      const chat = await io("chat", "", { upgrade: false });
      await chat.hears("connect");
      const strict = await io("strict", "", { tryAllTransports: false, reconnectionAttempts: 1, forceNew: true });
      await strict.hears("reconnect_failed");
    },
  },

  an_attempt_has_a_time_limit: {
    differences: [lastFailure("websocket", "timeout"), lastFailure("polling", "timeout")],
    server: { allowRequest() {} },
    async play({ io }) {
      for (const transport of ["websocket", "polling"]) {
        const options = { transports: [transport], timeout: 50, reconnectionAttempts: 1, forceNew: true };
        const chat = await io(transport, "", options);
        await chat.hears("reconnect_failed");
      }
    },
  },

  disconnect_while_the_transport_is_opened: {
    async play({ server, io }) {
      const asked = new Promise((resolve) => {
        server.engine.opts.allowRequest = () => resolve();
      });
      const chat = await io("chat");
      await asked;
      await chat.disconnect();
      await chat.state();
      server.engine.opts.allowRequest = undefined;
      await chat.connect();
      await chat.hears("connect");
    },
  },

  disconnect_while_the_namespace_is_joined: {
    server: { namespaces: { "/slow": (namespace, server) => namespace.use(() => server.say("asked")) } },
    async play({ server, io }) {
      const chat = await io("chat", "/slow");
      await server.hears("asked");
      await chat.disconnect();
      await chat.state();
      await chat.connect();
      await server.hears("asked");
      await chat.state();
    },
  },

  disconnect_the_moment_it_connects: {
    async play({ server, io }) {
      const chat = await io("chat");
      chat.once("connect", () => chat.disconnect());
      await chat.hears("disconnect");
      await server.idle();
      await chat.state();
    },
  },

  connect_during_the_wait_changes_nothing: {
    server: refusing(1),
    async play({ io }) {
      const chat = await io("chat", "", { transports: ["websocket"], ...UNHURRIED });
      await chat.hears("connect_error");
      await chat.connect();
      await chat.state();
      await chat.hears("connect");
    },
  },

  disconnect_during_the_wait_ends_it: {
    server: refusing(1),
    async play({ io }) {
      const chat = await io("chat", "", {
        transports: ["websocket"],
        reconnectionDelay: 60_000,
        reconnectionDelayMax: 60_000,
      });
      await chat.hears("connect_error");
      await chat.disconnect();
      await chat.state();
      await chat.connect();
      await chat.hears("connect");
    },
  },

  a_handshake_that_is_none_fails: {
    differences: [lastFailure("chat", "server error")],
    server: { packets: () => {} },
    async play({ server, io }) {
      server.http.removeAllListeners("request");
      server.http.on("request", (_request, response) => response.end("not a packet"));
      const chat = await io("chat", "", { transports: ["polling"], reconnectionAttempts: 1 });
      await chat.hears("reconnect_failed");
    },
  },

  an_old_server_is_recognised: {
    differences: [
      { rows: [8], of: "chat", official: [OLD_SERVER + " active=true"], siod: [OLD_SERVER + " active=false"] },
      { ...givenUp("chat"), rows: [8] },
    ],
    server: { packets: (session, packet) => packet === null && session.send("0") },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect_error");
      await chat.state();
    },
  },

  a_refusal_that_is_a_string: {
    differences: [
      {
        rows: [7],
        of: "chat",
        official: ["connect_error  active=false"],
        siod: ["connect_error Unable to connect active=false"],
      },
    ],
    server: { packets: (session, packet) => packet === "0" && session.send('4"Unable to connect"') },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect_error");
      await chat.state();
    },
  },

  refusals_of_all_kinds: {
    differences: [
      {
        rows: [27],
        of: "chat",
        official: ["connect_error [object Object] active=false"],
        siod: ['connect_error {"code":7} active=false'],
      },
    ],
    server: {
      packets(session, packet, { sessions }) {
        if (packet === "0") session.send(`4${REFUSALS[sessions.length - 1]}`);
      },
    },
    async play({ io }) {
      const chat = await io("chat", "", { autoConnect: false });
      for (const _ of REFUSALS) {
        await chat.connect();
        await chat.hears("connect_error");
      }
    },
  },

  a_second_answer_to_connect: {
    differences: [
      { rows: [9], of: "chat", official: ["connect #2 recovered=false active=true"], siod: [] },
      {
        rows: [9],
        of: "chat",
        official: ["state connected=true active=true id=#2 recovered=false transport=websocket buffered=0 pending=0"],
        siod: ["state connected=true active=true id=#1 recovered=false transport=websocket buffered=0 pending=0"],
      },
    ],
    server: {
      packets(session, packet) {
        if (packet === "0") ['0{"sid":"a"}', '0{"sid":"b"}', '2["end"]'].forEach((answer) => session.send(answer));
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("event");
      await chat.state();
    },
  },

  the_session_ends_before_the_namespace_is_joined: {
    differences: [
      {
        rows: [6],
        of: "chat",
        official: ['disconnect transport close details="websocket connection closed" code=1005 active=true'],
        siod: ["connect_error websocket connection closed code=1005 active=true"],
      },
    ],
    server: {
      packets(session, packet, { sessions }) {
        if (packet === "0") sessions.length === 1 ? session.close() : session.send('0{"sid":"second"}');
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
    },
  },
};
