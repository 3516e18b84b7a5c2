//! What a run with a fault may leave and say, as a function of plain data: the contract of exit codes and ownership.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use xdpd_kernel::XdpMode;

/// The errnos that are injected, with the words of the C library for each.
pub const ERRNOS: [(&str, &str); 9] = [
    ("EIO", "Input/output error"),
    ("EACCES", "Permission denied"),
    ("EPERM", "Operation not permitted"),
    ("EINVAL", "Invalid argument"),
    ("ENOENT", "No such file or directory"),
    ("ENOSPC", "No space left on device"),
    ("ENOMEM", "Cannot allocate memory"),
    ("EAGAIN", "Resource temporarily unavailable"),
    ("EBUSY", "Device or resource busy"),
];

/// The fault that is no errno.
pub const KILL: &str = "KILL";

/// Words that call something another's, or advise to remove it. All that a stand pins and attaches is xdpd's, but for the
/// program that a takeover is about.
const DISOWNING: [&str; 13] = [
    "someone else",
    "foreign",
    "not xdpd's",
    "without our record",
    "detach it first",
    "remove one of the two",
    "remove it",
    "; remove ",
    "--takeover",
    "--adopt",
    "left alone",
    "another config",
    "neither map, program nor link",
];

/// A state without what differs from run to run: ids, and the text of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// What is pinned, by path under the pin root, but for the lock.
    pub pins: BTreeMap<String, String>,
    /// The functions that run on each device.
    pub devices: BTreeMap<&'static str, Vec<(String, XdpMode)>>,
}

impl Shape {
    /// The names at the top of the pin root.
    fn directories(&self) -> BTreeSet<&str> {
        self.pins.keys().filter_map(|path| path.split('/').next()).collect()
    }
}

/// What a command is for, as far as the contract tells commands apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Makes it so, or leaves all as it was.
    Change,
    /// The same, after it has settled what a killed run left: that stays settled.
    Recover,
    /// Looks, and changes nothing.
    Look,
    /// Reads the maps, and says per interface what could not be read.
    Read,
    /// Stays, and tries again: ended by a signal once it has repaired or complained.
    Repair,
}

/// How a run ended, and what it said.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The exit code, `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: &'a str,
    pub stderr: &'a str,
}

/// A run with one fault, and what was there before and after.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub purpose: Purpose,
    /// The name of an errno, or [`KILL`].
    pub fault: &'a str,
    pub said: Said<'a>,
    /// What ran and was pinned, each id and count included, is as before.
    pub is_as_before: bool,
    /// A step of the commit came before the fault.
    pub is_committed: bool,
    /// What was there before a run that was killed, whose remains this one has found.
    pub origin: Option<&'a Shape>,
    pub before: &'a Shape,
    pub after: &'a Shape,
    /// What a run without a fault makes.
    pub wished: &'a Shape,
    /// What a run without a fault says.
    pub reference: Said<'a>,
    /// The next run, without a fault, and what it left; none where nothing had changed.
    pub next: Option<(Said<'a>, &'a Shape)>,
}

/// All that is wrong with a run; empty: it is as the contract says.
pub fn judge(evidence: &Evidence<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let Evidence { said, .. } = *evidence;
    match evidence.purpose {
        _ if evidence.fault == KILL => {
            if said.code.is_some() {
                wrong.push("it was to be killed".to_owned());
            }
            old_or_new(evidence, &mut wrong);
        }
        Purpose::Change | Purpose::Recover => change(evidence, &mut wrong),
        Purpose::Look => look(evidence, &mut wrong),
        Purpose::Read => read(evidence, &mut wrong),
        Purpose::Repair => repair(evidence, &mut wrong),
    }
    disowned("it", said, &mut wrong);
    if let Some((next, shape)) = evidence.next {
        disowned("the next run", next, &mut wrong);
        if next.code != Some(0) {
            wrong.push(format!("the next run is blocked: {:?}, {}", next.code, next.stderr.trim()));
        } else if shape != evidence.wished {
            wrong.push(format!("the next run does not converge: {}", difference(evidence.wished, shape)));
        }
    }
    wrong
}

