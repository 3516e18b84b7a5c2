//! One fault anywhere: each call of each command fails with each errno, or the process is killed at it.
//!
//! The commands are apply (six interfaces in six ways, a takeover, a migration), detach, both of them after a kill,
//! status, diff, a watch's repair, and the reader. strace does the injecting, into the main thread of the process; the
//! judge of a run is `common::verdict`, a function of plain data.
//!
//! There are thousands of points, so a sample is tried, the same for the same `XDPD_SEED`: of each call and errno
//! alike, however often a call is made. `XDPD_SAMPLE=8` tries eight times as many, and `XDPD_FAULTS=errnos` all of them,
//! which takes hours; of what follows a kill, each call with one errno. Each failure is told with the name of its
//! point; `XDPD_POINT=<name>` tries that one alone, and the beginning of a name all that begin so.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use common::report;
use common::stand::{AFTER, BEFORE, DEVICES, MIGRATED, NOTHING, PLAIN, Stand, TAKEN};
use common::state::State;
use common::strace::{Fault, SWEPT, Tries, injected, is_in_commit, numbered, strace_of, tries};
use common::verdict::{ERRNOS, Evidence, KILL, Purpose, Said, Shape, is_named, judge};
use rustix::process::{Pid, Signal};
use xdpd_testlab::{DEADLINE, Invocation, require_root, xdp_stats, xdpd};

/// The group of AFTER that may read.
const GROUP: u32 = 12345;
const USER: u32 = 54321;

/// Longer than a watch takes to look again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command, where it is to be made to fail.
struct Scene<'a> {
    name: &'static str,
    stand: &'a Stand,
    command: Command,
    starts: Vec<Start<'a>>,
    /// How many points of a sample.
    sample: usize,
}

/// A state that a command starts from, made from any other.
struct Start<'a> {
    name: String,
    /// Gives what was there before a run was killed.
    make: Box<dyn Fn() -> Option<Shape> + 'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Apply { is_recovery: bool },
    Detach { is_recovery: bool },
    Look(&'static str),
    Watch,
    Read { arguments: &'static str, is_root: bool },
}

impl Command {
    fn purpose(self) -> Purpose {
        match self {
            Self::Apply { is_recovery: true } | Self::Detach { is_recovery: true } => Purpose::Recover,
            Self::Apply { .. } | Self::Detach { .. } => Purpose::Change,
            Self::Look(_) => Purpose::Look,
            Self::Watch => Purpose::Repair,
            Self::Read { .. } => Purpose::Read,
        }
    }

    /// A kill of what only looks proves nothing.
    fn faults(self) -> Vec<&'static str> {
        let kill = (!matches!(self.purpose(), Purpose::Look | Purpose::Read)).then_some(KILL);
        ERRNOS.iter().map(|(errno, _)| *errno).chain(kill).collect()
    }
}

/// A call that is made to fail, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    start: usize,
    call: &'static str,
    n: usize,
    /// The command of bpf(2), or the call.
    kind: String,
    fault: &'static str,
}

/// What a traced run said.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    log: String,
}

impl Ran {
    fn said(&self) -> Said<'_> {
        Said { code: self.code, stdout: &self.stdout, stderr: &self.stderr }
    }
}

fn main_command(stand: &Stand, command: Command, strace: Invocation) -> Invocation {
    let strace = stand.invocation(strace);
    match command {
        Command::Apply { .. } => {
            strace.arg(xdpd().path()).args(["apply", "config.toml", "--takeover", "--json"])
        }
        Command::Detach { .. } => strace.arg(xdpd().path()).args(["detach", "config.toml"]),
        Command::Look(arguments) => strace.arg(xdpd().path()).args(arguments.split_whitespace()),
        Command::Watch => strace.arg(xdpd().path()).args(["watch", "config.toml"]),
        Command::Read { arguments, is_root } => {
            let strace = if is_root {
                strace.arg(xdp_stats().path())
            } else {
                let (user, group) = (format!("--reuid={USER}"), format!("--regid={GROUP}"));
                let nobody = [&*user, &*group, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];
                strace.arg("setpriv").args(nobody).arg("--no-new-privs").arg("./xdp-stats")
            };
            strace.args(["--config", "config.toml", "--json"]).args(arguments.split_whitespace())
        }
    }
}

