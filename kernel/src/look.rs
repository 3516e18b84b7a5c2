//! What a look at a name or an id finds.
//!
//! An errno is not a fact: `ENOENT` can be the answer of a security module, of a namespace without /proc, or of a kernel that
//! fails. So a look answers with a type, and [`Look::Gone`] and [`Look::Other`] are answers only when two calls of different
//! kinds agree. A look that is denied, or that fails for another reason, is an [`Error`](crate::Error).

use std::fmt;

use xdpd_types::ObjectKind;

use crate::kind::EntryKind;

/// What a look at a name finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<T> {
    /// What was looked for.
    Found(T),
    /// Nothing has this name.
    Gone,
    /// Something of another kind has this name.
    Other(Other),
}

impl<T> Look<T> {
    /// What was looked for; `None` where nothing or something else is there.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Gone | Self::Other(_) => None,
        }
    }

    /// The look with another thing in the place of the one that was found.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::Found(found) => Look::Found(change(found)),
            Self::Gone => Look::Gone,
            Self::Other(other) => Look::Other(other),
        }
    }
}

/// What has a name instead of what was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// A directory entry that is no pin, or none where a directory or symbolic link was looked for.
    Entry(EntryKind),
    /// A file that is on no bpffs, so that it cannot be a pin.
    NotOnBpffs,
    /// A pin of another kind.
    Object(ObjectKind),
    /// A pin of a kind that is not known here.
    UnknownObject,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Entry(EntryKind::Dir) => "a directory",
            Self::Entry(EntryKind::Symlink) => "a symbolic link",
            Self::Entry(EntryKind::File) => "a file",
            Self::Entry(EntryKind::Other) => "neither a file nor a directory",
            Self::NotOnBpffs => "a file outside of bpffs",
            Self::Object(ObjectKind::Map) => "a map",
            Self::Object(ObjectKind::Program) => "a program",
            Self::Object(ObjectKind::Link) => "a link",
            Self::UnknownObject => "a BPF object of an unknown kind",
        })
    }
}

/// How often two calls that contradict each other are repeated: what has the name can come and go in between.
pub(crate) const ATTEMPTS: usize = 16;
