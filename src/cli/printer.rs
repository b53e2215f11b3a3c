//! Notifications on stdout: lines for programs, or for people.

use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::{self, Output, note};
use super::pretty;
use crate::client::{News, Notification};

pub(super) struct Printer {
    output: Output,
    /// The zone in which people read times; absent: lines for programs.
    zone: Option<TimeZone>,
}

impl Printer {
    /// For people where stdout is a terminal, unless they want the lines as they are.
    pub(super) fn new(raw: bool) -> Self {
        if raw || !output::is_terminal() {
            Self { output: Output::raw(), zone: None }
        } else {
            Self { output: Output::styled(), zone: Some(TimeZone::system()) }
        }
    }

    /// Call [`flush`](Self::flush) before waiting for anything.
    pub(super) fn print(&mut self, notification: &Notification, replayed: bool) -> io::Result<()> {
        let Some(zone) = &self.zone else {
            return self.output.line(notification.line());
        };
        let now = if replayed { None } else { Some(Timestamp::now()) };
        self.output.line(&pretty::render(notification, now, zone, output::size().0))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// What was heard, and whether it was replayed; everything else is told on stderr, where people want to know it.
pub(super) fn heard(news: News) -> Option<(Notification, bool)> {
    match news {
        News::Heard { notification, replayed } => return Some((notification, replayed)),
        News::Away(why) => note(format_args!("{why}; attaching again")),
        News::Missed(missed) if missed.count.is_some() => note(missed),
        News::Attached { again: true, .. } => note("attached again"),
        // After a restart everything that the daemon has comes anyway.
        News::Missed(_) | News::Attached { .. } => {}
    }
    None
}
