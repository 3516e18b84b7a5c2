//! How far something has come that takes a while, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::entries::grouped;

/// Less is done before anybody has read it.
const WORTH_SHOWING: usize = 20_000;
/// How often the line is written.
const PERIOD: Duration = Duration::from_millis(100);

/// One line on stderr that is written again and again, and goes in the end.
#[derive(Debug)]
pub struct Progress {
    what: String,
    unit: &'static str,
    done: usize,
    all: usize,
    next: Option<Instant>,
    written: bool,
}

impl Progress {
    /// Of `all` things, none is done. Where stderr is no terminal, or there are few of them, nothing is shown.
    pub fn new(what: String, unit: &'static str, all: usize) -> Self {
        let is_shown = all >= WORTH_SHOWING && io::stderr().is_terminal();
        Self { what, unit, done: 0, all, next: is_shown.then(Instant::now), written: false }
    }

    /// So many more are done.
    pub fn add(&mut self, count: usize) {
        self.done += count;
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + PERIOD);
        self.written = true;
        let Self { what, unit, .. } = self;
        let (done, all) = (grouped(self.done), grouped(self.all));
        // \x1b[K: what a longer line has left goes.
        let _ = write!(io::stderr().lock(), "\rxdpd: {what}: {done} of {all} {unit}\x1b[K");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.written {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
