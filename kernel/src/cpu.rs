//! How many CPUs the kernel makes room for.

use std::sync::OnceLock;

use crate::error::{Error, Result};

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// The number of possible CPUs: the number of values that a per-CPU map holds for each key.
///
/// It counts CPUs that are offline or could be plugged in, so it can be larger than what `nproc` says. It does not
/// change while the kernel runs, and is read once.
pub fn possible() -> Result<usize> {
    static COUNT: OnceLock<usize> = OnceLock::new();
    if let Some(&count) = COUNT.get() {
        return Ok(count);
    }
    let text = std::fs::read_to_string(POSSIBLE).map_err(|source| Error::new("read", POSSIBLE, source))?;
    let count = count(&text)
        .ok_or_else(|| Error::invalid("read", POSSIBLE, format!("not a list of CPUs: {:?}", text.trim())))?;
    Ok(*COUNT.get_or_init(|| count))
}

/// The number of CPUs in a list such as `0-3,5`.
fn count(list: &str) -> Option<usize> {
    let mut count = 0_usize;
    for range in list.trim().split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (low.parse::<usize>().ok()?, high.parse::<usize>().ok()?);
        count = count.checked_add(high.checked_sub(low)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_counted() {
        assert_eq!(count("0\n"), Some(1));
        assert_eq!(count("0-1\n"), Some(2));
        assert_eq!(count("0-3,5,8-9"), Some(7));
        assert_eq!(count(""), None);
        assert_eq!(count("3-1"), None);
        assert_eq!(count("0-x"), None);
    }

    #[test]
    fn this_machine_has_at_least_the_cpus_that_are_online() {
        let online = std::thread::available_parallelism().unwrap().get();
        assert!(possible().unwrap() >= online);
    }
}
