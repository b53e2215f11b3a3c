//! The local API of the real daemon, line by line, with a scripted upstream behind it: a folder or file for each section
//! of `docs/api.md`, and `contract/claims.txt`, which says of each sentence there which test shows it.

#[path = "common/mod.rs"]
mod common;

#[path = "contract/claims.rs"]
mod claims;
#[path = "contract/errors.rs"]
mod errors;
#[path = "contract/load.rs"]
mod load;
#[path = "contract/log.rs"]
mod log;
#[path = "contract/methods/mod.rs"]
mod methods;
#[path = "contract/notifications.rs"]
mod notifications;
#[path = "contract/rights.rs"]
mod rights;
#[path = "contract/sharing/mod.rs"]
mod sharing;
#[path = "contract/wire.rs"]
mod wire;
