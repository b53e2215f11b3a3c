//! Revision 3, and what becomes of who speaks the wrong one.

use super::*;

fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    settings.transport.revision = Revision::V3;
    settings.transport.query = vec![("token".into(), "a b".into())];
    change(&mut settings);
    World::with(settings)
}

/// `/` is connected.
fn connected() -> World {
    let mut world = world();
    world.connect(ROOT);
    world.opens();
    assert_eq!(world.hears("40"), ["/ connect S websocket"]);
    world
}

#[test]
fn the_root_is_joined_by_the_server_and_never_asked_for() {
    let mut world = world();
    assert_eq!(world.connect(ROOT), ["[open websocket]"]);
    assert_eq!(world.opens(), ["[opened S]"]);
    assert_eq!(world.emit(ROOT, "early"), Sent::Buffered);
    assert_eq!(world.hears("40"), ["/ connect S websocket", r#"> 42["early"]"#]);
    assert_eq!(world.state.status(ROOT).id.as_deref(), Some("S"));
    assert_eq!(world.hears(r#"42["connect",1]"#), [r#"/ event "connect"(1)"#]);
    assert_eq!(world.hears(r#"44"odd""#), [r#"/ event "error"("odd")"#]);
}

#[test]
fn other_namespaces_follow_with_the_query_and_take_their_ids_from_the_session() {
    let mut world = world();
    world.connect(CHAT);
    assert_eq!(world.opens(), ["[opened S]"]);
    assert_eq!(world.hears("40"), ["> 40/chat?token=a%20b,"]);
    assert_eq!(world.hears("40/chat,"), ["/chat connect /chat#S websocket"]);
    assert_eq!(world.hears(r#"42["to /"]"#), NOTHING);
    assert_eq!(world.connect(ROOT), ["/ connect S websocket"], "the server has us there already");
    assert_eq!(world.hears(r#"42["to /"]"#), [r#"/ event "to /"()"#]);
}

#[test]
fn whoever_comes_after_the_root_was_left_gets_a_new_session() {
    for (reconnection, comes_back) in [(true, ROOT), (false, ROOT), (true, 3)] {
        let mut world = world_with(|settings| settings.reconnection = reconnection);
        world.state.add(3, socket_settings("/third"), Returns::default(), 1);
        world.connect(ROOT);
        world.opens();
        world.hears("40");
        assert_eq!(world.connect(CHAT), ["> 40/chat?token=a%20b,"]);
        world.hears("40/chat,");
        assert_eq!(world.disconnect(ROOT), ["/ disconnect io client disconnect, inactive", "> 41"]);
        assert_eq!(world.hears(r#"42/chat,["on"]"#), [r#"/chat event "on"()"#]);
        assert_eq!(
            world.connect(comes_back),
            [
                "[close the transport after nothing]",
                "[open websocket]",
                "/chat disconnect transport close: an old server lets nobody back into / on the same session; a new one begins",
            ],
            "{comes_back}"
        );
        assert_eq!(world.opens(), ["[opened S]"]);
        let joined = world.hears("40");
        assert!(joined.contains(&"> 40/chat?token=a%20b,".to_owned()), "{joined:?}");
        let who = if comes_back == ROOT { "/ connect S websocket" } else { "> 40/third?token=a%20b," };
        assert!(joined.contains(&who.to_owned()), "{joined:?}");
    }
}

#[test]
fn a_namespace_that_was_left_is_joined_again_on_the_same_session() {
    let mut world = connected();
    world.connect(CHAT);
    world.hears("40/chat,");
    assert_eq!(world.hears("41/chat,"), ["/chat disconnect io server disconnect, inactive"]);
    assert_eq!(world.connect(CHAT), ["> 40/chat?token=a%20b,"]);
    world.hears("40/chat,");
    assert_eq!(world.disconnect(CHAT), ["/chat disconnect io client disconnect, inactive", "> 41/chat,"]);
    assert_eq!(world.connect(CHAT), ["> 40/chat?token=a%20b,"]);
}

#[test]
fn leaving_before_the_server_has_joined_us_is_made_good() {
    let mut world = world();
    world.connect(ROOT);
    world.connect(CHAT);
    world.opens();
    assert_eq!(world.disconnect(ROOT), NOTHING);
    assert_eq!(world.hears("40"), ["> 40/chat?token=a%20b,", "> 41"]);
    assert_eq!(world.hears("40/chat,"), ["/chat connect /chat#S websocket"]);
}

#[test]
fn an_error_before_joining_is_a_refusal() {
    let mut world = connected();
    world.connect(CHAT);
    assert_eq!(
        world.hears(r#"44/chat,{"code":"E1"}"#),
        [r#"/chat connect_error (server)  {"code":"E1"}, inactive"#]
    );
    world.connect(CHAT);
    assert_eq!(
        world.hears(r#"44/chat,"Invalid namespace""#),
        ["/chat connect_error (server) Invalid namespace, inactive"]
    );
}

#[test]
fn a_refused_root_refuses_everybody_and_ends_the_session() {
    let mut world = world();
    world.connect(ROOT);
    world.connect(CHAT);
    world.opens();
    assert_eq!(
        world.hears(r#"44"not authorized""#),
        [
            "/ connect_error (server) not authorized, inactive",
            "/chat connect_error (server) not authorized, inactive",
            "[close the transport after nothing]",
        ]
    );
    assert_eq!(world.connect(ROOT), ["[open websocket]"]);
}

#[test]
fn the_heartbeat_is_ours() {
    let mut world = connected();
    assert_eq!(world.due(), Some(25_000));
    assert_eq!(world.at(25), ["> 2"]);
    assert_eq!(world.hears("3"), NOTHING);
    assert_eq!(world.at(50), ["> 2"]);
    assert_eq!(world.at(69), NOTHING);
    assert_eq!(world.at(70), ["/ disconnect ping timeout", "[close the transport after nothing]"]);
    assert_eq!(world.at(71), ["/ reconnect_attempt 1", "[open websocket]"]);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]"]);
    assert_eq!(world.hears("40"), ["/ connect S websocket"]);
}

#[test]
fn a_server_that_never_joins_us_is_left() {
    let mut world = world();
    world.connect(ROOT);
    world.connect(CHAT);
    world.opens();
    assert_eq!(
        world.at(20),
        [
            "/ connect_error (transport) timeout",
            "/chat connect_error (transport) timeout",
            "[close the transport after nothing]",
        ]
    );
}

#[test]
fn who_speaks_the_wrong_revision_is_told_so() {
    let old = |world: &mut World| {
        world.connect(ROOT);
        world.opens();
    };
    // A server before Socket.IO 3 answers as it always does.
    let mut world = World::new();
    old(&mut world);
    world.state.handle_packet(world.now, packet("40"));
    assert_eq!(hints(&mut world), [Some(engineio::SET_ENGINE_3.into())]);
    assert!(!world.state.status(ROOT).active);

    // On another namespace it refuses, and its unasked word on `/` gives it away.
    let mut world = World::new();
    world.connect(CHAT);
    world.opens();
    world.hears("40");
    world.state.handle_packet(world.now, packet(r#"44/chat,"Invalid namespace""#));
    assert_eq!(hints(&mut world), [Some(engineio::SET_ENGINE_3.into())]);

    // One of today refuses for its own reasons.
    let mut world = World::new();
    old(&mut world);
    world.state.handle_packet(world.now, packet(r#"44{"message":"no"}"#));
    assert_eq!(hints(&mut world), [None]);

    let refused = Details {
        description: Some(r#"HTTP 400: {"code":5,"message":"Unsupported protocol version"}"#.into()),
        ..Details::new("xhr poll error")
    };
    for (revision, hint) in [(Revision::V3, Some(engineio::SET_ENGINE_4.into())), (Revision::V4, None)] {
        let mut world = world_with(|settings| settings.transport.revision = revision);
        world.connect(ROOT);
        world.state.handle_lost(world.now, false, refused.clone());
        assert_eq!(hints(&mut world), [hint]);
        assert!(world.state.status(ROOT).active, "it is tried again");
    }
}

#[test]
fn a_websocket_without_a_handshake_is_told_from_one_that_never_opened() {
    for (opened, revision, hint) in [
        (true, Revision::V3, Some(engineio::SET_ENGINE_4.into())),
        (true, Revision::V4, None),
        (false, Revision::V3, None),
    ] {
        let mut world = world_with(|settings| settings.transport.revision = revision);
        world.connect(ROOT);
        if opened {
            world.state.handle_progress(engineio::Phase::Engine, "no handshake".into());
        }
        world.now += Duration::from_secs(20);
        world.state.handle_timeout(world.now);
        assert_eq!(hints(&mut world), [hint]);
    }
}

/// Those of each `connect_error` that is to be heard.
fn hints(world: &mut World) -> Vec<Option<std::borrow::Cow<'static, str>>> {
    std::iter::from_fn(|| world.state.poll_output())
        .filter_map(|(_, output)| match output {
            Output::Lifecycle { event: Lifecycle::ConnectError { details, .. }, .. } => Some(details.hint),
            _ => None,
        })
        .collect()
}
