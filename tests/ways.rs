//! The ways to a server: proxies of every kind and a Unix socket, for both transports, plain and over TLS.

mod common;

use std::fmt::Write as _;

use common::daemon::Folder;
use common::node::NodeServer;
use common::relay::{Asked, Authority, Relay, Rules, UnixRelay, closed};
use common::upstream::{OPEN, OPEN_WITH_UPGRADE};
use common::{Chat, Consumer, Daemon, QUICK, Upstream, lifecycle};

const USER: &str = "me:p@ss";
/// The same in a URL.
const USER_INFO: &str = "me:p%40ss";

fn wants_user() -> Rules {
    Rules { user: Some(USER), ..Rules::default() }
}

/// Every proxy, with a user and password, and the option that leads through it.
struct Proxies {
    http: Relay,
    https: Relay,
    socks: Relay,
}

impl Proxies {
    async fn start(authority: &Authority) -> Self {
        Self {
            http: Relay::http(wants_user()).await,
            https: Relay::https(wants_user(), authority).await,
            socks: Relay::socks(wants_user()).await,
        }
    }

    fn options(&self) -> [(&'static str, String); 4] {
        [
            ("http", self.http.address()),
            ("https", self.https.address()),
            ("socks5", self.socks.address()),
            ("socks5h", self.socks.address()),
        ]
        .map(|(scheme, address)| (scheme, format!("proxy = \"{scheme}://{USER_INFO}@{address}\"")))
    }

    fn were_asked(&self) -> bool {
        self.http.was_asked() && self.https.was_asked() && self.socks.was_asked()
    }
}

#[tokio::test]
async fn the_official_server_is_reached_every_way() {
    let server = NodeServer::start("{}").await;
    let authority = Authority::new();
    let front = Relay::tls(server.port(), &authority).await;
    let (plain_socket, tls_socket) =
        (UnixRelay::start(server.port()), UnixRelay::start(front.address().port()));
    let proxies = Proxies::start(&authority).await;
    let mut ways = vec![("direct", String::new(), String::new())];
    ways.extend(proxies.options().map(|(name, option)| (name, option.clone(), option)));
    let socket = |relay: &UnixRelay| format!("unix_socket = \"{}\"", relay.path().display());
    ways.push(("unix", socket(&plain_socket), socket(&tls_socket)));

    let mut config = format!(
        "[defaults]\nauto_connect = false\nforce_new = true\ntls.ca_file = \"{}\"\n",
        authority.file().display()
    );
    let mut expected = Vec::new();
    for (way, plain, tls) in &ways {
        for (scheme, port, option) in [("http", server.port(), plain), ("https", front.address().port(), tls)]
        {
            for (label, transports, ends_on) in [
                ("ws", r#"["websocket"]"#, "websocket"),
                ("poll", r#"["polling"]"#, "polling"),
                ("up", r#"["polling", "websocket"]"#, "websocket"),
            ] {
                let name = format!("{way}-{scheme}-{label}");
                // Writing to a String cannot fail.
                let _ = write!(
                    config,
                    "[connections.{name}]\nurl = \"{scheme}://localhost:{port}\"\ntransports = {transports}\n{option}\n"
                );
                expected.push((name, ends_on));
            }
        }
    }
    let daemon = Daemon::start(&config).await;
    let mut consumer = daemon.attach().await;
    consumer
        .call(
            r#"{"id":0,"method":"subscribe","params":{"lifecycle":["upgrade"],"events":[]}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{"…":…}}"#,
        )
        .await;
    for (name, ends_on) in expected {
        consumer
            .call(
                &format!(r#"{{"id":1,"method":"connect","params":{{"connection":"{name}","wait":15000}}}}"#),
                &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"name":"{name}","connected":true,"…":…}}}}"#),
            )
            .await;
        if name.ends_with("up") {
            let upgrade = lifecycle(r#""event":"upgrade","transport":"websocket""#, true);
            consumer.hear(&upgrade.replace(r#""chat""#, &format!(r#""{name}""#))).await;
        }
        consumer
            .call(
                &format!(
                    r#"{{"id":1,"method":"emit","params":{{"connection":"{name}","event":"who","ack":true}}}}"#
                ),
                &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"args":["/",{{}},"{ends_on}"]}}}}"#),
            )
            .await;
    }
    assert!(proxies.were_asked());
}

