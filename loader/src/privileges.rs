//! The capabilities that `xdpd` works with: all others are given up before anything else is done, and before anything is
//! changed those that this change does not take. And what to say where one is missing.

use std::path::Path;
use std::sync::OnceLock;

use xdpd_config::{Config, shell};
use xdpd_kernel::privilege::{self, Capability};

use crate::observed::{Interrupted, Observed};
use crate::output;
use crate::permissions::Permissions;

/// What looking at the kernel and changing it takes. `CAP_PERFMON` is for the loader process, which does without
/// `CAP_SYS_ADMIN`.
const KERNEL: [Capability; 4] =
    [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon, Capability::SysAdmin];
/// What the loader process keeps: less would be other rules of the verifier for the same object.
const LOADER: [Capability; 3] = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
/// The file, or an object, of who called `sudo` may lie where only that user gets to.
const FILES: Capability = Capability::DacReadSearch;
/// A namespace by its path may be that of a process, or lie in a user's directory.
const PATHS: [Capability; 2] = [Capability::SysPtrace, FILES];
/// Pins are made for root's group.
const GROUP: Capability = Capability::Chown;

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Files alone.
    Files,
    /// The kernel, as one file says: see [`work_is_known`].
    File,
    /// The kernel, as any file says that is or was there.
    AnyFile,
}

/// What this process is about.
static SCOPE: OnceLock<Scope> = OnceLock::new();

/// To be called first: gives up all that a command cannot need.
pub fn start(scope: Scope) {
    let scope = *SCOPE.get_or_init(|| scope);
    let with = |more: &[Capability]| [&KERNEL, more].concat();
    keep(&match scope {
        Scope::Files => vec![FILES],
        Scope::File => with(&[PATHS[0], FILES, GROUP, Capability::Setpcap]),
        Scope::AnyFile => with(&[PATHS[0], FILES, GROUP]),
    });
}

/// To be called before anything is changed: gives up what this file, and what is there, does not need. Not for who
/// follows whatever the file says later.
pub fn work_is_known(config: &Config, observed: &Observed) {
    if SCOPE.get() != Some(&Scope::File) {
        return;
    }
    let mut needed = KERNEL.to_vec();
    let named = config.interfaces.iter().map(|interface| interface.netns.as_deref());
    // What is pinned may have to be put back where it was, whatever the file says now.
    let records = observed.interfaces.values().filter_map(|pinned| pinned.record.as_ref().ok());
    let recorded = records.map(|record| record.netns_name.as_deref());
    if named.chain(recorded).flatten().any(|netns| netns.contains('/'))
        || observed.interrupted.iter().any(|left| matches!(left, Interrupted::GiveBack { .. }))
    {
        needed.extend(PATHS);
    }
    let pinned = observed.interfaces.values();
    let permissions =
        pinned.clone().flat_map(|p| p.permissions.pins.values().chain([&p.permissions.directory]));
    let permissions: Vec<&Permissions> = permissions.chain(&observed.place.root).collect();
    // What is another user's or group's may have to be given back to it.
    let is_given = |permissions: &&Permissions| (permissions.uid, permissions.gid) != (0, 0);
    if config.stats.group.is_some() || permissions.iter().any(is_given) {
        needed.push(GROUP);
    }
    // What this look could open, the next one has to open as well: pins of other users, and those that are none of ours.
    if permissions.iter().any(|permissions| !permissions.is_open_to_root())
        || pinned.clone().any(|pinned| !pinned.others.is_empty())
        || !observed.interrupted.is_empty()
    {
        needed.push(FILES);
    }
    keep(&needed);
}

/// To be called first in the loader process.
pub fn start_loader() -> Result<(), xdpd_kernel::Error> {
    privilege::keep_only(&LOADER)
}

/// A sandbox that forbids to give something up does not have to be fought.
fn keep(capabilities: &[Capability]) {
    if let Err(e) = privilege::keep_only(capabilities) {
        output::say(format_args!("going on with more capabilities than needed: {e}"));
    }
}

/// What this process lacks for changing anything, and what that is for; `None` where it lacks nothing.
pub fn lacking() -> Option<String> {
    const WHAT_FOR: [(Capability, &str); 3] = [
        (Capability::Bpf, "making maps and loading programs"),
        (Capability::NetAdmin, "attaching XDP programs"),
        (Capability::SysAdmin, "opening programs by their ids and entering network namespaces"),
    ];
    if !privilege::is_root() {
        return Some("xdpd needs root for this, only `check` does without".to_owned());
    }
    let lacks = |capability: Capability| !privilege::has_capability(capability).unwrap_or(true);
    let missing = WHAT_FOR.into_iter().filter(|(capability, _)| lacks(*capability));
    let missing: Vec<_> =
        missing.map(|(capability, what)| format!("{} ({what})", capability.name())).collect();
    if !missing.is_empty() {
        return Some(format!(
            "this process lacks {}; give it to the container or service",
            missing.join(", ")
        ));
    }
    (!privilege::in_init_user_namespace()).then(|| {
        "this is a user namespace, in which the kernel takes no XDP programs from anybody: run xdpd on the host, with \
         `netns =` for the namespaces of containers"
            .to_owned()
    })
}

/// What to do where a process may not open as many files as it needs.
pub const MORE_FILES: &str = "raise the limit, with LimitNOFILE= of the service or `ulimit -Hn`";

/// What to do where something can only be read.
const READ_ONLY: &str = "for this process it is mounted read-only: remount it with -o remount,rw, or give the service \
                         ReadWritePaths= (ProtectKernelTunables= makes all of /sys read-only)";

/// What an error means that has to do with rights or limits; nothing to add where it has not.
pub fn explain(error: &xdpd_kernel::Error) -> Option<String> {
    if error.is_of_another_user() {
        Some(format!("chown root {}", shell::word(Path::new(error.object()))))
    } else if error.is_denied() {
        lacking()
    } else if error.is_out_of_files() {
        Some(MORE_FILES.to_owned())
    } else if error.is_read_only() {
        Some(READ_ONLY.to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_grant_what_is_worked_with() {
        let units = [
            include_str!("../../contrib/systemd/xdpd.service"),
            include_str!("../../contrib/systemd/xdpd-watch.service"),
        ];
        let mut expected: Vec<_> = KERNEL.iter().chain(&PATHS).map(|capability| capability.name()).collect();
        expected.extend([GROUP.name(), Capability::Setpcap.name()]);
        expected.sort_unstable();
        for unit in units {
            let granted = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
            let mut granted: Vec<_> = granted.into_iter().flat_map(str::split_whitespace).collect();
            granted.sort_unstable();
            assert_eq!(granted, expected);
        }
    }
}
