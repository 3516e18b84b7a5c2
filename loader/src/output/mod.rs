//! What people and tools read. Only here is anything printed: data to stdout, words for people to stderr.

pub mod check;
mod entries;
pub mod human;
pub mod json;
mod progress;
mod screen;
mod table;
mod told;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write as _};

/// A terminal's usual width.
const WIDTH: usize = 80;

pub use progress::Progress;
pub use screen::{Listed, Screen};
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

/// Writes to stdout what people asked for.
pub fn show(screen: &Screen) -> io::Result<Delivery> {
    data(&screen.to_string())
}

/// Writes to stdout what tools read: JSON, whose [`json::line`]s are fit for a terminal as well, or what is generated from our own sources.
pub fn data(text: &str) -> io::Result<Delivery> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Delivery::Unwanted),
        other => other.map(|()| Delivery::Taken),
    }
}

/// Tells people something, in one line whatever is in it. That nobody can read it is no failure.
pub fn say(message: impl Display) {
    let mut screen = Screen::default();
    screen.line(message);
    say_screen(&screen);
}

/// Tells people something that has lines.
pub fn say_screen(screen: &Screen) {
    let _ = write!(io::stderr().lock(), "xdpd: {screen}");
}

/// Tells people what went wrong.
pub fn say_error(error: &anyhow::Error) {
    say_screen(&Screen::of_error(error));
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