#[tokio::test]
async fn every_connection_goes_through_the_proxy_and_its_password_to_nobody_else() {
    let authority = Authority::new();
    let Proxies { mut http, mut https, mut socks } = Proxies::start(&authority).await;
    let ca_file = format!("tls.ca_file = \"{}\"", authority.file().display());
    for (scheme, proxy) in [("http", &mut http), ("https", &mut https), ("socks5", &mut socks)] {
        let mut chat = Chat::idle(&format!(
            "transports = [\"polling\", \"websocket\"]\n{ca_file}\nproxy = \"{scheme}://{USER_INFO}@{}\"",
            proxy.address()
        ))
        .await;
        let server =
            Asked { target: format!("127.0.0.1:{}", chat.upstream.port()), user: Some(USER.to_owned()) };
        chat.start().await;
        let get = chat.upstream.get().await;
        assert_eq!(get.request.header("host"), Some(server.target.as_str()));
        assert_eq!(get.request.header("proxy-authorization"), None);
        assert_eq!(proxy.asked().await, server);
        get.reply(200, OPEN_WITH_UPGRADE);
        let mut ws = chat.upstream.accept_ws().await;
        assert_eq!(ws.request.header("proxy-authorization"), None);
        ws.expect("2probe").await;
        chat.upstream.expect_posted("40").await;
        // The second connection of polling, and the WebSocket.
        assert_eq!(proxy.asked().await, server);
        assert_eq!(proxy.asked().await, server);
        assert!(!proxy.was_asked());
        // With the server gone there is nobody to say goodbye to.
        let Chat { daemon, upstream, .. } = chat;
        drop(upstream);
        let log = daemon.into_log().await;
        assert!(!log.contains("p@ss") && !log.contains(USER_INFO), "{log}");
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_help_is_told_apart_from_the_server() {
    let refusing = |refusal| Rules { user: Some(USER), refusal: Some(refusal) };
    let (_nobody, closed) = closed();
    let (forbidding, failing) = (Relay::http(refusing(403)).await, Relay::http(refusing(502)).await);
    let (locked, ruled) = (Relay::socks(wants_user()).await, Relay::socks(refusing(2)).await);
    let server = NodeServer::start("{}").await;
    for (proxy, detail, code, hint) in [
        (format!("http://{closed}"), "connection refused (os error 111)", None, None),
        (
            format!("http://you:s3cret@{}", forbidding.address()),
            "HTTP 407: the proxy's own words",
            Some(407),
            Some("does not take the user and password"),
        ),
        (
            format!("http://{}", forbidding.address()),
            "HTTP 407: the proxy's own words",
            Some(407),
            Some("wants a user and password"),
        ),
        (
            format!("http://{USER_INFO}@{}", forbidding.address()),
            "HTTP 403: the proxy's own words",
            Some(403),
            Some("few ports"),
        ),
        (
            format!("http://{USER_INFO}@{}", failing.address()),
            "HTTP 502: the proxy's own words",
            Some(502),
            Some("cannot reach the server"),
        ),
        (
            format!("socks5://{}", locked.address()),
            "it wants to know who we are",
            None,
            Some("wants a user and password"),
        ),
        (
            format!("socks5h://you:s3cret@{}", locked.address()),
            "it does not take this user and password",
            None,
            Some("user and password"),
        ),
        (
            format!("socks5://{USER_INFO}@{}", ruled.address()),
            "it answers: the connection is not allowed by its rules (reply 2)",
            None,
            None,
        ),
        (
            format!("https://127.0.0.1:{}", server.port()),
            "what it sends is not TLS",
            None,
            Some("TLS with the proxy itself"),
        ),
        (
            format!("http://127.0.0.1:{}", server.port()),
            "connection closed before message completed",
            None,
            None,
        ),
    ] {
        for (transports, message) in
            [(r#"["websocket"]"#, "websocket error"), (r#"["polling"]"#, "xhr poll error")]
        {
            let mut chat = Chat::idle(&format!("transports = {transports}\nproxy = \"{proxy}\"")).await;
            chat.start().await;
            let (scheme, rest) = proxy.split_once("://").expect("a URL");
            let shown = match rest.split_once('@') {
                Some((_, address)) => format!("{scheme}://***@{address}"),
                None => proxy.clone(),
            };
            let code = code.map(|code| format!(r#""code":{code},"#)).unwrap_or_default();
            let hinted = if hint.is_some() { r#""hint":…hint,"# } else { "" };
            let heard = chat
                .consumer
                .hear(&lifecycle(
                    &format!(
                        r#""event":"connect_error","message":"{message}","phase":"proxy",
                           "description":"proxy {shown}: {detail}",{code}{hinted}"source":"transport""#
                    ),
                    true,
                ))
                .await;
            if let Some(words) = hint {
                assert!(heard["hint"].contains(words), "{proxy}: {}", &heard["hint"]);
            }
            let log = chat.daemon.into_log().await;
            assert!(!log.contains("s3cret") && !log.contains("p@ss") && !log.contains(USER_INFO), "{log}");
        }
    }
}

/// A daemon with these variables in its environment that connects `chat`, and a consumer that hears of failures.
async fn with_environment(url: &str, options: &str, variables: &[(&str, &str)]) -> (Daemon, Consumer) {
    let config = format!("{QUICK}\n[connections.chat]\nurl = \"{url}\"\n{options}");
    let folder =
        variables.iter().fold(Folder::new(&config), |folder, (name, value)| folder.variable(name, value));
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    consumer.request(r#"{"id":1,"method":"subscribe","params":{"lifecycle":["connect_error"]}}"#).await;
    consumer.request(r#"{"id":1,"method":"connect","params":{"connection":"chat"}}"#).await;
    (daemon, consumer)
}

#[tokio::test]
async fn the_environment_names_a_proxy_unless_the_option_does() {
    let mut upstream = Upstream::start().await;
    let (mut proxy, mut other) = (Relay::http(wants_user()).await, Relay::socks(wants_user()).await);
    let http = format!("http://{USER_INFO}@{}", proxy.address());
    let socks = format!("socks5h://{USER_INFO}@{}", other.address());
    let option = format!("proxy = \"{socks}\"");
    for (options, variables, through_http, through_socks) in [
        ("", &[("HTTP_PROXY", http.as_str())][..], true, false),
        ("", &[("http_proxy", &http)], true, false),
        ("", &[("ALL_PROXY", &socks)], false, true),
        ("", &[("all_proxy", &socks), ("http_proxy", &http)], true, false),
        ("", &[("HTTPS_PROXY", &http)], false, false),
        ("", &[("HTTP_PROXY", &http), ("NO_PROXY", "a.test, 127.0.0.0/8")], false, false),
        ("", &[("HTTP_PROXY", &http), ("no_proxy", "*")], false, false),
        ("", &[("HTTP_PROXY", "")], false, false),
        ("proxy = \"none\"", &[("HTTP_PROXY", &http)], false, false),
        (&option, &[("HTTP_PROXY", &http), ("NO_PROXY", "*")], false, true),
    ] {
        let (mut daemon, _consumer) = with_environment(&upstream.url(), options, variables).await;
        // Held until the daemon has ended, which would else come again and be taken for the next.
        let _held = upstream.handshake().await;
        daemon.terminate().await;
        for (relay, expected) in [(&mut proxy, through_http), (&mut other, through_socks)] {
            assert_eq!(relay.was_asked(), expected, "{options} {variables:?}");
            while relay.was_asked() {
                relay.asked().await;
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_of_the_environment_that_cannot_be_used_stops_the_start_without_its_password() {
    let config = "[connections.chat]\nurl = \"http://127.0.0.1:1\"\nauto_connect = false";
    let folder = Folder::new(config).variable("HTTP_PROXY", "gopher://me:s3cret@h");
    let (status, log) = folder.run_to_end().await;
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(log.contains("the variable HTTP_PROXY has a scheme that is not supported"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn a_missing_proxy_is_hinted_at_where_the_environment_has_one() {
    let (_nobody, address) = closed();
    for (options, variables, hint) in [
        ("proxy = \"none\"", &[("HTTP_PROXY", "http://p.test")][..], Some("proxy = \\\"none\\\" leaves out")),
        (
            "",
            &[("HTTP_PROXY", "http://p.test"), ("NO_PROXY", "127.0.0.1")],
            Some("NO_PROXY takes this server out"),
        ),
        ("", &[("HTTPS_PROXY", "http://p.test")], Some("not for this URL's scheme")),
        ("", &[], None),
    ] {
        let url = format!("http://{address}");
        let (_daemon, mut consumer) = with_environment(&url, options, variables).await;
        let line = consumer.next_notification().await;
        assert!(line.contains(r#""phase":"tcp""#), "{line}");
        match hint {
            Some(words) => assert!(line.contains(words), "{line}"),
            None => assert!(!line.contains("hint"), "{line}"),
        }
    }
}

#[tokio::test]
async fn over_a_unix_socket_the_url_still_says_whom_it_is_for() {
    let mut upstream = Upstream::start().await;
    let authority = Authority::new();
    let front = Relay::tls(upstream.port(), &authority).await;
    let (plain, tls) = (UnixRelay::start(upstream.port()), UnixRelay::start(front.address().port()));
    let ca_file = authority.file();
    let daemon = Daemon::start(&format!(
        "{QUICK}tls.ca_file = \"{}\"\n\
         [connections.plain]\nurl = \"http://server.test:8080/room\"\nunix_socket = \"{}\"\n\
         [connections.tls]\nurl = \"https://server.test\"\nunix_socket = \"{}\"\n\
         [connections.absent]\nurl = \"http://server.test\"\nunix_socket = \"/nowhere/x.sock\"\n",
        ca_file.display(),
        plain.path().display(),
        tls.path().display()
    ))
    .await;
    let mut consumer = daemon.attach().await;
    consumer.request(r#"{"id":1,"method":"subscribe","params":{"lifecycle":["connect_error"]}}"#).await;
    let mut open = Vec::new();
    for (name, host) in [("plain", "server.test:8080"), ("tls", "server.test")] {
        consumer
            .request(&format!(r#"{{"id":1,"method":"connect","params":{{"connection":"{name}"}}}}"#))
            .await;
        let mut ws = upstream.accept_ws().await;
        assert_eq!(ws.request.header("host"), Some(host));
        ws.send(OPEN).await;
        ws.expect(if name == "plain" { "40/room," } else { "40" }).await;
        open.push(ws);
    }
    consumer.request(r#"{"id":1,"method":"connect","params":{"connection":"absent"}}"#).await;
    let error = lifecycle(
        r#""event":"connect_error","message":"websocket error","phase":"tcp",
           "description":"/nowhere/x.sock: no such file or directory (os error 2)","source":"transport""#,
        true,
    );
    consumer.hear(&error.replace(r#""chat""#, r#""absent""#)).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_taken_is_named_as_the_cause() {
    let mut upstream = Upstream::start().await;
    let authority = Authority::new();
    let front = Relay::tls(upstream.port(), &authority).await;
    let port = front.address().port();
    let ca_file = format!("tls.ca_file = \"{}\"", authority.file().display());
    for (url, options, description) in [
        (
            format!("https://127.0.0.1:{port}"),
            String::new(),
            "the server's certificate is signed by an authority that is not trusted here",
        ),
        (
            format!("wss://127.0.0.1:{port}"),
            format!("{ca_file}\ntls.server_name = \"other.test\""),
            "the server's certificate is for 127.0.0.1, localhost, server.test, not other.test",
        ),
    ] {
        let (_daemon, mut consumer) = with_environment(&url, &options, &[]).await;
        let error = format!(
            r#""event":"connect_error","message":"websocket error","phase":"tls","description":"{description}","hint":"…","source":"transport""#
        );
        consumer.hear(&lifecycle(&error, true)).await;
    }
    for options in [&ca_file, "tls.insecure = true"] {
        let url = format!("https://127.0.0.1:{port}");
        let (daemon, mut consumer) = with_environment(&url, options, &[]).await;
        // Held until the daemon has ended, which would else come again and be taken for the next.
        let _held = upstream.joined().await;
        let insecure = options.contains("insecure");
        let line = consumer.request(r#"{"id":1,"method":"list"}"#).await;
        assert_eq!(line.contains(r#""insecure":true"#), insecure, "{line}");
        assert!(insecure || !line.contains("insecure"), "{line}");
        let log = daemon.into_log().await;
        assert_eq!(
            log.contains("connections.chat.tls.insecure: any certificate is taken"),
            insecure,
            "{log}"
        );
    }
}
