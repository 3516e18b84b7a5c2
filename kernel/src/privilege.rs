//! What this process may do.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

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
    /// `CAP_PERFMON`: programs that the verifier lets use pointers as numbers.
    Perfmon,
    /// `CAP_CHOWN`: giving files to a group.
    Chown,
    /// `CAP_DAC_READ_SEARCH`: reading files and passing through directories of others.
    DacReadSearch,
    /// `CAP_SETPCAP`: giving up more for good later on.
    Setpcap,
    /// `CAP_SYS_PTRACE`: namespaces of processes that may do more than this one.
    SysPtrace,
}

impl Capability {
    /// Its name, as in capabilities(7).
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Chown => "CAP_CHOWN",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Setpcap => "CAP_SETPCAP",
            Self::SysPtrace => "CAP_SYS_PTRACE",
        }
    }

    fn bit(self) -> CapabilitySet {
        match self {
            Self::Bpf => CapabilitySet::BPF,
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
            Self::Perfmon => CapabilitySet::PERFMON,
            Self::Chown => CapabilitySet::CHOWN,
            Self::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
            Self::Setpcap => CapabilitySet::SETPCAP,
            Self::SysPtrace => CapabilitySet::SYS_PTRACE,
        }
    }
}

/// Whether the effective user is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this thread has a capability in effect.
pub fn has_capability(capability: Capability) -> Result<bool> {
    Ok(sets()?.effective.contains(capability.bit()))
}

/// Whether permission bits let this process search a directory; true when that cannot be found out.
pub fn may_search(directory: &Path) -> bool {
    rustix::fs::accessat(CWD, directory, Access::EXEC_OK, AtFlags::EACCESS) != Err(Errno::ACCESS)
}

/// Whether this process is in the initial user namespace: only there the kernel takes XDP programs from anybody.
pub fn in_init_user_namespace() -> bool {
    // PROC_USER_INIT_INO of the kernel's include/linux/proc_ns.h. Where /proc cannot tell, nothing speaks against it.
    std::fs::read_link("/proc/self/ns/user").map_or(true, |link| link.as_os_str() == "user:[4026531837]")
}

/// Gives up every capability but these, for good: neither this process nor any that it starts gets one back.
///
/// Of these, it keeps those that it has. For a process of one thread: threads that run already are not changed.
pub fn keep_only(capabilities: &[Capability]) -> Result<()> {
    let failed = |call| move |errno: Errno| Error::new(call, "this process", errno);
    rustix::thread::set_no_new_privs(true).map_err(failed("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    let sets = sets()?;
    let wanted = capabilities.iter().fold(CapabilitySet::empty(), |set, c| set | c.bit());
    let kept = sets.permitted & wanted;
    // Without this one the bounding set stays as it is: of no use to who can gain nothing anyway.
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for bit in (0..u64::BITS).map(|n| CapabilitySet::from_bits_retain(1 << n)) {
            match rustix::thread::capability_is_in_bounding_set(bit) {
                Ok(true) if !kept.contains(bit) => {
                    rustix::thread::remove_capability_from_bounding_set(bit)
                        .map_err(failed("prctl(PR_CAPBSET_DROP)"))?;
                }
                Ok(_) => {}
                // The kernel knows no more of them.
                Err(_) => break,
            }
        }
    }
    rustix::thread::clear_ambient_capability_set().map_err(failed("prctl(PR_CAP_AMBIENT)"))?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(failed("capset"))
}

fn sets() -> Result<CapabilitySets> {
    rustix::thread::capabilities(None).map_err(|errno| Error::new("capget", "this process", errno))
}
