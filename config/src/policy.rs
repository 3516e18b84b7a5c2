//! The enumerations of the file, spelled there, in output and in JSON alike.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What happens to a map that is already pinned when its program is (re)loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// Reuse it when the definitions are the same, replace it otherwise.
    #[default]
    IfCompatible,
    /// Reuse it; another definition blocks the whole apply.
    Require,
    /// Reuse it; with another definition, carry its entries to a new map.
    Migrate,
    /// A fresh map at every (re)load.
    Never,
}

/// What becomes of a field that both the old and the new program have changed while its entry was carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// The new program's value stays.
    New,
    /// The old program's value takes its place.
    Old,
    /// The greater of the two.
    Max,
    /// What the old program has added is added.
    Sum,
}

/// How a program is attached to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel allocates anything for the packet.
    #[default]
    Native,
    /// In the network stack, on any device.
    Generic,
    /// On the network card itself.
    Offload,
}

/// A word that is none of those an enumeration knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {}", expected.join(", "))]
pub struct UnknownName {
    /// The word.
    pub found: String,
    /// All words that would do.
    pub expected: Vec<&'static str>,
}

impl UnknownName {
    fn new<const N: usize>(found: &str, expected: [&'static str; N]) -> Self {
        Self { found: found.to_owned(), expected: expected.to_vec() }
    }
}

impl Reuse {
    /// Every policy, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::IfCompatible, Self::Require, Self::Migrate, Self::Never];

    /// The policy's name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IfCompatible => "if-compatible",
            Self::Require => "require",
            Self::Migrate => "migrate",
            Self::Never => "never",
        }
    }
}

impl Merge {
    /// Every rule, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::New, Self::Old, Self::Max, Self::Sum];

    /// The rule's name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Old => "old",
            Self::Max => "max",
            Self::Sum => "sum",
        }
    }
}

impl Mode {
    /// Every mode, in the order in which messages list them.
    pub const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Offload];

    /// The mode's name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
        }
    }
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reuse {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.into_iter().find(|reuse| reuse.as_str() == name);
        known.ok_or_else(|| UnknownName::new(name, Self::ALL.map(Self::as_str)))
    }
}

impl FromStr for Merge {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.into_iter().find(|merge| merge.as_str() == name);
        known.ok_or_else(|| UnknownName::new(name, Self::ALL.map(Self::as_str)))
    }
}

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.into_iter().find(|mode| mode.as_str() == name);
        known.ok_or_else(|| UnknownName::new(name, Self::ALL.map(Self::as_str)))
    }
}
