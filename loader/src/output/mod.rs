//! What people and tools read. Only here is anything printed: data to stdout, words for people to stderr.

pub mod check;
mod entries;
pub mod human;
pub mod json;
mod progress;
mod table;
mod told;

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write as _};

/// A terminal's usual width.
const WIDTH: usize = 80;

pub use progress::Progress;
pub use table::table;
pub use told::Told;

/// Whether data that was written has a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Taken,
    /// The reader has gone away and wants no more: that is success.
    Unwanted,
}

/// Writes data to stdout.
pub fn data(text: &str) -> io::Result<Delivery> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Delivery::Unwanted),
        other => other.map(|()| Delivery::Taken),
    }
}

/// Tells people something. That nobody can read it is no failure.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "xdpd: {message}");
}

/// Tells people several things, each on a line of its own.
pub fn say_all<T: Display>(messages: &[T]) {
    messages.iter().for_each(say);
}

/// Whether stderr takes colour.
pub fn stderr_colour() -> bool {
    io::stderr().is_terminal() && colour_wanted()
}

/// Whether stdout takes colour.
pub fn stdout_colour() -> bool {
    io::stdout().is_terminal() && colour_wanted()
}

/// As wide may be what cannot be wrapped: as the terminal is, but not narrower than others are; what goes to a file or a
/// program has no bound.
pub fn stdout_width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(io::stdout());
    terminal.map_or(usize::MAX, |size| WIDTH.max(size.ws_col.into()))
}

/// <https://no-color.org>: set and not empty means none.
fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Writes text behind `first`, its further lines behind `rest`, at most [`WIDTH`] columns wide unless a single word is
/// wider.
fn write_wrapped(out: &mut String, first: &str, rest: &str, text: &str) {
    let (mut line, mut empty) = (first.to_owned(), true);
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{line}");
}