fn run(stand: &Stand, command: Command, faults: &[Fault<'_>]) -> Ran {
    let log = stand.site.lab.dir().join("sweep.log");
    let strace = main_command(stand, command, strace_of(&log, &SWEPT, faults));
    let fault = faults.first().map_or("", |(_, fault, _)| fault.trim_start_matches("error="));
    let (status, stdout, stderr) = if command == Command::Watch {
        watch(strace, fault)
    } else {
        let output = strace.run();
        (output.status, output.stdout, output.stderr)
    };
    let code = if status.signal() == Some(9) { None } else { status.code() };
    Ran { code, stdout, stderr, log: std::fs::read_to_string(log).expect("the log of strace") }
}

/// Runs a watch until it says that it has applied, or why it has not, and ends it.
fn watch(strace: Invocation, fault: &str) -> (std::process::ExitStatus, String, String) {
    let mut child = strace.spawn();
    let (sender, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        for line in stderr.lines().map_while(Result::ok) {
            let _ = writeln!(all, "{line}");
            let _ = sender.send(line);
        }
        all
    });
    let end = Instant::now() + PATIENCE;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        let is_told = !fault.is_empty() && is_named(fault, &line);
        if line.contains("applied") || is_told || line.contains("block") {
            break;
        }
    }
    // It may have ended by itself.
    let signal = |signal| {
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let traced = std::fs::read_to_string(children).unwrap_or_default();
        let pid = traced.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        pid.map(|pid| rustix::process::kill_process(pid, signal))
    };
    signal(Signal::TERM);
    let has_ended = has_ended_within(&reader, PATIENCE);
    if !has_ended {
        signal(Signal::KILL);
    }
    let mut stderr = reader.join().unwrap();
    if !has_ended {
        let _ = writeln!(stderr, "(SIGTERM did not end it)");
    }
    (child.wait().unwrap(), String::new(), stderr)
}

/// Whether the reader of a pipe comes to its end in time, which is when the last process is gone that writes to it.
fn has_ended_within(reader: &JoinHandle<String>, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while !reader.is_finished() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    reader.is_finished()
}

