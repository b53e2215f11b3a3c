// Emits that are sent again until they are answered, one after the other.

// Answers the event `flaky` the third time.
const flaky = (namespace) => {
  let tries = 0;
  namespace.on("connection", (socket) =>
    socket.on("flaky", (...args) => {
      if (++tries === 3) args.pop()(...args);
    }),
  );
};

// Answers the event `held` when the test says so.
const held = (namespace, server) =>
  namespace.on("connection", (socket) =>
    socket.on("held", (answer) => {
      server.release = answer;
    }),
  );

const PATIENT = { retries: 2, ackTimeout: 10_000 };

export default {
  each_is_sent_once_the_one_before_is_answered: {
    server: { namespaces: { "/held": held } },
    async play({ server, io }) {
      const chat = await io("chat", "/held", PATIENT);
      await chat.hears("connect");
      await chat.emit("held");
      for (let i = 0; i < 5; i++) await chat.emit("echo", i);
      await chat.ask("echo", ["last", Buffer.from([1])]);
      await server.hears("event /held held");
      // One that is volatile asks for no answer and does not wait.
      await chat.volatile("volatile");
      await server.hears("event /held volatile");
      server.release();
      await chat.answers.hears("");
      await chat.state();
    },
  },

  one_is_sent_again_until_it_is_answered: {
    server: { namespaces: { "/flaky": flaky } },
    async play({ io }) {
      const chat = await io("chat", "/flaky", { retries: 5, ackTimeout: 2_000 });
      await chat.hears("connect");
      await chat.ask("flaky", ["at last"]);
      await chat.ask("echo", ["then"]);
      await chat.answers.hears("flaky");
      await chat.answers.hears("echo");
      await chat.state();
    },
  },

  one_that_nobody_answers_is_given_up: {
    async play({ server, io }) {
      const chat = await io("chat", "", { retries: 1, ackTimeout: 250 });
      await chat.hears("connect");
      await chat.ask("silence", [1]);
      await chat.emit("silence", 2);
      await chat.ask("silence", [3], { timeout: 20 });
      await chat.ask("echo", ["then"], { timeout: 10_000 });
      await chat.answers.hears("echo");
      await chat.state();
    },
  },

  what_was_lost_is_sent_again_before_what_is_newer: {
    async play({ server, io }) {
      const chat = await io("chat", "", PATIENT);
      await chat.hears("connect");
      await chat.ask("silence", [1]);
      await chat.ask("echo", [2]);
      for (let i = 0; i < 3; i++) {
        await server.hears("event / silence");
        server.drop();
        await chat.hears("disconnect");
        await chat.hears("connect");
      }
      await chat.answers.hears("silence");
      await chat.answers.hears("echo");
      await chat.state();
    },
  },

  what_waits_survives_a_disconnect: {
    async play({ server, io }) {
      const chat = await io("chat", "", { autoConnect: false, ...PATIENT });
      await chat.emit("echo", 1);
      await chat.volatile("echo", "dropped");
      await chat.ask("echo", [2]);
      await chat.connect();
      await chat.answers.hears("");
      await chat.disconnect();
      await chat.emit("echo", 3);
      await chat.connect();
      await server.hears("event / echo [3]");
    },
  },
};
