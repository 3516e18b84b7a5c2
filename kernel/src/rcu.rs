//! Waiting until packets that were under way are through.

use rustix::thread::{MembarrierCommand, membarrier};

use crate::error::{Error, Result};

/// Returns after one RCU grace period: all XDP programs that ran when this was called have finished, so that one that
/// was replaced before will not write to its maps any more. Takes 8 to 16 ms.
///
/// It is a side effect of `membarrier(MEMBARRIER_CMD_GLOBAL)`, which waits for such a period (kernel/sched/membarrier.c).
/// `EINVAL` on kernels booted with `nohz_full`, which do not offer that command.
pub fn wait_grace_period() -> Result<()> {
    membarrier(MembarrierCommand::Global)
        .map_err(|errno| Error::new("membarrier(MEMBARRIER_CMD_GLOBAL)", "all CPUs", errno))
}
