//! strace, which makes a call of the process that it starts fail, or kills it there.

use std::path::Path;

use xdpd_testlab::Invocation;

/// The calls by which an apply changes something. `bpf` and `sendto` read as well.
pub const CALLS: [&str; 8] =
    ["bpf", "renameat2", "unlinkat", "mkdirat", "symlinkat", "linkat", "chmod,fchmodat", "sendto"];

/// A fault at the n-th call of a kind: `error=EIO` or `signal=KILL`.
pub type Fault<'a> = (&'a str, &'a str, usize);

/// strace with these faults, for the command line to be added; it logs the calls of all kinds. It counts calls per thread.
pub fn strace(log: &Path, faults: &[Fault<'_>]) -> Invocation {
    // Not every architecture has all of them.
    let optional =
        |calls: &str| calls.split(',').map(|call| format!("?{call}")).collect::<Vec<_>>().join(",");
    let mut strace = Invocation::of("strace")
        .args(["-qq", "-e", "signal=none", "-e", &format!("trace={}", optional(&CALLS.join(",")))])
        .arg("-o")
        .arg(log);
    for (calls, fault, n) in faults {
        strace = strace.args(["-e", &format!("inject={}:{fault}:when={n}", optional(calls))]);
    }
    strace
}

/// Whether a line of the log is a call that changes nothing: a kill there is one at the next that does.
pub fn is_read(line: &str) -> bool {
    line.starts_with("sendto(")
        || ["BPF_OBJ_GET", "_BY_ID", "_NEXT_ID", "_LOOKUP_ELEM"].iter().any(|read| line.contains(read))
}