/// Nothing of ours may be called someone else's.
fn disowned(who: &str, said: Said<'_>, wrong: &mut Vec<String>) {
    for line in said.stdout.lines().chain(said.stderr.lines()) {
        // The keys of a status's JSON, which are there when nothing is in them.
        let line = line.replace("\"foreign_programs\":[]", "").replace("\"foreign_pins\":[]", "");
        // What is taken over is another's.
        let is_theirs = line.contains("theirs") || line.contains("taken runs ");
        if !is_theirs && let Some(words) = DISOWNING.iter().find(|words| line.contains(**words)) {
            wrong.push(format!("{who} disowns (`{words}`): {line}"));
        }
    }
}

fn change(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let Evidence { said, after, wished, .. } = *evidence;
    let is_recovery = evidence.purpose == Purpose::Recover;
    match said.code {
        Some(0) => {
            if after != wished {
                wrong.push(format!("exit 0, and it is not as wished: {}", difference(wished, after)));
            }
            return;
        }
        Some(code @ (2 | 3)) => {
            if is_recovery {
                old_or_new(evidence, wrong);
            } else {
                // Whether the other's program was detached is not known when the call fails: it counts as a step.
                let is_unsure = code == 3 && said.stderr.contains("cannot detach the other's program");
                if evidence.is_committed != (code == 3) && !is_unsure {
                    let is = if evidence.is_committed { "a" } else { "no" };
                    wrong.push(format!("exit {code}, and {is} step of the commit had been made"));
                }
                if !evidence.is_as_before {
                    let difference = difference(evidence.before, after);
                    wrong.push(format!("exit {code}, and the state is not as before: {difference}"));
                }
            }
        }
        Some(4) => {
            let leftovers = after.directories();
            let expected = wished.directories();
            for leftover in leftovers.difference(&expected) {
                if !said.stderr.contains(*leftover) && !said.stdout.contains(*leftover) {
                    wrong.push(format!("exit 4, and {leftover}, which is left, is not listed"));
                }
            }
            old_or_new(evidence, wrong);
        }
        code => wrong.push(format!("exit code {code:?}")),
    }
    reasoned(evidence, wrong);
}

/// Each device runs what it ran, or what was wished. Only where a gap was announced may it run nothing.
fn old_or_new(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    for (device, runs) in &evidence.after.devices {
        let (old, new) = (&evidence.before.devices[device], &evidence.wished.devices[device]);
        let is_back = evidence.origin.is_some_and(|origin| *runs == origin.devices[device]);
        let may_be_none = ["switched", "taken"].contains(device) || old.is_empty() || new.is_empty();
        if runs != old && runs != new && !is_back && !(runs.is_empty() && may_be_none) {
            wrong.push(format!("{device} runs {runs:?}, neither {old:?} nor {new:?}"));
        }
    }
}

/// An error names its reason.
fn reasoned(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let Said { stdout, stderr, code } = evidence.said;
    if !is_named(evidence.fault, stderr) && !is_named(evidence.fault, stdout) {
        wrong.push(format!("exit {code:?} without the reason: {}", stderr.trim()));
    }
}

/// Whether a text names an errno, by its name or the words for it.
pub fn is_named(errno: &str, text: &str) -> bool {
    let words = ERRNOS.iter().find(|(name, _)| *name == errno).map(|(_, words)| *words);
    // What these calls say with it: the time is over, another holds the lock, the path through /proc leads nowhere.
    let also = match errno {
        "EAGAIN" => ["has not finished within", "is locked"].as_slice(),
        "ENOENT" => &["/proc is not mounted"],
        _ => &[],
    };
    text.contains(errno) || words.iter().chain(also).any(|words| text.contains(words))
}

fn look(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let Evidence { said, reference, .. } = *evidence;
    unchanged(evidence, wrong);
    if said.code == reference.code {
        if without_times(said.stdout) != without_times(reference.stdout) {
            wrong.push(format!("another answer: {}", lines_between(reference.stdout, said.stdout)));
        }
    } else if said.code == Some(2) {
        if !said.stdout.is_empty() && !said.stdout.contains("\"errors\"") {
            wrong.push(format!("an answer beside the error: {}", said.stdout));
        }
        reasoned(evidence, wrong);
    } else {
        wrong.push(format!("exit code {:?}", said.code));
    }
}

fn unchanged(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    if !evidence.is_as_before {
        wrong.push(format!("it has changed something: {}", difference(evidence.before, evidence.after)));
    }
}

