//! Netlink messages as bytes: making requests, taking answers apart. No system calls.

use crate::id::{IfIndex, ProgramId};
use crate::mode::XdpMode;
use crate::uapi::{
    IFLA_IFNAME, IFLA_MTU, IFLA_XDP, IFLA_XDP_ATTACHED, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_HW_PROG_ID,
    IFLA_XDP_PROG_ID, IFLA_XDP_SKB_PROG_ID, NLA_F_NESTED, NLA_TYPE_MASK, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, RTM_DELLINK, RTM_NEWLINK, XDP_ATTACHED_DRV, XDP_ATTACHED_HW, XDP_ATTACHED_SKB,
};

use super::{Attached, Change, Device, LinkEvent};

/// The length of `struct nlmsghdr`, of `struct ifinfomsg` and of `struct nlattr`.
const HEADER_LEN: usize = 16;
const LINK_LEN: usize = 16;
const ATTRIBUTE_LEN: usize = 4;

/// Messages and attributes begin at multiples of this.
const ALIGN: usize = 4;

/// Bytes that are no netlink message: too short for what they announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// A request about links, in the making.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A request of type `kind` about the device `index`, or about all with 0.
    pub(super) fn link(kind: u16, flags: u16, sequence: u32, index: i32) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]); // the length, when it is known
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]); // the port, which the kernel knows
        bytes.extend_from_slice(&[0; 4]); // family and type of hardware: any
        bytes.extend_from_slice(&index.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // no flags to change
        Self(bytes)
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.with_length(kind, |request| request.0.extend_from_slice(value));
    }

    pub(super) fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        self.with_length(kind | NLA_F_NESTED, inner);
    }

    fn with_length(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        inner(self);
        // Requests are some dozen bytes long.
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// A message: its header, and what follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    kind: u16,
    flags: u16,
    pub(super) sequence: u32,
    payload: &'a [u8],
}

/// The messages in a datagram. After a malformed one there is no other.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = split_message(&mut bytes);
        if message.is_err() {
            bytes = &[];
        }
        Some(message)
    })
}

fn split_message<'a>(bytes: &mut &'a [u8]) -> Result<Message<'a>> {
    let len = u32_at(bytes, 0)? as usize;
    let payload = bytes.get(HEADER_LEN..len).ok_or(Malformed)?;
    let message =
        Message { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)?, payload };
    *bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    Ok(message)
}

impl Message<'_> {
    /// Whether the kernel says that its tables changed during this dump.
    pub(super) fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// The errno with which an answer ends, 0 for success; `None` when more follows.
    pub(super) fn end(&self) -> Result<Option<i32>> {
        match self.kind {
            NLMSG_DONE if self.payload.is_empty() => Ok(Some(0)),
            NLMSG_DONE | NLMSG_ERROR => {
                let status = i32::from_ne_bytes(array_at(self.payload, 0)?);
                Ok(Some(status.checked_neg().filter(|errno| (0..4096).contains(errno)).ok_or(Malformed)?))
            }
            _ => Ok(None),
        }
    }

    /// The device that this message describes, if it does.
    pub(super) fn device(&self) -> Result<Option<Device>> {
        if self.kind != RTM_NEWLINK {
            return Ok(None);
        }
        let (_, ifindex) = self.link()?;
        let mut device = Device { ifindex, name: String::new(), mtu: 0, xdp: Vec::new() };
        for attribute in self.link_attributes()? {
            match attribute? {
                (IFLA_IFNAME, value) => device.name = text(value),
                (IFLA_MTU, value) => device.mtu = u32_at(value, 0)?,
                (IFLA_XDP, value) => device.xdp = attached(value)?,
                _ => {}
            }
        }
        Ok(Some(device))
    }

    /// The change of a device that this message announces, if it does.
    pub(super) fn event(&self) -> Result<Option<LinkEvent>> {
        let change = match self.kind {
            RTM_NEWLINK => Change::New,
            RTM_DELLINK => Change::Del,
            _ => return Ok(None),
        };
        let (family, ifindex) = self.link()?;
        // A bridge announces its ports with the same messages, of its own family: a device that leaves a bridge is not
        // gone.
        if family != AF_UNSPEC {
            return Ok(None);
        }
        let mut name = String::new();
        for attribute in self.link_attributes()? {
            if let (IFLA_IFNAME, value) = attribute? {
                name = text(value);
            }
        }
        Ok(Some(LinkEvent { ifindex, name, change }))
    }

    /// Family and index of `struct ifinfomsg`.
    fn link(&self) -> Result<(u8, IfIndex)> {
        let family = *self.payload.first().ok_or(Malformed)?;
        Ok((family, IfIndex(u32_at(self.payload, 4)?)))
    }

    fn link_attributes(&self) -> Result<impl Iterator<Item = Result<(u16, &[u8])>>> {
        Ok(attributes(self.payload.get(LINK_LEN..).ok_or(Malformed)?))
    }
}

const AF_UNSPEC: u8 = 0;

/// The attributes in some bytes, each as its type without flags and its value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let attribute = split_attribute(&mut bytes);
        if attribute.is_err() {
            bytes = &[];
        }
        Some(attribute)
    })
}

fn split_attribute<'a>(bytes: &mut &'a [u8]) -> Result<(u16, &'a [u8])> {
    let len = usize::from(u16_at(bytes, 0)?);
    let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
    let value = bytes.get(ATTRIBUTE_LEN..len).ok_or(Malformed)?;
    *bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    Ok((kind, value))
}

/// The programs in an `IFLA_XDP` attribute.
fn attached(bytes: &[u8]) -> Result<Vec<Attached>> {
    let mut found = Vec::new();
    let (mut only_mode, mut only_id) = (None, None);
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        let mode = match kind {
            IFLA_XDP_DRV_PROG_ID => XdpMode::Native,
            IFLA_XDP_SKB_PROG_ID => XdpMode::Generic,
            IFLA_XDP_HW_PROG_ID => XdpMode::Offload,
            IFLA_XDP_ATTACHED => {
                only_mode = match *value.first().ok_or(Malformed)? {
                    XDP_ATTACHED_DRV => Some(XdpMode::Native),
                    XDP_ATTACHED_SKB => Some(XdpMode::Generic),
                    XDP_ATTACHED_HW => Some(XdpMode::Offload),
                    // None, or several, which have an attribute each.
                    _ => None,
                };
                continue;
            }
            IFLA_XDP_PROG_ID => {
                only_id = Some(u32_at(value, 0)?);
                continue;
            }
            _ => continue,
        };
        found.push(Attached { mode, program_id: ProgramId(u32_at(value, 0)?) });
    }
    if let (true, Some(mode), Some(id)) = (found.is_empty(), only_mode, only_id) {
        found.push(Attached { mode, program_id: ProgramId(id) });
    }
    found.retain(|attached| attached.program_id.0 != 0);
    found.sort_unstable_by_key(|attached| attached.mode);
    Ok(found)
}

/// A string attribute, which ends with NUL.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Malformed)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}
