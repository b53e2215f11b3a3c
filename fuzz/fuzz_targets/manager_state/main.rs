//! The states of one upstream connection, driven by whatever comes: what programs want, what the server says, what becomes
//! of transports, and time that passes.
//!
//! Two worlds live through the same. In one, events and answers take the short cut wherever the driver would let them; in
//! the other nothing does. Both must say the same, and each keeps to what [`world`] asks of it.

#![no_main]

mod input;
mod wire;
mod world;

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

use input::Input;
use world::World;

fuzz_target!(|input: Input| {
    let start = Instant::now();
    let mut general = World::new(&input.setup, start, false);
    let mut short = World::new(&input.setup, start, true);
    for step in &input.steps {
        general.live(step);
        short.live(step);
        assert_eq!(short.heard(), general.heard(), "{step:?}");
        assert_eq!(short.standing(), general.standing(), "{step:?}");
    }
    general.end();
    short.end();
    assert_eq!(short.heard(), general.heard());
});