/// Each record is one of a run without a fault, or an error that gives the reason; each that is missing is of an interface
/// that has such an error.
fn read(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let Evidence { said, reference, .. } = *evidence;
    unchanged(evidence, wrong);
    let (records, wanted) = (records(said.stdout), records(reference.stdout));
    let mut excused = BTreeSet::new();
    for record in &records {
        let text = record.to_string();
        if wanted.contains(record) {
            continue;
        }
        if record["event"] == "error" && is_named(evidence.fault, &text) {
            excused.insert(record["interface"].to_string());
        } else {
            wrong.push(format!("a record that is neither true nor an error with its reason: {text}"));
        }
    }
    let is_refused = said.code == Some(2) && is_named(evidence.fault, said.stderr);
    for record in wanted.iter().filter(|record| !records.contains(record)) {
        let interface = record["interface"].to_string();
        if !is_refused && !excused.contains(&interface) {
            wrong.push(format!("no {} of {interface}, and no error", record["event"]));
        }
    }
    // An interface that could not be read shows in the exit code where that is for it.
    let code = said.code;
    let is_partial = !excused.is_empty() && code == Some(2);
    if code != reference.code && !is_refused && !is_partial {
        wrong.push(format!("exit code {code:?}: {}", said.stderr.trim()));
    }
}

fn records(stdout: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| line.into());
    let mut records: Vec<_> = stdout.lines().map(parse).collect();
    for record in records.iter_mut().filter_map(Value::as_object_mut) {
        for key in ["ts", "mono_ns", "run_id", "seq", "interval_ns"] {
            record.remove(key);
        }
    }
    records
}

fn repair(evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let Evidence { said, after, wished, .. } = *evidence;
    let is_told = is_named(evidence.fault, said.stderr);
    match said.code {
        Some(0) if after == wished || (evidence.is_as_before && is_told) => {}
        Some(0) if !is_told => wrong.push(format!(
            "neither repaired nor complained: {}; {}",
            said.stderr.trim(),
            difference(wished, after)
        )),
        Some(0 | 4) => old_or_new(evidence, wrong),
        Some(2 | 3) if evidence.is_as_before => reasoned(evidence, wrong),
        code => wrong.push(format!("exit code {code:?}: {}", difference(evidence.before, after))),
    }
}

/// What one state has and the other has not.
fn difference(from: &Shape, to: &Shape) -> String {
    let mut found = Vec::new();
    let paths: BTreeSet<_> = from.pins.keys().chain(to.pins.keys()).collect();
    for path in paths {
        match (from.pins.get(path), to.pins.get(path)) {
            (Some(_), None) => found.push(format!("-{path}")),
            (None, Some(_)) => found.push(format!("+{path}")),
            (a, b) if a != b => {
                found.push(format!("~{path} ({} -> {})", a.map_or("", |a| a), b.map_or("", |b| b)));
            }
            _ => {}
        }
    }
    for (device, runs) in &to.devices {
        if from.devices.get(device) != Some(runs) {
            found.push(format!("{device} runs {runs:?}"));
        }
    }
    if found.is_empty() { "only ids or records differ".to_owned() } else { found.join(" ") }
}

/// The lines that two texts do not share.
fn lines_between(from: &str, to: &str) -> String {
    let (from, to) = (without_times(from), without_times(to));
    let gone = from.lines().filter(|line| !to.lines().any(|l| l == *line)).map(|line| format!("-{line}"));
    let new = to.lines().filter(|line| !from.lines().any(|l| l == *line)).map(|line| format!("+{line}"));
    let lines: Vec<_> = gone.chain(new).map(|line| line.chars().take(400).collect::<String>()).collect();
    lines.join(" | ")
}

/// A text without its points in time, such as 2026-11-22T09:30:00Z.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| {
        word.len() >= 20
            && word.ends_with('Z')
            && word.as_bytes()[10] == b'T'
            && word.as_bytes()[..4].iter().all(u8::is_ascii_digit)
    };
    let words = text.split_inclusive(|c: char| c.is_whitespace() || c == '"');
    words
        .map(|word| {
            let end = word.trim_end_matches(|c: char| c.is_whitespace() || c == '"');
            if is_time(end) { format!("TIME{}", &word[end.len()..]) } else { word.to_owned() }
        })
        .collect()
}
