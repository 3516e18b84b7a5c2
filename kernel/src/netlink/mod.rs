//! Network devices by rtnetlink: what there is, what XDP runs on it, what changes; and XDP without a link.
//!
//! A netlink socket belongs to the network namespace of the thread that opened it; see [`NetNs::run`].
//!
//! [`NetNs::run`]: crate::NetNs::run

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::attach::{self, Answer, Asked, AttachError, DetachError, Seen, Sight};
use crate::error::{Error, Result};
use crate::program::Program;
use crate::sys;
use crate::uapi::{
    IFLA_EXT_MASK, IFLA_XDP, IFLA_XDP_EXPECTED_FD, IFLA_XDP_FD, IFLA_XDP_FLAGS, NLM_F_ACK, NLM_F_DUMP,
    RTEXT_FILTER_SKIP_STATS, RTM_GETLINK, RTM_SETLINK, RTMGRP_LINK, XDP_FLAGS_REPLACE,
    XDP_FLAGS_UPDATE_IF_NOEXIST, flag_of,
};
use wire::{Message, Request};
use xdpd_types::IfIndex;
use xdpd_types::XdpMode;
pub use xdpd_types::device::{Attached, Device, called};

mod wire;

/// A device, and the devices of the same namespace that it is tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) device: Device,
    /// The bridge or bond that it is a port of.
    pub(crate) master: Option<IfIndex>,
    /// The device that it was made on, as a vlan or macvlan is; the other end, of a veth.
    pub(crate) lower: Option<IfIndex>,
}

impl Neighbour {
    /// Whether it lies above `other`, so that the kernel asks it before it attaches anything to `other`.
    fn is_above(&self, other: &Self) -> bool {
        let index = self.device.ifindex;
        // Two devices that were made on each other are the ends of a pair.
        other.master == Some(index)
            || (self.lower == Some(other.device.ifindex) && other.lower != Some(index))
    }
}

/// More than the 32 KiB that the kernel puts into one datagram of a dump.
const BUFFER_LEN: usize = 64 << 10;

/// How often a dump is repeated because devices came or went while it was made.
const ATTEMPTS: u32 = 32;

const GET: &str = "RTM_GETLINK";
const SET: &str = "RTM_SETLINK";

/// All devices of the calling thread's network namespace, in the kernel's order, with one `RTM_GETLINK` dump.
///
/// Needs no privileges. `EINTR` when devices kept coming and going.
pub fn devices() -> Result<Vec<Device>> {
    Ok(neighbours()?.into_iter().map(|neighbour| neighbour.device).collect())
}

/// The device with this index in the calling thread's network namespace; `None` when there is none, which is known from
/// a list of all devices and not from an error alone.
pub fn find(ifindex: IfIndex) -> Result<Option<Device>> {
    let error = |errno: Errno| Error::new(GET, format!("interface {ifindex}"), errno);
    // No device has any other.
    let Some(index) = i32::try_from(ifindex.0).ok().filter(|index| *index > 0) else { return Ok(None) };
    let socket = Socket::open(0).map_err(error)?;
    let request = request(RTM_GETLINK, NLM_F_ACK, 1, index);
    socket.send(&request.finish()).map_err(error)?;
    let mut found = None;
    let answered = socket.answers(&mut vec![0; BUFFER_LEN], 1, |message| {
        found = message.device()?.or(found.take());
        Ok(())
    });
    match answered {
        Ok(()) => Ok(found.filter(|device| device.ifindex == ifindex)),
        Err(Failure::Errno(Errno::NODEV, _)) => {
            Ok(devices()?.into_iter().find(|device| device.ifindex == ifindex))
        }
        Err(Failure::Errno(errno, _)) => Err(error(errno)),
        Err(Failure::Malformed) => Err(malformed(GET)),
    }
}

/// A request that is answered with what is told of devices, without their statistics: those are most of it.
fn request(kind: u16, flags: u16, sequence: u32, index: i32) -> Request {
    let mut request = Request::link(kind, flags, sequence, index);
    request.attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request
}

fn neighbours() -> Result<Vec<Neighbour>> {
    let error = |errno: Errno| Error::new(GET, "all devices", errno);
    let socket = Socket::open(0).map_err(error)?;
    let mut buffer = vec![0; BUFFER_LEN];
    for sequence in 1..=ATTEMPTS {
        let request = request(RTM_GETLINK, NLM_F_DUMP, sequence, 0);
        socket.send(&request.finish()).map_err(error)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        let complete = socket.answers(&mut buffer, sequence, |message| {
            interrupted |= message.is_interrupted();
            found.extend(message.neighbour()?);
            Ok(())
        });
        match complete {
            Ok(()) if !interrupted => return Ok(found),
            Ok(()) => {}
            Err(Failure::Errno(errno, _)) => return Err(error(errno)),
            Err(Failure::Malformed) => return Err(malformed(GET)),
        }
    }
    Err(error(Errno::INTR))
}

