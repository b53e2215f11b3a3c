//! Secrets go to whom they are for and nowhere else.

mod common;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::daemon::Folder;
use common::upstream::OPEN;
use common::{Daemon, Upstream, Ws, within};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

/// What every secret of these tests begins with.
const CANARY: &str = "c4n4ry";

/// Everything that was printed, logged or answered, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Also as HTTP authentication writes it.
    fn holds_no_secret(&self) {
        let pairs = ["userinfo", "proxy", "environment", "open", "bad"];
        let encoded = pairs.map(|pair| BASE64_STANDARD.encode(format!("me:{CANARY}-{pair}")));
        // What does not depend on how it ends.
        let encoded: Vec<_> = encoded.iter().map(|text| &text[..12]).collect();
        for (place, text) in &self.0 {
            for needle in encoded.iter().copied().chain([CANARY]) {
                if let Some(at) = text.find(needle) {
                    let from = text.floor_char_boundary(at.saturating_sub(300));
                    panic!("{place} says a secret: …{}", &text[from..text.ceil_char_boundary(at + 100)]);
                }
            }
        }
    }
}

/// A server, or proxy, that refuses every request with all secrets that were in it, in its status line, a header and a
/// page.
async fn parrot() -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                if !byte.is_ascii() || request.is_empty() && !byte.is_ascii_uppercase() {
                    break;
                }
                request.push(byte);
            }
            let request = String::from_utf8_lossy(&request);
            let words = request.split([' ', '\r', '\n', '?', '&']);
            let secrets: Vec<_> =
                words.filter(|word| word.contains(CANARY) || word.len() > 20 && word.ends_with('=')).collect();
            let page = secrets.join(" ");
            let status = if request.starts_with("CONNECT") { 407 } else { 401 };
            let answer = format!(
                "HTTP/1.1 {status} {page}\r\nLocation: /{page}\r\nWWW-Authenticate: {page}\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            );
            // Whoever asked may have left.
            let _gone = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, tasks)
}

/// Connections that fail and succeed in every way there is, each with secrets in every option there is.
fn config(folder: &Path, upstream: &Upstream, parrot: u16, closed: u16) -> String {
    let port = upstream.port();
    let text = format!(
        r#"
[defaults]
reconnection_delay = "10ms"
reconnection_delay_max = "20ms"
randomization_factor = 0.0
auto_connect = false
reconnection = false
timeout = "5s"
force_new = true
transports = ["websocket"]
extra_headers = {{ Authorization = "Bearer c4n4ry-header", X-Thing = "c4n4ry-thing", Cookie = "a=c4n4ry-cookie" }}

[connections.fixed]
url = "http://me:c4n4ry-userinfo@127.0.0.1:{port}/?token=c4n4ry-query"
auth = {{ token = "c4n4ry-auth", deep = {{ more = ["c4n4ry-deep"] }} }}
query = {{ api_key = "c4n4ry-key" }}
extra_headers = {{ X-Own = "c4n4ry-own" }}
[[connections.fixed.on_connect]]
event = "login"
args = ["c4n4ry-login"]
expect = {{ ok = "c4n4ry-expect" }}

[connections.file]
url = "http://127.0.0.1:{port}"
auth_file = "${{CREDENTIALS_DIRECTORY}}/auth"
[[connections.file.on_connect]]
event = "login"
args_file = "${{CREDENTIALS_DIRECTORY}}/args"

[connections.command]
url = "http://127.0.0.1:{port}"
auth_command = ["/bin/sh", "-c", "env > FOLDER/env; echo {{\\\"token\\\":\\\"c4n4ry-printed\\\"}}", "c4n4ry-argument"]

[connections.broken_file]
url = "http://127.0.0.1:{port}"
auth_file = "FOLDER/not-json"

[connections.broken_command]
url = "http://127.0.0.1:{port}"
auth_command = ["/bin/sh", "-c", "echo c4n4ry-output; exit 3", "c4n4ry-argument"]

[connections.missing_command]
url = "http://127.0.0.1:{port}"
auth_command = ["no-such-program-of-siod", "c4n4ry-argument"]

[connections.polling]
url = "http://127.0.0.1:{port}"
transports = ["polling"]
auth = {{ token = "c4n4ry-posted" }}

[connections.quoted]
url = "http://127.0.0.1:{parrot}/?token=c4n4ry-query"

[connections.quoted_user]
url = "http://me:c4n4ry-userinfo@127.0.0.1:{parrot}"
extra_headers = {{ X-Only = "c4n4ry-only" }}

[connections.refused]
reconnection = true
url = "http://me:c4n4ry-userinfo@127.0.0.1:{closed}/?token=c4n4ry-query"

[connections.not_tls]
url = "https://me:c4n4ry-userinfo@127.0.0.1:{parrot}/?token=c4n4ry-query"

[connections.proxied]
url = "http://127.0.0.1:{port}"
proxy = "http://me:c4n4ry-proxy@127.0.0.1:{parrot}"

[connections.by_environment]
url = "http://server.test"

[connections.socks]
url = "http://127.0.0.1:{port}"
proxy = "socks5://me:c4n4ry-proxy@127.0.0.1:{closed}"
"#
    );
    text.replace("FOLDER", &folder.display().to_string())
}

