//! Keys of LPM tries: the length of a prefix in bits, then the bits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The length of the prefix, before its bits.
const HEAD: usize = 4;

/// Whether prefixes of addresses have keys of this size.
pub(super) fn is_address(key_size: u32) -> bool {
    [HEAD + 4, HEAD + 16].contains(&(key_size as usize))
}

/// What a string for a key of `key_size` bytes looks like.
pub(super) fn expected(key_size: u32) -> &'static str {
    if key_size as usize == HEAD + 4 {
        "an IPv4 prefix like \"192.0.2.0/24\""
    } else {
        "an IPv6 prefix like \"2001:db8::/32\""
    }
}

/// The key of a prefix, `key_size` bytes; an address alone is a prefix of all its bits. `None`: it is no such prefix.
pub(super) fn parse(text: &str, key_size: u32) -> Option<Vec<u8>> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let bits = match address.parse().ok()? {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let most = u32::try_from(bits.len() * 8).ok()?;
    let len = match len {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => most,
    };
    (bits.len() + HEAD == key_size as usize && len <= most)
        .then(|| [len.to_ne_bytes().to_vec(), bits].concat())
}

/// The text of a key whose size is that of a prefix of addresses.
pub(super) fn format(key: &[u8]) -> Option<String> {
    let (len, bits) = split(key)?;
    let address = match bits.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bits).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bits).ok()?)),
        _ => return None,
    };
    Some(format!("{address}/{len}"))
}

/// The key without the bits behind its prefix, which the kernel keeps and does not look at: with them, one prefix would
/// be many. `None` where the prefix is longer than its bits.
pub(super) fn masked(key: &[u8]) -> Option<Vec<u8>> {
    let (len, bits) = split(key)?;
    if len as usize > bits.len() * 8 {
        return None;
    }
    let mut key = key.to_vec();
    for (n, byte) in key[HEAD..].iter_mut().enumerate() {
        let kept = (len as usize).saturating_sub(n * 8).min(8);
        *byte &= !(0xff_u16 >> kept).to_le_bytes()[0];
    }
    Some(key)
}

fn split(key: &[u8]) -> Option<(u32, &[u8])> {
    let (len, bits) = key.split_first_chunk::<HEAD>()?;
    Some((u32::from_ne_bytes(*len), bits))
}

/// By address, then by length: the order in which people look for prefixes.
pub(super) fn order(key: &[u8]) -> Vec<u8> {
    match split(key) {
        Some((len, bits)) => [bits, &len.to_be_bytes()].concat(),
        None => key.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_what_the_kernel_takes() {
        let key = |len: u32, bits: &[u8]| [&len.to_ne_bytes(), bits].concat();
        assert_eq!(parse("192.0.2.0/24", 8), Some(key(24, &[192, 0, 2, 0])));
        assert_eq!(parse("192.0.2.1", 8), Some(key(32, &[192, 0, 2, 1])));
        assert_eq!(parse("0.0.0.0/0", 8), Some(key(0, &[0; 4])));
        let v6 = parse("2001:db8::/32", 20).unwrap();
        assert_eq!((&v6[..8], v6.len()), (&key(32, &[0x20, 1, 0xd, 0xb8])[..], 20));
        for wrong in ["", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+1", "192.0.2/24", "2001:db8::/32", "a/8"]
        {
            assert_eq!(parse(wrong, 8), None, "{wrong}");
        }
        assert_eq!(parse("192.0.2.0/24", 20), None);
        for text in ["192.0.2.0/24", "0.0.0.0/0", "255.255.255.255/32"] {
            assert_eq!(format(&parse(text, 8).unwrap()).as_deref(), Some(text));
        }
        for text in ["2001:db8::/32", "::/0", "::1/128"] {
            assert_eq!(format(&parse(text, 20).unwrap()).as_deref(), Some(text));
        }
    }

    #[test]
    fn bits_behind_the_prefix_do_not_count() {
        let masks = |given: &str, masked_text: &str| {
            let masked = masked(&parse(given, 8).unwrap()).unwrap();
            assert_eq!(format(&masked).as_deref(), Some(masked_text));
        };
        masks("192.0.2.255/24", "192.0.2.0/24");
        masks("255.255.255.255/0", "0.0.0.0/0");
        masks("255.255.255.255/1", "128.0.0.0/1");
        masks("255.255.255.255/31", "255.255.255.254/31");
        masks("255.255.255.255/32", "255.255.255.255/32");
        assert_eq!(masked(&[33, 0, 0, 0, 1, 2, 3, 4]), None);
        assert_eq!(masked(&[1, 0, 0]), None);
    }
}