/// The calls of a run that may be made to fail: those after the first look at the config. What comes before is the start of
/// the process.
fn points(log: &str, start: usize, faults: &[&'static str]) -> Vec<Point> {
    let mut has_begun = false;
    let mut points = Vec::new();
    for ((call, n), line) in numbered(log, |_| true).zip(log.lines().filter(|line| line.contains('('))) {
        has_begun |= line.contains("config.toml");
        // What a terminal is asked, and by what a signal's handler wakes up the rest.
        let is_left_out = line.contains("TCGETS") || line.contains("\"X\", 1, MSG_DONTWAIT");
        let Some(call) = SWEPT.into_iter().find(|swept| *swept == call && has_begun && !is_left_out) else {
            continue;
        };
        let kind = match line.strip_prefix("bpf(") {
            Some(rest) => rest.split(',').next().unwrap_or_default(),
            None => call,
        };
        let faults = faults.iter().filter(|fault| !is_answer(kind, fault));
        points.extend(faults.map(|fault| Point { start, call, n, kind: kind.to_owned(), fault }));
    }
    points
}

/// Whether an errno is how the kernel says that a walk is at its end, or that a map has no such entry, and no fault.
fn is_answer(kind: &str, fault: &str) -> bool {
    let is_walk =
        ["_NEXT_KEY", "_NEXT_ID", "_LOOKUP_BATCH", "_LOOKUP_ELEM"].iter().any(|end| kind.ends_with(end));
    fault == "ENOENT" && is_walk
}

/// `SplitMix64` of Steele, Lea and Flood.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

fn seed() -> u64 {
    std::env::var("XDPD_SEED").map_or_else(
        |_| SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
        |seed| seed.parse().expect("XDPD_SEED is a number"),
    )
}

/// Whether a point is tried where all are: at each call each errno; where the command follows a kill, which multiplies the
/// points by the kinds of kills, each call with one errno, another for each call.
fn is_tried(scene: &Scene<'_>, point: &Point) -> bool {
    let faults = scene.command.faults();
    let at = faults.iter().position(|fault| *fault == point.fault);
    !scene.starts[point.start].name.starts_with("killed")
        || at == Some((point.n + point.start) % faults.len())
}

/// How many times as many points a sample has as in a usual run.
fn factor() -> usize {
    std::env::var("XDPD_SAMPLE").map_or(1, |factor| factor.parse().expect("XDPD_SAMPLE is a number"))
}

/// A sample of points: of each kind and fault in turn, so that a call which is made once is tried as often as one that is
/// made a hundred times.
fn sample(points: Vec<Point>, count: usize, seed: u64) -> Vec<Point> {
    let mut random = Random(seed);
    let mut keyed: Vec<(usize, u64, Point)> =
        points.into_iter().map(|point| (0, random.next(), point)).collect();
    keyed.sort_by_key(|(_, key, _)| *key);
    let mut rounds = BTreeMap::<(String, &str), usize>::new();
    for (round, _, point) in &mut keyed {
        let before = rounds.entry((point.kind.clone(), point.fault)).or_default();
        *round = *before;
        *before += 1;
    }
    keyed.sort_by_key(|(round, key, _)| (*round, *key));
    keyed.truncate(count);
    let mut points: Vec<_> = keyed.into_iter().map(|(_, _, point)| point).collect();
    points.sort_by_key(|point| point.start);
    points
}

/// What a run without a fault makes of a start.
struct Reference {
    ran: Ran,
    wished: Shape,
}

/// How often each kind of call was tried with each fault, and how the runs ended.
#[derive(Debug, Default)]
struct Table {
    tried: BTreeMap<String, BTreeMap<&'static str, usize>>,
    ends: BTreeMap<String, usize>,
}

impl Table {
    fn print(&self, scene: &str, seed: u64) {
        let total: usize = self.tried.values().flat_map(BTreeMap::values).sum();
        let ends: Vec<_> = self.ends.iter().map(|(end, count)| format!("{count} x {end}")).collect();
        let mut text = format!("{scene}: {total} points, ends: {}, XDPD_SEED={seed}\n", ends.join(", "));
        let faults = ERRNOS.iter().map(|(errno, _)| *errno).chain([KILL]);
        let _ = write!(text, "  {:<28}", "");
        for fault in faults.clone() {
            let _ = write!(text, "{fault:>7}");
        }
        for (kind, by_fault) in &self.tried {
            let _ = write!(text, "\n  {kind:<28}");
            for fault in faults.clone() {
                let _ = write!(text, "{:>7}", by_fault.get(fault).copied().unwrap_or_default());
            }
        }
        report(text);
    }
}

fn shape(state: &State) -> Shape {
    let mut shape = state.shape();
    shape.pins.retain(|path, _| !path.starts_with("%lock"));
    shape
}

fn look(stand: &Stand) -> State {
    State::of(&stand.site, &DEVICES, &["switched"])
}

/// Equal but for the lock, which a run may leave, and the notes in it.
fn is_same(a: &State, b: &State) -> bool {
    let is_state = |path: &&String| !path.starts_with("%lock");
    let paths = |state: &State| state.pins.keys().filter(is_state).cloned().collect::<Vec<_>>();
    a.devices == b.devices
        && paths(a) == paths(b)
        && a.pins.keys().filter(is_state).all(|path| a.pins[path] == b.pins[path])
}

#[track_caller]
fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} points failed:\n{}", failures.len(), failures.join("\n"));
}

