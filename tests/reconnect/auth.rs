//! Who we are: sources that are asked at every CONNECT.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, within};
use crate::lost;

#[tokio::test]
async fn the_auth_file_is_read_at_every_connect_and_never_quoted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("auth.json");
    std::fs::write(&file, r#"{"token":"first"}"#).expect("a file of the test's own");
    let mut chat = Chat::idle(&format!("auth_file = \"{}\"", file.display())).await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"token":"first"}"#).await;
    ws.send(r#"40{"sid":"a"}"#).await;
    chat.consumer.hear(CONNECT).await;
    std::fs::write(&file, "\"secret-that-is-no-object").expect("a file of the test's own");
    ws.close(1001).await;
    chat.hears(&[(&lost(1001), true)]).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    loop {
        let line = chat.consumer.next_notification().await;
        assert!(!line.contains("secret-that"), "{line}");
        if line.contains(r#""connect_error""#) {
            assert!(line.contains(r#""source":"auth""#), "{line}");
            break;
        }
    }
    std::fs::write(&file, r#"{"token":"second"}"#).expect("a file of the test's own");
    // Attempts that read the file before it was whole again are refused like the first.
    let opened = async {
        loop {
            let mut ws = chat.upstream.accept_ws().await;
            ws.send(OPEN).await;
            if let Some(connect) = ws.next_text_or_end().await {
                return connect;
            }
        }
    };
    let retried = within("a CONNECT after the file is whole", async {
        tokio::select! {
            connect = ws.next_text_or_end() => match connect {
                Some(connect) => connect,
                None => std::future::pending().await,
            },
            connect = opened => connect,
        }
    })
    .await;
    assert_eq!(retried, r#"40{"token":"second"}"#);
}

/// A program of the test's own.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("token");
    // Written under another name, so that nobody runs it while it is open for writing.
    let written = folder.join("written");
    std::fs::write(&written, format!("#!/bin/sh\n{text}\n")).expect("a file of the test's own");
    std::fs::set_permissions(&written, std::fs::Permissions::from_mode(0o755)).expect("its owner may");
    std::fs::rename(&written, &path).expect("both are in the test's own folder");
    path
}

#[tokio::test]
async fn the_auth_command_is_run_at_every_connect() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let count = r#"n=$(cat "$0.n" 2>/dev/null || echo 0); n=$((n+1)); echo $n > "$0.n"; echo "{\"run\":$n,\"for\":\"$1\"}""#;
    let program = script(folder.path(), count);
    let mut chat = Chat::idle(&format!("auth_command = [\"{}\", \"a b\"]", program.display())).await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"run":1,"for":"a b"}"#).await;
    ws.send(r#"40{"sid":"a"}"#).await;
    chat.consumer.hear(CONNECT).await;
    ws.close(1001).await;
    chat.hears(&[(&lost(1001), true)]).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"run":2,"for":"a b"}"#).await;
}

#[tokio::test]
async fn an_auth_command_that_fails_is_run_again_and_what_it_says_is_in_the_log_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = script(
        folder.path(),
        r#"test -e "$0.ready" && exec echo '{"token":"t"}'; echo "the vault is closed" >&2; echo '{"token":"half a secr'; exit 7"#,
    );
    let mut chat = Chat::idle(&format!("auth_command = [\"{}\"]", program.display())).await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    for _ in 0..2 {
        let failed = format!(
            r#""event":"connect_error","message":"auth_command {}: failed (exit status: 7); what it said is in the log","phase":"auth","source":"auth""#,
            program.display()
        );
        chat.hears(&[(&failed, true)]).await;
    }
    std::fs::write(folder.path().join("token.ready"), "").expect("a file of the test's own");
    ws.expect(r#"40{"token":"t"}"#).await;
    ws.send(r#"40{"sid":"a"}"#).await;
    chat.daemon.terminate().await;
    let log = chat.daemon.log().await;
    assert!(log.contains("the vault is closed"), "{log}");
    assert!(!log.contains("secr"), "{log}");
}
