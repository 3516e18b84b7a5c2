//! Patterns: keys of `[interfaces]` that stand for every device with a matching name, and those of `except`.

use std::fmt;

/// A pattern for device names: `*` is any characters, `?` one character, `[…]` one of a set, `[!…]` one
/// that is not of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob(glob::Pattern);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GlobError {
    /// Where in the text it goes wrong, in characters.
    pub position: usize,
    /// What is wrong there.
    pub message: &'static str,
}

impl Glob {
    /// Whether a key of `[interfaces]` is a pattern rather than a label.
    pub fn is_glob(key: &str) -> bool {
        key.contains(['*', '?', '['])
    }

    /// Checks that `pattern` can be one.
    pub fn try_new(pattern: &str) -> Result<Self, GlobError> {
        // What the crate below knows for paths, and what no device name holds, is said here in terms of
        // devices.
        for (position, c) in pattern.chars().enumerate() {
            let message = match c {
                '/' => "no device name holds `/`",
                c if c.is_control() => "no control characters are allowed here",
                _ => continue,
            };
            return Err(GlobError { position, message });
        }
        if let Some((before, _)) = pattern.split_once("**") {
            let position = before.chars().count();
            return Err(GlobError {
                position,
                message: "`**` means nothing here, one `*` matches any characters",
            });
        }
        match glob::Pattern::new(pattern) {
            Ok(pattern) => Ok(Self(pattern)),
            Err(e) => Err(GlobError {
                position: e.pos,
                message: "this `[` is not closed by a `]` after at least one character",
            }),
        }
    }

    /// Whether the whole of `device` matches.
    pub fn matches(&self, device: &str) -> bool {
        self.0.matches(device)
    }

    /// The pattern as it is written in the file.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
