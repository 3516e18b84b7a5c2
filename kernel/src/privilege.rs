//! What this process may do.

use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::error::{Error, Result};

/// A capability that decides what can be asked of the kernel here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `CAP_BPF`: loading programs, making maps.
    Bpf,
    /// `CAP_NET_ADMIN`: XDP programs, attaching them.
    NetAdmin,
    /// `CAP_SYS_ADMIN`: opening objects by id, entering namespaces, mounting.
    SysAdmin,
}

/// Whether the effective user is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this thread has a capability in effect.
pub fn has_capability(capability: Capability) -> Result<bool> {
    let sets =
        rustix::thread::capabilities(None).map_err(|errno| Error::new("capget", "this process", errno))?;
    Ok(sets.effective.contains(match capability {
        Capability::Bpf => CapabilitySet::BPF,
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
        Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
    }))
}

/// Lifts the limit on locked memory, against which kernels before 5.11 counted maps and programs.
///
/// Later ones count them against the memory cgroup, so this can fail (`EPERM` without `CAP_SYS_RESOURCE`) and all will
/// be well: a caller may ignore it.
pub fn raise_memlock_limit() -> Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(Resource::Memlock, unlimited)
        .map_err(|errno| Error::new("setrlimit", "RLIMIT_MEMLOCK", errno))
}
