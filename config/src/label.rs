//! The label of an interface: its key in the file, its name in all output, and the name of its pin directory.

use std::fmt;

use serde::Serialize;

use crate::escape;

/// The longest spelling of a label as a directory name, in bytes.
///
/// A file name holds 255 bytes; eight of them belong to `%former-`, the longest prefix of a name that stands for an
/// interface while it changes.
const MAX_FILE_NAME: usize = 255 - "%former-".len();

/// The label of an interface: not empty, without control characters, and short enough to name a directory on
/// bpffs.
///
/// Anything else is allowed, slashes and dots included: see [`escape`](mod@escape) for how they are spelled
/// on bpffs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

/// Why a text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// It has no characters.
    #[error("it is empty")]
    Empty,
    /// It would garble every output that names it.
    #[error("it holds a control character")]
    Control,
    /// Bytes of a device's name were replaced: another device may have become the same text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Its spelling does not fit a file name.
    #[error("it takes {0} bytes as a directory name, and {MAX_FILE_NAME} is the limit")]
    TooLong(usize),
}

impl Label {
    /// Checks that `label` can be one.
    pub fn try_new(label: &str) -> Result<Self, LabelError> {
        if label.is_empty() {
            return Err(LabelError::Empty);
        }
        if label.contains(char::is_control) {
            return Err(LabelError::Control);
        }
        match escape::escape(label).len() {
            length if length > MAX_FILE_NAME => Err(LabelError::TooLong(length)),
            _ => Ok(Self(label.to_owned())),
        }
    }

    /// The label whose directory is called `file_name`, or `None` when no label's is.
    pub fn from_file_name(file_name: &str) -> Option<Self> {
        Self::try_new(&escape::unescape(file_name)?).ok()
    }

    /// The label as it is written in the file and in all output.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the label's directory on bpffs.
    pub fn file_name(&self) -> String {
        escape::escape(&self.0)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Label {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
