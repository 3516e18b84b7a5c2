//! Netlink messages as bytes: making requests, taking answers apart. No system calls.

use crate::uapi::{
    IFLA_ALT_IFNAME, IFLA_IFNAME, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_MASTER, IFLA_MTU, IFLA_PROP_LIST,
    IFLA_XDP, IFLA_XDP_ATTACHED, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_HW_PROG_ID, IFLA_XDP_PROG_ID,
    IFLA_XDP_SKB_PROG_ID, NLA_F_NESTED, NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MSG, RTM_DELLINK, RTM_NEWLINK, XDP_ATTACHED_DRV,
    XDP_ATTACHED_HW, XDP_ATTACHED_SKB,
};
use xdpd_types::XdpMode;
use xdpd_types::{IfIndex, ProgramId};

use super::{Attached, Change, Device, LinkEvent, Neighbour};

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

    /// How the kernel explains an error that it answers with, where it does.
    pub(super) fn words(&self) -> Result<Option<String>> {
        if self.kind != NLMSG_ERROR || self.flags & NLM_F_ACK_TLVS == 0 {
            return Ok(None);
        }
        // The error number, then the request: its header alone, or all of it.
        let request = self.payload.get(4..).ok_or(Malformed)?;
        let len = if self.flags & NLM_F_CAPPED == 0 { u32_at(request, 0)? as usize } else { HEADER_LEN };
        let begin = len.max(HEADER_LEN).checked_next_multiple_of(ALIGN).ok_or(Malformed)?;
        for attribute in attributes(request.get(begin..).ok_or(Malformed)?) {
            if let (NLMSGERR_ATTR_MSG, value) = attribute? {
                return Ok(Some(text(value)).filter(|words| !words.is_empty()));
            }
        }
        Ok(None)
    }

    /// The device that this message describes, if it does, with the devices that it is tied to.
    pub(super) fn neighbour(&self) -> Result<Option<Neighbour>> {
        let Some(device) = self.device()? else { return Ok(None) };
        let mut neighbour = Neighbour { device, master: None, lower: None };
        let mut elsewhere = false;
        for attribute in self.link_attributes()? {
            match attribute? {
                (IFLA_MASTER, value) => neighbour.master = Some(IfIndex(u32_at(value, 0)?)),
                (IFLA_LINK, value) => neighbour.lower = Some(IfIndex(u32_at(value, 0)?)),
                (IFLA_LINK_NETNSID, _) => elsewhere = true,
                _ => {}
            }
        }
        // Then the index is that of a device in another namespace.
        if elsewhere {
            neighbour.lower = None;
        }
        Ok(Some(neighbour))
    }

    /// The device that this message describes, if it does.
    pub(super) fn device(&self) -> Result<Option<Device>> {
        if self.kind != RTM_NEWLINK {
            return Ok(None);
        }
        let (_, ifindex) = self.link()?;
        let mut device =
            Device { ifindex, name: String::new(), alt_names: Vec::new(), mtu: 0, xdp: Vec::new() };
        for attribute in self.link_attributes()? {
            match attribute? {
                (IFLA_IFNAME, value) => device.name = text(value),
                (IFLA_PROP_LIST, value) => device.alt_names = alt_names(value)?,
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

/// The alternative names in an `IFLA_PROP_LIST` attribute (`rtnl_fill_prop_list` in the kernel's `net/core/rtnetlink.c`),
/// which may come to hold other properties, too.
fn alt_names(bytes: &[u8]) -> Result<Vec<String>> {
    let names = attributes(bytes).filter_map(|attribute| match attribute {
        Ok((IFLA_ALT_IFNAME, value)) => Some(Ok(text(value))),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    });
    names.collect()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::uapi::{NLM_F_DUMP, RTM_GETLINK};

    /// A message about a device, as the kernel makes them: the request of the same shape is all that is needed.
    fn device(kind: u16, name: &str, xdp: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = Request::link(kind, 0, 7, 3);
        message.attribute(999, &[1, 2, 3]);
        message.attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        message.attribute(IFLA_MTU, &1500_u32.to_ne_bytes());
        message.nested(IFLA_XDP, |message| {
            for (kind, value) in xdp {
                message.attribute(*kind, value);
            }
        });
        message.finish()
    }

    /// All that can be asked of all messages in some bytes; the number of those that are well-formed.
    fn parse(bytes: &[u8]) -> usize {
        messages(bytes)
            .filter_map(Result::ok)
            .inspect(|message| {
                let _ = (message.device(), message.neighbour(), message.event(), message.end());
                let _ = (message.words(), message.is_interrupted());
            })
            .count()
    }

    /// The answer to a request that failed: whole or only its header, with these attributes behind it.
    fn refusal(capped: bool, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut request = Request::link(RTM_GETLINK, 0, 7, 3);
        request.attribute(IFLA_IFNAME, b"abcde");
        let request = request.finish();
        let mut inner = Request(Vec::new());
        for (kind, value) in attributes {
            inner.attribute(*kind, value);
        }
        let quoted = if capped { &request[..HEADER_LEN] } else { &request[..] };
        let payload = [&(-34_i32).to_ne_bytes(), quoted, &inner.0].concat();
        let flags = NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 };
        let len = u32::try_from(HEADER_LEN + payload.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
        [bytes, payload].concat()
    }

    fn only_words(bytes: &[u8]) -> Result<Option<String>> {
        split_message(&mut &bytes[..]).unwrap().words()
    }

    fn only_device(bytes: &[u8]) -> Device {
        let found: Vec<_> = messages(bytes).map(|message| message.unwrap().device().unwrap()).collect();
        let [Some(device)] = found.as_slice() else { panic!("{found:?}") };
        device.clone()
    }

    #[test]
    fn a_device_is_read_with_its_programs() {
        let id = |id: u32| id.to_ne_bytes();
        let several =
            [(IFLA_XDP_ATTACHED, &[4][..]), (IFLA_XDP_SKB_PROG_ID, &id(12)), (IFLA_XDP_DRV_PROG_ID, &id(11))];
        let program = |mode, id| Attached { mode, program_id: ProgramId(id) };
        assert_eq!(
            only_device(&device(RTM_NEWLINK, "eth0", &several)),
            Device {
                ifindex: IfIndex(3),
                name: "eth0".into(),
                alt_names: Vec::new(),
                mtu: 1500,
                xdp: vec![program(XdpMode::Native, 11), program(XdpMode::Generic, 12)],
            }
        );
        let one = [(IFLA_XDP_ATTACHED, &[1][..]), (IFLA_XDP_PROG_ID, &id(5)), (IFLA_XDP_DRV_PROG_ID, &id(5))];
        assert_eq!(only_device(&device(RTM_NEWLINK, "e", &one)).xdp, [program(XdpMode::Native, 5)]);
        let none = [(IFLA_XDP_ATTACHED, &[0][..])];
        assert_eq!(only_device(&device(RTM_NEWLINK, "e", &none)).xdp, []);
        let without_mode = [(IFLA_XDP_ATTACHED, &[3][..]), (IFLA_XDP_PROG_ID, &id(5))];
        assert_eq!(only_device(&device(RTM_NEWLINK, "e", &without_mode)).xdp, [program(XdpMode::Offload, 5)]);
    }

    /// A message about a device that has these properties.
    fn properties(properties: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = Request::link(RTM_NEWLINK, 0, 7, 3);
        message.attribute(IFLA_IFNAME, b"eth0\0");
        message.nested(IFLA_PROP_LIST, |message| {
            for (kind, value) in properties {
                message.attribute(*kind, value);
            }
        });
        message.finish()
    }

    #[test]
    fn alternative_names_are_read_in_order() {
        let long = [b'x'; 127];
        let device = only_device(&properties(&[
            (IFLA_ALT_IFNAME, b"uplink\0"),
            (99, b"another property"),
            (IFLA_ALT_IFNAME, &[&long[..], b"\0"].concat()),
            (IFLA_ALT_IFNAME, b"e\xffth\0"),
        ]));
        assert_eq!(device.alt_names, ["uplink", &"x".repeat(127), "e\u{fffd}th"]);
        assert_eq!(device.name, "eth0");
        assert_eq!(only_device(&properties(&[])).alt_names, [""; 0]);
    }

    #[test]
    fn a_broken_list_of_names_is_malformed() {
        let mut message = Request::link(RTM_NEWLINK, 0, 7, 3);
        // An attribute that is longer than the list.
        message
            .attribute(IFLA_PROP_LIST, &[&[100, 0][..], &IFLA_ALT_IFNAME.to_ne_bytes(), b"up\0\0"].concat());
        let bytes = message.finish();
        let found: Vec<_> =
            messages(&bytes).map(|message| message.and_then(|message| message.device())).collect();
        assert_eq!(found, [Err(Malformed)]);
    }

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let mut request = Request::link(RTM_GETLINK, NLM_F_DUMP, 2, 0);
        request.attribute(IFLA_IFNAME, b"abcde");
        let bytes = request.finish();
        assert_eq!(bytes.len(), 32 + 12);
        assert_eq!(u32_at(&bytes, 0), Ok(44));
        assert_eq!(u16_at(&bytes, 6), Ok(NLM_F_DUMP | NLM_F_REQUEST));
        // The attribute's length is without the padding.
        assert_eq!(u16_at(&bytes, 32), Ok(9));
        assert_eq!(bytes[41..], [0; 3]);
    }

    #[test]
    fn an_answer_ends_with_an_error_number_or_none() {
        let end = |kind: u16, payload: &[u8]| Message { kind, flags: 0, sequence: 0, payload }.end();
        assert_eq!(end(NLMSG_DONE, &[]), Ok(Some(0)));
        assert_eq!(end(NLMSG_DONE, &0_i32.to_ne_bytes()), Ok(Some(0)));
        assert_eq!(end(NLMSG_ERROR, &(-16_i32).to_ne_bytes()), Ok(Some(16)));
        assert_eq!(end(NLMSG_ERROR, &16_i32.to_ne_bytes()), Err(Malformed));
        assert_eq!(end(NLMSG_ERROR, &i32::MIN.to_ne_bytes()), Err(Malformed));
        assert_eq!(end(NLMSG_ERROR, &[1]), Err(Malformed));
        assert_eq!(end(RTM_NEWLINK, &[]), Ok(None));
    }

    #[test]
    fn an_error_is_explained_in_words_where_the_kernel_has_any() {
        let offset = (2, &[1, 0, 0, 0][..]);
        let words = (NLMSGERR_ATTR_MSG, &b"Too large\0"[..]);
        for capped in [false, true] {
            let bytes = refusal(capped, &[offset, words]);
            assert_eq!(only_words(&bytes), Ok(Some("Too large".into())));
            assert_eq!(split_message(&mut &bytes[..]).unwrap().end(), Ok(Some(34)));
            assert_eq!(only_words(&refusal(capped, &[offset])), Ok(None));
            assert_eq!(only_words(&refusal(capped, &[(NLMSGERR_ATTR_MSG, b"\0")])), Ok(None));
        }
        // Without the flag, what follows is no attribute.
        let mut bytes = refusal(true, &[words]);
        bytes[6..8].copy_from_slice(&NLM_F_CAPPED.to_ne_bytes());
        assert_eq!(only_words(&bytes), Ok(None));
        // The request that is quoted announces more bytes than there are.
        let mut bytes = refusal(false, &[words]);
        bytes[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(only_words(&bytes), Err(Malformed));
    }

    #[test]
    fn a_device_is_told_with_those_it_is_tied_to() {
        let neighbour = |attributes: &[(u16, u32)]| {
            let mut message = Request::link(RTM_NEWLINK, 0, 7, 3);
            for (kind, value) in attributes {
                message.attribute(*kind, &value.to_ne_bytes());
            }
            let bytes = message.finish();
            let neighbour = split_message(&mut &bytes[..]).unwrap().neighbour().unwrap().unwrap();
            (neighbour.master.map(|i| i.0), neighbour.lower.map(|i| i.0))
        };
        assert_eq!(neighbour(&[]), (None, None));
        assert_eq!(neighbour(&[(IFLA_MASTER, 9), (IFLA_LINK, 5)]), (Some(9), Some(5)));
        assert_eq!(neighbour(&[(IFLA_LINK, 5), (IFLA_LINK_NETNSID, 0)]), (None, None));
    }

    #[test]
    fn names_that_are_not_utf8_do_not_hide_a_device() {
        let mut message = Request::link(RTM_NEWLINK, 0, 7, 3);
        message.attribute(IFLA_IFNAME, b"e\xffth\0");
        assert_eq!(only_device(&message.finish()).name, "e\u{fffd}th");
    }

    #[test]
    fn a_message_cut_short_is_malformed() {
        let bytes = device(RTM_NEWLINK, "eth0", &[(IFLA_XDP_ATTACHED, &[0])]);
        for cut in 1..bytes.len() {
            let found: Vec<_> = messages(&bytes[..cut]).map(Result::err).collect();
            assert_eq!(found, [Some(Malformed)], "{cut} of {} bytes", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            parse(&bytes);
        }

        #[test]
        fn damaged_messages_are_parsed_or_refused(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            kind in prop::sample::select(vec![RTM_NEWLINK, RTM_DELLINK, NLMSG_ERROR, NLMSG_DONE]),
            cut in any::<prop::sample::Index>(),
        ) {
            let xdp = [(IFLA_XDP_ATTACHED, &[1][..]), (IFLA_XDP_DRV_PROG_ID, &[9, 0, 0, 0][..])];
            let words = refusal(false, &[(NLMSGERR_ATTR_MSG, b"Too large\0")]);
            let names = properties(&[(IFLA_ALT_IFNAME, b"uplink\0"), (IFLA_ALT_IFNAME, b"another-name\0")]);
            let mut bytes =
                [device(kind, "eth0", &xdp), words, names, device(RTM_NEWLINK, "eth1", &[])].concat();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            parse(&bytes);
            parse(&bytes[..cut.index(bytes.len())]);
        }

        #[test]
        fn words_cut_short_or_damaged_are_read_or_refused(
            flags in any::<u16>(),
            announced in any::<u32>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = refusal(false, &[(2, &[0; 4]), (NLMSGERR_ATTR_MSG, b"Too large\0")]);
            bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
            bytes[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&announced.to_ne_bytes());
            let len = HEADER_LEN + cut.index(bytes.len() - HEADER_LEN + 1);
            bytes.truncate(len);
            bytes[..4].copy_from_slice(&u32::try_from(len).unwrap().to_ne_bytes());
            let _ = only_words(&bytes);
        }

        #[test]
        fn alternative_names_are_those_that_were_written(
            names in proptest::collection::vec("[^\0]{0,40}", 0..8),
        ) {
            let ended: Vec<_> = names.iter().map(|name| format!("{name}\0")).collect();
            let written: Vec<_> = ended.iter().map(|name| (IFLA_ALT_IFNAME, name.as_bytes())).collect();
            prop_assert_eq!(only_device(&properties(&written)).alt_names, names);
        }

        #[test]
        fn what_is_written_is_read(
            values in proptest::collection::vec((1_u16..=NLA_TYPE_MASK, proptest::collection::vec(any::<u8>(), 0..40)), 0..10),
        ) {
            let mut message = Request::link(RTM_NEWLINK, 0, 7, 3);
            for (kind, value) in &values {
                message.attribute(*kind, value);
            }
            let bytes = message.finish();
            let message = split_message(&mut &bytes[..]).unwrap();
            let found: Vec<_> = message
                .link_attributes()
                .unwrap()
                .map(|attribute| attribute.map(|(kind, value)| (kind, value.to_vec())).unwrap())
                .collect();
            prop_assert_eq!(found, values);
        }
    }
}
