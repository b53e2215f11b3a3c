//! SOCKS 5 (RFC 1928) with user and password (RFC 1929): a way through a SOCKS proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::engineio::Phase;
use crate::transport::error::{Failure, lower_first};
use crate::transport::proxy::Credentials;

const VERSION: u8 = 5;
const NO_AUTH: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// What the proxy is asked to connect to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Address(SocketAddr),
    Name(&'a str, u16),
}

/// The proxy has understood, and cannot or will not.
const REPLIES: [&str; 8] = [
    "general failure",
    "the connection is not allowed by its rules",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "TTL expired",
    "it knows no CONNECT",
    "it knows no addresses of this kind",
];

/// Asks the proxy at the other end of `stream`, which has been greeted, to connect to `target`. A connection is good for
/// one such question.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    target: Target<'_>,
) -> Result<(), Failure> {
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => {
                    request.push(IPV4);
                    request.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    request.push(IPV6);
                    request.extend(ip.octets());
                }
            }
            address.port()
        }
        Target::Name(host, port) => {
            let length = u8::try_from(host.len())
                .map_err(|_| failure("the server's name is longer than the 255 bytes that SOCKS carries"))?;
            request.extend([DOMAIN, length]);
            request.extend(host.as_bytes());
            port
        }
    };
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await.map_err(lost)?;
    answer(stream).await
}

/// Agrees with the proxy on how to authenticate, and does it.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    credentials: Option<&Credentials>,
) -> Result<(), Failure> {
    let greeting: &[u8] =
        if credentials.is_some() { &[VERSION, 2, NO_AUTH, PASSWORD] } else { &[VERSION, 1, NO_AUTH] };
    stream.write_all(greeting).await.map_err(lost)?;
    let [version, method] = read(stream).await?;
    if version != VERSION {
        return Err(failure("what listens there speaks no SOCKS 5")
            .with_hint("what listens there may be an HTTP proxy: try http:// in the option proxy"));
    }
    match (method, credentials) {
        (NO_AUTH, _) => Ok(()),
        (PASSWORD, Some(Credentials { user, password })) => {
            let length = |bytes: &[u8]| {
                u8::try_from(bytes.len())
                    .map_err(|_| failure("the user or password is longer than 255 bytes"))
            };
            let mut login = vec![1, length(user)?];
            login.extend(user);
            login.push(length(password)?);
            login.extend(password);
            stream.write_all(&login).await.map_err(lost)?;
            match read(stream).await? {
                [_, 0] => Ok(()),
                [_, _] => Err(failure("it does not take this user and password")
                    .with_hint("see the user and password in the option proxy")),
            }
        }
        (NONE_ACCEPTABLE, None) => Err(failure("it wants to know who we are")
            .with_hint("the proxy wants a user and password: proxy = \"socks5://USER:PASSWORD@HOST:PORT\"")),
        (NONE_ACCEPTABLE, Some(_)) => Err(failure("it takes neither a user and password nor nothing")),
        _ => Err(failure("it chose a way to authenticate that was not offered")),
    }
}

async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), Failure> {
    let [version, reply, _, kind] = read(stream).await?;
    if version != VERSION {
        return Err(failure("its answer is no SOCKS 5"));
    }
    if reply != 0 {
        let words = REPLIES.get(usize::from(reply) - 1).copied().unwrap_or("a failure that has no name");
        return Err(failure(&format!("it answers: {words} (reply {reply})")));
    }
    // Where it connected from, which nobody needs.
    match kind {
        IPV4 => read::<_, { 4 + 2 }>(stream).await.map(drop),
        IPV6 => read::<_, { 16 + 2 }>(stream).await.map(drop),
        DOMAIN => {
            let [length] = read(stream).await?;
            let mut rest = [0; 255 + 2];
            stream.read_exact(&mut rest[..usize::from(length) + 2]).await.map(drop).map_err(lost)
        }
        _ => Err(failure("its answer has an address of no known kind")),
    }
}

async fn read<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(lost)?;
    Ok(bytes)
}

fn lost(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => failure("it closed the connection instead of answering"),
        _ => failure(&lower_first(&error.to_string())),
    }
}

