//! Several addresses tried at once, each a little later than the one before (RFC 8305, "happy eyeballs").
//!
//! What connects is a parameter, so that the order and the times can be tested without a network.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// What an attempt gets before the next one starts beside it; RFC 8305, section 8, recommends this much.
const STAGGER: Duration = Duration::from_millis(250);

/// The first to connect wins, and the others are dropped. An attempt starts [`STAGGER`] after the one before, or as soon
/// as one fails. Without a winner: every failure, in the order in which they came.
pub(super) async fn race<A, C, E, F>(
    addresses: impl IntoIterator<Item = A>,
    connect: impl Fn(A) -> F,
) -> Result<C, Vec<E>>
where
    F: Future<Output = Result<C, E>>,
{
    let mut waiting = addresses.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        running.extend(waiting.next().map(&connect));
        let mut stagger = pin!(sleep(STAGGER));
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(Ok(connected)) => return Ok(connected),
                    Some(Err(failure)) => failures.push(failure),
                    None => return Err(failures),
                },
                () = &mut stagger, if waiting.peek().is_some() => {}
                // Nobody is left to start: only the end of those under way matters.
            }
            if waiting.peek().is_some() {
                break;
            }
        }
    }
}

/// The two families in turn, beginning with that of the first address; within each the resolver's order (RFC 6724)
/// stays. So one family that leads nowhere costs one [`STAGGER`], however many addresses it has.
pub(super) fn interleaved(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    let first_is_ipv6 = seen.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        seen.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let mut ordered = Vec::with_capacity(one.len() + other.len());
    while !one.is_empty() || !other.is_empty() {
        ordered.extend(one.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    /// What an attempt does: connect, fail, or nothing at all, after so many milliseconds.
    #[derive(Clone, Copy)]
    enum Does {
        Connect(u64),
        Fail(u64),
        Hang,
    }
    use Does::{Connect, Fail, Hang};

    type Outcome = Result<usize, Vec<usize>>;

    /// The outcome, when it came about, and when each attempt began, in milliseconds.
    async fn run(attempts: &[Does]) -> (Outcome, u64, Vec<u64>) {
        let start = Instant::now();
        let elapsed = || u64::try_from(start.elapsed().as_millis()).expect("a short test");
        let begun = RefCell::new(Vec::new());
        let connect = |index: usize| {
            begun.borrow_mut().push(elapsed());
            let does = attempts[index];
            async move {
                match does {
                    Connect(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Ok(index)
                    }
                    Fail(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Err(index)
                    }
                    Hang => std::future::pending().await,
                }
            }
        };
        let outcome = race(0..attempts.len(), connect).await;
        let at = elapsed();
        (outcome, at, begun.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_connect_wins() {
        for (attempts, outcome, at, begun) in [
            (&[Connect(10)][..], Ok(0), 10, &[0][..]),
            (&[], Err(vec![]), 0, &[]),
            // A second one that has not begun is never needed.
            (&[Connect(249), Connect(0)], Ok(0), 249, &[0]),
            // A black hole first costs one stagger, two of them two.
            (&[Hang, Connect(5)], Ok(1), 255, &[0, 250]),
            (&[Hang, Hang, Connect(5)], Ok(2), 505, &[0, 250, 500]),
            // A failure starts the next one at once.
            (&[Fail(3), Connect(5)], Ok(1), 8, &[0, 3]),
            (&[Fail(3), Hang, Connect(5)], Ok(2), 258, &[0, 3, 253]),
            // The slow first one may still win.
            (&[Connect(300), Hang], Ok(0), 300, &[0, 250]),
            (&[Connect(300), Connect(100)], Ok(0), 300, &[0, 250]),
            (&[Connect(300), Connect(10)], Ok(1), 260, &[0, 250]),
            // One failure too many is every failure.
            (&[Fail(300), Fail(10)], Err(vec![1, 0]), 300, &[0, 250]),
            (&[Fail(0), Fail(0), Fail(0)], Err(vec![0, 1, 2]), 0, &[0, 0, 0]),
        ] {
            let expected: (Outcome, u64, Vec<u64>) = (outcome, at, begun.to_vec());
            assert_eq!(run(attempts).await, expected);
        }
    }

    #[test]
    fn families_take_turns() {
        let parsed = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|text| text.parse().expect("an address")).collect()
        };
        for (resolved, expected) in [
            (&[][..], &[][..]),
            (&["1.0.0.1:1", "1.0.0.2:1"], &["1.0.0.1:1", "1.0.0.2:1"]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"],
                &["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"],
            ),
            (&["1.0.0.1:1", "[::1]:1", "1.0.0.1:1"], &["1.0.0.1:1", "[::1]:1"]),
        ] {
            assert_eq!(interleaved(parsed(resolved)), parsed(expected));
        }
    }
}