/// Tries points of a scene; gives what went wrong.
fn sweep(scene: &Scene<'_>) -> Vec<String> {
    let Scene { name, stand, command, .. } = *scene;
    let seed = seed();
    let mut references = Vec::new();
    let mut all = Vec::new();
    for (at, start) in scene.starts.iter().enumerate() {
        let _ = (start.make)();
        let ran = run(stand, command, &[]);
        all.extend(points(&ran.log, at, &command.faults()));
        references.push(Reference { ran, wished: shape(&look(stand)) });
    }
    let total = all.len();
    let name_of = |point: &Point| {
        let Point { start, call, n, fault, .. } = point;
        format!("{name}/{}/{call}/{n}/{fault}", scene.starts[*start].name)
    };
    let is_all = tries() == Tries::Errnos;
    let chosen: Vec<_> = match std::env::var("XDPD_POINT") {
        Ok(wanted) => all.into_iter().filter(|point| name_of(point).starts_with(&wanted)).collect(),
        Err(_) if is_all => all,
        Err(_) => sample(all, scene.sample * factor(), seed),
    };
    let chosen: Vec<_> = chosen.into_iter().filter(|point| !is_all || is_tried(scene, point)).collect();
    let mut table = Table::default();
    let mut failures = Vec::new();
    let mut made: Option<(usize, Option<Shape>, State)> = None;
    let began = Instant::now();
    for point in &chosen {
        let start = &scene.starts[point.start];
        let (origin, before) = match made.take() {
            Some((at, origin, state)) if at == point.start => (origin, state),
            _ => {
                let origin = (start.make)();
                // Ids are others with each start.
                if let Purpose::Look | Purpose::Read = command.purpose() {
                    references[point.start].ran = run(stand, command, &[]);
                }
                (origin, look(stand))
            }
        };
        let reference = &references[point.start];
        let before_shape = shape(&before);
        let fault =
            if point.fault == KILL { "signal=KILL".to_owned() } else { format!("error={}", point.fault) };
        let ran = run(stand, command, &[(point.call, &fault, point.n)]);
        let is_hit = if point.fault == KILL { ran.code.is_none() } else { injected(&ran.log).is_some() };
        // The calls of a run can be fewer, where it looks at what others have on the machine.
        if is_hit {
            let end = ran.code.map_or("a signal".to_owned(), |code| format!("exit {code}"));
            *table.ends.entry(end).or_default() += 1;
            *table.tried.entry(point.kind.clone()).or_default().entry(point.fault).or_default() += 1;
        }
        let after = look(stand);
        let after_shape = shape(&after);
        let is_as_before = is_same(&after, &before);
        let next = (after != before).then(|| next_run(stand, command)).flatten();
        let evidence = Evidence {
            purpose: command.purpose(),
            fault: point.fault,
            said: ran.said(),
            is_as_before,
            is_committed: is_in_commit(&ran.log),
            origin: origin.as_ref(),
            before: &before_shape,
            after: &after_shape,
            wished: &reference.wished,
            reference: reference.ran.said(),
            next: next.as_ref().map(|(ran, shape)| (ran.said(), shape)),
        };
        let wrong = if is_hit { judge(&evidence) } else { Vec::new() };
        if !wrong.is_empty() {
            let line = injected(&ran.log).or(ran.log.lines().last()).unwrap_or_default();
            let text = format!(
                "XDPD_POINT={} {} in `{line}`, after `{}`, XDPD_SEED={seed}\n    {}\n  stdout: {}\n  stderr: {}",
                name_of(point),
                point.kind,
                context(&ran.log),
                wrong.join("\n    "),
                cut(ran.stdout.trim_end(), 2000),
                cut(ran.stderr.trim_end(), 2000)
            );
            report(format_args!("FAILED {text}"));
            failures.push(text);
        }
        if after == before {
            made = Some((point.start, origin, after));
        }
    }
    table.print(name, seed);
    let tried = chosen.len();
    report(format_args!("{name}: {tried} of {total} points in {:.1?}", began.elapsed()));
    failures
}

