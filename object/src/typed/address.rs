//! Addresses as text and as the bytes that are sent.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Mac,
}

impl Family {
    /// What so many bytes may be.
    pub(super) fn of_bytes(len: u32) -> Option<Self> {
        [Self::V4, Self::V6, Self::Mac].into_iter().find(|family| family.len() == len)
    }

    /// What a struct with these names is, in C or in Rust.
    pub(super) fn of_struct(names: &[&str]) -> Option<Self> {
        let is = |known: [&str; 2]| names.iter().any(|name| known.contains(name));
        if is(["in_addr", "Ipv4Addr"]) {
            Some(Self::V4)
        } else if is(["in6_addr", "Ipv6Addr"]) {
            Some(Self::V6)
        } else {
            None
        }
    }

    /// Bytes.
    pub(super) fn len(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
            Self::Mac => 6,
        }
    }

    /// What is expected, for people.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::V4 => "an IPv4 address like \"192.0.2.1\"",
            Self::V6 => "an IPv6 address like \"2001:db8::1\"",
            Self::Mac => "a MAC address like \"02:00:00:00:00:01\"",
        }
    }

    /// The bytes of an address, in the order in which they are sent.
    pub(super) fn parse(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::V4 => Some(text.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
            Self::V6 => Some(text.parse::<Ipv6Addr>().ok()?.octets().to_vec()),
            Self::Mac => {
                let byte = |digits: &str| {
                    let two = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    two.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
                };
                let bytes: Vec<u8> = text.split(':').map(byte).collect::<Option<_>>()?;
                (bytes.len() == 6).then_some(bytes)
            }
        }
    }

    /// The text of an address; `None` for another number of bytes.
    pub(super) fn format(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::V4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
            Self::V6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
            Self::Mac => {
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                (bytes.len() == 6).then(|| bytes.join(":"))
            }
        }
    }
}
