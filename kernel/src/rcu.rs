//! Waiting until packets that were under way are through.

use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::error::{Error, Result};
use crate::map::{Map, MapDef, MapExtras};
use xdpd_types::map_types::{BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS};

/// Returns after one RCU grace period: all XDP programs that ran when this was called have finished, so that one that
/// was replaced before will not write to its maps any more. Takes 8 to 16 ms.
///
/// It is a side effect of `membarrier(MEMBARRIER_CMD_GLOBAL)`, which waits for such a period (kernel/sched/membarrier.c).
/// Kernels booted with `nohz_full` do not offer that command, and there it is one of another call.
pub fn wait_grace_period() -> Result<()> {
    match membarrier(MembarrierCommand::Global) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS) => replace_an_inner_map(),
        Err(errno) => Err(Error::new("membarrier(MEMBARRIER_CMD_GLOBAL)", "all CPUs", errno)),
    }
}

/// Who replaces a map in a map may rely on no program using the old one any more once the call returns
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c). Needs `CAP_BPF`.
fn replace_an_inner_map() -> Result<()> {
    let def = MapDef {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        ..MapDef::default()
    };
    let inner = Map::create("xdpd_rcu", &def, None)?;
    let extras = MapExtras { inner: Some(&inner), ..MapExtras::default() };
    let def = MapDef { map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS, ..def };
    Map::create_with("xdpd_rcu", &def, extras)?.put(&0_u32.to_ne_bytes(), &inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither call can be seen to wait from here; that each is there and takes as long as a grace period does is.
    #[test]
    #[ignore = "needs root"]
    fn both_ways_wait() {
        if !crate::privilege::is_root() {
            return;
        }
        let time = |wait: fn() -> Result<()>| {
            let start = std::time::Instant::now();
            for _ in 0..5 {
                wait().unwrap();
            }
            start.elapsed()
        };
        let (membarrier, inner) = (time(wait_grace_period), time(replace_an_inner_map));
        // An update of any other map takes some microseconds.
        assert!(inner.as_micros() > 2500, "{inner:?}, membarrier {membarrier:?}");
    }
}
