//! A look that is denied or fails is an error, and never an answer: whoever owns a pin, and whatever errno comes.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use common::Site;
use common::stand::{AFTER, BEFORE, DEVICES, MIGRATED, NOTHING, PLAIN, Stand, TAKEN};
use common::state::State;
use common::strace::{Fault, SWEPT, Tries, injected, numbered, strace_of, tries};
use common::verdict::{ERRNOS, is_named};
use xdpd_kernel::{IfIndex, Program, XdpMode, netlink};
use xdpd_testlab::{Output, require_root, xdp_stats, xdpd};

/// A user who is not root.
const OTHER: u32 = 4321;

/// The errnos that were taken for an answer.
const DENIALS: [&str; 4] = ["EACCES", "EPERM", "EINVAL", "ENOENT"];

/// Two interfaces, `v0` and `x1`, and what runs there.
struct Pair {
    site: Site,
}

const BOTH: &str = "[interfaces.v0]\n[interfaces.x1]\n";

impl Pair {
    fn new(name: &str) -> Self {
        Self::of(Site::new(name))
    }

    fn of(site: Site) -> Self {
        site.lab.veth("v0", "p-v0");
        site.lab.veth("x1", "p-x1");
        let pair = Self { site };
        pair.site.config(BOTH);
        pair.run("apply").expect_code(0);
        pair
    }

    /// In the namespace of the devices, where strace sees all of a command in one thread.
    fn run(&self, command: &str) -> Output {
        xdpd()
            .args(command.split_whitespace())
            .arg("config.toml")
            .netns(self.site.lab.near())
            .current_dir(self.site.lab.dir())
            .run()
    }

    /// Runs a command with an errno at the `nth` of the calls that `is_wanted` picks from the log of the same command
    /// without a fault, which `reset` takes back. `None`: there are fewer.
    #[track_caller]
    fn try_fault(
        &self,
        command: &str,
        errno: &str,
        (is_wanted, nth): (impl Fn(&str) -> bool, usize),
        reset: impl Fn(),
    ) -> Option<Output> {
        let log = self.site.lab.dir().join("strace.log");
        let run = |faults: &[Fault<'_>]| {
            let strace = strace_of(&log, &SWEPT, faults).netns(self.site.lab.near());
            let strace = strace.current_dir(self.site.lab.dir()).arg(xdpd().path());
            let output = strace.args(command.split_whitespace()).arg("config.toml").run();
            (output, std::fs::read_to_string(&log).unwrap())
        };
        // Another run can have more calls: all locks of the machine are in /proc/locks, and one look at many is not enough.
        for _ in 0..8 {
            reset();
            let (_, calls) = run(&[]);
            let (call, n) = numbered(&calls, &is_wanted).nth(nth)?;
            reset();
            let (output, calls) = run(&[(call, &format!("error={errno}"), n)]);
            if injected(&calls).is_some_and(&is_wanted) {
                return Some(output);
            }
        }
        panic!("{command}, {errno}: no two runs in a row have the same calls");
    }

    #[track_caller]
    fn with_fault(
        &self,
        command: &str,
        errno: &str,
        wanted: (impl Fn(&str) -> bool, usize),
        reset: impl Fn(),
    ) -> Output {
        self.try_fault(command, errno, wanted, reset).expect("such a call")
    }

    fn path(&self, entry: &str) -> PathBuf {
        self.site.root().join(entry)
    }

    fn is_attached(&self, device: &str) -> bool {
        self.site.running(device).is_some()
    }

    /// The command has done its work or given its answer all the same, by another look; or it ends with exit code 2, the
    /// reason, and nothing changed.
    #[track_caller]
    fn assert_right_or_told(&self, command: &str, errno: &str, output: &Output) {
        let context = format!("{command}, {errno}: {output}");
        assert_ours(output);
        if output.code() != Some(0) {
            // A look after the commit takes all of it back.
            let is_taken_back =
                output.code() == Some(3) && output.stderr.contains("the previous state is restored");
            assert!(output.code() == Some(2) || is_taken_back, "{context}");
            assert!(is_named(errno, &output.stderr), "{context}");
            assert!(self.is_attached("v0") && self.is_attached("x1"), "{context}");
            return;
        }
        match command {
            "detach" => self.assert_detached_or_told(output),
            "diff" => assert_eq!(output.stdout, "", "{context}"),
            "status" => {
                let is_there = |label: &str| output.stdout.lines().any(|line| line.starts_with(label));
                assert!(is_there("v0") && is_there("x1"), "{context}");
                assert!(!output.stdout.contains("drift"), "{context}");
            }
            _ => {
                let text = std::fs::read_to_string(self.site.lab.dir().join("config.toml")).unwrap();
                for label in ["v0", "x1"] {
                    let is_wanted = text.contains(label);
                    assert_eq!(self.path(label).exists(), is_wanted, "{context}");
                    assert_eq!(self.is_attached(label), is_wanted, "{context}");
                }
            }
        }
    }

