//! Promises of `apply --confirm-timeout` and `confirm`.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use common::state::State;
use common::{DROP, Site, flat};
use rustix::process::{Pid, Signal, kill_process};
use xdpd_testlab::{DEADLINE, require_root, wait_until};

const DEVICES: [&str; 4] = ["added", "function", "removed", "switched"];

const BEFORE: &str = "
    [interfaces.function]
    netns = '$NETNS'
    program = 'drop'
    [interfaces.removed]
    netns = '$NETNS'
    program = 'drop'
    [interfaces.switched]
    netns = '$NETNS'
    program = 'drop'
";
const AFTER: &str = "
    [interfaces.added]
    netns = '$NETNS'
    program = 'pass'
    [interfaces.function]
    netns = '$NETNS'
    program = 'pass'
    reuse = 'never'
    [interfaces.switched]
    netns = '$NETNS'
    program = 'drop'
    mode = 'generic'
";

fn file(site: &Site, name: &str, interfaces: &str) {
    site.config_as(
        name,
        &format!(
            "[programs.drop]\nobject = 'builtin'\nfunction = 'xdp_drop_func'\n\
             [programs.pass]\nobject = 'builtin'\nfunction = 'xdp_pass_func'\n{interfaces}"
        ),
    );
}

/// A site as BEFORE says, with something counted, and AFTER in the file.
fn site(name: &str) -> Site {
    let site = Site::new(name);
    let veths = site.lab.veths_called(&DEVICES);
    file(&site, "config.toml", BEFORE);
    site.apply();
    for veth in veths.iter().filter(|veth| veth.near != "added") {
        site.send(veth, &veth.near, DROP, 3);
    }
    file(&site, "config.toml", AFTER);
    site
}

/// Of what runs: that of an interface which is attached again has a new link.
fn state(site: &Site) -> State {
    State::of(site, &DEVICES, &["switched", "removed"])
}

