//! The JSON Schema of the local API says what the daemon does: what it refuses the schema refuses, what it takes the
//! schema takes. Besides, every line that any test reads is held against it (`common::schema`).

mod common;

use common::schema::{Talk, check, check_params};
use common::tap::Tap;
use common::{Consumer, Daemon, QUICK, refusal, transcript, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// One connection that is not started, and whatever it takes to be refused nothing else.
async fn daemon() -> Daemon {
    Daemon::start(&format!("{QUICK}\n[connections.chat]\nurl = \"http://127.0.0.1:9\"\n")).await
}

#[tokio::test]
async fn params_that_the_schema_refuses_are_refused_by_the_daemon() {
    let daemon = daemon().await;
    let mut consumer = daemon.attach().await;
    for (method, params) in [
        ("hello", r#"{"client":5}"#),
        ("hello", r#"{"lag":"wait"}"#),
        ("hello", r#"{"colour":"red"}"#),
        ("hello", "null"),
        ("list", r#"{"connection":"chat"}"#),
        ("list", "[]"),
        ("status", r#"{"connection":["chat"]}"#),
        ("status", r#"{"conection":"chat"}"#),
        ("subscribe", r#"{"connection":1}"#),
        ("subscribe", r#"{"events":"tick"}"#),
        ("subscribe", r#"{"events":["tick",null]}"#),
        ("subscribe", r#"{"lifecycle":"connect"}"#),
        ("subscribe", r#"{"lifecycle":["conect"]}"#),
        ("subscribe", r#"{"lifecycle":1}"#),
        ("subscribe", r#"{"outgoing":null}"#),
        ("subscribe", r#"{"sticky":"yes"}"#),
        ("subscribe", r#"{"last":-1}"#),
        ("subscribe", r#"{"last":1.5}"#),
        ("subscribe", r#"{"last":18446744073709551616}"#),
        ("subscribe", r#"{"connection":"chat","after":41}"#),
        ("subscribe", r#"{"connection":"chat","after":{"seq":41}}"#),
        ("subscribe", r#"{"connection":"chat","after":{"stream":"s","seq":-1}}"#),
        ("subscribe", r#"{"connection":"chat","after":{"stream":"s","seq":1,"more":1}}"#),
        ("unsubscribe", "{}"),
        ("unsubscribe", r#"{"subscription":"1"}"#),
        ("unsubscribe", r#"{"subscription":null}"#),
        ("emit", r#"{"connection":"chat"}"#),
        ("emit", r#"{"event":"tick"}"#),
        ("emit", r#"{"connection":"chat","event":5}"#),
        ("emit", r#"{"connection":"chat","event":"tick","args":{}}"#),
        ("emit", r#"{"connection":"chat","event":"tick","args":"x"}"#),
        ("emit", r#"{"connection":"chat","event":"tick","ack":1}"#),
        ("emit", r#"{"connection":"chat","event":"tick","ack":null}"#),
        ("emit", r#"{"connection":"chat","event":"tick","timeout":"5s"}"#),
        ("emit", r#"{"connection":"chat","event":"tick","timeout":-5}"#),
        ("emit", r#"{"connection":"chat","event":"tick","volatil":true}"#),
        ("ack", r#"{"connection":"chat"}"#),
        ("ack", r#"{"connection":"chat","ack":"1"}"#),
        ("ack", r#"{"connection":"chat","ack":1,"args":5}"#),
        ("connect", "{}"),
        ("connect", r#"{"connection":"chat","auth":"token"}"#),
        ("connect", r#"{"connection":"chat","auth":[]}"#),
        ("connect", r#"{"connection":"chat","wait":true}"#),
        ("disconnect", r#"{"connection":"chat","wait":5}"#),
        ("set_auth", r#"{"connection":"chat"}"#),
        ("set_auth", r#"{"connection":"chat","auth":5}"#),
        ("close", r#"{"name":"chat"}"#),
        ("reload", r#"{"file":"/etc/siod/siod.toml"}"#),
        ("open", r#"{"url":"http://h/"}"#),
        ("open", r#"{"name":"","url":"http://h/"}"#),
        ("open", r#"{"name":"a*","url":"http://h/"}"#),
        ("open", r#"{"name":"a\u0007","url":"http://h/"}"#),
        ("open", r#"{"name":5,"url":"http://h/"}"#),
        ("open", r#"{"name":"a","url":"h/"}"#),
        ("open", r#"{"name":"a","url":"ftp://h/"}"#),
    ] {
        refuse(&mut consumer, method, params).await;
    }
}

#[tokio::test]
async fn options_that_the_schema_refuses_are_refused_by_the_daemon() {
    let daemon = daemon().await;
    let mut consumer = daemon.attach().await;
    for options in [
        r#""persist":1"#,
        r#""path":"socket.io""#,
        r#""query":{"a":[1]}"#,
        r#""query":{"a":1.5}"#,
        r#""extra_headers":{"x":1}"#,
        r#""transports":[]"#,
        r#""transports":["polling","polling"]"#,
        r#""transports":["webtransport"]"#,
        r#""protocols":["a","a"]"#,
        r#""engine":2"#,
        r#""parser":"cbor""#,
        r#""reconnection":"yes""#,
        r#""reconnection_attempts":-1"#,
        r#""reconnection_attempts":4294967296"#,
        r#""reconnection_delay":"soon""#,
        r#""reconnection_delay":"5""#,
        r#""reconnection_delay":1.5"#,
        r#""reconnection_delay":31536000001"#,
        r#""randomization_factor":1.5"#,
        r#""timeout":0"#,
        r#""on_connect_error":"ignore""#,
        r#""send_buffer":"4 mib""#,
        r#""send_buffer":-1"#,
        r#""max_payload":0"#,
        r#""history":{"events":0}"#,
        r#""history":{"bytes":0}"#,
        r#""history":{"lines":5}"#,
        r#""tls":{"insecur":true}"#,
        r#""auth":"token""#,
        r#""auth_command":[]"#,
        r#""auth_command":"token""#,
        r#""on_connect":[{"args":[]}]"#,
        r#""on_connect":[{"event":"connect"}]"#,
        r#""on_connect":[{"event":"a","args":5}]"#,
        r#""on_connect":[{"event":"a","timeout":0}]"#,
        r#""sticky":"state""#,
        r#""reconnection_dleay":1"#,
    ] {
        let params = format!(r#"{{"name":"a","url":"http://h/",{options}}}"#);
        refuse(&mut consumer, "open", &params).await;
    }
}

async fn refuse(consumer: &mut Consumer, method: &str, params: &str) {
    // Shown where the test fails.
    println!("{method} {params}");
    assert!(check_params(method, &value(params)).is_err(), "the schema takes it");
    let request = format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#);
    consumer.call(&request, &refusal("1", -32602, "invalid_params")).await;
}

#[tokio::test]
async fn params_that_the_daemon_takes_are_taken_by_the_schema() {
    let daemon = daemon().await;
    let mut consumer = daemon.attach().await;
    for (method, params) in [
        ("hello", "{}"),
        ("hello", r#"{"client":null,"lag":null}"#),
        ("hello", r#"{"client":"door-bell/2","lag":"skip"}"#),
        ("list", "{}"),
        ("status", r#"{"connection":null}"#),
        ("status", r#"{"connection":"chat"}"#),
        ("subscribe", r#"{"connection":null,"events":null,"lifecycle":null,"last":null,"after":null}"#),
        (
            "subscribe",
            r#"{"connection":"c?a*","events":[],"lifecycle":false,"outgoing":true,"sticky":true,"last":0}"#,
        ),
        ("subscribe", r#"{"lifecycle":["reconnection_attempt","reconnect_attempt","opened"]}"#),
        ("subscribe", r#"{"connection":"chat","last":18446744073709551615,"after":{"stream":"","seq":0}}"#),
        ("unsubscribe", r#"{"subscription":1}"#),
        ("emit", r#"{"connection":"chat","event":""}"#),
        ("emit", r#"{"connection":"chat","event":"tick","args":null,"timeout":null,"compress":null}"#),
        (
            "emit",
            r#"{"connection":"chat","event":"tick","args":[{"$binary":"AAEC"},1e400,"\ud800"],"binary":true,"compress":false}"#,
        ),
        ("emit", r#"{"connection":"chat","event":"tick","volatile":true,"ack":true,"timeout":0}"#),
        ("set_auth", r#"{"connection":"chat","auth":null}"#),
        ("set_auth", r#"{"connection":"chat","auth":{"token":"a","n":12345678901234567890123}}"#),
        ("open", r#"{"name":"a","url":"HTTPS://h/","persist":null,"auth":null,"tls":null,"history":null}"#),
        ("open", r#"{"name":"Größe 5","url":"ws://h","persist":true,"query":{"a":1,"b":"x","c":false}}"#),
        (
            "open",
            r#"{"name":"b","url":"http://h","timeout":"1m 30s","ack_timeout":1500,"stable_after":"0s"}"#,
        ),
        (
            "open",
            r#"{"name":"c","url":"http://h","send_buffer":"64KiB","max_payload":1,"history":{"events":1,"bytes":"1 MB"}}"#,
        ),
        ("open", r#"{"name":"d","url":"http://h","engine":3,"transports":["polling"],"parser":"json"}"#),
        (
            "open",
            r#"{"name":"e","url":"http://h","randomization_factor":1,"reconnection_attempts":4294967295}"#,
        ),
        (
            "open",
            r#"{"name":"f","url":"http://h","on_connect":[{"event":"login","args":null,"expect":{"ok":true},"timeout":"5s"}]}"#,
        ),
        (
            "open",
            r#"{"name":"g","url":"http://h","on_connect":[],"sticky":["*"],"auth_command":["/bin/token"]}"#,
        ),
        (
            "open",
            r#"{"name":"h","url":"http://h","tls":{"insecure":true},"proxy":"none","protocols":[],"engine":null}"#,
        ),
        ("connect", r#"{"connection":"chat","auth":null,"wait":null}"#),
        ("disconnect", r#"{"connection":"chat"}"#),
        ("reload", "{}"),
        ("close", r#"{"connection":"chat"}"#),
    ] {
        println!("{method} {params}");
        // The consumer holds both the params and the result against the schema.
        let request = format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#);
        consumer.call(&request, r#"{"jsonrpc":"2.0","id":1,"result":…}"#).await;
    }
}

#[test]
fn requests_are_told_apart_from_what_is_none() {
    for (request, fits) in [
        (r#"{"method":"list"}"#, true),
        (r#"{"jsonrpc":"2.0","id":"a","method":"list","params":{}}"#, true),
        (r#"{"id":null,"method":"emit","params":{"connection":"chat","event":"tick"}}"#, true),
        (r#"{"id":1,"method":"lsit"}"#, false),
        (r#"{"id":1,"method":"emit"}"#, false),
        (r#"{"id":1,"method":"list","params":{"colour":"red"}}"#, false),
        (r#"{"id":[1],"method":"list"}"#, false),
        (r#"{"jsonrpc":"1.0","id":1,"method":"list"}"#, false),
        (r#"{"id":1}"#, false),
        (r#"[{"id":1,"method":"list"}]"#, false),
    ] {
        assert_eq!(check("Request", &value(request)).is_ok(), fits, "{request}");
    }
}

#[test]
fn a_line_that_the_daemon_never_writes_is_found_out() {
    const CLOSED: &str = r#""connection":"chat","seq":1,"event":"closed","by":"config","active":false"#;
    const TIME: &str = r#""time":"2026-01-01T00:00:00.000Z""#;
    let lifecycle =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{{params}}}}}"#);
    let event = |params: &str| format!(r#"{{"jsonrpc":"2.0","method":"event","params":{{{params}}}}}"#);
    let error = |error: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#);
    let rows = [
        (lifecycle(&format!("{CLOSED},{TIME}")), ""),
        (lifecycle(CLOSED), r#"LifecycleClosed: at "": "time" is a required property"#),
        (
            lifecycle(&format!("{CLOSED},{TIME},\"id\":\"x\"")),
            r#"LifecycleClosed: at "": Additional properties"#,
        ),
        (lifecycle(&format!("{CLOSED},\"time\":\"2026-01-01T00:00:00Z\"")), r#"LifecycleClosed: at "/time""#),
        (lifecycle(&format!("{CLOSED},{TIME}").replace("config", "root")), r#"LifecycleClosed: at "/by""#),
        (lifecycle(&format!("{CLOSED},{TIME}").replace("closed", "lost")), "does not define LifecycleLost"),
        (
            lifecycle(&format!("{CLOSED},{TIME}").replace("\"seq\":1", "\"seq\":0")),
            r#"LifecycleClosed: at "/seq""#,
        ),
        (
            event(r#""connection":"chat","seq":1,"event":"a","args":[1e400,"\ud800"],"binary":true,"ack":1"#),
            "",
        ),
        (event(r#""connection":"chat","seq":1,"event":"a","args":{}"#), r#"EventParams: at "/args""#),
        (
            event(r#""connection":"chat","seq":1,"event":"a","args":[],"binary":false"#),
            r#"EventParams: at "/binary""#,
        ),
        (
            event(r#""connection":"chat","seq":1,"event":"a","args":[],"ack":null"#),
            r#"EventParams: at "/ack""#,
        ),
        (event(r#""connection":"chat","event":"a","args":[]"#), r#"EventParams: at "": "seq" is a required"#),
        (r#"{"method":"goodbye","params":{"reason":"shutdown"}}"#.to_owned(), "Notification: at "),
        (
            r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"bored"}}"#.to_owned(),
            r#"GoodbyeParams: at "/reason""#,
        ),
        (r#"{"jsonrpc":"2.0","method":"hullo","params":{}}"#.to_owned(), "does not define HulloParams"),
        (error(r#"{"code":-32000,"message":"m","data":{"kind":"unknown_connection"}}"#), ""),
        (error(r#"{"code":-32009,"message":"m","data":{"kind":"connect_failed","data":5}}"#), ""),
        (error(r#"{"code":-32001,"message":"m","data":{"kind":"unknown_connection"}}"#), "Error: at "),
        (
            error(r#"{"code":-32000,"message":"m","data":{"kind":"unknown_connection","data":5}}"#),
            "Error: at ",
        ),
        (error(r#"{"code":-32000,"message":"m"}"#), r#"Error: at "": "data" is a required"#),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#.to_owned(), "Error: at "),
        (r#"{"id":1,"result":{}}"#.to_owned(), "Answer: at "),
        (r#"{"jsonrpc":"2.0","id":2,"result":{}}"#.to_owned(), "nobody has asked"),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{"status":"sent","active":true}}"#.to_owned(),
            "UnsubscribeResult",
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), ""),
    ];
    for (line, expected) in rows {
        let mut talk = Talk::default();
        talk.sent(b"{\"id\":1,\"method\":\"unsub");
        talk.sent(b"scribe\",\"params\":{\"subscription\":1}}\n{\"id\":");
        match talk.read(&line) {
            Ok(()) => assert_eq!(expected, "", "{line}"),
            Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{line}: {error}"),
        }
    }
}

#[test]
fn params_that_only_the_schema_refuses_are_found_out() {
    const DONE: &str = r#"{"jsonrpc":"2.0","id":"a","result":{}}"#;
    let mut talk = Talk::default();
    talk.sent(b"{\"id\":\"a\",\"method\":\"unsubscribe\",\"params\":{\"subscription\":-1}}\n");
    let error = talk.read(DONE).expect_err("no number of a subscription is negative");
    assert!(error.contains("params of unsubscribe that the schema has not"), "{error}");
    // One id for two requests: each answer is that of one of them.
    talk = Talk::default();
    talk.sent(b"{\"id\":\"a\",\"method\":\"unsubscribe\",\"params\":{\"subscription\":1}}\n");
    talk.sent(b"{\"id\":\"a\",\"method\":\"list\"}");
    talk.sent_all();
    let list = r#"{"jsonrpc":"2.0","id":"a","result":{"connections":[]}}"#;
    assert_eq!((talk.read(list), talk.read(DONE)), (Ok(()), Ok(())));
    assert!(talk.read(DONE).is_err(), "nothing is left to answer");
}

#[tokio::test]
#[should_panic(expected = "GoodbyeParams: at \"/reason\"")]
async fn a_tap_fails_the_test_of_a_daemon_that_departs() {
    const BORED: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"goodbye\",\"params\":{\"reason\":\"bored\"}}\n";
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("daemon.sock");
    let listener = UnixListener::bind(&socket).expect("a socket in it");
    let tap = Tap::on(&socket);
    let mut program = UnixStream::connect(tap.socket()).await.expect("the tap listens");
    let (mut daemon, _) = within("the tap", listener.accept()).await.expect("it attaches");
    daemon.write_all(BORED).await.expect("the tap reads");
    drop(daemon);
    let mut heard = Vec::new();
    within("the line", program.read_to_end(&mut heard)).await.expect("the tap hands on");
    assert_eq!(heard, BORED);
}

#[test]
fn siod_prints_what_docs_schema_has() {
    let siod = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_siod"))
            .args([&["schema"], arguments].concat())
            .env_clear()
            .output()
            .expect("siod starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let mut files = 0;
    for file in std::fs::read_dir(folder).expect("the folder is there") {
        let path = file.expect("it can be read").path();
        let name = path.file_name().expect("a name").to_str().expect("UTF-8");
        let name = name.strip_suffix(".schema.json").expect("only schemas are here");
        let printed = if name == "siod" { siod(&[]) } else { siod(&[name]) };
        let text = std::fs::read_to_string(&path).expect("it can be read");
        assert_eq!(printed, (Some(0), text, String::new()), "{name}");
        files += 1;
    }
    let (_, list, _) = siod(&["--list"]);
    let own = list.lines().filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase())).count();
    assert_eq!(own + 1, files, "{list}");
    let (code, snapshot, _) = siod(&["Snapshot"]);
    assert!(code == Some(0) && snapshot.contains("\"oldest_seq\""), "{snapshot}");
    for (name, advice) in [("emti", "did you mean emit? "), ("x y z", "")] {
        let note =
            format!("siod: there is no schema of {name:?}; {advice}'siod schema --list' shows all names\n");
        assert_eq!(siod(&[name]), (Some(2), String::new(), note));
    }
}

fn value(text: &str) -> serde_json::Value {
    transcript::value(text).expect("the test's own JSON")
}
