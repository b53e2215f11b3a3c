//! What the daemon says of itself.

use super::{Dispatcher, lock};
use crate::api::message::{self, API_VERSION, Error, ErrorKind, Request};
use crate::api::results::{DaemonStatus, HelloResult, Limits, StatusResult};
use crate::hub::{self, Role, inbox};
use crate::json;

/// Bytes of what a program calls itself.
const MAX_CLIENT: usize = 256;

impl Dispatcher {
    pub(super) fn hello(&self, request: &Request<'_>) -> Result<HelloResult<'_>, Error> {
        let message::Hello { client, lag } = request.params()?;
        if client.as_ref().is_some_and(|client| client.len() > MAX_CLIENT) {
            let message = format!("params of hello: client may have {MAX_CLIENT} bytes at the most");
            return Err(Error::new(ErrorKind::InvalidParams, message));
        }
        self.consumer.introduce(client, lag);
        Ok(HelloResult {
            server: "siod",
            version: env!("CARGO_PKG_VERSION"),
            api: API_VERSION,
            stream: self.context.hub.stream(),
            pid: std::process::id(),
            consumer: self.consumer.name(),
            role: self.rights().role,
            limits: Limits {
                max_line: self.max_line,
                max_depth: json::MAX_DEPTH,
                max_subscriptions: hub::consumer::MAX_SUBSCRIPTIONS,
                max_unread_answers: inbox::MAX_ANSWERS,
                max_unread_answer_bytes: inbox::MAX_ANSWER_BYTES,
            },
        })
    }

    pub(super) fn status(&self, request: &Request<'_>) -> Result<StatusResult<'_>, Error> {
        let hub = &self.context.hub;
        let mut connections = hub.snapshots(&self.rights());
        let connection_count = connections.len();
        if let Some(name) = request.params::<message::Status>()?.connection {
            connections = vec![self.connection(&name)?.channel.snapshot()];
        }
        let consumers = hub.consumers();
        let controls = self.rights().role == Role::Control;
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            stream: hub.stream(),
            started: self.context.started_at,
            uptime_ms: u64::try_from(self.context.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            consumers: consumers.len(),
            connections: connection_count,
            rss_bytes: rss_bytes(),
            // It can name connections and files.
            config_error: (controls && self.rights().reach_all())
                .then(|| lock(&self.context.config_error).clone())
                .flatten(),
        };
        let consumers =
            controls.then(|| consumers.iter().map(|consumer| consumer.report()).collect::<Vec<_>>());
        Ok(StatusResult { daemon, connections, consumers })
    }
}

/// Memory of the process that is in use, 0 where the system does not say.
fn rss_bytes() -> u64 {
    // In this file it is in kilobytes. In statm it is in pages, and before Linux 6.4 the size of those is not to be had
    // by a process that is not dumpable.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    resident.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}
