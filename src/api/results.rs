//! What the methods answer with. The answer of the server to an emit is written without a type, see `dispatch`.

use serde::Serialize;

use crate::hub::notice::Time;
use crate::hub::{Report, Role, Snapshot};

/// Done; there is nothing to say.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Empty {}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ListResult {
    /// All connections, by name.
    pub(super) connections: Vec<Snapshot>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HelloResult<'a> {
    #[cfg_attr(test, schemars(extend("const" = "siod")))]
    pub(super) server: &'static str,
    /// The daemon's version.
    pub(super) version: &'static str,
    /// The version of the local API.
    #[cfg_attr(test, schemars(extend("const" = super::message::API_VERSION)))]
    pub(super) api: u32,
    /// A random name of this run of the daemon, and of runs that go on from it: a `seq` means something only with it.
    pub(super) stream: &'a str,
    /// The daemon's process.
    pub(super) pid: u32,
    /// What this program is called by `status` and `outgoing`.
    pub(super) consumer: String,
    /// What this program may do.
    pub(super) role: Role,
    /// What is refused or waits beyond these.
    pub(super) limits: Limits,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[expect(clippy::struct_field_names, reason = "these are the members that consumers read")]
pub(super) struct Limits {
    /// Bytes of a request's line.
    pub(super) max_line: usize,
    /// Levels of arrays and objects in a request.
    pub(super) max_depth: usize,
    /// Subscriptions of one program.
    pub(super) max_subscriptions: usize,
    /// Answers that wait to be read before siod stops reading requests.
    pub(super) max_unread_answers: usize,
    /// The same in bytes.
    pub(super) max_unread_answer_bytes: usize,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct StatusResult<'a> {
    /// The daemon.
    pub(super) daemon: DaemonStatus<'a>,
    /// The connections, by name, or the one that was named.
    pub(super) connections: Vec<Snapshot>,
    /// The programs; only for the role `control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumers: Option<Vec<Report>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DaemonStatus<'a> {
    /// Its version.
    pub(super) version: &'static str,
    /// Its process.
    pub(super) pid: u32,
    /// The random name of this run.
    pub(super) stream: &'a str,
    /// When it was started.
    pub(super) started: Time,
    /// Milliseconds since then.
    pub(super) uptime_ms: u64,
    /// How many programs are attached.
    pub(super) consumers: usize,
    /// How many connections there are for this program.
    pub(super) connections: usize,
    /// Memory in use; 0 where the system does not say.
    pub(super) rss_bytes: u64,
    /// What is wrong with the configuration since a reload failed; only for who may see every connection and has the
    /// role `control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config_error: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SubscribeResult<'a> {
    /// The number that `unsubscribe` takes.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub(super) subscription: u64,
    /// The random name of this run of the daemon.
    pub(super) stream: &'a str,
    /// The connections that match, at the very point from which on the program hears them.
    pub(super) connections: &'a [Snapshot],
    /// How many lines are replayed.
    pub(super) replayed: u64,
    /// How many lines after `after` are no longer retained; null where its `stream` is that of another run, and
    /// everything retained is replayed.
    pub(super) missed: Option<u64>,
}

/// What became of an emit that did not wait for an answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "EmitOutcome"))]
pub(super) struct EmitResult {
    /// How far it came.
    pub(super) status: EmitStatus,
    /// The connection is up, or will come up by itself.
    pub(super) active: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum EmitStatus {
    /// Handed to the transport.
    Sent,
    /// It waits until the connection is up or, with `retries`, until it was its turn and has been answered.
    Buffered,
    /// Volatile, and it could not be written now.
    Dropped,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct OpenResult {
    /// False where a connection of this name, with the same URL and options, was there already.
    pub(super) created: bool,
    /// The connection.
    pub(super) connection: Snapshot,
}

/// What `emit` answers with.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "it describes what is written")]
pub(super) enum EmitResults {
    Outcome(EmitResult),
    Answer(EmitAnswer),
}

/// The server's answer to an emit that waited for it.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[allow(dead_code, reason = "it describes what is written by hand")]
pub(super) struct EmitAnswer {
    /// Its arguments, the server's to the byte save white space between tokens. Where `binary` is true, attachments
    /// stand in them as `{"$binary":"<standard base64, padded>"}`.
    args: Vec<serde_json::Value>,
    /// There when `args` has attachments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("const" = true))]
    binary: Option<bool>,
}
