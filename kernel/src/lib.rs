//! Everything that xdpd and xdp-stats ask of the Linux kernel, 6.1 or newer.
//!
//! BPF objects ([`Map`], [`Program`], [`XdpLink`], [`Btf`]) with their info, the places where they are pinned
//! ([`pin::Dir`], [`bpffs`]), network namespaces ([`NetNs`]) and devices ([`netlink`]), and some small things around
//! them. The crate knows nothing of xdpd's file, and holds all `unsafe` code of the project: what it offers is safe.
//!
//! An error names the call, the object and the reason; see [`Error`]. Where a caller has to decide, the answer is a type:
//! [`Look`] for what a name leads to, `Option` for what an id leads to, and so on. No caller compares error numbers. Facts
//! about the kernel are from its sources or were measured on Linux 6.18.

pub mod attach;
pub mod bpffs;
pub mod btf;
pub mod clock;
pub mod cpu;
pub mod error;
pub mod group;
pub mod kind;
pub mod link;
pub mod lock;
pub mod look;
pub mod map;
pub mod mapped;
pub mod netlink;
pub mod netns;
pub mod object;
pub mod open_files;
pub mod pin;
pub mod privilege;
pub mod program;
pub mod rcu;
pub mod ready;
pub mod signal;
pub mod stat;
pub mod watch;

mod sys;
mod uapi;

pub use xdpd_types::{
    BtfId, IfIndex, Insn, LinkId, MapDef, MapId, MapInfo, NetNsId, ObjectKind, ProgramId, ValueLayout,
    XdpMode, id, map_type_name, map_types,
};

pub use attach::{AttachError, DetachError, Refusal, UpdateError};
pub use btf::Btf;
pub use error::{Error, PinError, Result};
pub use kind::EntryKind;
pub use link::{LinkInfo, LinkKind, XdpLink};
pub use lock::{Attempt, Holder, Lock};
pub use look::{Look, Other};
pub use map::{Map, MapBtf, MapExtras};
pub use mapped::MappedValue;
pub use netlink::{Attached, Device, LinkMonitor};
pub use netns::{Entrance, NetNs};
pub use object::kind_of;
pub use pin::{Access, Dir, Entry, PinnedObject};
pub use program::{DebugInfo, Program, ProgramInfo, XdpLoad};
pub use stat::{Stat, Timestamp};
