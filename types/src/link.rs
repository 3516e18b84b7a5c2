//! Links: attachments of programs that are objects of their own.

use crate::id::{IfIndex, LinkId, ProgramId};

/// What a link attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A network device.
    Xdp {
        /// The device, in the network namespace where it is now; `None` once it is gone or the link was detached (the
        /// link is *defunct*: it attaches nothing any more). The kernel tells neither namespace nor mode.
        ifindex: Option<IfIndex>,
    },
    /// Anything else, as `enum bpf_link_type`.
    Other(u32),
}

/// What the kernel knows about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its id.
    pub id: LinkId,
    /// The program that it runs now.
    pub program_id: ProgramId,
    /// What it attaches to.
    pub kind: LinkKind,
}

impl LinkInfo {
    /// The device of an XDP link that is not defunct.
    pub fn ifindex(&self) -> Option<IfIndex> {
        match self.kind {
            LinkKind::Xdp { ifindex } => ifindex,
            LinkKind::Other(_) => None,
        }
    }
}
