//! What people should know of and is no difference.

use serde::Serialize;
use xdpd_config::Label;

/// Something that people should know of, and that nothing is planned against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The interface that it is about; `None`: all of them.
    pub interface: Option<String>,
    /// What there is to know, and what to do.
    pub what: String,
}

impl Note {
    /// A note about one interface.
    pub fn of(label: &Label, what: String) -> Self {
        Self { interface: Some(label.to_string()), what }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{interface}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}