fn failure(detail: &str) -> Failure {
    Failure::new(Phase::Proxy, detail)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Speaks with a proxy that expects and answers in turn; all that it expects must come.
    async fn spoken(
        target: Target<'_>,
        credentials: Option<&Credentials>,
        script: &[(&[u8], &[u8])],
    ) -> Result<Vec<u8>, String> {
        let (mut ours, mut theirs) = duplex(1024);
        let proxy = async {
            for (expected, answer) in script {
                let mut read = vec![0; expected.len()];
                theirs.read_exact(&mut read).await.expect("the client goes on");
                assert_eq!(&read, expected);
                theirs.write_all(answer).await.expect("the client listens");
            }
            theirs.shutdown().await.expect("the client listens");
        };
        let asked = async {
            greet(&mut ours, credentials).await?;
            connect(&mut ours, target).await
        };
        let (opened, ()) = tokio::join!(asked, proxy);
        opened.map_err(|failure| {
            assert_eq!(failure.phase, Phase::Proxy);
            failure.detail
        })?;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.expect("memory");
        Ok(rest)
    }

    #[tokio::test]
    async fn every_kind_of_target_and_answer() {
        let me = Credentials { user: b"me".to_vec(), password: b"pw".to_vec() };
        let v4 = Target::Address("1.2.3.4:80".parse().expect("an address"));
        let v6 = Target::Address("[::1]:258".parse().expect("an address"));
        let name = Target::Name("a.test", 443);
        let anonymous: (&[u8], &[u8]) = (b"\x05\x01\x00", b"\x05\x00");
        let offered: &[u8] = b"\x05\x02\x00\x02";
        let asked: &[u8] = b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50";
        let granted: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01";
        let login: &[u8] = b"\x01\x02me\x02pw";
        for (target, credentials, script, outcome) in [
            (v4, None, &[anonymous, (asked, granted)][..], Ok("")),
            // What the server says first stays to be read.
            (v4, None, &[anonymous, (asked, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01hello")], Ok("hello")),
            (
                v6,
                None,
                &[
                    anonymous,
                    (
                        b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02",
                        b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02",
                    ),
                ],
                Ok(""),
            ),
            (
                name,
                None,
                &[anonymous, (b"\x05\x01\x00\x03\x06a.test\x01\xbb", b"\x05\x00\x00\x03\x01x\x00\x01rest")],
                Ok("rest"),
            ),
            (v4, Some(&me), &[(offered, b"\x05\x00"), (asked, granted)], Ok("")),
            (v4, Some(&me), &[(offered, b"\x05\x02"), (login, b"\x01\x00"), (asked, granted)], Ok("")),
            (
                v4,
                Some(&me),
                &[(offered, b"\x05\x02"), (login, b"\x01\x01")],
                Err("it does not take this user and password"),
            ),
            (v4, None, &[(b"\x05\x01\x00", b"\x05\xff")], Err("it wants to know who we are")),
            (
                v4,
                None,
                &[(b"\x05\x01\x00", b"\x05\x02")],
                Err("it chose a way to authenticate that was not offered"),
            ),
            (
                v4,
                Some(&me),
                &[(offered, b"\x05\xff")],
                Err("it takes neither a user and password nor nothing"),
            ),
            (v4, None, &[(b"\x05\x01\x00", b"HTTP/1.1 400")], Err("what listens there speaks no SOCKS 5")),
            (v4, None, &[(b"\x05\x01\x00", b"")], Err("it closed the connection instead of answering")),
            (
                v4,
                None,
                &[anonymous, (asked, b"\x05\x00\x00")],
                Err("it closed the connection instead of answering"),
            ),
            (
                v4,
                None,
                &[anonymous, (asked, b"\x05\x02\x00\x01")],
                Err("it answers: the connection is not allowed by its rules (reply 2)"),
            ),
            (
                v4,
                None,
                &[anonymous, (asked, b"\x05\x09\x00\x01")],
                Err("it answers: a failure that has no name (reply 9)"),
            ),
            (
                v4,
                None,
                &[anonymous, (asked, b"\x05\x00\x00\x02")],
                Err("its answer has an address of no known kind"),
            ),
            (v4, None, &[anonymous, (asked, b"\x04\x00\x00\x01")], Err("its answer is no SOCKS 5")),
        ] {
            let found = spoken(target, credentials, script).await;
            let found = found.as_deref().map_err(String::as_str);
            assert_eq!(found, outcome.map(str::as_bytes), "{target:?} {script:?}");
        }
        let long = "x".repeat(256);
        assert_eq!(
            spoken(Target::Name(&long, 1), None, &[anonymous]).await,
            Err("the server's name is longer than the 255 bytes that SOCKS carries".to_owned())
        );
    }
}
