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
    pub expected: &'static [&'static str],
}

/// An enumeration of the file: every variant with the one word that means it everywhere.
pub(crate) trait Named: Copy + Sized + 'static {
    /// The variants, in the order in which messages list them.
    const ALL: &'static [(Self, &'static str)];
    /// The words alone.
    const NAMES: &'static [&'static str];

    /// The variant that `name` means.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(variant, _)| *variant)
    }
}

impl Named for Reuse {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::IfCompatible, "if-compatible"),
        (Self::Require, "require"),
        (Self::Migrate, "migrate"),
        (Self::Never, "never"),
    ];
    const NAMES: &'static [&'static str] = &["if-compatible", "require", "migrate", "never"];
}

impl Named for Mode {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Native, "native"), (Self::Generic, "generic"), (Self::Offload, "offload")];
    const NAMES: &'static [&'static str] = &["native", "generic", "offload"];
}

impl Reuse {
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

impl Mode {
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

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reuse {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::named(name).ok_or_else(|| UnknownName { found: name.to_owned(), expected: Self::NAMES })
    }
}

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::named(name).ok_or_else(|| UnknownName { found: name.to_owned(), expected: Self::NAMES })
    }
}
