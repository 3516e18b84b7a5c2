//! All or nothing: an apply whose n-th system call fails, or that is killed at it, for every n.
//!
//! strace does the injecting, into the process that applies: the loader process that it starts is not traced, so each
//! run has one fault. The apply changes six interfaces in six ways, and who may read. The number of points is printed.
//!
//! Every call is tried, but for what keeps the time down: of the many calls of bpf(2), most of which read, every second
//! fails and every third is killed at, and while undoing every third of the many unlinkat(2); each process begins
//! elsewhere. `XDPD_FAULTS=all` tries all of those, too. After a kill the run that recovers is killed as well, at one
//! of its calls or, with `XDPD_FAULTS=pairs`, at each of them, and the third one converges.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;

use common::report;
use common::stand::{AFTER, BEFORE, MIGRATED, NOTHING, PLAIN, Stand, TAKEN};
use common::strace::{CALLS, Tries, changes_after, is_in_commit, tries};
use xdpd_testlab::require_root;

/// Whether the n-th call is tried: every one, or one in `step`.
fn is_tried(n: usize, step: usize) -> bool {
    tries() >= Tries::All || n % step == std::process::id() as usize % step
}

/// The calls of a kind that are tried; of bpf(2), which mostly reads, one in `step`.
fn tried(calls: &str, step: usize) -> impl Iterator<Item = usize> {
    let step = if calls == "bpf" { step } else { 1 };
    (1..).filter(move |n| is_tried(*n, step))
}

