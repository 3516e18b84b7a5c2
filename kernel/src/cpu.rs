//! Which CPUs there are, and running on one of them.
//!
//! The kernel itself is asked. The files in /sys/devices/system/cpu are texts, over which a container may have mounted its
//! own (LXCFS does): a buffer of their size would be too small for what the kernel copies, and a CPU that they leave out
//! counts packets all the same.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::map::{Map, MapDef, measure};
use crate::program::Insn;
use crate::sys;
use crate::uapi::{
    BPF_MAP_TYPE_CPUMAP, BPF_PROG_LOAD, BPF_PROG_TEST_RUN, BPF_PROG_TYPE_RAW_TRACEPOINT, ProgLoad,
};

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// The number of possible CPUs: the number of values that a per-CPU map holds for each key.
///
/// It counts CPUs that are offline or could be plugged in, so it can be larger than what `nproc` says. It is measured once:
/// with the first per-CPU map that is opened, or else with one that is made for it, which needs `CAP_BPF`.
pub fn possible() -> Result<usize> {
    measure::known().map_or_else(measure::by_own_map, Ok)
}

/// The number of possible CPUs as sysfs tells it: for telling it to somebody where [`possible`] is denied. No size and no
/// loop may depend on it.
pub fn possible_by_sysfs() -> Result<usize> {
    let text = std::fs::read_to_string(POSSIBLE).map_err(|source| Error::new("read", POSSIBLE, source))?;
    count_of(&text).ok_or_else(|| {
        let begin: String = text.trim().chars().take(40).collect();
        Error::invalid("read", POSSIBLE, format!("not a list of CPUs: {begin:?}"))
    })
}

/// The numbers of the possible CPUs, in the order in which a per-CPU map holds their values: ascending
/// (`for_each_possible_cpu` in `bpf_percpu_array_copy`, `kernel/bpf/arraymap.c`). Needs `CAP_BPF`.
///
/// There can be holes between them. A CPU map tells each: it takes no entry for a CPU that is not possible, and to write
/// one with an empty queue is to delete it (`cpu_map_update_elem` in `kernel/bpf/cpumap.c`).
pub fn possible_list() -> Result<Vec<usize>> {
    let count = possible()?;
    let mut cpus = Vec::with_capacity(count);
    let map = cpu_map()?;
    for cpu in 0..map.def().max_entries {
        if cpus.len() == count {
            break;
        }
        match map.update(&cpu.to_ne_bytes(), &[0; 4], 0) {
            Ok(()) => cpus.push(cpu as usize),
            Err(error) if error.is(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    if cpus.len() != count {
        let reason = format!("{} CPUs are possible by it, and per-CPU maps have {count} values", cpus.len());
        return Err(Error::invalid("BPF_MAP_UPDATE_ELEM", "map xdpd_cpus", reason));
    }
    Ok(cpus)
}

/// An empty CPU map with an entry for each CPU that there can be.
fn cpu_map() -> Result<Map> {
    let bits = sys::cpu_bits().map_err(|source| Error::new("sched_getaffinity", "this thread", source))?;
    let mut def = MapDef {
        map_type: BPF_MAP_TYPE_CPUMAP,
        key_size: 4,
        value_size: 4,
        max_entries: u32::try_from(bits).unwrap_or(u32::MAX),
        ..MapDef::default()
    };
    loop {
        match Map::create("xdpd_cpus", &def, None) {
            // The kernel's masks are whole words, and it takes no more entries than the CPUs that it was built for.
            Err(error) if error.is(libc::E2BIG) && def.max_entries > 1 => def.max_entries -= 1,
            map => return map,
        }
    }
}

/// Whether a CPU is online. Needs `CAP_BPF` and `CAP_PERFMON`.
///
/// Test runs of programs for raw tracepoints are the only ones that may name a CPU, whatever CPUs this process may use:
/// `ENXIO` says that it is offline (`bpf_prog_test_run_raw_tp` in `net/bpf/test_run.c`).
pub fn is_online(cpu: usize) -> Result<bool> {
    let number = u32::try_from(cpu).unwrap_or(u32::MAX);
    let object = || format!("CPU {cpu}");
    let mut attr = ProgLoad { prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT, ..ProgLoad::default() };
    attr.prog_name[..9].copy_from_slice(b"xdpd_cpus");
    let code = [Insn::mov(0, 0), Insn::exit()].map(Insn::raw);
    let program =
        sys::prog_load(&attr, &code, c"Dual MIT/GPL", sys::Records::default(), sys::Records::default(), None)
            .map_err(|source| Error::new(BPF_PROG_LOAD.name, object(), source))?;
    let run = || sys::prog_test_run_on(program.as_fd(), number);
    let is_offline = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENXIO);
    match run() {
        // Asked twice, as whatever an errno alone decides.
        Err(error) if is_offline(&error) => match run() {
            Err(error) if is_offline(&error) => Ok(false),
            again => again.map(|()| true),
        },
        first => first.map(|()| true),
    }
    .map_err(|source| Error::new(BPF_PROG_TEST_RUN.name, object(), source))
}

/// Calls `work` while this thread runs on one CPU only, and lets the thread have its other CPUs back; `None` when the CPU is
/// not online, and `work` was not called.
///
/// It is an error when it is not one of the CPUs that the process may use (its cpuset).
pub fn run_on<T>(cpu: usize, work: impl FnOnce() -> T) -> Result<Option<T>> {
    let error = |call| move |source| Error::new(call, format!("CPU {cpu}"), source);
    let before = sys::affinity().map_err(error("sched_getaffinity"))?;
    let mut only = vec![0; (cpu / 64 + 1).max(before.len())];
    only[cpu / 64] = 1 << (cpu % 64);
    if let Err(source) = sys::set_affinity(&only) {
        return match is_online(cpu)? {
            false => Ok(None),
            true if source.raw_os_error() == Some(libc::EINVAL) => Err(Error::invalid(
                "sched_setaffinity",
                format!("CPU {cpu}"),
                "it is online, but not one of those that this process may use (see its cpuset)",
            )),
            true => Err(error("sched_setaffinity")(source)),
        };
    }
    let result = work();
    // What it may use can have shrunk meanwhile; then the kernel has taken care of where it runs.
    let _ = sys::set_affinity(&before);
    Ok(Some(result))
}

/// How many CPUs there are in a list such as `0-3,5`.
fn count_of(list: &str) -> Option<usize> {
    let mut count = 0_usize;
    for range in list.trim().split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (low.parse::<usize>().ok()?, high.parse::<usize>().ok()?);
        count = high.checked_sub(low)?.checked_add(1)?.checked_add(count)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpus_of_a_list_are_counted() {
        assert_eq!(count_of("0\n"), Some(1));
        assert_eq!(count_of("0-1\n"), Some(2));
        assert_eq!(count_of("0-3,5,8-9"), Some(7));
        let too_many = format!("0-{}", usize::MAX);
        for nonsense in ["", "3-1", "0-x", "-1", &too_many] {
            assert_eq!(count_of(nonsense), None, "{nonsense}");
        }
    }
}
