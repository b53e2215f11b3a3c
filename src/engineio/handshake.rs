//! The body of the OPEN packet.

use std::time::Duration;

use serde::Deserialize;

/// Longest `sid` taken, in bytes; servers in use make ids of 20 to 36.
const MAX_SID: usize = 128;
/// Shortest and longest heartbeat times used; what lies outside is moved to the nearer end, so that a deadline neither
/// is already over when it is set nor overflows the clock.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_hours(24);

/// What the server says of itself when a session opens.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The session's id; whoever knows it can join the session, so it is shown to nobody.
    pub sid: String,
    /// Transports the server would let the session move to, unknown ones included.
    pub upgrades: Vec<String>,
    /// Time between two pings of the server; 1 ms to 1 day.
    pub ping_interval: Duration,
    /// How much later than `ping_interval` a ping may come; 1 ms to 1 day.
    pub ping_timeout: Duration,
    /// Largest POST body in bytes; absent on older servers.
    pub max_payload: Option<usize>,
}

/// A handshake that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("bad handshake: {0}")]
pub struct HandshakeError(pub(super) String);

impl Handshake {
    /// Reads the data of an OPEN packet. Fields that are not known here are ignored.
    pub fn parse(json: &str) -> Result<Self, HandshakeError> {
        // A JSON array would fill the fields by position.
        if !json.trim_ascii_start().starts_with('{') {
            return Err(HandshakeError("not a JSON object".to_owned()));
        }
        let wire: Wire = serde_json::from_str(json).map_err(|error| HandshakeError(error.to_string()))?;
        check_sid(&wire.sid)?;
        Ok(Self {
            sid: wire.sid,
            upgrades: wire.upgrades.unwrap_or_default(),
            ping_interval: duration("pingInterval", wire.ping_interval)?,
            ping_timeout: duration("pingTimeout", wire.ping_timeout)?,
            max_payload: wire.max_payload.filter(|bytes| *bytes >= 1.0).map(whole_bytes),
        })
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("sid", &"***")
            .field("upgrades", &self.upgrades)
            .field("ping_interval", &self.ping_interval)
            .field("ping_timeout", &self.ping_timeout)
            .field("max_payload", &self.max_payload)
            .finish()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    sid: String,
    upgrades: Option<Vec<String>>,
    ping_interval: f64,
    ping_timeout: f64,
    max_payload: Option<f64>,
}

/// Letters, digits and the marks that ids of servers in use are made of; the id goes into a query string.
fn check_sid(sid: &str) -> Result<(), HandshakeError> {
    if sid.is_empty() {
        return Err(HandshakeError("sid is empty".to_owned()));
    }
    if sid.len() > MAX_SID {
        return Err(HandshakeError(format!("sid has {} bytes, more than {MAX_SID}", sid.len())));
    }
    match sid.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.~+/=:@".contains(*c)) {
        Some(odd) => Err(HandshakeError(format!("sid contains '{}'", odd.escape_default()))),
        None => Ok(()),
    }
}

