//! The record of an interface: the target text of the symlink [`OWNER_PIN`](crate::OWNER_PIN) beside its
//! pins.
//!
//! One line of `key=value` pairs with a space in between, everything that could be taken for either escaped:
//!
//! | key | value |
//! |---|---|
//! | `v` | version of the format, 1 |
//! | `gen` | generation: how often the instance was replaced |
//! | `config` | absolute path of the file that owns the interface |
//! | `device`, `ifindex` | the device |
//! | `netns`, `netns_name` | its namespace: as `dev:inode`, and as the file names it |
//! | `mode` | `native`, `generic` or `offload` |
//! | `object`, `globals` | digests |
//! | `function`, `program` | the function's name, the program's id |
//! | `global.<name>` | the value of a global variable, in TOML; where that would be too long, `#` and a digest |
//! | `attach_type` | the program's `expected_attach_type`, which the kernel does not tell; absent: 0 |
//! | `map.<name>` | id of a map |
//! | `inner.<name>` | of a map of maps: the pattern of its inner maps and what it held at first, for the planner |
//! | `base.<name>` | id of the map whose entries were carried to the map of this name |
//! | `retired.<id>` | when the map with this id was retired, in seconds of `CLOCK_BOOTTIME` |
//!
//! Unknown keys are ignored, so that a newer program may add some.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::str::FromStr;

use crate::Mode;

/// What `xdpd` recorded of an interface when it last changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Version of the format; [`Record::VERSION`].
    pub version: u32,
    /// How often the instance of this interface was replaced.
    pub generation: u64,
    /// The absolute path of the config that owns the interface.
    pub config: PathBuf,
    /// The name of the device when it was attached: of its names, alternative ones among them, the one that the file says.
    pub device: String,
    /// The device's index in its network namespace.
    pub ifindex: u32,
    /// The network namespace: device and inode number of its file.
    pub netns: (u64, u64),
    /// The network namespace as the config names it; `None`: it names none.
    pub netns_name: Option<String>,
    /// The mode in which the program is attached.
    pub mode: Mode,
    /// Digest of the object: `builtin:<hex>` or `sha256:<hex>`.
    pub object: String,
    /// Digest of the values for global variables; `None`: there are none.
    pub globals: Option<String>,
    /// These values, by the variable's name: in TOML, or where that would be too long, `#` and a digest.
    pub values: BTreeMap<String, String>,
    /// The function's name in the object.
    pub function: String,
    /// The program's id.
    pub program: u32,
    /// The program's `expected_attach_type`: only programs with the same replace it in place.
    pub attach_type: u32,
    /// The ids of the program's pinned maps, by name.
    pub maps: BTreeMap<String, u32>,
    /// What xdpd knows of the maps of maps among them and the kernel does not tell, by name; opaque here.
    pub inner: BTreeMap<String, String>,
    /// The ids of the maps whose entries were carried to the map of this name.
    pub base: BTreeMap<String, u32>,
    /// When each retired map that is kept was retired, in seconds of `CLOCK_BOOTTIME`, by map id.
    pub retired: BTreeMap<u32, u64>,
}

/// Why a text is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It was written by a program that means something else by the same keys.
    #[error("the record has version {0}, and this program reads version {known}", known = Record::VERSION)]
    Version(u32),
    /// A part of it is no pair.
    #[error("the record holds `{}`, which is no `key=value`", .0.escape_debug())]
    NoPair(String),
    /// A key that must be there is not.
    #[error("the record lacks the key `{0}`")]
    Missing(&'static str),
    /// A key is there twice.
    #[error("the record has the key `{}` twice", .0.escape_debug())]
    Twice(String),
    /// A value cannot be read.
    #[error("the record's `{}` is `{}`, expected {expected}", key.escape_debug(), found.escape_debug())]
    BadValue {
        /// The key.
        key: String,
        /// The value as it is written.
        found: String,
        /// What would do.
        expected: &'static str,
    },
}

impl Record {
    /// The version of the format that is written and read.
    pub const VERSION: u32 = 1;

    /// The longest text that fits a symlink, in bytes (`PATH_MAX` less the terminating zero).
    pub const MAX_LEN: usize = 4095;

    /// The text of the record.
    pub fn format(&self) -> String {
        self.to_string()
    }

    /// Reads the text of a record.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let mut fields = Fields::split(text)?;
        let version = fields.number("v")?;
        if version != Self::VERSION {
            return Err(RecordError::Version(version));
        }
        let name = |rest: &str| Some(rest.to_owned());
        let record = Self {
            version,
            generation: fields.number("gen")?,
            config: PathBuf::from(OsString::from_vec(fields.bytes("config")?)),
            device: fields.string("device")?,
            ifindex: fields.number("ifindex")?,
            netns: fields.netns("netns")?,
            netns_name: fields.optional_string("netns_name")?,
            mode: fields.mode("mode")?,
            object: fields.string("object")?,
            globals: fields.optional_string("globals")?,
            values: fields.family("global.", "UTF-8 with % escapes", name, unescape_string)?,
            function: fields.string("function")?,
            program: fields.number("program")?,
            attach_type: fields.optional("attach_type", "a number", |v| v.parse().ok())?.unwrap_or(0),
            maps: fields.family("map.", "a number", name, number)?,
            inner: fields.family("inner.", "UTF-8 with % escapes", name, unescape_string)?,
            base: fields.family("base.", "a number", name, number)?,
            retired: fields.family("retired.", "a number", number, number)?,
        };
        Ok(record)
    }
}

