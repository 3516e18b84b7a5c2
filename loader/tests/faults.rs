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
use std::sync::atomic::{AtomicU32, Ordering};

use common::state::{Running, State, What, running};
use common::strace::{CALLS, Fault, Tries, changes_after, strace, tries};
use common::{DROP, Site, object_with, report, set_word};
use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_ARRAY;
use xdpd_kernel::{IfIndex, Program, XdpMode, netlink};
use xdpd_testlab::{Invocation, Output, Veth, require_root, wait_until, xdpd};

/// The devices, each named after what becomes of it.
const DEVICES: [&str; 7] = ["added", "function", "relabelled", "removed", "replaced", "switched", "taken"];

const BEFORE: &str = "
    [interfaces.function]
    program = 'drop'
    [interfaces.one-label]
    name = 'relabelled'
    program = 'drop'
    [interfaces.removed]
    program = 'drop'
    [interfaces.replaced]
    program = 'drop'
    [interfaces.switched]
    program = 'drop'
    mode = 'native'
";
const AFTER: &str = "
    [stats]
    group = 12345
    [interfaces.added]
    program = 'pass'
    [interfaces.function]
    program = 'pass'
    reuse = 'never'
    [interfaces.other-label]
    name = 'relabelled'
    program = 'drop'
    [interfaces.replaced]
    program = 'other'
    [interfaces.switched]
    program = 'drop'
    mode = ['offload', 'generic']
";

/// A takeover has a stand of its own: looking for who holds a program of someone else's takes a call for each link on the
/// machine, so the calls of an apply would be others with every test that runs beside this one.
const NOTHING: &str = "";
const TAKEN: &str = "
    [interfaces.taken]
    program = 'pass'
";

/// Entries are carried over, with a stand of their own for the many calls of that.
const PLAIN: &str = "
    [interfaces.replaced]
    program = 'drop'
    reuse = 'migrate'
";
const MIGRATED: &str = "
    [interfaces.replaced]
    program = 'other'
    reuse = 'migrate'
";

/// The labels of a file, sorted.
fn labels(file: &str) -> impl Iterator<Item = &str> {
    file.lines().filter_map(|line| line.trim().strip_prefix("[interfaces.")?.strip_suffix(']'))
}

/// What a file wants to run on a device: the function and the mode.
fn wanted(file: &str, device: &str) -> Option<(&'static str, XdpMode)> {
    let mut blocks = file.split("[interfaces.").skip(1);
    let block = blocks.find(|block| {
        block.starts_with(&format!("{device}]")) || block.contains(&format!("name = '{device}'"))
    })?;
    let functions = [("'drop'", "xdp_drop_func"), ("'pass'", "xdp_pass_func"), ("'other'", "xdp_tx_func")];
    let (_, function) = functions.into_iter().find(|(program, _)| block.contains(program))?;
    // The kernel keeps 15 characters, of which these names have fewer.
    let mode = if block.contains("'generic'") { XdpMode::Generic } else { XdpMode::Native };
    Some((function, mode))
}

/// A pin root and devices that are as the file said before.
struct Stand {
    /// The interfaces in the file before the apply, and after it.
    way: (&'static str, &'static str),
    site: Site,
    veths: Vec<Veth>,
    /// A program of someone else's, on the device that is taken over, and its mode: another one for every second process.
    theirs: (Program, XdpMode),
    /// The size of the maps, by which those of this stand are told from all others of their type in the kernel.
    entries: u32,
}

impl Stand {
    fn new(name: &str, way: (&'static str, &'static str)) -> Self {
        static STANDS: AtomicU32 = AtomicU32::new(0);
        let site = Site::new(name);
        let veths = site.lab.veths_called(&DEVICES);
        let entries = 300 + 2 * (std::process::id() % 100 * 8 + STANDS.fetch_add(1, Ordering::Relaxed));
        for (file, entries) in [("one.o", entries), ("two.o", entries + 1)] {
            let path = site.lab.write(file, common::builtin_object());
            object_with(&path, "maps/xdp_stats_map", |map| set_word(map, 3, entries));
        }
        let mode = [XdpMode::Native, XdpMode::Generic][std::process::id() as usize % 2];
        let theirs = (Program::load_xdp_returning("theirs", 2).unwrap(), mode);
        let stand = Self { way, site, veths, theirs, entries };
        stand.file(way.0);
        stand.reset();
        stand
    }

    fn file(&self, interfaces: &str) {
        self.site.config(&format!(
            "[programs.drop]\nobject = 'one.o'\nfunction = 'xdp_drop_func'\n\
             [programs.pass]\nobject = 'one.o'\nfunction = 'xdp_pass_func'\n\
             [programs.other]\nobject = 'two.o'\nfunction = 'xdp_tx_func'\n{interfaces}"
        ));
    }

    fn xdpd(&self, arguments: &str) -> Output {
        self.invocation(Invocation::of(xdpd().path())).args(arguments.split_whitespace()).run()
    }

    /// In the namespace of the devices: there, xdpd needs no thread of its own for each look at it, and strace counts
    /// calls per thread.
    fn invocation(&self, invocation: Invocation) -> Invocation {
        invocation.netns(self.site.lab.near()).current_dir(self.site.lab.dir())
    }

    /// Applies, with a fault at the n-th of these calls; gives the calls, too. `None`: there are fewer.
    fn apply_with(&self, calls: &str, fault: &str, n: usize) -> Option<(Output, String)> {
        let (output, log) = self.strace(&[(calls, fault, n)]);
        (output.status.signal() == Some(9) || log.contains("(INJECTED)")).then_some((output, log))
    }