/// An apply that waits for its confirmation.
fn waiting(site: &Site, timeout: &str) -> Child {
    let mut child = site.run(&format!("apply config.toml --confirm-timeout {timeout}")).spawn();
    let marker = site.root().join("%lock/unconfirmed");
    wait_until("the apply to wait", DEADLINE, || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        marker.is_symlink()
    });
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[track_caller]
fn assert_applied(site: &Site) {
    site.expect("diff", 0);
    assert_eq!((site.running("added").is_some(), site.running("removed")), (true, None));
    let tree = site.bpffs.tree();
    assert!(
        !tree.iter().any(|e| e.contains("%next") || e.contains("%old") || e.contains("unconfirmed")),
        "{tree:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_confirmation_may_take_longer_than_a_clock_can_tell() {
    require_root!();
    let site = site("patient");
    let mut apply = waiting(&site, "500000000000y");
    site.expect("confirm", 0);
    assert_eq!(apply.wait().unwrap().code(), Some(0));
    assert_applied(&site);
}

#[test]
#[ignore = "needs root"]
fn what_is_confirmed_in_time_stays() {
    require_root!();
    let site = site("confirmed");
    let mut apply = waiting(&site, "1h");
    // All of the new state is there to be judged, what goes is gone.
    assert_eq!((site.running("added").is_some(), site.running("removed")), (true, None));
    site.expect("diff", 0);
    let busy = site.expect("apply", 2);
    assert!(busy.stderr.contains("waits for `xdpd confirm`"), "{}", busy.stderr);
    // Another file's apply is not the one that waits.
    file(&site, "other.toml", AFTER);
    let other = site.run("confirm other.toml").run().expect_code(2);
    assert!(other.stderr.contains("config.toml"), "{}", other.stderr);

    site.expect("confirm", 0);
    assert_eq!(apply.wait().unwrap().code(), Some(0));
    assert_applied(&site);
    let nothing = site.expect("confirm", 2);
    assert!(nothing.stderr.contains("no apply waits"), "{}", nothing.stderr);
    site.expect("detach", 0);
    assert!(site.expect("confirm", 2).stderr.contains("no apply waits"));
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn what_nobody_confirms_is_taken_back() {
    require_root!();
    let site = site("late");
    let before = state(&site);
    let restored = site.run("apply config.toml --json --confirm-timeout 100ms").run().expect_code(3);
    assert_eq!(restored.json()["outcome"], "restored");
    assert!(flat(&restored.stderr).contains("not confirmed within 100ms"), "{}", restored.stderr);
    assert_eq!(state(&site), before);
    site.expect("diff", 1);
    site.apply();
    assert_applied(&site);
}

#[test]
#[ignore = "needs root"]
fn a_device_that_vanishes_on_trial_is_named_and_one_of_a_pattern_is_no_failure() {
    require_root!();
    for (name, entry, code) in [("gonetrial", "v0", 4), ("gonetrialglob", "v*", 3)] {
        let site = Site::new(name);
        site.lab.veth("v0", "p0");
        let interfaces = |program: &str| {
            format!("[interfaces.'{entry}']\nnetns = '$NETNS'\nmode = 'generic'\nprogram = '{program}'\n")
        };
        file(&site, "config.toml", &interfaces("pass"));
        site.apply();
        file(&site, "config.toml", &interfaces("drop"));
        let apply = site.run("apply config.toml --confirm-timeout 1h").spawn();
        let marker = site.root().join("%lock/unconfirmed");
        wait_until("the apply to wait", DEADLINE, || marker.is_symlink());
        site.lab.near().ip("link delete v0");
        signal(&apply, Signal::TERM);
        let output = apply.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(!stderr.contains("another program"), "{stderr}");
        assert_eq!(stderr.contains("v0: its device is gone"), entry == "v0", "{stderr}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_lost_terminal_is_no_confirmation_and_no_end() {
    require_root!();
    let site = site("hangup");
    let before = state(&site);
    let mut apply = waiting(&site, "1h");
    drop((apply.stdout.take(), apply.stderr.take()));
    signal(&apply, Signal::HUP);
    // Nothing has been confirmed by it.
    signal(&apply, Signal::TERM);
    assert_eq!(apply.wait().unwrap().code(), Some(3));
    assert_eq!(state(&site), before);

    // From another session it can still be confirmed.
    let mut apply = waiting(&site, "1h");
    drop((apply.stdout.take(), apply.stderr.take()));
    signal(&apply, Signal::HUP);
    site.expect("confirm", 0);
    assert_eq!(apply.wait().unwrap().code(), Some(0));
    assert_applied(&site);
}

#[test]
#[ignore = "needs root"]
fn who_stops_the_apply_takes_it_back_at_once() {
    require_root!();
    let site = site("stop");
    let before = state(&site);
    for which in [Signal::INT, Signal::TERM] {
        let mut apply = waiting(&site, "1h");
        signal(&apply, which);
        assert_eq!(apply.wait().unwrap().code(), Some(3));
        assert_eq!(state(&site), before);
    }
}

#[test]
#[ignore = "needs root"]
fn a_kill_while_it_waits_leaves_what_was_applied() {
    require_root!();
    let site = site("killed");
    let kill = || {
        let mut apply = waiting(&site, "1h");
        apply.kill().unwrap();
        assert_eq!(apply.wait().unwrap().signal(), Some(9));
    };
    kill();
    assert_eq!((site.running("added").is_some(), site.running("removed")), (true, None));
    let died = site.expect("confirm", 2);
    assert!(died.stderr.contains("was killed"), "{}", died.stderr);
    let next = site.apply();
    assert!(next.stderr.contains("was killed"), "{}", next.stderr);
    assert_applied(&site);

    file(&site, "config.toml", BEFORE);
    kill();
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
    assert!(DEVICES.iter().all(|device| site.running(device).is_none()));
}
