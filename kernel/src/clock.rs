//! Clocks of the kernel, and which boot they belong to.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::error::{Error, Result};

/// Time since boot, suspension included (`CLOCK_BOOTTIME`): the clock of [`ProgramInfo::load_time`].
///
/// [`ProgramInfo::load_time`]: crate::ProgramInfo::load_time
pub fn boottime() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// Nanoseconds since some point in the past, never going back nor jumping (`CLOCK_MONOTONIC`).
pub fn monotonic_ns() -> u64 {
    u64::try_from(duration(clock_gettime(ClockId::Monotonic)).as_nanos()).unwrap_or(u64::MAX)
}

/// The id of this boot, a UUID: ids of objects and these clocks mean something only together with it.
pub fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let id = std::fs::read_to_string(PATH).map_err(|source| Error::new("read", PATH, source))?;
    Ok(id.trim_end().to_owned())
}

/// Neither clock is ever negative, nor its nanoseconds a second or more.
fn duration(time: Timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn clocks_go_on() {
        let (boot, monotonic) = (boottime(), monotonic_ns());
        assert!(boottime() >= boot);
        assert!(monotonic_ns() >= monotonic);
        // Suspension is the only thing in which the two differ.
        assert!(boottime().as_nanos() >= u128::from(monotonic));
    }

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn a_boot_has_one_id() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id, boot_id().unwrap());
    }
}