    /// Applies with faults, each at the n-th of some calls; gives the calls of all kinds, too.
    fn strace(&self, faults: &[Fault<'_>]) -> (Output, String) {
        let log = self.site.lab.dir().join("strace.log");
        let strace = self.invocation(strace(&log, faults));
        let output = strace.arg(xdpd().path()).args(["apply", "config.toml", "--takeover", "--json"]).run();
        (output, std::fs::read_to_string(log).expect("the log of strace"))
    }

    /// Makes the state before, always the same: something counted in each map, none of them retired.
    fn reset(&self) {
        self.xdpd("detach config.toml").expect_code(0);
        self.file(self.way.0);
        self.xdpd("apply config.toml").expect_code(0);
        for label in labels(self.way.0) {
            let device = if label == "one-label" { "relabelled" } else { label };
            let veth = self.veths.iter().find(|veth| veth.near == device).expect("the device of a label");
            self.site.send(veth, label, DROP, 3);
        }
        self.attach_theirs();
        self.file(self.way.1);
    }

    /// Someone else attaches a program through netlink, where nothing runs.
    fn attach_theirs(&self) {
        if self.way.1 == TAKEN && self.attached()["taken"].is_empty() {
            let ifindex = IfIndex(self.site.lab.near().ifindex("taken").unwrap());
            let attach = || netlink::attach_netlink(ifindex, &self.theirs.0, self.theirs.1, None);
            self.site.lab.near().run(attach).unwrap();
        }
    }

    fn state(&self) -> State {
        let state = State::of(&self.site, &DEVICES, &["switched"]);
        let sizes = state.pins.values().filter_map(|pin| match &pin.what {
            What::Map { entries, .. } => Some(*entries),
            _ => None,
        });
        assert!(sizes.into_iter().all(|size| [self.entries, self.entries + 1].contains(&size)));
        state
    }

    fn attached(&self) -> Running {
        running(&self.site, &DEVICES)
    }

    /// The state is what the file says, and nothing is there beside it.
    #[track_caller]
    fn assert_converged(&self, file: &str, context: &str) {
        let diff = self.xdpd("diff config.toml");
        assert_eq!(diff.code(), Some(0), "{context}: {diff}");
        // The lock, and the note in it, are no part of the state: a kill may leave them, or come before the note.
        let state = self.state();
        let pins: Vec<&String> = state.pins.keys().filter(|path| !path.starts_with("%lock")).collect();
        let entries = |label: &str| {
            ["", "/xdp-link", "/xdp-owner", "/xdp_stats_map"].map(|entry| format!("{label}{entry}"))
        };
        let mut expected: Vec<String> = labels(file).flat_map(entries).collect();
        expected.sort();
        assert_eq!(pins, expected.iter().collect::<Vec<_>>(), "{context}");
        if [PLAIN, MIGRATED].contains(&file) {
            assert_eq!(
                self.site.packets("replaced", DROP),
                3,
                "{context}: what was counted is carried along"
            );
        }
    }

    /// Each device runs what it ran before, or what the file says, with its map pinned. Only the change of mode and the
    /// takeover, which are announced as gaps, may have left one without.
    #[track_caller]
    fn assert_old_or_new(&self, before: &Running, file: &str, context: &str) {
        let pins = self.state().pins;
        for (device, now) in self.attached() {
            let context = format!("{device}, {context}: {now:?}");
            let ran = &before[&device];
            let [attached] = &*now else {
                let may_be_none = ["switched", "taken"].contains(&device)
                    || ran.is_empty()
                    || wanted(file, device).is_none();
                assert!(now.is_empty() && may_be_none, "{context}");
                continue;
            };
            let program = Program::open_by_id(attached.program_id).unwrap().info().unwrap();
            let is_new = wanted(file, device) == Some((&*program.name, attached.mode));
            assert!(is_new || now == *ran, "{context}");
            if program.id == self.theirs.0.info().unwrap().id {
                continue;
            }
            let is_pinned = pins
                .values()
                .any(|pin| matches!(&pin.what, What::Map { id, .. } if program.map_ids.contains(id)));
            assert!(is_pinned, "{context}: its map is not pinned: {pins:?}");
        }
    }

    /// Nothing of this test is left, neither on the bpffs nor in the kernel: each of its programs and links would hold
    /// a map.
    fn assert_no_residue(&self) {
        self.xdpd("detach config.toml").expect_code(0);
        // A pin root whose maker was killed before it had noted that is taken for the operator's.
        let tree = self.site.bpffs.tree();
        assert!(tree.is_empty() || tree == ["xdpd/"], "{tree:?}");
        assert!(self.attached().iter().all(|(device, xdp)| *device == "taken" || xdp.is_empty()));
        let ours = || {
            let maps = xdpd_kernel::Map::ids()
                .filter_map(|id| xdpd_kernel::Map::open_by_id(id.ok()?).ok())
                .filter(|map| map.def().map_type == BPF_MAP_TYPE_PERCPU_ARRAY)
                .filter(|map| [self.entries, self.entries + 1].contains(&map.def().max_entries));
            maps.map(|map| map.id()).collect::<Vec<_>>()
        };
        wait_until("the last map to be gone", xdpd_testlab::DEADLINE, || ours().is_empty());
    }
}

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

/// Whether a step of the commit came before the call that failed: a link that was made, changed or detached, or pins that
/// were moved. Detaching a program of someone else's counts as soon as it is tried.
fn is_in_commit(log: &str) -> bool {
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
                    assert!(output.stderr.contains("applied, but not everything"), "{context}: {output}");
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
