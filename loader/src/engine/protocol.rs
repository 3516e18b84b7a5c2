//! The messages between `xdpd` and its loader process: a length, that many bytes of JSON, and file descriptors that
//! ride on the first byte.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::object::{DataReference, Dialect};

/// Longest message taken: a verifier log of the kernel's largest size fits.
const MAX_MESSAGE: usize = 64 << 20;
/// File descriptors per message.
const MAX_FDS: usize = 2;

/// What the loader process is asked. The object (a memfd) and the directory with the maps come along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// How the object was built, which decides what loads it.
    pub(super) dialect: Dialect,
    /// Program to load.
    pub(super) function: String,
    /// The functions that it consists of: index of the section, address in it.
    pub(super) functions: Vec<(usize, u64)>,
    /// Maps that the object declares: names of section and pin.
    pub(super) maps: Vec<MapPin>,
    /// Maps made of data sections: likewise.
    pub(super) data: Vec<MapPin>,
    /// Where the object takes descriptors of the maps of data sections.
    pub(super) data_references: Vec<DataReference>,
    /// The licence to declare.
    pub(super) license: String,
    /// The program takes packets of several buffers.
    pub(super) frags: bool,
    /// What the program declares to be for.
    pub(super) attach_type: u32,
}

/// A map of the object and the pin that stands for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MapPin {
    /// Name in the object.
    pub(super) name: String,
    /// File name in the directory.
    pub(super) pin: String,
}

/// What it answers; a loaded program comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Loaded.
    Loaded,
    /// Refused by the verifier.
    Rejected {
        /// errno in words.
        errno: String,
        /// The verifier's log.
        log: String,
    },
    /// Anything else.
    Failed(String),
}

/// Sends one message.
pub(super) fn send(
    mut socket: &UnixStream,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let len = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidData)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // A socket with a timeout gives EINTR even where calls are restarted, signal(7).
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&len)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    socket.write_all(&len[sent..])?;
    socket.write_all(&body)
}

/// Receives one message; `None` when the other side has closed.
pub(super) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut len = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut len)];
        rustix::net::recvmsg(socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?
    .bytes;
    if received == 0 {
        return Ok(None);
    }
    let fds = ancillary
        .drain()
        .filter_map(|m| match m {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    socket.read_exact(&mut len[received..])?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; len];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}