fn cut(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

/// The calls just before a fault, which tell where it was.
fn context(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let at = lines.iter().position(|line| line.contains("(INJECTED)")).unwrap_or(lines.len());
    lines[at.saturating_sub(3)..at].iter().map(|line| cut(line, 110)).collect::<Vec<_>>().join(" ;; ")
}

/// The next run without a fault, which is to converge.
fn next_run(stand: &Stand, command: Command) -> Option<(Ran, Shape)> {
    let arguments = match command {
        Command::Apply { .. } | Command::Watch => "apply config.toml --takeover --json",
        Command::Detach { .. } => "detach config.toml",
        Command::Look(_) | Command::Read { .. } => return None,
    };
    let output = stand.xdpd(arguments);
    let ran = Ran { code: output.code(), stdout: output.stdout, stderr: output.stderr, log: String::new() };
    Some((ran, shape(&look(stand))))
}

/// A killed apply: at the `nth` call of its log that holds these words.
fn killed<'a>(stand: &'a Stand, words: &'static str, nth: usize) -> Start<'a> {
    let known = Cell::new(None);
    let origin = RefCell::new(None);
    let command = Command::Apply { is_recovery: false };
    let find = move || {
        stand.reset();
        let log = run(stand, command, &[]).log;
        let found = numbered(&log, |line| line.contains(words)).nth(nth);
        let (call, n) = found.unwrap_or_else(|| panic!("no call {nth} of {words}: {log}"));
        (SWEPT.into_iter().find(|swept| *swept == call).expect("a call that is swept"), n)
    };
    let make = move || {
        // The calls of a run can be others, where it looks at what others have on the machine.
        let is_killed = (0..20).any(|_| {
            let (call, n) = known.take().unwrap_or_else(find);
            stand.reset();
            *origin.borrow_mut() = Some(shape(&look(stand)));
            let is_killed = run(stand, command, &[(call, "signal=KILL", n)]).code.is_none();
            known.set(is_killed.then_some((call, n)));
            is_killed
        });
        assert!(is_killed, "at call {nth} of {words}");
        origin.take()
    };
    Start {
        name: format!("killed-{nth}-{}", words.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "")),
        make: Box::new(make),
    }
}

fn fresh(stand: &Stand) -> Vec<Start<'_>> {
    let make = || {
        stand.reset();
        None
    };
    vec![Start { name: "fresh".to_owned(), make: Box::new(make) }]
}

/// Cut off while staging, between link and directories, between two directories, while cleaning up.
fn interrupted(stand: &Stand) -> Vec<Start<'_>> {
    let kills: &[(&str, usize)] = match stand.way.1 {
        TAKEN => &[("mkdirat", 1), ("BPF_LINK_CREATE", 0), ("renameat2", 0), ("unlinkat", 1)],
        MIGRATED => &[("BPF_MAP_UPDATE_BATCH", 1), ("renameat2", 0), ("xdp_stats_map-new\", 0", 0)],
        _ => &[("mkdirat", 4), ("renameat2", 0), ("renameat2", 3), ("unlinkat", 2)],
    };
    kills.iter().map(|(words, nth)| killed(stand, words, *nth)).collect()
}

