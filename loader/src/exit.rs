//! The exit codes, decided here and nowhere else.

use std::process::ExitCode;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As wished.
    Done,
    /// Differences were found.
    Differences,
    /// Trouble before anything was changed.
    Refused,
    /// Failed later; the previous state is back.
    Restored,
    /// Failed later; not everything could be restored.
    Incomplete,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Differences => 1,
            Exit::Refused => 2,
            Exit::Restored => 3,
            Exit::Incomplete => 4,
        })
    }
}
