//! The file that `xdpd` and `xdp-stats` follow: its types, its errors, and the names of the pins that it
//! describes.
//!
//! [`find`] says which file is meant, [`Config::load`] reads it. Everything wrong with a file is reported at
//! once, as [`Diagnostics`] that point at the text. [`Record`] is what `xdpd` leaves beside the pins of an
//! interface, and what both programs read there.
//!
//! This crate knows nothing of the kernel: names and paths are checked for their form, never for what they
//! lead to.

mod config;
mod diagnostic;
mod digest;
pub mod entries;
pub mod escape;
mod file;
pub mod follow;
mod glob;
mod join_some;
mod label;
mod load;
mod located;
mod names;
mod parse;
mod policy;
mod reader;
pub mod record;
pub mod retired;
pub mod shell;
mod suggest;
mod syntax;
pub mod terminal;
pub mod trust;
mod value;

pub use config::{Config, Global, Group, Interface, MapSettings, ObjectRef, Program, Selector, Stats};
pub use diagnostic::{Diagnostic, Diagnostics, Span};
pub use digest::{hex, sha256};
pub use entries::{Entries, EntriesSource, Entry, EntryValue, List};
pub use file::LoadError;
pub use glob::{Glob, GlobError};
pub use join_some::join_some;
pub use label::{Label, LabelError};
pub use load::{Found, Rejected, find};
pub use located::Located;
pub use parse::parse_interval;
pub use policy::{Merge, Mode, Reuse, UnknownName};
pub use record::{Record, RecordError};
pub use suggest::suggest;
pub use value::Value;

/// The JSON Schema of the file, for editors: <https://json-schema.org/draft/2020-12/schema>. It accepts every valid file;
/// what only [`Config::parse`] can tell, such as two claims on a device, it does not.
pub const SCHEMA: &str = include_str!("../schema.json");

/// The functions of the builtin object, its default first.
pub const BUILTIN_FUNCTIONS: [&str; 4] = ["xdp_pass_func", "xdp_drop_func", "xdp_abort_func", "xdp_tx_func"];

/// Where the file is looked for last.
pub const DEFAULT_PATH: &str = "/etc/xdpd/config.toml";

/// Where pins go unless the file says otherwise.
pub const DEFAULT_PIN_ROOT: &str = "/sys/fs/bpf/xdpd";

/// The map that `xdp-stats` reads unless the file says otherwise.
pub const DEFAULT_STATS_MAP: &str = "xdp_stats_map";

/// The name, in an interface's directory, of the pinned `bpf_link`. No map is called so: map names hold no
/// `-`.
pub const LINK_PIN: &str = "xdp-link";

/// The name, in an interface's directory, of the symlink whose target text is the [`Record`].
pub const OWNER_PIN: &str = "xdp-owner";

/// The largest file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;
