//! What a connection says by itself after each CONNECT.

use super::*;
use crate::socketio::{Name, Step, StepArgs};

fn step(event: &str, array: &'static str, expect: Option<&'static str>) -> Step {
    Step {
        event: Name::new(event),
        args: StepArgs::Fixed(Args::from_array(array.into()).unwrap()),
        expect: expect.map(Into::into),
        timeout: Duration::from_secs(10),
    }
}

/// A socket with a login that must be answered by `{"ok":true}`, then a `list`.
fn world_with(script: Vec<Step>, returns: Returns) -> World {
    let mut world = World::new();
    let settings = socket::Settings { script: script.into(), ..socket_settings("/kuma") };
    world.state.add(3, settings, returns, 1);
    world.connect(3);
    world.opens();
    world
}

fn world() -> World {
    let script = vec![step("login", r#"["me"]"#, Some(r#"{"ok":true}"#)), step("list", "[]", None)];
    world_with(script, Returns::default())
}

const JOINED: &str = r#"40/kuma,{"sid":"K","pid":"P"}"#;

#[test]
fn the_steps_go_before_everything_else() {
    let mut world = world();
    assert_eq!(world.emit(3, "early"), Sent::Buffered);
    assert_eq!(world.hears(JOINED), ["/kuma connect K websocket", r#"> 42/kuma,0["login","me"]"#]);
    let status = world.state.status(3);
    assert_eq!((status.state, status.ready), (ConnectionState::Connected, false));
    assert_eq!(world.emit(3, "waits?"), Sent::Buffered);
    let volatile = Emit { volatile: true, ..event("gone") };
    assert_eq!(world.emit_as(3, volatile), Ok(Sent::Dropped));
    assert_eq!(world.out(), NOTHING);
    // Events of the server are heard meanwhile.
    assert_eq!(world.hears(r#"42/kuma,["hi"]"#), [r#"/kuma event "hi"()"#]);
    assert_eq!(world.hears(r#"43/kuma,7[{"ok":true}]"#), NOTHING, "somebody else's answer");
    assert_eq!(
        world.hears(r#"43/kuma,0[{"ok":true,"token":"x"}]"#),
        ["/kuma ready", r#"> 42/kuma,["list"]"#, r#"> 42/kuma,["early"]"#, r#"> 42/kuma,1["waits?"]"#,]
    );
    assert!(world.state.status(3).ready);
    assert_eq!(world.emit(3, "now"), Sent::Sent);
}

#[test]
fn an_answer_that_may_lie_unread_is_not_late() {
    let mut world = world();
    world.hears(JOINED);
    world.state.hold(world.now);
    for second in [10, 19, 21] {
        assert_eq!(world.at(second), NOTHING);
    }
    world.state.release(world.now);
    assert_eq!(world.at(30), NOTHING, "all of its time is left");
    assert_eq!(world.hears(r#"43/kuma,0[{"ok":true}]"#), ["/kuma ready", r#"> 42/kuma,["list"]"#]);
}

#[test]
fn a_wrong_answer_is_the_end() {
    let mut world = world();
    world.emit(3, "waits");
    world.hears(JOINED);
    assert_eq!(
        world.hears(r#"43/kuma,0[{"ok":false,"msg":"no"}]"#),
        [
            r#"/kuma setup_failed 0 the server's answer does not contain what is expected [{"ok":false,"msg":"no"}], inactive"#,
            "/kuma disconnect io client disconnect, inactive",
            "[close the transport after 41/kuma,]",
        ]
    );
    assert_eq!((world.due(), world.state.status(3).active), (None, false));
    // The buffer stays, and waits for a script that goes through.
    assert_eq!(world.connect(3), ["[open websocket]"]);
    world.opens();
    world.hears(JOINED);
    world.hears(r#"43/kuma,1[{"ok":true}]"#);
    assert!(world.state.status(3).ready);
}

#[test]
fn silence_is_a_wrong_answer() {
    let mut world = world();
    world.hears(JOINED);
    assert_eq!(world.due(), Some(10_000));
    assert_eq!(
        world.at(10),
        [
            "/kuma setup_failed 0 the server did not answer in time, inactive",
            "/kuma disconnect io client disconnect, inactive",
            "[close the transport after 41/kuma,]",
        ]
    );
}

#[test]
fn what_follows_is_as_after_a_refusal() {
    let script = vec![step("login", "[]", Some("true"))];
    let mut world = world_with(script, Returns { refused: true, kicked: false });
    world.connect(ROOT);
    world.hears(r#"40{"sid":"A"}"#);
    world.hears(JOINED);
    assert_eq!(
        world.hears("43/kuma,0[false]"),
        [
            "/kuma setup_failed 0 the server's answer does not contain what is expected [false]",
            "/kuma disconnect io client disconnect",
            "> 41/kuma,",
        ]
    );
    assert_eq!(world.state.status(3).state, ConnectionState::Reconnecting);
    assert_eq!(world.at(5), ["> 40/kuma,{\"pid\":\"P\"}"]);
    world.hears(JOINED);
    assert_eq!(world.hears("43/kuma,1[true]"), ["/kuma ready"]);
}

#[test]
fn a_loss_in_the_middle_is_a_disconnect_and_the_script_runs_again() {
    let mut world = world();
    world.hears(JOINED);
    assert_eq!(
        world.is_closed(),
        ["/kuma disconnect transport close: websocket connection closed", "[drop the transport]"]
    );
    world.at(1);
    world.opens();
    // Recovered, but the script had not gone through.
    assert_eq!(world.hears(JOINED), ["/kuma connect K websocket recovered", r#"> 42/kuma,1["login","me"]"#]);
    world.hears(r#"43/kuma,1[{"ok":true}]"#);
    // Now it has: what the server gives back is ready at once.
    world.is_closed();
    world.at(3);
    world.opens();
    assert_eq!(world.hears(JOINED), ["/kuma connect K websocket recovered", "/kuma ready"]);
    // A new session is not.
    world.is_closed();
    world.at(7);
    world.opens();
    assert_eq!(
        world.hears(r#"40/kuma,{"sid":"L","pid":"Q"}"#),
        ["/kuma connect L websocket", r#"> 42/kuma,2["login","me"]"#]
    );
}

#[test]
fn arguments_from_a_file_are_read_anew_each_time() {
    let file = Step { args: StepArgs::File("/run/login".into()), ..step("login", "[]", None) };
    let mut world = world_with(vec![step("first", "[]", None), file], Returns::default());
    assert_eq!(
        world.hears(JOINED),
        ["/kuma connect K websocket", "[read /run/login for 3]", r#"> 42/kuma,["first"]"#]
    );
    let question = world.question;
    let mut args = |question, args: Result<&str, &str>| {
        world.state.handle_step_args(world.now, 3, question, args.map_err(str::to_owned));
        world.out()
    };
    assert_eq!(args(question + 7, Ok("[1]")), NOTHING, "nobody asked that");
    assert_eq!(args(question, Ok(r#"["me","pw"]"#)), ["/kuma ready", r#"> 42/kuma,["login","me","pw"]"#]);
    assert_eq!(args(question, Ok("[2]")), NOTHING);

    world.disconnect(3);
    world.connect(3);
    world.opens();
    world.hears(r#"40/kuma,{"sid":"L"}"#);
    let question = world.question;
    world.state.handle_step_args(world.now, 3, question, Err("args_file /run/login: gone".to_owned()));
    assert_eq!(
        world.out(),
        [
            "/kuma setup_failed 1 args_file /run/login: gone, inactive",
            "/kuma disconnect io client disconnect, inactive",
            "[close the transport after 41/kuma,]",
        ]
    );
}
