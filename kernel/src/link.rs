//! Links: attachments of a program to a device that are objects of their own.
//!
//! A link keeps its program attached for as long as something refers to the link, a descriptor or a pin. What is
//! attached through it resists `ip link set xdp off`. The kernel announces nothing about links on rtnetlink.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, PinError, Result};
use crate::id::{IfIndex, LinkId, ProgramId};
use crate::kind::ObjectKind;
use crate::mode::XdpMode;
use crate::netlink;
use crate::object::{self, Ids};
use crate::program::Program;
use crate::sys;
#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use crate::uapi::*;

/// What a link attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A network device.
    Xdp {
        /// The device, in the network namespace where it is now; `None` once it is gone (the link is *defunct*: it
        /// attaches nothing any more, and an update is `ENOLINK`). The kernel tells neither namespace nor mode.
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

/// An open link. One that was made here is an XDP link; one from a pin or an id may be another, which
/// [`info`](Self::info) tells.
///
/// Dropping it closes a descriptor: the program stays attached as long as the link is pinned or open elsewhere, if only
/// for a moment by somebody who lists all links, or by a child between fork and exec. So what must be detached when a
/// call returns takes [`detach`](Self::detach).
#[derive(Debug)]
pub struct XdpLink {
    fd: OwnedFd,
    origin: String,
}

impl XdpLink {
    /// Attaches a program to a device of the calling thread's network namespace. Needs `CAP_NET_ADMIN` there.
    ///
    /// `EBUSY`: this mode is taken; `EEXIST`: another mode is; `ENODEV`: no such device; `EOPNOTSUPP` or `ERANGE`: this
    /// device or its MTU does not allow this mode; `EINVAL`: not an XDP program, or one for another attach type, or
    /// a driver that knows XDP but no offload.
    pub fn create(program: &Program, ifindex: IfIndex, mode: XdpMode) -> Result<Self> {
        let mut attr = LinkCreate {
            prog_fd: sys::number(program.as_fd()),
            target_ifindex: ifindex.0,
            attach_type: BPF_XDP,
            flags: mode.flag(),
        };
        let origin = format!("interface {ifindex} ({mode})");
        match sys::link_create(&mut attr) {
            Ok(fd) => Ok(Self { fd, origin }),
            // That is what the kernel says of an absent device, too.
            Err(source) if source.raw_os_error() == Some(libc::EINVAL) && !netlink::exists(ifindex) => {
                Err(Error::new(BPF_LINK_CREATE.name, origin, Errno::NODEV))
            }
            Err(source) => Err(Error::new(BPF_LINK_CREATE.name, origin, source)),
        }
    }

    /// Opens a link by its id. Needs `CAP_SYS_ADMIN`; an error as well while the link is being made.
    pub fn open_by_id(id: LinkId) -> Result<Self> {
        let origin = format!("link {id}");
        let fd = sys::fd_by_id(BPF_LINK_GET_FD_BY_ID, id.0)
            .map_err(|source| Error::new(BPF_LINK_GET_FD_BY_ID.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
    }

    /// Takes a descriptor from elsewhere, which must be of a link. `origin` names it in errors.
    pub fn from_fd(fd: OwnedFd, origin: impl Into<String>) -> Result<Self, PinError> {
        let origin = origin.into();
        object::expect(&fd, ObjectKind::Link, &origin)?;
        Ok(Self::known(fd, origin))
    }

    /// Takes a descriptor that is known to be of a link.
    pub(crate) fn known(fd: OwnedFd, origin: String) -> Self {
        Self { fd, origin }
    }

    /// The same link under another name in errors: that of its pin or device.
    #[must_use]
    pub fn named(self, origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), ..self }
    }

    /// The ids of all links in the kernel, XDP or not.
    pub fn ids() -> Ids<LinkId> {
        Ids::new(BPF_LINK_GET_NEXT_ID, LinkId)
    }

    /// What the kernel knows about all XDP links. Needs `CAP_SYS_ADMIN`. Links that go away meanwhile are left out, and
    /// so are those that somebody is just making: they have an id before they are attached (kernel/bpf/syscall.c).
    pub fn all_xdp() -> Result<Vec<LinkInfo>> {
        let mut found = Vec::new();
        for id in Self::ids() {
            let Some(link) = Self::find_by_id(id?)? else { continue };
            let info = link.info()?;
            if matches!(info.kind, LinkKind::Xdp { .. }) {
                found.push(info);
            }
        }
        Ok(found)
    }

    /// Opens a link by its id; `None` when there is none, or when it is being made still, by what the kernel says twice.
    fn find_by_id(id: LinkId) -> Result<Option<Self>> {
        let origin = format!("link {id}");
        // It has an id before it is attached (kernel/bpf/syscall.c, `bpf_link_prime`).
        for _ in 0..2 {
            match object::find_by_id(BPF_LINK_GET_FD_BY_ID, id.0, &origin) {
                Err(error) if error.is(libc::EAGAIN) => {}
                found => return Ok(found?.map(|fd| Self { fd, origin })),
            }
        }
        Ok(None)
    }

    /// Puts `new` in the place of `expected`, with no packet in between that sees neither.
    ///
    /// `EPERM`: the link does not run `expected`; `ENOLINK`: the device is gone; `EINVAL`: the programs' expected attach
    /// types differ. Packets that are under way may still be running the old program when this returns; see
    /// [`wait_grace_period`](crate::rcu::wait_grace_period).
    pub fn update(&self, new: &Program, expected: &Program) -> Result<()> {
        let mut attr = LinkUpdate {
            link_fd: sys::number(self.as_fd()),
            new_prog_fd: sys::number(new.as_fd()),
            flags: BPF_F_REPLACE,
            old_prog_fd: sys::number(expected.as_fd()),
        };
        sys::link_update(&mut attr).map_err(|source| self.error(BPF_LINK_UPDATE, source))
    }

    /// Detaches at once, whoever else holds the link. It stays an object, defunct.
    pub fn detach(&self) -> Result<()> {
        sys::link_detach(self.as_fd()).map_err(|source| self.error(BPF_LINK_DETACH, source))
    }

    /// What the kernel knows about this link now.
    pub fn info(&self) -> Result<LinkInfo> {
        let info =
            sys::link_info(self.as_fd()).map_err(|source| self.error(BPF_OBJ_GET_INFO_BY_FD, source))?;
        let kind = match info.link_type {
            BPF_LINK_TYPE_XDP => {
                LinkKind::Xdp { ifindex: (info.ifindex != 0).then_some(IfIndex(info.ifindex)) }
            }
            other => LinkKind::Other(other),
        };
        Ok(LinkInfo { id: LinkId(info.id), program_id: ProgramId(info.prog_id), kind })
    }

    fn error(&self, call: Command, source: std::io::Error) -> Error {
        Error::new(call.name, self.origin.as_str(), source)
    }
}

impl AsFd for XdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