const FAILING: [&str; 10] = [
    "broken_file",
    "broken_command",
    "missing_command",
    "quoted",
    "quoted_user",
    "refused",
    "not_tls",
    "proxied",
    "by_environment",
    "socks",
];

#[tokio::test]
async fn nothing_that_is_printed_logged_or_answered_says_a_secret() {
    for format in ["text", "json", "journald"] {
        let upstream = Upstream::start().await;
        let (parrot, _tasks) = parrot().await;
        let (_nobody, closed) = common::relay::closed();
        let folder = Folder::new("")
            .variable("SIOD__LOG__LEVEL", "trace")
            .variable("SIOD__LOG__FORMAT", format)
            .variable("SIOD__CONNECTIONS__varied__URL", "http://127.0.0.1:1")
            .variable("SIOD__CONNECTIONS__varied__AUTH", r#"{"token":"c4n4ry-variable"}"#)
            .variable("HTTP_PROXY", &format!("http://me:c4n4ry-environment@127.0.0.1:{parrot}"))
            .variable("NO_PROXY", "127.0.0.1");
        let place = folder.path().to_owned();
        let folder = folder.variable("CREDENTIALS_DIRECTORY", place.to_str().unwrap());
        fs::write(place.join("auth"), r#"{"token":"c4n4ry-file"}"#).unwrap();
        fs::write(place.join("args"), r#"["c4n4ry-args"]"#).unwrap();
        fs::write(place.join("not-json"), "c4n4ry-not-json").unwrap();
        folder.configure(&config(&place, &upstream, parrot, closed.port()));
        // Everybody may read it, so that this is warned of.
        fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
        let said = play(folder, upstream).await;
        said.holds_no_secret();
    }
}

/// Lets everything happen that can, and gives all that was said of it.
#[expect(clippy::too_many_lines, reason = "one thing happens after the other")]
async fn play(folder: Folder, mut upstream: Upstream) -> Said {
    let mut said = Said::default();
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let mut listener = daemon.attach().await;
    listener.request(r#"{"id":1,"method":"subscribe","params":{"connection":"*"}}"#).await;
    let ask = async |consumer: &mut common::Consumer, said: &mut Said, request: String| {
        let answer = consumer.request(&request).await;
        said.add(format!("the answer to {}", request.split("\"params\"").next().unwrap_or_default()), answer);
    };
    let hello = r#"{"id":1,"method":"hello","params":{"client":"tests"}}"#;
    ask(&mut consumer, &mut said, hello.to_owned()).await;
    let connect = |name: &str| format!(r#"{{"id":2,"method":"connect","params":{{"connection":"{name}"}}}}"#);

    // Those that come to be connected.
    ask(&mut consumer, &mut said, connect("fixed")).await;
    let handshake = upstream.handshake().await;
    assert!(handshake.request.target.contains("c4n4ry-query&"), "{}", handshake.request.target);
    assert_eq!(handshake.request.header("x-own"), Some("c4n4ry-own"));
    let mut fixed = handshake.accept().await;
    fixed.send(OPEN).await;
    fixed.expect(r#"40{"deep":{"more":["c4n4ry-deep"]},"token":"c4n4ry-auth"}"#).await;
    fixed.send(r#"40{"sid":"socket-1"}"#).await;
    fixed.expect(r#"420["login","c4n4ry-login"]"#).await;
    // The wrong answer, so that the script fails.
    fixed.send(r#"430[{"ok":false}]"#).await;
    for (name, auth) in [("file", "c4n4ry-file"), ("command", "c4n4ry-printed")] {
        ask(&mut consumer, &mut said, connect(name)).await;
        let mut ws = upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect(&format!(r#"40{{"token":"{auth}"}}"#)).await;
        ws.send(r#"40{"sid":"socket-2"}"#).await;
        if name == "file" {
            ws.expect(r#"42["login","c4n4ry-args"]"#).await;
        }
        // It leaves, and quotes what it was told.
        let reason = format!("bad {auth}");
        let mut frame = vec![0x88, u8::try_from(reason.len() + 2).unwrap(), 0x03, 0xf0];
        frame.extend_from_slice(reason.as_bytes());
        ws.write_raw(&frame).await;
        let disconnect = format!(r#"{{"id":2,"method":"disconnect","params":{{"connection":"{name}"}}}}"#);
        until(&mut listener, &mut said, &["\"event\":\"disconnect\"", name]).await;
        ask(&mut consumer, &mut said, disconnect).await;
    }
    let inherited = fs::read_to_string(daemon.folder().path().join("env")).unwrap();
    assert!(inherited.contains("CREDENTIALS_DIRECTORY") && !inherited.contains("SIOD__"), "{inherited}");

    // A session whose first POST is refused with what was in it.
    ask(&mut consumer, &mut said, connect("polling")).await;
    loop {
        let exchange = upstream.exchange().await;
        if exchange.is_post() {
            assert_eq!(exchange.body(), r#"40{"token":"c4n4ry-posted"}"#);
            exchange.reply(400, "what is c4n4ry-posted?");
            break;
        }
        exchange.reply(200, OPEN);
    }
    until(&mut listener, &mut said, &["\"event\":\"connect_error\"", "polling"]).await;

    // Those that fail.
    for name in FAILING {
        ask(&mut consumer, &mut said, connect(name)).await;
        let _ws = match name {
            "broken_file" | "broken_command" | "missing_command" => Some(opened(&mut upstream).await),
            _ => None,
        };
        until(&mut listener, &mut said, &["\"event\":\"connect_error\"", name]).await;
    }

    // What programs send.
    for request in [
        r#"{"id":3,"method":"set_auth","params":{"connection":"fixed","auth":{"token":"c4n4ry-set"}}}"#,
        r#"{"id":3,"method":"set_auth","params":{"connection":"fixed","auth":"c4n4ry-wrong"}}"#,
        r#"{"id":3,"method":"set_auth","params":{"connection":"fixed","auth":["c4n4ry-wrong"]}}"#,
        r#"{"id":3,"method":"connect","params":{"connection":"fixed","auth":"c4n4ry-wrong"}}"#,
        r#"{"id":3,"method":"connect","params":{"connection":"refused","auth":{"token":"c4n4ry-set"},"wait":5}}"#,
        r#"{"id":3,"method":"open","params":{"name":"mine","url":"http://me:c4n4ry-open@127.0.0.1:1/?password=c4n4ry-open","auth":{"token":"c4n4ry-open"},"extra_headers":{"X":"c4n4ry-open"},"proxy":"http://me:c4n4ry-open@127.0.0.1:1","on_connect":[{"event":"x","args":["c4n4ry-open"]}]}}"#,
        r#"{"id":3,"method":"open","params":{"name":"mine","url":"http://127.0.0.1:1","auth":{"token":"c4n4ry-other"}}}"#,
        r#"{"id":3,"method":"open","params":{"name":"bad","url":"http://me:c4n4ry-open@[::1","auth":"c4n4ry-open"}}"#,
        r#"{"id":3,"method":"open","params":{"name":"bad","url":"http://h","proxy":"c4n4ry-open"}}"#,
        r#"{"id":3,"method":"open","params":{"name":"bad","url":"http://h","extra_headers":{"X":["c4n4ry-open"]}}}"#,
        r#"{"id":3,"method":"open","params":{"name":"bad","url":"http://h","auth_command":"c4n4ry-open"}}"#,
        r#"{"id":3,"method":"open","params":{"name":"bad","url":"http://h","on_connect":[{"event":"x","args":"c4n4ry-open"}]}}"#,
        r#"{"id":3,"method":"open","params":"c4n4ry-params"}"#,
        r#"{"id":3,"method":"emit","params":{"connection":"fixed","event":"login","args":"c4n4ry-emit"}}"#,
        r#"{"id":3,"method":"emit","params":{"connection":"fixed","event":"login","args":["c4n4ry-emit"]}}"#,
        r#"{"id":3,"method":"status"}"#,
        r#"{"id":3,"method":"list"}"#,
        r#"{"id":3,"method":"emit","params":["c4n4ry-garbage""#,
        "c4n4ry-garbage",
    ] {
        ask(&mut consumer, &mut said, request.to_owned()).await;
    }

    // The command line, with the same configuration and environment.
    let folder = daemon.folder();
    let file = folder.path().join("siod.toml");
    for arguments in [
        &["check"][..],
        &["doctor", "quoted"],
        &["doctor", "refused"],
        &["doctor", "not_tls"],
        &["doctor", "proxied"],
        &["doctor", "by_environment"],
        &["doctor", "broken_command"],
        &["status"],
        &["status", "--json"],
        &["schema"],
        &["man"],
        &["--help"],
    ] {
        let command = folder.command();
        let (mut siod, daemon_s) = (Command::new(env!("CARGO_BIN_EXE_siod")), command.as_std());
        siod.env_clear()
            .envs(daemon_s.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .args(["--socket".as_ref(), folder.socket().as_os_str()])
            .args(["--config".as_ref(), file.as_os_str()])
            .args(arguments)
            .stdin(Stdio::null());
        let running = siod.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ws = match arguments {
            ["doctor", "broken_command"] => Some(opened(&mut upstream).await),
            _ => None,
        };
        let output = within("a command to end", running.wait_with_output()).await.unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).join("\n");
        assert!(!text.trim().is_empty(), "{arguments:?} says something");
        if arguments == ["check"] {
            let warning = "every user of this machine can read what only the server should know (mode 0644)";
            assert!(text.contains(warning) && text.contains("connections.fixed.auth, "), "{text}");
        }
        said.add(format!("siod {arguments:?}"), text);
    }
    let process = format!("/proc/{}/cmdline", daemon.pid());
    said.add(process.clone(), fs::read_to_string(process).unwrap());

    // Configurations that do not load.
    let good = fs::read_to_string(&file).unwrap();
    for bad in [
        "[connections.x]\nurl = \"http://h\"\nauth = \"c4n4ry-bad\"",
        "[connections.x]\nurl = \"http://h\"\nauth = { token = \"c4n4ry-bad }",
        "[connections.x]\nurl = \"http://h\"\nauth = { token = c4n4ry-bad }",
        "[connections.x]\nurl = \"me:c4n4ry-bad@h\"",
        "[connections.x]\nurl = \"http://me:c4n4ry-bad@h:0/?token=c4n4ry-bad\"\nextra_headers = \"c4n4ry-bad\"",
        "[connections.x]\nurl = \"http://h\"\nproxy = \"ftp://me:c4n4ry-bad@h\"",
        "[connections.x]\nurl = \"http://h\"\nextra_headers = { X = \"c4n4ry-bad\\n\" }",
        "[connections.x]\nurl = \"http://h\"\non_connect = [{ event = \"x\", args = \"c4n4ry-bad\" }]",
        "[connections.x]\nurl = \"http://h\"\nquery = { token = [\"c4n4ry-bad\"] }",
        "[connections.x]\nurl = \"http://h\"\nauth_command = \"c4n4ry-bad\"",
    ] {
        folder.configure(bad);
        ask(&mut consumer, &mut said, r#"{"id":4,"method":"reload"}"#.to_owned()).await;
        assert!(said.0.last().unwrap().1.contains("invalid_config"), "{bad}: {:?}", said.0.last());
        ask(&mut consumer, &mut said, r#"{"id":4,"method":"status"}"#.to_owned()).await;
    }
    folder.configure(&good.replace("c4n4ry-auth", "c4n4ry-new"));
    ask(&mut consumer, &mut said, r#"{"id":5,"method":"reload"}"#.to_owned()).await;
    while let Some(line) = drained(&mut listener).await {
        said.add("a notification", line);
    }
    let log = daemon.into_log().await;
    assert!(log.contains("ended") && log.contains("a line was no request"), "{log}");
    said.add("the log", log);
    said
}

/// A session that waits for a CONNECT.
async fn opened(upstream: &mut Upstream) -> Ws {
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws
}

/// Reads notifications up to one that has all of `parts`.
async fn until(listener: &mut common::Consumer, said: &mut Said, parts: &[&str]) {
    loop {
        let line = listener.next_notification().await;
        said.add("a notification", line.as_str());
        if parts.iter().all(|part| line.contains(part)) {
            return;
        }
    }
}

/// A notification that has come already.
async fn drained(listener: &mut common::Consumer) -> Option<String> {
    let mut line = String::new();
    // The answer comes behind all that was said before.
    listener.send(r#"{"id":"end","method":"list"}"#).await;
    while let Some(next) = listener.next_line().await {
        if next.contains(r#""id":"end""#) {
            break;
        }
        let _written = writeln!(line, "{next}");
    }
    (!line.is_empty()).then_some(line)
}

#[tokio::test]
async fn what_everybody_can_read_is_warned_of_at_the_start_and_at_a_reload() {
    let secret =
        "[connections.a]\nurl = 'http://127.0.0.1:1'\nauto_connect = false\nauth = { token = 'x' }\n";
    let folder = Folder::new(secret);
    let file = folder.path().join("siod.toml");
    let mode = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    mode(0o640);
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    mode(0o604);
    consumer.request(r#"{"id":1,"method":"reload"}"#).await;
    // In a folder that keeps others out the file's own mode says nothing.
    fs::set_permissions(daemon.folder().path(), Permissions::from_mode(0o750)).unwrap();
    consumer.request(r#"{"id":2,"method":"reload"}"#).await;
    fs::set_permissions(daemon.folder().path(), Permissions::from_mode(0o755)).unwrap();
    let folder = daemon.folder().path().to_owned();
    let warning = format!(
        "{}: every user of this machine can read what only the server should know (mode 0604): connections.a.auth; \
         chmod o= it, or put them into files of their own (auth_file, args_file)",
        file.display()
    );
    let check = Command::new(env!("CARGO_BIN_EXE_siod"))
        .args(["check".as_ref(), "--config".as_ref(), file.as_os_str()])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8(check.stderr).unwrap(), format!("siod: {warning}\n"));
    assert_eq!(check.status.code(), Some(0));
    // A file that is a secret as a whole.
    let auth = folder.join("auth.json");
    fs::write(&auth, "{}").unwrap();
    fs::set_permissions(&auth, Permissions::from_mode(0o644)).unwrap();
    daemon.folder().configure(&format!(
        "[connections.a]\nurl = 'http://127.0.0.1:1'\nauto_connect = false\nauth_file = '{}'\n",
        auth.display()
    ));
    consumer.request(r#"{"id":3,"method":"reload"}"#).await;
    let log = daemon.into_log().await;
    assert_eq!(log.matches(&warning).count(), 1, "once, at the first reload: {log}");
    assert_eq!(log.matches("can read").count(), 2, "{log}");
    assert!(
        log.contains(&format!(
            "{}: every user of this machine can read what only the server should know (mode 0644)",
            auth.display()
        )),
        "{log}"
    );
}

#[tokio::test]
async fn credentials_are_read_at_every_connect() {
    let mut upstream = Upstream::start().await;
    let config = format!(
        "{}\n[connections.chat]\nurl = '{}'\nauth_file = '${{CREDENTIALS_DIRECTORY}}/chat'\n",
        common::QUICK,
        upstream.url()
    );
    let folder = Folder::new(&config);
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let folder = folder.variable("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    let give = |token: &str| {
        // As the service manager does it: for the owner's eyes.
        let file = credentials.join("new");
        fs::write(&file, format!("{{\"token\":\"{token}\"}}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        fs::rename(file, credentials.join("chat")).unwrap();
    };
    give("first");
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    for token in ["first", "second"] {
        give(token);
        consumer.request(r#"{"id":1,"method":"connect","params":{"connection":"chat"}}"#).await;
        let mut ws = upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect(&format!(r#"40{{"token":"{token}"}}"#)).await;
        consumer.request(r#"{"id":2,"method":"disconnect","params":{"connection":"chat"}}"#).await;
    }
}

/// As another user, so that root's rights do not hide what is missing.
#[tokio::test]
async fn memory_stays_private_and_nothing_is_missed_for_that() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "SKIPPED memory_stays_private_and_nothing_is_missed_for_that: only root can become another user"
        );
        return;
    }
    let mut upstream = Upstream::start().await;
    let config = format!(
        "[connections.a]\nurl = '{}'\nauth_command = ['/bin/sh', '-c', 'grep core /proc/$$/limits >&2; echo {{}}']\ntransports = ['websocket']",
        upstream.url()
    );
    let folder = Folder::new(&config).variable("SIOD__LOG__LEVEL", "info");
    // Where the binary is others may not be able to go. Copied by another process: of a file that this one has open for
    // writing, each child that another test starts meanwhile has a copy, and as long as it has, nobody can run the file.
    let siod = folder.path().join("siod");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_siod")).arg(&siod).status().await;
    assert!(copied.unwrap().success());
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(folder.path().join("siod.toml"), Permissions::from_mode(0o644)).unwrap();
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let command = folder.command_as(&[&as_nobody[..], &[siod.to_str().unwrap()]].concat());
    let mut daemon = Daemon::start_with(folder, command).await;
    let _ws = upstream.joined_as("40{}").await;
    let process = Path::new("/proc").join(daemon.pid().to_string());

    let status = fs::read_to_string(process.join("status")).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t"), "{status}");
    assert_eq!(
        fs::metadata(process.join("environ")).unwrap().uid(),
        0,
        "it belongs to root while it is private"
    );
    for secret in ["environ", "mem", "maps", "fd"] {
        let path = process.join(secret);
        let read = Command::new("setpriv")
            .args(&as_nobody[1..])
            .args(["/bin/ls", "-L"])
            .arg(path.join("."))
            .output();
        let list = Command::new("setpriv").args(&as_nobody[1..]).arg("/bin/cat").arg(&path).output();
        let done = if secret == "fd" { read.await } else { list.await };
        let done = done.unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.stdout.is_empty() && stderr.contains("Permission denied"), "{secret}: {done:?}");
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = |limits: &str| {
        let line = limits.lines().find(|line| line.contains("Max core file size")).unwrap_or_default();
        line.split_whitespace()
            .skip_while(|word| *word != "size")
            .skip(1)
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(core(&limits), "0 0");

    // It still knows itself, its peers and its service manager.
    let mut consumer = daemon.attach().await;
    let found = consumer
        .call(
            r#"{"id":1,"method":"status"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"daemon":{"rss_bytes":…rss,"…":…},"connections":[…],"consumers":[{"uid":0,"…":…}]}}"#,
        )
        .await;
    assert!(found.number("rss") > 1 << 20);
    daemon.signal(Signal::HUP);
    assert!(daemon.told().await.contains("RELOADING=1"));
    assert!(daemon.told().await.contains("READY=1"));
    let log = daemon.into_log().await;
    let said = log.lines().find(|line| line.contains("Max core file size")).unwrap_or_default();
    assert_eq!(core(said), "0 0", "an auth command leaves no core either: {log}");
}