fn duration(field: &str, milliseconds: f64) -> Result<Duration, HandshakeError> {
    if milliseconds <= 0.0 {
        return Err(HandshakeError(format!("{field} is {milliseconds}, but must be above 0")));
    }
    let duration = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(LONGEST);
    Ok(duration.clamp(SHORTEST, LONGEST))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "called for 1 and more; a fraction is cut off and a number too large becomes the largest"
)]
fn whole_bytes(bytes: f64) -> usize {
    bytes as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(json: &str) -> Handshake {
        Handshake::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn reads_what_a_server_sends() {
        let handshake = parsed(
            r#"{"sid":"5wk8d-ojnRdtqj7nAAAA","upgrades":["websocket","webtransport"],"pingInterval":25000,
                "pingTimeout":20000.5,"maxPayload":1000000,"later":{"x":[1]}}"#,
        );
        assert_eq!(
            handshake,
            Handshake {
                sid: "5wk8d-ojnRdtqj7nAAAA".to_owned(),
                upgrades: vec!["websocket".to_owned(), "webtransport".to_owned()],
                ping_interval: Duration::from_secs(25),
                ping_timeout: Duration::from_micros(20_000_500),
                max_payload: Some(1_000_000),
            }
        );
        assert!(!format!("{handshake:?}").contains("5wk8d"), "the sid is a secret");
    }

    #[test]
    fn upgrades_and_the_limit_are_optional() {
        for (extra, limit) in [
            ("", None),
            (r#","upgrades":null,"maxPayload":null"#, None),
            (r#","maxPayload":0"#, None),
            (r#","maxPayload":-5"#, None),
            (r#","maxPayload":1e3"#, Some(1000)),
            (r#","maxPayload":1e300"#, Some(usize::MAX)),
        ] {
            let handshake = parsed(&format!(r#"{{"sid":"a","pingInterval":1,"pingTimeout":1{extra}}}"#));
            assert_eq!((handshake.upgrades, handshake.max_payload), (vec![], limit), "{extra}");
        }
    }

    #[test]
    fn times_stay_within_bounds() {
        for (number, expected) in [
            ("1e-300", SHORTEST),
            ("0.5", SHORTEST),
            ("86400000", LONGEST),
            ("1e17", LONGEST),
            ("1e300", LONGEST),
        ] {
            let handshake =
                parsed(&format!(r#"{{"sid":"a","pingInterval":{number},"pingTimeout":{number}}}"#));
            assert_eq!((handshake.ping_interval, handshake.ping_timeout), (expected, expected), "{number}");
        }
    }

    #[test]
    fn refusals_name_the_fault() {
        let with_sid = |sid: &str| format!(r#"{{"sid":"{sid}","pingInterval":1,"pingTimeout":1}}"#);
        for (json, fault) in [
            (String::new(), "not a JSON object"),
            (r#"["a",[],1,1,1]"#.to_owned(), "not a JSON object"),
            ("{".to_owned(), "EOF"),
            (r#"{"pingInterval":1,"pingTimeout":1}"#.to_owned(), "missing field `sid`"),
            (r#"{"sid":"a","pingTimeout":1}"#.to_owned(), "missing field `pingInterval`"),
            (r#"{"sid":"a","pingInterval":1}"#.to_owned(), "missing field `pingTimeout`"),
            (r#"{"sid":"a","pingInterval":"1","pingTimeout":1}"#.to_owned(), "invalid type: string"),
            (r#"{"sid":"a","pingInterval":0,"pingTimeout":1}"#.to_owned(), "pingInterval is 0"),
            (r#"{"sid":"a","pingInterval":1,"pingTimeout":-1}"#.to_owned(), "pingTimeout is -1"),
            (r#"{"sid":"a","pingInterval":1e999,"pingTimeout":1}"#.to_owned(), "number out of range"),
            (r#"{"sid":7,"pingInterval":1,"pingTimeout":1}"#.to_owned(), "invalid type: integer"),
            (with_sid(""), "sid is empty"),
            (with_sid("a b"), "sid contains ' '"),
            (with_sid(r"a\r\nb"), r"sid contains '\r'"),
            (with_sid("ä"), r"sid contains '\u{e4}'"),
            (with_sid(&"a".repeat(129)), "sid has 129 bytes, more than 128"),
        ] {
            let error = Handshake::parse(&json).expect_err(&json).to_string();
            assert!(error.starts_with("bad handshake: "), "{error}");
            assert!(error.contains(fault), "{json}: {error}");
        }
        assert_eq!(parsed(&with_sid(&"a".repeat(128))).sid.len(), 128);
        assert_eq!(parsed(&with_sid("aZ09-_.~+/=:@")).sid, "aZ09-_.~+/=:@");
    }

    proptest! {
        #[test]
        fn any_text_is_a_handshake_or_an_error(json in r#"\{?("(sid|pingInterval|pingTimeout)":("a"|-?[0-9.e]{1,8}),?){0,4}\PC{0,9}\}?"#) {
            let _ = Handshake::parse(&json);
        }
    }
}