impl FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        Self::parse(text)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dev, inode) = self.netns;
        write!(f, "v={} gen={}", self.version, self.generation)?;
        write!(f, " config={}", Escaped(self.config.as_os_str().as_bytes()))?;
        write!(f, " device={} ifindex={}", Escaped(self.device.as_bytes()), self.ifindex)?;
        write!(f, " netns={dev}:{inode}")?;
        if let Some(name) = &self.netns_name {
            write!(f, " netns_name={}", Escaped(name.as_bytes()))?;
        }
        write!(f, " mode={} object={}", self.mode, Escaped(self.object.as_bytes()))?;
        if let Some(globals) = &self.globals {
            write!(f, " globals={}", Escaped(globals.as_bytes()))?;
        }
        for (name, value) in &self.values {
            write!(f, " global.{}={}", Escaped(name.as_bytes()), Escaped(value.as_bytes()))?;
        }
        write!(f, " function={} program={}", Escaped(self.function.as_bytes()), self.program)?;
        if self.attach_type != 0 {
            write!(f, " attach_type={}", self.attach_type)?;
        }
        for (name, id) in &self.maps {
            write!(f, " map.{}={id}", Escaped(name.as_bytes()))?;
        }
        for (name, text) in &self.inner {
            write!(f, " inner.{}={}", Escaped(name.as_bytes()), Escaped(text.as_bytes()))?;
        }
        for (name, id) in &self.base {
            write!(f, " base.{}={id}", Escaped(name.as_bytes()))?;
        }
        for (id, when) in &self.retired {
            write!(f, " retired.{id}={when}")?;
        }
        Ok(())
    }
}

/// The pairs of a record that have not been asked for yet; values are as they are written.
struct Fields<'a>(BTreeMap<String, &'a str>);

impl<'a> Fields<'a> {
    fn split(text: &'a str) -> Result<Self, RecordError> {
        let mut fields = BTreeMap::new();
        for pair in text.split(' ').filter(|pair| !pair.is_empty()) {
            let no_pair = || RecordError::NoPair(pair.to_owned());
            let (key, value) = pair.split_once('=').ok_or_else(no_pair)?;
            let key = unescape(key).and_then(|key| String::from_utf8(key).ok()).ok_or_else(no_pair)?;
            if fields.insert(key.clone(), value).is_some() {
                return Err(RecordError::Twice(key));
            }
        }
        Ok(Self(fields))
    }

    /// The value of `key`, read by `read`, if it is there.
    fn optional<T>(
        &mut self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, RecordError> {
        let Some(found) = self.0.remove(key) else { return Ok(None) };
        let bad = || RecordError::BadValue { key: key.to_owned(), found: found.to_owned(), expected };
        read(found).map(Some).ok_or_else(bad)
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, RecordError> {
        self.optional(key, expected, read)?.ok_or(RecordError::Missing(key))
    }

    fn number<T: FromStr>(&mut self, key: &'static str) -> Result<T, RecordError> {
        self.required(key, "a number", |value| value.parse().ok())
    }

    fn bytes(&mut self, key: &'static str) -> Result<Vec<u8>, RecordError> {
        self.required(key, "text with % escapes", unescape)
    }

    fn string(&mut self, key: &'static str) -> Result<String, RecordError> {
        self.required(key, "UTF-8 with % escapes", unescape_string)
    }

    fn optional_string(&mut self, key: &'static str) -> Result<Option<String>, RecordError> {
        self.optional(key, "UTF-8 with % escapes", unescape_string)
    }

    fn mode(&mut self, key: &'static str) -> Result<Mode, RecordError> {
        self.required(key, "native, generic or offload", |value| value.parse().ok())
    }

    fn netns(&mut self, key: &'static str) -> Result<(u64, u64), RecordError> {
        self.required(key, "two numbers `dev:inode`", |value| {
            let (dev, inode) = value.split_once(':')?;
            Some((dev.parse().ok()?, inode.parse().ok()?))
        })
    }

    /// All values whose keys begin with `prefix`, by what `name` makes of the rest of the key.
    fn family<K: Ord, V>(
        &mut self,
        prefix: &'static str,
        expected: &'static str,
        name: impl Fn(&str) -> Option<K>,
        read: impl Fn(&str) -> Option<V>,
    ) -> Result<BTreeMap<K, V>, RecordError> {
        let keys =
            self.0.range(prefix.to_owned()..).map(|(key, _)| key).take_while(|key| key.starts_with(prefix));
        let keys: Vec<String> = keys.cloned().collect();
        let mut family = BTreeMap::new();
        for key in keys {
            let member =
                self.optional(&key, expected, |value| Some((name(&key[prefix.len()..])?, read(value)?)))?;
            family.extend(member);
        }
        Ok(family)
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Bytes as they are written in a record: what separates pairs, keys and values, what a terminal would act
/// on, and what is not UTF-8, as `%` and two hexadecimal digits.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if matches!(c, '%' | '=') || c.is_whitespace() || c.is_control() {
                    escape_bytes(f, c.encode_utf8(&mut [0; 4]).as_bytes())?;
                } else {
                    f.write_char(c)?;
                }
            }
            escape_bytes(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn escape_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let [high, low, after @ ..] = rest else { return None };
            bytes.push(hex(*high)? << 4 | hex(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

fn unescape_string(text: &str) -> Option<String> {
    String::from_utf8(unescape(text)?).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