    /// Exit code 0 of a detach, and nothing runs and nothing is pinned; or an error, and the next one ends so.
    #[track_caller]
    fn assert_detached_or_told(&self, output: &Output) {
        if output.code() == Some(0) {
            assert!(!self.is_attached("v0") && !self.is_attached("x1"), "something runs on: {output}");
            assert_eq!(self.site.bpffs.tree(), Vec::<String>::new(), "{output}");
        } else {
            assert_ne!(output.stderr, "", "{output}");
            assert_ours(output);
        }
    }
}

/// Nothing of ours is called another's, and nobody is told to remove it.
#[track_caller]
fn assert_ours(output: &Output) {
    for words in ["someone else", "not xdpd's", "without our record", "detach it first", "remove it"] {
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(!common::flat(&text).contains(words), "`{words}`: {output}");
    }
}

#[test]
#[ignore = "needs root"]
fn detach_ends_with_0_only_if_the_program_is_detached_whoever_owns_the_link_s_pin() {
    require_root!();
    let pair = Pair::new("ownedlink");
    chown(pair.path("v0/xdp-link"), Some(OTHER), None).unwrap();
    // A second pin keeps the link, and with it the program, when the first one goes.
    std::fs::hard_link(pair.path("v0/xdp-link"), pair.site.bpffs.path().join("elsewhere")).unwrap();
    let output = pair.run("detach");
    if output.code() == Some(0) {
        assert!(!pair.is_attached("v0"), "{output}");
        std::fs::remove_file(pair.site.bpffs.path().join("elsewhere")).unwrap();
    } else {
        assert!(pair.path("v0/xdp-owner").symlink_metadata().is_ok(), "the record is lost: {output}");
    }
    pair.assert_detached_or_told(&output);
}