/// What can be seen of a device on which a call failed; where `stacked`, with the devices above it that run a program.
pub(crate) fn look(ifindex: IfIndex, stacked: bool) -> Sight {
    let seen = || {
        let Some(device) = find(ifindex)? else { return Ok(None) };
        if !stacked {
            return Ok(Some(Seen { device, uppers: Vec::new() }));
        }
        let all = neighbours()?;
        let Some(this) = all.iter().find(|n| n.device.ifindex == ifindex) else { return Ok(None) };
        let uppers = all.iter().filter(|n| n.is_above(this) && !n.device.xdp.is_empty());
        let uppers = uppers.map(|n| n.device.name.clone()).collect();
        Ok::<_, Error>(Some(Seen { device, uppers }))
    };
    match seen() {
        Ok(Some(seen)) => Sight::There(seen),
        Ok(None) => Sight::Gone,
        Err(error) => Sight::Unknown(error.to_string()),
    }
}

/// Attaches a program to a device of the calling thread's network namespace without a link, as `ip link` does: it stays
/// until somebody removes or replaces it. Needs `CAP_NET_ADMIN`.
///
/// It goes where nothing runs in this mode, or in the place of `expected`.
pub fn attach_netlink(
    ifindex: IfIndex,
    program: &Program,
    mode: XdpMode,
    expected: Option<&Program>,
) -> Result<(), AttachError> {
    let object = object(ifindex, mode);
    let replaced = expected.and_then(|expected| Some(expected.info().ok()?.id));
    let mut words = None;
    let attempt = || {
        set_xdp(ifindex, Some(program), mode, expected).map_err(|answer| {
            words = answer.words;
            answer.errno
        })
    };
    let outcome =
        attach::attach(mode, replaced, attempt, |stacked| look(ifindex, stacked), || Asked::Unheard);
    outcome.map_err(|why| why.of(SET, object, words))
}

/// Removes the program `expected` that was attached to a device without a link.
pub fn detach_netlink(ifindex: IfIndex, mode: XdpMode, expected: &Program) -> Result<(), DetachError> {
    let Err(Answer { errno, words }) = set_xdp(ifindex, None, mode, Some(expected)) else { return Ok(()) };
    let expected = expected.info().ok().map(|info| info.id);
    let why = attach::judge_detach(errno, mode, expected, look(ifindex, true));
    Err(why.of(SET, object(ifindex, mode), errno, words))
}

/// Lets the kernel say in words why it does not attach a program, which it does not do where a link is made.
///
/// Only to be asked after a link was refused. There is no way to ask a driver that has no effect: if the program is
/// attached now, it is removed again at once. A kill in between leaves it attached: whoever asks has noted its id.
pub(crate) fn ask(ifindex: IfIndex, program: &Program, mode: XdpMode) -> Asked {
    const ATTEMPTS: usize = 3;
    match set_xdp(ifindex, Some(program), mode, None) {
        Ok(()) => {}
        Err(answer) => return Asked::Refused(answer),
    }
    let mut removed = Ok(());
    for _ in 0..ATTEMPTS {
        removed = detach_netlink(ifindex, mode, program);
        match removed {
            Ok(()) | Err(DetachError::DeviceGone(_) | DetachError::Replaced { .. }) => {
                return Asked::Accepted;
            }
            Err(_) => {}
        }
    }
    removed.map_or_else(|why| Asked::Stuck(why.into_error()), |()| Asked::Accepted)
}

fn object(ifindex: IfIndex, mode: XdpMode) -> String {
    format!("interface {ifindex} ({mode})")
}

fn set_xdp(
    ifindex: IfIndex,
    program: Option<&Program>,
    mode: XdpMode,
    expected: Option<&Program>,
) -> Result<(), Answer> {
    const SEQUENCE: u32 = 1;
    let index = i32::try_from(ifindex.0).map_err(|_| Errno::NODEV)?;
    let socket = Socket::open(0)?;
    // Without them the error is as true.
    let _ = sys::ask_for_words(socket.0.as_fd());
    let fd = program.map_or(-1, |program| program.as_fd().as_raw_fd());
    let condition = if expected.is_some() { XDP_FLAGS_REPLACE } else { XDP_FLAGS_UPDATE_IF_NOEXIST };
    let flags = flag_of(mode) | condition;
    let mut request = Request::link(RTM_SETLINK, NLM_F_ACK, SEQUENCE, index);
    request.nested(IFLA_XDP, |request| {
        request.attribute(IFLA_XDP_FD, &fd.to_ne_bytes());
        request.attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
        if let Some(expected) = expected {
            request.attribute(IFLA_XDP_EXPECTED_FD, &expected.as_fd().as_raw_fd().to_ne_bytes());
        }
    });
    socket.send(&request.finish())?;
    match socket.answers(&mut vec![0; BUFFER_LEN], SEQUENCE, |_| Ok(())) {
        Ok(()) => Ok(()),
        Err(Failure::Errno(errno, words)) => Err(Answer { errno, words }),
        Err(Failure::Malformed) => Err(Errno::BADMSG.into()),
    }
}

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new, or something about it changed: its name, its state, its MTU, an XDP program without a link, while it is
    /// up an alternative name.
    New,
    /// It is gone from this network namespace.
    Del,
}

