//! Plain data of BPF and XDP that all of xdpd shares: what maps are, ids, modes, instructions.
//!
//! No system calls, and no knowledge of the file: whoever only reads or compares such data needs neither a kernel nor
//! rights.

pub mod device;
pub mod id;
pub mod insn;
pub mod kind;
pub mod layout;
pub mod link;
pub mod map;
pub mod map_types;
pub mod mode;
pub mod netns;

pub use device::{Attached, Device};
pub use id::{BtfId, IfIndex, LinkId, MapId, ProgramId};
pub use insn::{ATTACH_TYPE_XDP, Insn};
pub use kind::ObjectKind;
pub use layout::ValueLayout;
pub use link::{LinkInfo, LinkKind};
pub use map::{MapDef, MapInfo, map_type_name};
pub use mode::XdpMode;
pub use netns::NetNsId;