/// How often each kind of call was hit, by the exit code of the run; 9 stands for SIGKILL.
#[derive(Debug, Default)]
struct Points(BTreeMap<&'static str, BTreeMap<i32, usize>>);

impl Points {
    fn count(&mut self, call: &'static str, end: i32) {
        *self.0.entry(call).or_default().entry(end).or_default() += 1;
    }

    fn print(&self, what: &str) {
        let total: usize = self.0.values().flat_map(BTreeMap::values).sum();
        let mut text = format!("{what}: {total} points");
        for (call, ends) in &self.0 {
            let ends: Vec<_> = ends.iter().map(|(end, count)| format!("{count} x {end}")).collect();
            let _ = write!(text, "; {call}: {}", ends.join(", "));
        }
        report(text);
    }
}

/// Lets each call fail in turn.
fn fail_each(what: &str, stand: &Stand) {
    let mut before = stand.state();
    let mut points = Points::default();
    for calls in CALLS {
        for n in tried(calls, 2) {
            let context = format!("call {n} of {calls}");
            let Some((output, log)) = stand.apply_with(calls, "error=EIO", n) else { break };
            let code = output.code().unwrap_or_else(|| panic!("{context}: {output}"));
            points.count(calls, code);
            match code {
                // The restored state is the next run's.
                2 | 3 => {
                    assert_eq!(code == 3, is_in_commit(&log), "{context}: {output}{log}");
                    assert_eq!(stand.state(), before, "{context}: {output}");
                    continue;
                }
                // A read that does not matter.
                0 => {}
                // The new state was verified, and what is left is told.
                4 => {
                    let is_told = ["xdpd: applied", "but not everything"]
                        .iter()
                        .all(|words| output.stderr.contains(words));
                    assert!(is_told, "{context}: {output}");
                    stand.xdpd("apply config.toml --takeover").expect_code(0);
                }
                _ => panic!("{context}: {output}"),
            }
            stand.assert_converged(stand.way.1, &context);
            stand.reset();
            before = stand.state();
        }
        // The last run had no fault.
        stand.assert_converged(stand.way.1, calls);
        stand.reset();
        before = stand.state();
    }
    points.print(what);
    stand.assert_no_residue();
}

/// The n-th call of a kind.
type Call = (&'static str, usize);

/// Kills the apply at a call, and the run that recovers at another; the third one converges. Tells whether the second had
/// such a call, and nothing where the first had none.
fn kill_twice(stand: &Stand, way: (&str, &str), first: Call, second: Call) -> Option<bool> {
    let context = format!("{first:?}, then {second:?}, to{}", way.1);
    stand.attach_theirs();
    let before = stand.attached();
    stand.file(way.1);
    let kill = |(calls, n): Call| {
        let is_killed = stand.apply_with(calls, "signal=KILL", n).is_some();
        stand.assert_old_or_new(&before, way.1, &context);
        is_killed
    };
    let killed = kill(first).then(|| kill(second));
    if killed.is_some() {
        stand.xdpd("apply config.toml --takeover").expect_code(0);
    }
    stand.assert_converged(way.1, &context);
    killed
}

/// The calls that change something in the run which recovers from a kill; none where the apply has no such call, now that
/// it looks at other links of other tests.
fn calls_of_recovery(stand: &Stand, way: (&str, &str), (calls, n): Call) -> Vec<Call> {
    stand.attach_theirs();
    stand.file(way.1);
    if stand.apply_with(calls, "signal=KILL", n).is_none() {
        return Vec::new();
    }
    let (_, log) = stand.strace(&[]);
    changes_after(&log, |_| true).map(|(call, n, _)| (call, n)).collect()
}

/// Kills the apply at each call in turn, and the run that recovers as well.
fn kill_at_each(what: &str, stand: &Stand) {
    let (mut points, mut seconds) = (Points::default(), Points::default());
    let mut way = stand.way;
    let mut turn = std::process::id() as usize;
    for calls in CALLS {
        for n in tried(calls, 3) {
            turn += 1;
            let some = (CALLS[turn % CALLS.len()], 1 + turn / CALLS.len() % 7);
            let Some(hit) = kill_twice(stand, way, (calls, n), some) else { break };
            points.count(calls, 9);
            if hit {
                seconds.count(some.0, 9);
            }
            if tries() == Tries::Pairs {
                let back = || {
                    stand.file(way.0);
                    stand.xdpd("apply config.toml --takeover").expect_code(0);
                };
                back();
                for second in calls_of_recovery(stand, way, (calls, n)) {
                    back();
                    if kill_twice(stand, way, (calls, n), second) == Some(true) {
                        seconds.count(second.0, 9);
                    }
                }
            }
            // What was new is old for the next point: so all kinds of changes are cut off both ways.
            way = (way.1, way.0);
        }
        way = (way.1, way.0);
    }
    points.print(what);
    seconds.print(&format!("{what}, and another in the run that recovers"));
    stand.assert_no_residue();
}

#[test]
#[ignore = "needs root"]
fn a_call_that_fails_leaves_everything_as_it_was() {
    require_root!();
    fail_each("a call that fails", &Stand::new("faults", (BEFORE, AFTER)));
}

#[test]
#[ignore = "needs root"]
fn a_call_that_fails_leaves_what_was_to_be_taken_over() {
    require_root!();
    fail_each("a call of a takeover that fails", &Stand::new("taken", (NOTHING, TAKEN)));
}

#[test]
#[ignore = "needs root"]
fn a_kill_at_any_call_leaves_the_old_or_the_new_program_and_the_next_apply_converges() {
    require_root!();
    kill_at_each("a kill", &Stand::new("kills", (BEFORE, AFTER)));
}

#[test]
#[ignore = "needs root"]
fn a_kill_at_any_call_of_a_takeover_can_be_settled() {
    require_root!();
    kill_at_each("a kill in a takeover", &Stand::new("takes", (NOTHING, TAKEN)));
}

/// Lets the verification fail, and kills the apply at each call of the undo in turn.
fn kill_while_undoing(what: &str, stand: &Stand) {
    let mut points = Points::default();
    // The last look at the devices, for verifying the commit, fails. So all of it is undone.
    let (_, log) = stand.strace(&[]);
    let failure = ("sendto", "error=EIO", log.lines().filter(|line| line.starts_with("sendto")).count());
    stand.reset();
    let (output, log) = stand.strace(&[failure]);
    output.expect_code(3);
    for (call, n, line) in changes_after(&log, |line| line.contains("(INJECTED)")) {
        // strace has one fault for each kind of call.
        if call == "sendto" || (call == "unlinkat" && !is_tried(n, 3)) {
            continue;
        }
        let context = format!("call {n} of {call}: {line}");
        let before = stand.attached();
        let (killed, _) = stand.strace(&[failure, (call, "signal=KILL", n)]);
        assert_eq!(killed.status.signal(), Some(9), "{context}: {killed}");
        points.count(call, 9);
        stand.assert_old_or_new(&before, stand.way.1, &context);
        stand.xdpd("apply config.toml --takeover").expect_code(0);
        stand.assert_converged(stand.way.1, &context);
        stand.reset();
    }
    points.print(what);
    stand.assert_no_residue();
}

#[test]
#[ignore = "needs root"]
fn a_kill_while_a_failed_apply_is_undone_is_settled_as_well() {
    require_root!();
    kill_while_undoing("a kill while undoing", &Stand::new("undo", (BEFORE, AFTER)));
}

#[test]
#[ignore = "needs root"]
fn a_call_that_fails_while_entries_are_carried_over_leaves_everything_as_it_was() {
    require_root!();
    fail_each("a call of a migration that fails", &Stand::new("migrates", (PLAIN, MIGRATED)));
}

#[test]
#[ignore = "needs root"]
fn a_kill_while_entries_are_carried_over_loses_no_count() {
    require_root!();
    kill_at_each("a kill in a migration", &Stand::new("migration", (PLAIN, MIGRATED)));
}

#[test]
#[ignore = "needs root"]
fn a_kill_while_a_migration_is_taken_back_loses_no_count() {
    require_root!();
    kill_while_undoing("a kill while a migration is undone", &Stand::new("unmigrate", (PLAIN, MIGRATED)));
}
