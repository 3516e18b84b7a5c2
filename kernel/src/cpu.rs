//! Which CPUs there are, and running on one of them.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, Result};

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The number of possible CPUs: the number of values that a per-CPU map holds for each key.
///
/// It counts CPUs that are offline or could be plugged in, so it can be larger than what `nproc` says. It does not
/// change while the kernel runs, and is read once.
pub fn possible() -> Result<usize> {
    static COUNT: OnceLock<usize> = OnceLock::new();
    if let Some(&count) = COUNT.get() {
        return Ok(count);
    }
    let count = possible_list()?.len();
    Ok(*COUNT.get_or_init(|| count))
}

/// The numbers of the possible CPUs, in the order in which a per-CPU map holds their values.
pub fn possible_list() -> Result<Vec<usize>> {
    read_list(POSSIBLE)
}

/// The numbers of the CPUs that run now.
pub fn online_list() -> Result<Vec<usize>> {
    read_list(ONLINE)
}

/// Calls `work` while this thread runs on one CPU only, and lets the thread have its other CPUs back; `None` when the CPU is
/// not online, and `work` was not called.
///
/// It is an error when it is not one of the CPUs that the process may use (its cpuset).
pub fn run_on<T>(cpu: usize, work: impl FnOnce() -> T) -> Result<Option<T>> {
    let error = |call, errno| Error::new(call, format!("CPU {cpu}"), errno);
    if cpu >= CpuSet::MAX_CPU {
        return Err(Error::invalid("sched_setaffinity", format!("CPU {cpu}"), "its number is too large"));
    }
    let before = sched_getaffinity(None).map_err(|errno| error("sched_getaffinity", errno))?;
    let mut only = CpuSet::new();
    only.set(cpu);
    if let Err(errno) = sched_setaffinity(None, &only) {
        return if online_list()?.contains(&cpu) { Err(error("sched_setaffinity", errno)) } else { Ok(None) };
    }
    let result = work();
    // What it may use can have shrunk meanwhile; then the kernel has taken care of where it runs.
    let _ = sched_setaffinity(None, &before);
    Ok(Some(result))
}

fn read_list(path: &'static str) -> Result<Vec<usize>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::new("read", path, source))?;
    parse(&text).ok_or_else(|| Error::invalid("read", path, format!("not a list of CPUs: {:?}", text.trim())))
}

/// The numbers in a list such as `0-3,5`.
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (low.parse::<usize>().ok()?, high.parse::<usize>().ok()?);
        // The kernel has room for 8192.
        if high < low || high > 1 << 16 {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_read() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse("0-3,5,8-9"), Some(vec![0, 1, 2, 3, 5, 8, 9]));
        assert_eq!(parse(""), None);
        assert_eq!(parse("3-1"), None);
        assert_eq!(parse("0-x"), None);
    }

    #[test]
    fn work_runs_on_the_cpu_that_was_asked_for() {
        let before = sched_getaffinity(None).unwrap();
        for cpu in online_list().unwrap() {
            let on = run_on(cpu, || {
                let mine = sched_getaffinity(None).unwrap();
                (mine.count(), mine.is_set(cpu), rustix::thread::sched_getcpu())
            });
            assert_eq!(on.unwrap(), Some((1, true, cpu)));
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        assert_eq!(run_on(1000, || ()).unwrap(), None);
    }

    #[test]
    fn this_machine_has_at_least_the_cpus_that_are_online() {
        let online = std::thread::available_parallelism().unwrap().get();
        assert!(possible().unwrap() >= online);
    }
}
