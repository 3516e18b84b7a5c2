//! Links: attachments of a program to a device that are objects of their own.
//!
//! A link keeps its program attached for as long as something refers to the link, a descriptor or a pin. What is
//! attached through it resists `ip link set xdp off`. The kernel announces nothing about links on rtnetlink.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::attach::{self, AttachError, UpdateError};
use crate::error::{Error, PinError, Result};
use crate::netlink;
use crate::object::{self, Ids};
use crate::program::Program;
use crate::sys;
#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use crate::uapi::*;
use xdpd_types::ObjectKind;
use xdpd_types::XdpMode;
use xdpd_types::{IfIndex, LinkId, ProgramId};
pub use xdpd_types::{LinkInfo, LinkKind};

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
    /// A refusal is repeated before it is believed. Then the kernel is asked for its words by way of netlink, which has
    /// some; a program that netlink attaches all the same is removed again at once, and the link attempted anew.
    pub fn create(program: &Program, ifindex: IfIndex, mode: XdpMode) -> Result<Self, AttachError> {
        let mut attr = LinkCreate {
            prog_fd: sys::number(program.as_fd()),
            target_ifindex: ifindex.0,
            attach_type: BPF_XDP,
            flags: flag_of(mode),
        };
        let origin = format!("interface {ifindex} ({mode})");
        let attempt = || sys::link_create(&mut attr).map_err(|source| errno(&source));
        let look = |stacked| netlink::look(ifindex, stacked);
        let ask = || netlink::ask(ifindex, program, mode);
        match attach::attach(mode, None, attempt, look, ask) {
            Ok(fd) => Ok(Self { fd, origin }),
            Err(why) => Err(why.of(BPF_LINK_CREATE.name, origin, None)),
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
    /// Packets that are under way may still be running the old program when this returns; see
    /// [`wait_grace_period`](crate::rcu::wait_grace_period). Programs of different expected attach types do not replace
    /// each other, which is a [refusal](UpdateError::Refused).
    pub fn update(&self, new: &Program, expected: &Program) -> Result<(), UpdateError> {
        let mut attr = LinkUpdate {
            link_fd: sys::number(self.as_fd()),
            new_prog_fd: sys::number(new.as_fd()),
            flags: BPF_F_REPLACE,
            old_prog_fd: sys::number(expected.as_fd()),
        };
        let attempt = || sys::link_update(&mut attr).map_err(|source| errno(&source));
        let look = || Ok((expected.info()?.id, self.info()?));
        attach::update(BPF_LINK_UPDATE.name, &self.origin, attempt, look)
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

/// The number of an error of bpf(2), which has one.
fn errno(source: &std::io::Error) -> Errno {
    Errno::from_io_error(source).unwrap_or(Errno::IO)
}

impl AsFd for XdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
