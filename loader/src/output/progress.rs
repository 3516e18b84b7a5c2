//! How far something has come that takes a while: one line on a terminal, rewritten in place.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use xdpd_config::terminal::printable;

use crate::entries::grouped;

/// What ends sooner is not shown, and nothing is rewritten more often.
const INTERVAL: Duration = Duration::from_millis(200);
/// Of so many things, it is shown at once.
const MANY: usize = 20_000;

/// A line about something that takes a while. It is gone when this is dropped.
#[derive(Debug)]
pub struct Progress {
    what: String,
    all: usize,
    next: Instant,
    shown: bool,
}

impl Progress {
    /// Of so many things, none is done. Says nothing yet.
    pub fn of(what: impl Display, all: usize) -> Self {
        let now = Instant::now();
        let next = if all < MANY { now + INTERVAL } else { now };
        Self { what: printable(&what.to_string()).into_owned(), all, next, shown: false }
    }

    /// So many are done. Where stderr is no terminal, nothing is said.
    pub fn show(&mut self, done: usize) {
        let now = Instant::now();
        if now >= self.next && io::stderr().is_terminal() {
            let (done, all) = (grouped(done), grouped(self.all));
            // That nobody can read it is no failure. What a longer line has left is erased: \x1b[K.
            let _ = write!(io::stderr().lock(), "\rxdpd: {}: {done} of {all}\x1b[K", self.what);
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
