// Questions and answers, both ways.

import { UNHURRIED } from "./options.mjs";

export default {
  an_answer_is_all_that_the_server_gives: {
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.ask("echo", [1, { a: "two" }, null]);
      await chat.answers.hears("");
      await chat.ask("echo");
      await chat.answers.hears("");
      await chat.ask("echo", [Buffer.from([1, 2, 3]), [Buffer.from([4])]]);
      await chat.answers.hears("");
      await chat.askForOne("echo", ["first", "second"]);
      await chat.answers.hears("");
      await chat.ask("echo", ["in time"], { timeout: 10_000 });
      await chat.answers.hears("");
      await chat.state();
    },
  },

  an_answer_has_its_place_among_the_events: {
    server: {
      packets(session, packet) {
        if (packet === "0") session.send('0{"sid":"s"}');
        const id = /^2(\d+)\["ask"/.exec(packet)?.[1];
        if (id) ['2["before"]', `3${id}[${id}]`, '2["after"]'].forEach((answer) => session.send(answer));
        if (packet === '2["end"]') session.send("1");
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      for (let i = 0; i < 20; i++) await chat.ask("ask", [i]);
      for (let i = 0; i < 20; i++) await chat.answers.hears("");
      await chat.emit("end");
      await chat.hears("disconnect");
    },
  },

  a_question_of_the_server_is_answered_once: {
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.emit("ask", "ready?");
      await chat.hears('event "question"');
      await chat.answer(0, "yes", Buffer.from([1]));
      await chat.answer(0, "no");
      await chat.hears('event "answered"');
      await chat.emit("ask", "again?");
      await chat.hears('event "question"');
      await chat.answer(1);
      await chat.hears('event "answered"');
    },
  },

  no_answer_in_time: {
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.ask("silence", [1], { timeout: 30 });
      await chat.answers.hears("");
      await chat.askForOne("silence", [2], { timeout: 30 });
      await chat.answers.hears("");
      await chat.ask("silence", [3], { timeout: 0 });
      await chat.answers.hears("");
      await chat.state();
    },
  },

  the_connection_s_own_time_limit: {
    async play({ io }) {
      const chat = await io("chat", "", { ackTimeout: 30 });
      await chat.hears("connect");
      await chat.ask("silence");
      await chat.answers.hears("");
      await chat.ask("echo", [1], { timeout: 10_000 });
      await chat.answers.hears("");
    },
  },

  an_answer_that_comes_late_or_twice_is_ignored: {
    server: {
      packets(session, packet) {
        if (packet === "0") session.send('0{"sid":"s"}');
        if (packet === '21["second"]') ["30[1]", "31[2]", "31[3]", "37[4]"].forEach((answer) => session.send(answer));
        if (packet === '22["third"]') session.send("32[5]");
      },
    },
    async play({ io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.ask("first", [], { timeout: 20 });
      await chat.answers.hears("first");
      await chat.ask("second");
      await chat.answers.hears("second");
      await chat.ask("third");
      await chat.answers.hears("third");
      await chat.state();
    },
  },

  a_question_that_waits_is_taken_out_when_its_time_is_over: {
    async play({ server, io }) {
      const chat = await io("chat", "", { autoConnect: false });
      await chat.emit("first");
      await chat.ask("second", [], { timeout: 20 });
      await chat.answers.hears("");
      await chat.emit("third");
      await chat.state();
      await chat.connect();
      await server.hears("event / third");
    },
  },

  a_question_that_waits_is_asked_after_connect: {
    async play({ io }) {
      const chat = await io("chat", "", { autoConnect: false });
      await chat.ask("echo", ["waited"]);
      await chat.ask("echo", ["too"], { timeout: 10_000 });
      await chat.state();
      await chat.connect();
      await chat.answers.hears("");
      await chat.answers.hears("");
      await chat.state();
    },
  },

  an_answer_is_lost_with_the_connection: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.askForOne("silence", [1]);
      await chat.ask("silence", [2], { timeout: 10_000 });
      await server.hears("event / silence [2]");
      server.drop();
      await chat.answers.hears("");
      await chat.answers.hears("");
      await chat.hears("connect");
      await chat.state();
    },
  },

  an_answer_is_lost_with_disconnect: {
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.askForOne("silence");
      await server.hears("event");
      await chat.disconnect();
      await chat.answers.hears("");
      await chat.state();
    },
  },

  nobody_is_told_of_an_answer_that_has_no_way_to_fail: {
    differences: [
      {
        rows: [13],
        of: "chat",
        official: ["reconnect_attempt 1 active=true"],
        siod: ["answer silence failed: socket has been disconnected", "reconnect_attempt 1 active=true"],
      },
    ],
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("connect");
      await chat.ask("silence");
      await server.hears("event");
      server.drop();
      await chat.hears("disconnect");
      await chat.hears("connect");
      await chat.state();
    },
  },

  a_question_that_waits_survives_another_loss: {
    server: { connectTimeout: 60_000 },
    async play({ server, io }) {
      const chat = await io("chat", "", { autoConnect: false, ...UNHURRIED });
      await chat.ask("echo", ["waits"], { timeout: 10_000 });
      await server.stop();
      await chat.connect();
      await chat.hears("connect_error");
      await server.start();
      await chat.hears("reconnect");
      await chat.answers.hears("");
    },
  },

  a_question_from_before_the_loss: {
    differences: [
      { rows: [14], of: "server", official: ['packet 37["late"]', 'packet 2["end"]'], siod: ['packet 2["end"]'] },
    ],
    server: {
      packets(session, packet, { sessions }) {
        if (packet !== "0") return;
        session.send(`0{"sid":"${sessions.length}"}`);
        if (sessions.length === 1) session.send('27["question"]');
      },
    },
    async play({ server, io }) {
      const chat = await io("chat");
      await chat.hears("event");
      server.drop();
      await chat.hears("disconnect");
      await chat.hears("connect");
      await chat.answer(0, "late");
      await chat.emit("end");
      await server.hears('packet 2["end"]');
    },
  },

  a_dropped_volatile_question: {
    differences: [
      {
        rows: [12],
        of: "chat",
        official: ["state connected=false active=false id=none recovered=false transport=none buffered=0 pending=1"],
        siod: ["state connected=false active=false id=none recovered=false transport=none buffered=0 pending=0"],
      },
    ],
    async play({ io }) {
      const chat = await io("chat", "", { autoConnect: false });
      await chat.ask("position", [], { volatile: true });
      await chat.state();
    },
  },
};