#[test]
#[ignore = "needs root"]
fn apply_removes_an_interface_whoever_owns_its_link_s_pin() {
    require_root!();
    let pair = Pair::new("ownedgone");
    chown(pair.path("x1/xdp-link"), Some(OTHER), None).unwrap();
    std::fs::hard_link(pair.path("x1/xdp-link"), pair.site.bpffs.path().join("elsewhere")).unwrap();
    pair.site.config("[interfaces.v0]\n");
    let output = pair.run("apply");
    assert_ours(&output);
    if output.code() == Some(0) {
        assert!(!pair.is_attached("x1") && !pair.path("x1").exists(), "{output}");
    } else {
        assert!(pair.is_attached("x1") && pair.path("x1/xdp-owner").symlink_metadata().is_ok(), "{output}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_denied_look_at_a_map_of_an_interface_that_leaves_is_no_reason_to_leave_it_behind() {
    require_root!();
    // What removes a link looks at all links on the machine: beside other tests, its calls would be others each time.
    let pair = Pair::of(Site::alone("deniedmap"));
    let reset = || {
        pair.site.config(BOTH);
        pair.run("apply").expect_code(0);
        pair.site.config("[interfaces.v0]\n");
    };
    // An apply looks at each pin several times.
    for (nth, errno) in (0..).flat_map(|nth| DENIALS.map(|errno| (nth, errno))) {
        let is_wanted = |line: &str| line.starts_with("bpf(BPF_OBJ_GET,");
        let Some(output) = pair.try_fault("apply", errno, (is_wanted, nth), reset) else { break };
        let context = format!("{errno} at look {nth}: {output}");
        assert_ours(&output);
        match output.code() {
            Some(0) => {
                assert!(!pair.path("x1").exists(), "{context}: {:?}", pair.site.bpffs.tree());
                assert!(!pair.is_attached("x1"), "{context}");
            }
            Some(2 | 3) => {
                assert!(is_named(errno, &output.stderr), "{context}");
                assert!(pair.path("x1/xdp-owner").symlink_metadata().is_ok(), "{context}");
                assert!(pair.is_attached("x1"), "{context}");
            }
            _ => assert!(output.stderr.contains("x1"), "{context}"),
        }
        // And what is left is in nobody's way.
        pair.site.config(BOTH);
        pair.run("apply").expect_code(0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_denied_look_at_a_pin_is_no_reason_for_detach_to_leave_it_behind() {
    require_root!();
    let pair = Pair::of(Site::alone("denieddet"));
    let reset = || drop(pair.run("apply").expect_code(0));
    for (nth, errno) in (0..).flat_map(|nth| DENIALS.map(|errno| (nth, errno))) {
        let is_wanted = |line: &str| line.starts_with("bpf(BPF_OBJ_GET,");
        let Some(output) = pair.try_fault("detach", errno, (is_wanted, nth), reset) else { break };
        pair.assert_detached_or_told(&output);
        assert!(output.code() == Some(0) || is_named(errno, &output.stderr), "{errno}: {output}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_record_that_cannot_be_read_is_exit_2_of_a_detach() {
    require_root!();
    let pair = Pair::new("unreadable");
    let record = pair.path("x1/xdp-owner");
    std::fs::remove_file(&record).unwrap();
    symlink("v=999 nonsense", &record).unwrap();
    let before = pair.site.bpffs.tree();
    for command in ["detach", "detach --interface x1"] {
        let output = pair.run(command).expect_code(2);
        assert!(output.stderr.contains("x1") && output.stderr.contains("record"), "{output}");
        assert_eq!(pair.site.bpffs.tree(), before, "{output}");
        assert!(pair.is_attached("v0") && pair.is_attached("x1"), "{output}");
    }
    // All that is under a pin root goes with it.
    xdpd()
        .arg("detach")
        .arg("--pin-root")
        .arg(pair.site.root())
        .netns(pair.site.lab.near())
        .run()
        .expect_code(0);
    assert!(!pair.is_attached("x1"));
}

#[test]
#[ignore = "needs root"]
fn a_denied_look_at_a_record_is_exit_2_and_changes_nothing() {
    require_root!();
    let pair = Pair::new("deniedrec");
    for command in ["detach", "apply", "diff", "status"] {
        for (errno, _) in ERRNOS {
            let before = pair.site.bpffs.fingerprint();
            let is_wanted = |line: &str| line.starts_with("readlinkat(") && line.contains("\"xdp-owner\"");
            let reset = || drop(pair.run("apply").expect_code(0));
            let output = pair.with_fault(command, errno, (is_wanted, 1), reset);
            pair.assert_right_or_told(command, errno, &output);
            if command != "detach" {
                assert_eq!(pair.site.bpffs.fingerprint(), before, "{errno}: {output}");
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_listing_that_fails_is_not_an_empty_pin_root() {
    require_root!();
    let pair = Pair::new("listing");
    for command in ["detach", "apply", "diff", "status"] {
        for (errno, _) in ERRNOS {
            for call in ["openat(", "getdents64("] {
                // The first directory that is listed is the pin root.
                let is_wanted =
                    |line: &str| line.starts_with(call) && (call == "getdents64(" || line.contains("\".\""));
                let reset = || drop(pair.run("apply").expect_code(0));
                let output = pair.with_fault(command, errno, (is_wanted, 0), reset);
                pair.assert_right_or_told(command, errno, &output);
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_pin_root_that_cannot_be_opened_is_not_one_that_does_not_exist() {
    require_root!();
    let pair = Pair::new("deniedroot");
    let is_root = {
        let root = format!("\"{}\"", pair.site.root().display());
        move |line: &str| line.starts_with("open(") && line.contains(&root)
    };
    for command in ["detach", "apply", "diff", "status"] {
        for (errno, _) in ERRNOS {
            for nth in 0..2 {
                let reset = || drop(pair.run("apply").expect_code(0));
                let Some(output) = pair.try_fault(command, errno, (&is_root, nth), reset) else { break };
                pair.assert_right_or_told(command, errno, &output);
            }
        }
    }
}

/// The kernel's words on a refusal are asked for by attaching through netlink. A driver that changes its mind takes the
/// program then, and the run is killed, or cannot remove it again: `check` gets the outcome of each such apply, with the
/// fault. `reset` comes before each.
fn ask_and_end(pair: &Pair, apply: &str, reset: impl Fn(), mut check: impl FnMut(&str, &Output)) {
    let log = pair.site.lab.dir().join("strace.log");
    let run = |faults: &[String]| {
        reset();
        let strace = strace_of(&log, &SWEPT, &[]).netns(pair.site.lab.near());
        let strace =
            faults.iter().fold(strace, |strace, fault| strace.args(["-e", &format!("inject={fault}")]));
        let strace = strace.current_dir(pair.site.lab.dir()).arg(xdpd().path());
        (strace.args(apply.split_whitespace()).run(), std::fs::read_to_string(&log).unwrap())
    };
    let (_, calls) = run(&[]);
    let is_create = |line: &str| line.starts_with("bpf(BPF_LINK_CREATE,");
    let (_, create) = numbered(&calls, &is_create).next().unwrap();
    let before = calls.lines().take_while(|line| !is_create(line));
    let sent = before.filter(|line| line.starts_with("sendto(")).count();
    let refused = format!("bpf:error=ENOMEM:when={create}..{}", create + 1);
    for n in sent + 1..sent + 10 {
        for fault in [format!("sendto:signal=KILL:when={n}"), format!("sendto:error=EIO:when={n}+")] {
            let (output, _) = run(&[refused.clone(), fault.clone()]);
            check(&fault, &output);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_run_that_ends_while_it_asks_for_the_kernels_words_leaves_no_program_that_blocks() {
    require_root!();
    // All links of the machine are looked at, so that those of others would change the numbers of calls.
    let pair = Pair::of(Site::alone("asked"));
    let reset = || drop(pair.run("detach").expect_code(0));
    let mut attached = 0;
    ask_and_end(&pair, "apply config.toml", reset, |fault, output| {
        let context = format!("{fault}: {output}");
        let is_left = pair.is_attached("v0") && !pair.path("v0").exists();
        attached += usize::from(is_left);
        assert!(!is_left || output.code() != Some(2), "nothing was changed, it says: {context}");
        let diff = pair.run("diff");
        assert!(!diff.to_string().contains("someone else"), "{context}{diff}");
        pair.run("apply").expect_code(0);
        assert!(pair.is_attached("v0") && pair.is_attached("x1"), "{context}");
        pair.run("diff").expect_code(0);
    });
    assert!(attached > 0, "no run has ended with a program and no link");
}

#[test]
#[ignore = "needs root"]
fn a_takeover_that_ends_while_it_asks_for_the_kernels_words_gives_the_program_back() {
    require_root!();
    let pair = Pair::of(Site::alone("askedtaken"));
    let theirs = Program::load_xdp_returning("their_filter", 2).unwrap();
    let theirs_id = theirs.info().unwrap().id.0;
    let ifindex = IfIndex(pair.site.lab.near().ifindex("v0").unwrap());
    let reset = || {
        pair.run("detach").expect_code(0);
        if pair.site.running("v0").is_none() {
            let attach = || netlink::attach_netlink(ifindex, &theirs, XdpMode::Native, None);
            pair.site.lab.near().run(attach).unwrap();
        }
    };
    let mut given_back = 0;
    ask_and_end(&pair, "apply config.toml --takeover", reset, |fault, output| {
        let is_asking = ![None, Some(theirs_id)].contains(&pair.site.running("v0"));
        if output.code() == Some(0) {
            return;
        }
        // What was left is settled before anything is detached. A link that was made in the end stays until then.
        let detach = pair.run("detach").expect_code(0);
        let was_taken = detach.stderr.contains("detached v0");
        let expected = (!was_taken).then_some(theirs_id);
        assert_eq!(pair.site.running("v0"), expected, "{fault}: {output}{detach}");
        given_back += usize::from(is_asking && !was_taken);
    });
    assert!(given_back > 0, "no run has ended with our program and no link");
}

/// Whether others can change where its path leads is asked of each directory on the way, by each of these commands.
#[test]
#[ignore = "needs root"]
fn a_look_at_the_way_to_the_pin_root_that_fails_is_no_pin_root_without_interfaces() {
    require_root!();
    let pair = Pair::new("way");
    for command in ["detach", "apply", "diff", "status"] {
        for (nth, errno) in (0..).flat_map(|nth| ["EIO", "EACCES", "ENOENT"].map(|errno| (nth, errno))) {
            let is_wanted = |line: &str| {
                line.starts_with("openat(AT_FDCWD, \"/\",") || line.contains(", \"tmp\", O_RDONLY")
            };
            let reset = || drop(pair.run("apply").expect_code(0));
            let Some(output) = pair.try_fault(command, errno, (is_wanted, nth), reset) else { break };
            pair.assert_right_or_told(command, errno, &output);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_lock_that_cannot_be_taken_is_exit_2_and_changes_nothing() {
    require_root!();
    let pair = Pair::new("lockdenied");
    pair.site.config("[interfaces.v0]\n");
    for command in ["apply", "detach"] {
        for errno in DENIALS.into_iter().chain(["EIO", "EAGAIN"]) {
            for call in ["flock(", "openat(", "mkdirat("] {
                let is_wanted = |line: &str| {
                    line.starts_with(call)
                        && (line.contains("LOCK_EX") || line.contains("\"%lock\"") || line.contains("\".\""))
                };
                let reset = || {
                    pair.site.config(BOTH);
                    pair.run("apply").expect_code(0);
                    pair.site.config("[interfaces.v0]\n");
                };
                let output = pair.with_fault(command, errno, (is_wanted, 0), reset);
                pair.assert_right_or_told(command, errno, &output);
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn the_directory_of_an_interface_that_others_can_change_is_named_and_not_passed_over() {
    require_root!();
    let pair = Pair::new("owneddir");
    chown(pair.path("v0"), Some(OTHER), None).unwrap();
    for command in ["status", "diff", "apply", "detach"] {
        let output = pair.run(command);
        let text = common::flat(&format!("{}{}", output.stdout, output.stderr));
        assert!(text.contains("v0"), "{output}");
        if command == "detach" {
            assert!(output.code() != Some(0) || !pair.is_attached("v0"), "{output}");
        }
        // It says whose the directory is, which is the reason.
        assert!(text.contains(&OTHER.to_string()) || !pair.is_attached("v0"), "{output}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_diff_plans_apply_does_whoever_owns_the_pin_of_a_map() {
    require_root!();
    let pair = Pair::new("ownedmap");
    chown(pair.path("v0/xdp_stats_map"), Some(OTHER), None).unwrap();
    std::fs::set_permissions(pair.path("v0/xdp_stats_map"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let diff = pair.run("diff");
    let apply = pair.run("apply");
    assert_ours(&apply);
    if matches!(diff.code(), Some(0 | 1)) {
        assert_eq!(apply.code(), Some(0), "{diff}{apply}");
        assert_eq!(pair.run("diff").code(), Some(0));
        assert_eq!(pair.path("v0/xdp_stats_map").symlink_metadata().unwrap().uid(), 0);
    } else {
        assert_eq!((diff.code(), apply.code()), (Some(2), Some(2)), "{diff}{apply}");
    }
}

#[test]
#[ignore = "needs root"]
fn whoever_owns_a_pin_status_and_diff_agree_with_detach_that_it_is_ours() {
    require_root!();
    for entry in ["v0/xdp-link", "v0/xdp_stats_map", "v0/xdp-owner"] {
        let pair = Pair::new("ownedpins");
        std::os::unix::fs::lchown(pair.path(entry), Some(OTHER), None).unwrap();
        let status = pair.run("status --json");
        assert_ours(&status);
        if status.code() == Some(0) {
            let interfaces = status.json()["interfaces"].clone();
            let v0 = interfaces.as_array().unwrap().iter().find(|i| i["interface"] == "v0").cloned();
            assert_eq!(v0.expect("v0")["state"], "attached", "{entry}: {status}");
        } else {
            assert_eq!(status.code(), Some(2), "{entry}: {status}");
        }
        assert_ours(&pair.run("diff"));
        let output = pair.run("detach");
        assert!(output.code() != Some(0) || !pair.is_attached("v0"), "{entry}: {output}");
        pair.assert_detached_or_told(&output);
    }
}

#[test]
#[ignore = "needs root"]
fn the_reader_tells_of_a_map_that_it_may_not_open_and_reads_the_others() {
    require_root!();
    let pair = Pair::new("deniedread");
    let log = pair.site.lab.dir().join("strace.log");
    let run = |faults: &[Fault<'_>]| {
        let strace = strace_of(&log, &SWEPT, faults).netns(pair.site.lab.near());
        let strace = strace.current_dir(pair.site.lab.dir()).arg(xdp_stats().path());
        let output = strace.args(["--config", "config.toml", "--json", "--once"]).run();
        (output, std::fs::read_to_string(&log).unwrap())
    };
    let (_, calls) = run(&[]);
    let (call, n) = numbered(&calls, |line| line.starts_with("bpf(BPF_OBJ_GET,")).next().unwrap();
    for (errno, _) in ERRNOS {
        let (output, _) = run(&[(call, &format!("error={errno}"), n)]);
        let records = output.json_lines();
        let of = |label: &str| records.iter().find(|record| record["interface"] == label).unwrap().clone();
        assert_eq!(of("x1")["event"], "baseline", "{output}");
        // Another look may have been let in.
        if output.code() == Some(0) {
            assert_eq!(of("v0")["event"], "baseline", "{output}");
        } else {
            assert_eq!((output.code(), &of("v0")["event"]), (Some(2), &"error".into()), "{output}");
            assert!(is_named(errno, &of("v0").to_string()), "{errno}: {output}");
        }
    }
}

/// An apply that is killed: the name of its stand, the file before and after, words and number of the call, and how the
/// names begin of all that it leaves.
type Kill = (&'static str, (&'static str, &'static str), &'static str, usize, &'static [&'static str]);

/// What a killed run leaves begins with one of these, and a look at each is denied in the run that recovers.
#[test]
#[ignore = "needs root"]
fn a_denied_look_at_what_a_killed_run_left_is_told_and_the_next_run_settles_it() {
    require_root!();
    let kills: [Kill; 4] = [
        ("next", (BEFORE, AFTER), "renameat2(", 0, &["%next-"]),
        ("old", (BEFORE, AFTER), "unlinkat(", 2, &["%old-", "%next-"]),
        ("taken", (NOTHING, TAKEN), "BPF_LINK_CREATE", 0, &["%taken-", "%next-"]),
        ("snap", (PLAIN, MIGRATED), "renameat2(", 0, &["%snap-", "%next-"]),
    ];
    let mut turn = std::process::id() as usize;
    for (name, way, words, nth, prefixes) in kills {
        let stand = Stand::new(name, way);
        let killed = || {
            // A takeover looks at all links on the machine, so that its calls are others each time.
            let is_killed = (0..20).any(|_| {
                stand.reset();
                let (_, log) = stand.strace(&[]);
                let (call, n) =
                    numbered(&log, |line| line.contains(words)).nth(nth).expect("the call of a kill");
                stand.reset();
                let (output, _) = stand.strace(&[(call, "signal=KILL", n)]);
                let left = stand.site.bpffs.tree();
                output.code().is_none()
                    && prefixes.iter().all(|prefix| left.iter().any(|l| l.contains(prefix)))
            });
            assert!(is_killed, "{words}: {:?}", stand.site.bpffs.tree());
        };
        let log = stand.site.lab.dir().join("looks.log");
        let run = |command: &str, faults: &[Fault<'_>]| {
            let strace = stand.invocation(strace_of(&log, &SWEPT, faults)).arg(xdpd().path());
            let output = strace.args(command.split_whitespace()).run();
            (output, std::fs::read_to_string(&log).unwrap())
        };
        for prefix in prefixes {
            for command in [
                "status config.toml",
                "diff config.toml --takeover",
                "apply config.toml --takeover",
                "detach config.toml",
            ] {
                let is_look = command.starts_with("diff") || command.starts_with("status");
                killed();
                let before = State::of(&stand.site, &DEVICES, &[]);
                let (reference, calls) = run(command, &[]);
                let is_wanted =
                    |line: &str| line.starts_with("openat(") && line.contains(&format!("\"{prefix}"));
                let found: Vec<_> = numbered(&calls, is_wanted).collect();
                assert!(!found.is_empty(), "{command} opens no {prefix}: {calls}");
                for errno in DENIALS {
                    turn += 1;
                    // Of a change, every second one, beginning elsewhere in each process.
                    if !is_look && tries() == Tries::Some && turn.is_multiple_of(2) {
                        continue;
                    }
                    let (call, n) = found[turn % found.len()];
                    if !is_look {
                        killed();
                    }
                    let (output, calls) = run(command, &[(call, &format!("error={errno}"), n)]);
                    let context = format!("{errno} in {:?}: {output}", injected(&calls));
                    if way.1 != TAKEN {
                        assert_ours(&output);
                    }
                    if output.code() == Some(2) {
                        assert!(is_named(errno, &output.stderr), "{context}");
                    }
                    if is_look {
                        assert!([Some(2), reference.code()].contains(&output.code()), "{context}");
                        assert_eq!(State::of(&stand.site, &DEVICES, &[]), before, "{context}");
                    } else if command.starts_with("detach") {
                        stand.xdpd("detach config.toml").expect_code(0);
                        assert_eq!(stand.site.bpffs.tree(), Vec::<String>::new(), "{context}");
                    } else {
                        stand.xdpd("apply config.toml --takeover").expect_code(0);
                        stand.assert_converged(way.1, &context);
                    }
                }
            }
        }
    }
}
