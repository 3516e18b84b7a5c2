//! strace, which makes a call of the process that it starts fail, or kills it there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;

use rustix::process::Pid;
use xdpd_testlab::{DEADLINE, Invocation, wait_for};

/// The calls by which an apply changes something. `bpf` and `sendto` read as well.
pub const CALLS: [&str; 9] = [
    "bpf",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "chmod,fchmodat",
    "chown,fchownat",
    "sendto",
];

/// The calls that are made to fail: all that look at files, BPF objects, devices and namespaces, or change them, and those
/// by which the loader process is started and asked.
///
/// Left out is what cannot fail here or whose failure tells nothing about a state: memory (mmap, brk, mprotect),
/// signals, clocks and random numbers, the process's own ids, limits and capabilities (prctl, capget, capset), close and
/// the fcntl before it in debug builds, poll and epoll, which only wait, and write, which here goes to a person, to
/// another thread, or to the loader process's memory, which is compared with its digest.
pub const SWEPT: [&str; 42] = [
    "bpf",
    "open",
    "openat",
    "read",
    "pread64",
    "readlink",
    "readlinkat",
    "statx",
    "newfstatat",
    "fstat",
    "getdents64",
    "statfs",
    "fstatfs",
    "flock",
    "access",
    "faccessat",
    "faccessat2",
    "ioctl",
    "socket",
    "bind",
    "setsockopt",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "socketpair",
    "memfd_create",
    "setns",
    "unshare",
    "mount",
    "mkdirat",
    "unlinkat",
    "symlinkat",
    "linkat",
    "renameat2",
    "chmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "inotify_init1",
    "inotify_add_watch",
    "membarrier",
];

/// How many calls the fault tests try: with `XDPD_FAULTS=all` each one, with `XDPD_FAULTS=pairs` each one of the run that
/// recovers from a kill as well, with `XDPD_FAULTS=errnos` each one with each errno in the sweep, else a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tries {
    Some,
    All,
    Pairs,
    Errnos,
}

pub fn tries() -> Tries {
    match std::env::var("XDPD_FAULTS").as_deref() {
        Err(_) => Tries::Some,
        Ok("all") => Tries::All,
        Ok("pairs") => Tries::Pairs,
        Ok("errnos") => Tries::Errnos,
        Ok(other) => panic!("XDPD_FAULTS={other}: all, pairs and errnos are known"),
    }
}

/// A fault at the n-th call of a kind: `error=EIO` or `signal=KILL`.
pub type Fault<'a> = (&'a str, &'a str, usize);

/// strace with these faults, for the command line to be added; it logs the calls that change something. It counts calls
/// per thread.
pub fn strace(log: &Path, faults: &[Fault<'_>]) -> Invocation {
    strace_of(log, &CALLS, faults)
}

/// strace that logs these calls, with faults.
pub fn strace_of(log: &Path, calls: &[&str], faults: &[Fault<'_>]) -> Invocation {
    // Not every architecture has all of them.
    let optional =
        |calls: &str| calls.split(',').map(|call| format!("?{call}")).collect::<Vec<_>>().join(",");
    let mut strace = Invocation::of("strace")
        .args(["-qq", "-e", "signal=none", "-e", &format!("trace={}", optional(&calls.join(",")))])
        .arg("-o")
        .arg(log);
    for (calls, fault, n) in faults {
        strace = strace.args(["-e", &format!("inject={}:{fault}:when={n}", optional(calls))]);
    }
    strace
}

/// The process that strace has started.
pub fn traced(strace: &Child) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let child = wait_for("the traced process", DEADLINE, || {
        std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
    });
    Pid::from_raw(child).unwrap()
}

/// The calls in a log that change something, after the line where it gets interesting: each with its number among those
/// of its kind in the whole log.
pub fn changes_after(
    log: &str,
    mut is_begin: impl FnMut(&str) -> bool,
) -> impl Iterator<Item = (&'static str, usize, &str)> {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut has_begun = false;
    log.lines().filter_map(move |line| {
        let call =
            CALLS.into_iter().find(|call| call.split(',').any(|c| line.starts_with(&format!("{c}("))))?;
        let n = counts.entry(call).or_default();
        *n += 1;
        // A kill at a call that reads is one at the next that does not.
        let is_wanted = has_begun && !is_read(line);
        has_begun |= is_begin(line);
        is_wanted.then_some((call, *n, line))
    })
}

fn is_read(line: &str) -> bool {
    let is_bpf_read =
        ["BPF_OBJ_GET", "_BY_ID", "_NEXT_ID", "_LOOKUP_ELEM"].iter().any(|read| line.contains(read));
    is_bpf_read || (line.starts_with("sendto(") && !line.contains("RTM_SETLINK"))
}

/// Whether a step of the commit came before the call that failed: a link that was made, changed or detached, or pins that
/// were moved. Detaching a program of someone else's counts as soon as it is tried.
pub fn is_in_commit(log: &str) -> bool {
    let has_step = |line: &str| {
        let is_link =
            ["BPF_LINK_CREATE", "BPF_LINK_UPDATE", "BPF_LINK_DETACH"].iter().any(|c| line.contains(c));
        line.contains("RTM_SETLINK")
            || ((is_link || line.starts_with("renameat2(")) && !line.contains("(INJECTED)"))
    };
    let mut is_over = false;
    let until = log.lines().take_while(|line| !std::mem::replace(&mut is_over, line.contains("(INJECTED)")));
    until.into_iter().any(has_step)
}

/// The calls of a log for which a line speaks: each with its number among all of its name, as strace counts them.
pub fn numbered<'l>(
    log: &'l str,
    mut is_wanted: impl FnMut(&str) -> bool + 'l,
) -> impl Iterator<Item = (&'l str, usize)> + 'l {
    let mut counts = BTreeMap::<&str, usize>::new();
    log.lines().filter_map(move |line| {
        let (call, _) = line.split_once('(')?;
        let n = counts.entry(call).or_default();
        *n += 1;
        is_wanted(line).then_some((call, *n))
    })
}

/// The line of the call that was made to fail.
pub fn injected(log: &str) -> Option<&str> {
    log.lines().find(|line| line.contains("(INJECTED)"))
}