/// Sweeps one command on a stand of its own, from where `starts` begins.
fn sweep_on(
    name: &'static str,
    way: (&'static str, &'static str),
    command: Command,
    starts: for<'a> fn(&'a Stand) -> Vec<Start<'a>>,
    sample: usize,
) -> Vec<String> {
    let stand = Stand::new("sweep", way);
    sweep(&Scene { name, stand: &stand, command, starts: starts(&stand), sample })
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_an_apply_leaves_what_was_or_what_is_wished() {
    require_root!();
    let command = Command::Apply { is_recovery: false };
    assert_none(&sweep_on("apply", (BEFORE, AFTER), command, fresh, 200));
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_takeover_leaves_what_was_or_what_is_wished() {
    require_root!();
    let command = Command::Apply { is_recovery: false };
    assert_none(&sweep_on("takeover", (NOTHING, TAKEN), command, fresh, 80));
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_migration_leaves_what_was_or_what_is_wished() {
    require_root!();
    let command = Command::Apply { is_recovery: false };
    assert_none(&sweep_on("migration", (PLAIN, MIGRATED), command, fresh, 80));
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_detach_leaves_all_or_nothing() {
    require_root!();
    let command = Command::Detach { is_recovery: false };
    assert_none(&sweep_on("detach", (BEFORE, AFTER), command, fresh, 100));
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_recovery_can_be_recovered_from() {
    require_root!();
    let command = Command::Apply { is_recovery: true };
    let mut failures = sweep_on("recovery", (BEFORE, AFTER), command, interrupted, 40);
    failures.extend(sweep_on("recovery-takeover", (NOTHING, TAKEN), command, interrupted, 40));
    failures.extend(sweep_on("recovery-migration", (PLAIN, MIGRATED), command, interrupted, 40));
    assert_none(&failures);
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_detach_after_a_kill_can_be_recovered_from() {
    require_root!();
    let command = Command::Detach { is_recovery: true };
    assert_none(&sweep_on("detach-recovery", (BEFORE, AFTER), command, interrupted, 60));
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_look_is_told_and_changes_no_answer() {
    require_root!();
    let stand = Stand::new("sweeplook", (BEFORE, AFTER));
    let mut failures = Vec::new();
    for (name, arguments) in [
        ("status", "status config.toml"),
        ("status-json", "status config.toml --json"),
        ("diff", "diff config.toml"),
        ("diff-json", "diff config.toml --json"),
    ] {
        let command = Command::Look(arguments);
        let starts = fresh(&stand).into_iter().chain(interrupted(&stand)).collect();
        failures.extend(sweep(&Scene { name, stand: &stand, command, starts, sample: 200 }));
    }
    assert_none(&failures);
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_a_repair_is_told_and_what_was_lost_is_repaired() {
    require_root!();
    let stand = Stand::new("sweepwatch", (BEFORE, AFTER));
    let drift = || {
        stand.reset();
        stand.xdpd("apply config.toml").expect_code(0);
        let remove = |path: &str| std::fs::remove_file(stand.site.root().join(path)).unwrap();
        remove("replaced/xdp-link");
        remove("added/xdp_stats_map");
        xdpd_testlab::wait_until("the program to be gone", DEADLINE, || {
            stand.attached()["replaced"].is_empty()
        });
        None
    };
    let starts = vec![Start { name: "drifted".to_owned(), make: Box::new(drift) }];
    assert_none(&sweep(&Scene {
        name: "watch",
        stand: &stand,
        command: Command::Watch,
        starts,
        sample: 150,
    }));
}

#[test]
#[ignore = "needs root"]
fn a_fault_in_the_reader_is_told_for_the_interface_it_is_of() {
    require_root!();
    let stand = Stand::new("sweepread", (BEFORE, AFTER));
    // As a user who has to find config and program.
    let dir = stand.site.lab.dir();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    Invocation::of("install")
        .args(["-m", "755"])
        .args([xdp_stats().path(), dir.join("xdp-stats")])
        .run()
        .expect_code(0);
    let mut failures = Vec::new();
    for (name, arguments, is_root) in [
        ("reader", "--once", true),
        ("reader-user", "--once", false),
        ("reader-tick", "--count 1 --interval 20ms", true),
    ] {
        let applied = || {
            stand.reset();
            stand.xdpd("apply config.toml").expect_code(0);
            None
        };
        let starts = vec![Start { name: "applied".to_owned(), make: Box::new(applied) }];
        let command = Command::Read { arguments, is_root };
        failures.extend(sweep(&Scene { name, stand: &stand, command, starts, sample: 150 }));
    }
    assert_none(&failures);
}

mod judging {
    use super::*;

    const APPLIED: Said<'_> = Said { code: Some(0), stdout: "", stderr: "xdpd: applied" };

    fn runs(function: &str, pins: &[&str]) -> Shape {
        let program = (function.to_owned(), xdpd_kernel::XdpMode::Native);
        Shape {
            pins: pins.iter().map(|pin| ((*pin).to_owned(), "map".to_owned())).collect(),
            devices: BTreeMap::from([("added", vec![program])]),
        }
    }

    /// What is wrong with a run of `purpose` that met EACCES, said this, and left that.
    fn wrong(purpose: Purpose, said: Said<'_>, after: &Shape, is_committed: bool) -> String {
        let (before, wished) = (runs("old", &["added/map"]), runs("new", &["added/map"]));
        let reference = Said { code: Some(0), stdout: "v0 since 2026-11-28T20:00:00Z", stderr: "" };
        let is_as_before = *after == before;
        let evidence = Evidence {
            purpose,
            fault: "EACCES",
            said,
            is_as_before,
            is_committed,
            origin: None,
            before: &before,
            after,
            wished: &wished,
            reference,
            next: (!is_as_before).then_some((APPLIED, &wished)),
        };
        judge(&evidence).join("; ")
    }

    fn said(code: i32, stdout: &'static str, stderr: &'static str) -> Said<'static> {
        Said { code: Some(code), stdout, stderr }
    }

    #[test]
    fn an_end_is_right_only_with_the_state_and_the_reason_that_its_code_promises() {
        let (old, new) = (runs("old", &["added/map"]), runs("new", &["added/map"]));
        let left = runs("new", &["%old-added", "added/map"]);
        let denied = "xdpd: BPF_OBJ_GET of x: Permission denied (EACCES)";
        let listed = "xdpd: applied, but not everything: remove %old-added: Permission denied (EACCES)";
        for (said, after, is_committed, expected) in [
            (APPLIED, &new, true, ""),
            (said(2, "", denied), &old, false, ""),
            (said(3, "", denied), &old, true, ""),
            (said(4, "", listed), &left, true, ""),
            (APPLIED, &old, true, "exit 0, and it is not as wished"),
            (APPLIED, &left, true, "exit 0, and it is not as wished: +%old-added"),
            (said(2, "", denied), &new, false, "exit 2, and the state is not as before"),
            (said(2, "", denied), &old, true, "exit 2, and a step of the commit had been made"),
            (said(3, "", denied), &old, false, "exit 3, and no step of the commit had been made"),
            (said(2, "", "xdpd: no"), &old, false, "without the reason"),
            (said(4, "", denied), &left, true, "%old-added, which is left, is not listed"),
            (said(1, "", denied), &old, false, "exit code Some(1)"),
            (said(101, "", "panicked"), &old, false, "exit code Some(101)"),
        ] {
            let wrong = wrong(Purpose::Change, said, after, is_committed);
            assert!(wrong.contains(expected) && wrong.is_empty() == expected.is_empty(), "{said:?}: {wrong}");
        }
    }

    #[test]
    fn nothing_of_ours_is_another_s_but_what_is_taken_over() {
        let old = runs("old", &["added/map"]);
        let blocked = "xdpd: EACCES: added runs someone else's program `old`; detach it first";
        assert!(
            wrong(Purpose::Change, said(2, "", blocked), &old, false).contains("it disowns (`someone else`)")
        );
        let theirs = "xdpd: EACCES: takes the place of someone else's program `theirs`";
        assert_eq!(wrong(Purpose::Change, said(2, "", theirs), &old, false), "");
    }

    #[test]
    fn a_look_gives_the_same_answer_or_none() {
        let old = runs("old", &["added/map"]);
        let look = |said| wrong(Purpose::Look, said, &old, false);
        assert_eq!(look(said(0, "v0 since 2026-11-28T20:00:01Z", "")), "");
        assert_eq!(look(said(2, "", "xdpd: open of x: Permission denied (EACCES)")), "");
        assert!(look(said(0, "", "")).contains("another answer: -v0 since TIME"));
        assert!(look(said(2, "v0", "EACCES")).contains("an answer beside the error"));
        assert!(look(said(2, "", "not a network namespace")).contains("without the reason"));
    }

    #[test]
    fn a_sample_has_each_call_and_errno_before_any_for_the_second_time() {
        let point = |call, n, fault| Point { start: 0, call, n, kind: call.to_owned(), fault };
        let many = (1..100).flat_map(|n| ["EIO", "EPERM"].map(|fault| point("openat", n, fault)));
        let all: Vec<_> = many.chain([point("mkdirat", 1, "EIO")]).collect();
        for seed in 0..20 {
            let chosen = sample(all.clone(), 3, seed);
            let calls: Vec<_> = chosen.iter().map(|point| (point.call, point.fault)).collect();
            for expected in [("openat", "EIO"), ("openat", "EPERM"), ("mkdirat", "EIO")] {
                assert!(calls.contains(&expected), "{calls:?}");
            }
            assert_eq!(chosen, sample(all.clone(), 3, seed));
        }
    }
}
