//! How far something is that takes long: one line on a terminal, rewritten in place.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What ends sooner is not shown at all, and nothing is rewritten more often.
const INTERVAL: Duration = Duration::from_millis(200);

/// A line about something that takes long. It is gone when this is dropped.
#[derive(Debug)]
pub struct Progress {
    what: String,
    next: Instant,
    shown: bool,
}

impl Progress {
    /// Says nothing yet.
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), next: Instant::now() + INTERVAL, shown: false }
    }

    /// So many are done. Where stderr is no terminal, nothing is said.
    pub fn show(&mut self, done: usize) {
        let now = Instant::now();
        if now >= self.next && io::stderr().is_terminal() {
            // That nobody can read it is no failure.
            let _ = write!(io::stderr().lock(), "\r\x1b[Kxdpd: {}: {done} done", self.what);
            self.next = now + INTERVAL;
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
