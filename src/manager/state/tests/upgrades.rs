//! From polling to WebSocket, as the driver sees it.

use super::*;

fn polling_first() -> Settings {
    Settings { transports: vec![TransportKind::Polling, TransportKind::WebSocket], ..settings() }
}

/// `/` is joining on polling, and the probe has been asked for.
fn upgrading(settings: Settings) -> World {
    let mut world = World::with(settings);
    assert_eq!(world.connect(ROOT), ["[open polling]"]);
    assert_eq!(world.opens(), ["[opened S]", "[probe S]", "> 40"]);
    world
}

fn probe_hears(world: &mut World, text: &str) -> Vec<String> {
    world.state.handle_probe_packet(world.now, &packet(text));
    world.out()
}

fn switch(world: &mut World) {
    world.state.handle_probe_opened();
    assert_eq!(world.out(), ["ws> 2probe"]);
    assert_eq!(probe_hears(world, "3probe"), ["[pause]"]);
    world.state.handle_paused(world.now);
    assert_eq!(world.out(), ["/ upgrade websocket", "[switch]"]);
}

#[test]
fn an_upgrade_is_told_and_keeps_everything_in_order() {
    let mut world = upgrading(polling_first());
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A polling"]);
    world.state.handle_probe_opened();
    assert_eq!(world.out(), ["ws> 2probe"]);
    assert_eq!(probe_hears(&mut world, "3probe"), ["[pause]"]);

    assert_eq!(world.emit(ROOT, "held"), Sent::Sent);
    let volatile = Emit { volatile: true, ..event("volatile") };
    assert_eq!(world.emit_as(ROOT, volatile), Ok(Sent::Dropped), "it cannot be written now");
    assert_eq!(world.hears(r#"42["e"]"#), [r#"/ event "e"()"#]);
    assert_eq!(world.state.queued(), r#"42["held"]"#.len());
    world.state.handle_paused(world.now);
    assert_eq!(world.out(), ["/ upgrade websocket", "[switch]", r#"> 42["held"]"#]);
    assert_eq!(world.state.queued(), 0);
    assert_eq!(world.state.status(ROOT).transport, Some(TransportKind::WebSocket));
}

#[test]
fn a_failed_upgrade_is_no_event() {
    let mut world = upgrading(polling_first());
    world.state.handle_probe_failed(world.now, "websocket error");
    assert_eq!(world.out(), ["[abandon the probe]"]);
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A polling"]);

    let mut world = upgrading(polling_first());
    assert_eq!(world.due(), Some(10_000));
    assert_eq!(world.at(10), ["[abandon the probe]"]);
}

#[test]
fn a_loss_or_a_goodbye_during_an_upgrade_ends_both_transports() {
    let mut world = upgrading(polling_first());
    world.hears(r#"40{"sid":"A"}"#);
    world.state.handle_probe_opened();
    world.out();
    probe_hears(&mut world, "3probe");
    world.emit(ROOT, "held");
    assert_eq!(
        world.disconnect(ROOT),
        ["/ disconnect io client disconnect, inactive", r#"[close the transport after 42["held"] 41]"#]
    );

    let mut world = upgrading(polling_first());
    assert_eq!(
        world.fails("xhr poll error"),
        ["/ connect_error (transport) xhr poll error", "[drop the transport]"]
    );
    world.state.handle_probe_opened();
    world.state.handle_probe_failed(world.now, "gone");
    assert_eq!(probe_hears(&mut world, "3probe"), NOTHING);
}

#[test]
fn no_upgrade_where_none_is_wanted() {
    for settings in [
        Settings { upgrade: false, ..polling_first() },
        Settings { transports: vec![TransportKind::Polling], ..settings() },
    ] {
        let mut world = World::with(settings);
        world.connect(ROOT);
        assert_eq!(world.opens(), ["[opened S]", "> 40"]);
    }
}

#[test]
fn a_websocket_that_failed_in_the_attempt_is_not_probed() {
    let websocket_first =
        || Settings { transports: vec![TransportKind::WebSocket, TransportKind::Polling], ..settings() };
    let mut world = World::with(websocket_first());
    assert_eq!(world.connect(ROOT), ["[open websocket]"]);
    assert_eq!(world.fails("websocket error"), ["[drop the transport]", "[open polling]"]);
    assert_eq!(world.opens(), ["[opened S]", "> 40"]);
    world.fails("xhr poll error");
    assert_eq!(world.at(1), ["/ reconnect_attempt 1", "[open websocket]"], "the next attempt is another");

    // One that is tried first because it is remembered is no other.
    let mut world = upgrading(Settings { remember_upgrade: true, ..polling_first() });
    switch(&mut world);
    world.is_closed();
    assert_eq!(world.at(1), ["/ reconnect_attempt 1", "[open websocket]"]);
    assert_eq!(world.fails("websocket error"), ["[drop the transport]", "[open polling]"]);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", "> 40"]);
}

#[test]
fn a_websocket_that_worked_is_remembered_until_one_fails() {
    let remember = || Settings { remember_upgrade: true, ..polling_first() };
    let rows: [(Settings, Blow, &str); 4] = [
        (remember(), World::is_closed, "[open websocket]"),
        (remember(), |world| world.hears("49"), "[open websocket]"),
        (remember(), |world| world.fails("websocket error"), "[open polling]"),
        (polling_first(), World::is_closed, "[open polling]"),
    ];
    for (at, (settings, end, next)) in rows.into_iter().enumerate() {
        let mut world = upgrading(settings);
        switch(&mut world);
        end(&mut world);
        assert_eq!(world.at(1), ["/ reconnect_attempt 1", next], "row {at}");
    }

    let mut world = upgrading(remember());
    switch(&mut world);
    world.is_closed();
    world.at(1);
    assert_eq!(world.fails("websocket error"), ["[drop the transport]", "[open polling]"]);
    world.fails("xhr poll error");
    assert_eq!(world.at(3), ["/ reconnect_attempt 2", "[open polling]"]);
}
