//! The rules for names that the file gives to things of the kernel. Each check gives the first reason why a
//! name will not do.

use crate::escape::escape;

/// The longest spelling of a map's name on bpffs, in bytes: with `-<generation>-<id>` after it, it is still a
/// file name.
const LONGEST_MAP_NAME: usize = 255 - "-18446744073709551615-4294967295".len();

/// The longest alternative name of a device, in bytes (`ALTIFNAMSIZ` less the terminating zero). Its name has up to 15.
const LONGEST_DEVICE: usize = 127;

/// Whether a network device can have this name, or alternative name: the rules of the kernel's `dev_valid_name` and
/// `__dev_alloc_name` (`net/core/dev.c`), and no control characters.
///
/// The kernel asks alternative names for their length only. systemd gives none that breaks the other rules, and `ip` none
/// with a slash or white space.
pub(crate) fn device(name: &str) -> Result<(), &'static str> {
    match name {
        "" => return Err("it is empty"),
        "." | ".." => return Err("it means a directory"),
        _ if name.len() > LONGEST_DEVICE => return Err("it is longer than 127 bytes"),
        _ => {}
    }
    for byte in name.bytes() {
        match byte {
            b'/' => return Err("it holds `/`"),
            b':' => return Err("it holds `:`"),
            b'%' => return Err("it holds `%`, which asks the kernel to choose a number"),
            b'\t'..=b'\r' | b' ' => return Err("it holds white space"),
            0xa0 => return Err("it holds the byte 0xa0, which the kernel takes for white space"),
            _ => {}
        }
    }
    if name.contains(char::is_control) { Err("it holds a control character") } else { Ok(()) }
}

/// Whether a network namespace can be named so: a file's name below `/run/netns`, or an absolute path.
pub(crate) fn netns(name: &str) -> Result<(), &'static str> {
    if name.contains(char::is_control) {
        return Err("it holds a control character");
    }
    match name {
        "" => Err("it is empty"),
        "." | ".." => Err("it means a directory"),
        path if path.starts_with('/') => Ok(()),
        path if path.contains('/') => Err("it is a relative path"),
        name if name.len() > 255 => Err("it is longer than 255 bytes"),
        _ => Ok(()),
    }
}

/// Whether a map can have this name: what the kernel allows (`bpf_obj_name_cpy` in `kernel/bpf/syscall.c`),
/// in any length that can be pinned, since objects hold longer names than the kernel.
pub(crate) fn map(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
        Err("it holds other characters than letters, digits, `_` and `.`")
    } else if escape(name).len() > LONGEST_MAP_NAME {
        Err("it is too long to be pinned")
    } else {
        Ok(())
    }
}

/// Whether a group of users can be called so; which there are, the machine decides.
pub(crate) fn group(name: &str) -> Result<(), &'static str> {
    word(name)?;
    if name.contains(':') { Err("it holds `:`") } else { Ok(()) }
}

/// Whether something that only the file names can have this name: a program, or a function of an object.
pub(crate) fn word(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name.contains(char::is_control) {
        Err("it holds a control character")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_follow_the_kernels_rule() {
        for good in ["e", "eth0", "eth0.100", "veth*", "a-b_c", "123456789012345", "été", &"n".repeat(127)]
        {
            assert_eq!(device(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            &"n".repeat(128),
            "a/b",
            "eth0:1",
            "a b",
            "a\tb",
            "a\u{b}b",
            "a\0b",
            &"é".repeat(64),
        ] {
            assert!(device(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_is_a_file_name_or_an_absolute_path() {
        for good in ["a", "tenant-a", "/run/netns/a", "/proc/1/ns/net", "a b", "..."] {
            assert_eq!(netns(good), Ok(()), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "./a", "a\nb", &"n".repeat(256)] {
            assert!(netns(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn map_names_leave_room_for_the_suffix_of_a_retired_map() {
        assert_eq!(map(&"m".repeat(LONGEST_MAP_NAME)), Ok(()));
        assert!(map(&"m".repeat(LONGEST_MAP_NAME + 1)).is_err());
        assert!(map(&".".repeat(LONGEST_MAP_NAME / 3 + 1)).is_err());
        assert!(crate::retired::name(&"m".repeat(LONGEST_MAP_NAME), u64::MAX, u32::MAX).len() <= 255);
    }

    #[test]
    fn map_names_hold_no_dash() {
        assert_eq!(map("xdp_stats_map"), Ok(()));
        assert_eq!(map(".data.counters"), Ok(()));
        assert!(map("xdp-link").is_err());
        assert!(map("").is_err());
    }
}
