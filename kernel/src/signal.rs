//! What this process does about signals.

use crate::error::{Error, Result};

/// Whether whoever started this process has it ignore a signal, as nohup(1) does with SIGHUP. Later on: whether it ignores it.
///
/// # Errors
/// Where /proc cannot tell.
pub fn is_ignored(signal: i32) -> Result<bool> {
    const STATUS: &str = "/proc/self/status";
    let status = std::fs::read_to_string(STATUS).map_err(|source| Error::new("read", STATUS, source))?;
    ignored(&status, signal)
        .ok_or_else(|| Error::invalid("read", STATUS, "it does not tell which signals are ignored"))
}

/// Bit n - 1 of the mask is signal n; see `/proc/pid/status` in proc(5).
fn ignored(status: &str, signal: i32) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let bit = u32::try_from(signal).ok()?.checked_sub(1)?;
    Some(mask.checked_shr(bit)? & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn the_mask_of_ignored_signals_is_read() {
        let status =
            "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert_eq!([1, 2, 13].map(|signal| ignored(status, signal)), [Some(true), Some(false), Some(true)]);
        assert_eq!(ignored(status, 0), None);
        assert_eq!(ignored("Name:\tx\n", 1), None);
        // Rust's runtime ignores this one.
        assert!(is_ignored(libc::SIGPIPE).unwrap());
    }
}