/// A change of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// Its index.
    pub ifindex: IfIndex,
    /// Its name after the change, as in [`Device::name`].
    pub name: String,
    /// What became of it.
    pub change: Change,
}

/// What happened to devices since they were last asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Events {
    /// These changes, in order; often none.
    Changed(Vec<LinkEvent>),
    /// More than the kernel kept: look at all devices anew.
    Overflow,
}

/// Tells of devices that come, go and change in one network namespace. Needs no privileges.
///
/// The kernel announces nothing about XDP links here. The descriptor becomes readable when there is something to
/// [`drain`](Self::drain).
#[derive(Debug)]
pub struct LinkMonitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl LinkMonitor {
    /// Listens from now on, in the calling thread's network namespace; it may be used from any thread then.
    pub fn open() -> Result<Self> {
        let socket =
            Socket::open(RTMGRP_LINK).map_err(|errno| Error::new("socket", "netlink link group", errno))?;
        Ok(Self { socket, buffer: vec![0; BUFFER_LEN] })
    }

    /// All that happened since the last call; never waits.
    pub fn drain(&mut self) -> Result<Events> {
        const CALL: &str = "recvfrom";
        let mut changes = Vec::new();
        let mut overflow = false;
        loop {
            match self.socket.receive(&mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(None) => {}
                Ok(Some(datagram)) => {
                    for message in wire::messages(datagram) {
                        match message.and_then(|message| message.event()) {
                            Ok(event) => changes.extend(event),
                            Err(wire::Malformed) => return Err(malformed(CALL)),
                        }
                    }
                }
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::NOBUFS | Errno::MSGSIZE) => overflow = true,
                Err(errno) => return Err(Error::new(CALL, "netlink link group", errno)),
            }
        }
        Ok(if overflow { Events::Overflow } else { Events::Changed(changes) })
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }
}

fn malformed(call: &'static str) -> Error {
    Error::invalid(call, "the kernel's answer", "malformed message")
}

/// Why an answer was not complete.
enum Failure {
    /// The kernel's error, and its words for it.
    Errno(Errno, Option<String>),
    Malformed,
}

impl From<wire::Malformed> for Failure {
    fn from(_: wire::Malformed) -> Self {
        Self::Malformed
    }
}

#[derive(Debug)]
struct Socket(OwnedFd);

impl Socket {
    fn open(groups: u32) -> rustix::io::Result<Self> {
        // No protocol means NETLINK_ROUTE.
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(socket))
    }

    fn send(&self, request: &[u8]) -> rustix::io::Result<()> {
        retry_on_intr(|| rustix::net::send(&self.0, request, SendFlags::empty())).map(drop)
    }

    /// One datagram; `None` for one that is not from the kernel.
    fn receive<'a>(&self, buffer: &'a mut [u8], flags: RecvFlags) -> rustix::io::Result<Option<&'a [u8]>> {
        let (received, len, sender) =
            retry_on_intr(|| rustix::net::recvfrom(&self.0, &mut *buffer, flags | RecvFlags::TRUNC))?;
        if len > received {
            return Err(Errno::MSGSIZE);
        }
        let from_kernel = sender
            .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
            .is_some_and(|sender| sender.pid() == 0);
        Ok(from_kernel.then_some(&buffer[..received]))
    }

    /// Receives the answer to a request, until the message that says that this was all.
    fn answers(
        &self,
        buffer: &mut [u8],
        sequence: u32,
        mut each: impl FnMut(&Message<'_>) -> Result<(), wire::Malformed>,
    ) -> Result<(), Failure> {
        loop {
            let datagram = self.receive(buffer, RecvFlags::empty());
            let datagram = datagram.map_err(|errno| Failure::Errno(errno, None))?;
            for message in wire::messages(datagram.unwrap_or_default()) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                each(&message)?;
                match message.end()? {
                    None => {}
                    Some(0) => return Ok(()),
                    Some(errno) => {
                        // Words that cannot be read take nothing away from the error.
                        let words = message.words().unwrap_or_default();
                        return Err(Failure::Errno(Errno::from_raw_os_error(errno), words));
                    }
                }
            }
        }
    }
}
