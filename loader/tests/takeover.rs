//! Promises of `apply --takeover`: what others attached through netlink, and what holds it.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::process::ExitStatusExt;

use common::{DROP, Site, flat};
use xdpd_kernel::{IfIndex, Program, XdpLink, XdpMode, netlink};
use xdpd_testlab::{Invocation, Veth, require_root, xdpd};

/// A site with a program of someone else's on eth0, and a file that wants it.
struct Stand {
    site: Site,
    veth: Veth,
    theirs: Program,
}

impl Stand {
    fn new(name: &str, mode: XdpMode) -> Self {
        let site = Site::new(name);
        let veth = site.lab.veth("eth0", "peer0");
        let theirs = Program::load_xdp_returning("their_filter", 2).unwrap();
        site.one("eth0", "xdp_drop_func", "");
        let stand = Self { site, veth, theirs };
        let attach = || netlink::attach_netlink(stand.ifindex(), &stand.theirs, mode, None);
        stand.site.lab.near().run(attach).unwrap();
        stand
    }

    fn ifindex(&self) -> IfIndex {
        IfIndex(self.site.lab.near().ifindex("eth0").unwrap())
    }

    fn is_theirs(&self, mode: XdpMode) -> bool {
        let devices = self.site.lab.near().run(netlink::devices).unwrap();
        let device = devices.iter().find(|d| d.name == "eth0").unwrap();
        let id = self.theirs.info().unwrap().id;
        device.xdp == [netlink::Attached { mode, program_id: id }]
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_attached_through_netlink_is_replaced_where_that_is_allowed() {
    require_root!();
    let Stand { site, veth, .. } = Stand::new("takeover", XdpMode::Generic);
    let refused = site.expect("apply", 2);
    assert!(flat(&refused.stdout).contains("apply with --takeover"), "{}", refused.stdout);
    let diff = site.run("diff config.toml --takeover").run().expect_code(1);
    let said = flat(&diff.stdout);
    assert!(["`their_filter`", "generic", "a short gap"].iter().all(|s| said.contains(s)), "{}", diff.stdout);
    site.run("apply config.toml --takeover").run().expect_code(0);
    site.send(&veth, "eth0", DROP, 3);
    site.expect("diff", 0);
    assert!(!site.bpffs.tree().iter().any(|e| e.contains("%taken")), "{:?}", site.bpffs.tree());
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_link_of_someone_else_is_never_broken() {
    require_root!();
    let site = Site::new("theirlink");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let theirs = Program::load_xdp_returning("their_filter", 2).unwrap();
    let ifindex = IfIndex(site.lab.near().ifindex("eth0").unwrap());
    let link = site.lab.near().run(|| XdpLink::create(&theirs, ifindex, XdpMode::Native)).unwrap();
    let refused = site.run("apply config.toml --takeover").run().expect_code(2);
    assert!(flat(&refused.stdout).contains("held by bpf_link"), "{}", refused.stdout);
    assert_eq!(site.running("eth0"), Some(theirs.info().unwrap().id.0));
    drop(link);
}

#[test]
#[ignore = "needs root"]
fn a_takeover_that_fails_or_is_not_confirmed_gives_the_program_back() {
    require_root!();
    for (theirs, ours) in [
        (XdpMode::Generic, "generic"),
        (XdpMode::Generic, "native"),
        (XdpMode::Native, "generic"),
        (XdpMode::Native, "native"),
    ] {
        let stand = Stand::new("giveback", theirs);
        let site = &stand.site;
        site.one("eth0", "xdp_drop_func", &format!("mode = \"{ours}\""));
        let restored = site.run("apply config.toml --takeover --confirm-timeout 50ms").run().expect_code(3);
        assert!(restored.stderr.contains("the previous state is restored"), "{}", restored.stderr);
        assert!(stand.is_theirs(theirs));
        // The second interface cannot be attached, since its MTU is too large.
        let second = site.lab.veth("eth1", "peer1");
        site.lab.set_mtu(&second, 9000);
        site.one(
            "eth0",
            "xdp_drop_func",
            &format!("mode = \"{ours}\"\n[interfaces.eth1]\nnetns = \"$NETNS\""),
        );
        site.run("apply config.toml --takeover").run().expect_code(3);
        assert!(stand.is_theirs(theirs));
        assert_eq!(site.bpffs.tree(), Vec::<String>::new());
        site.lab.set_mtu(&second, 1500);
        site.run("apply config.toml --takeover").run().expect_code(0);
        site.send(&stand.veth, "eth0", DROP, 3);
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_that_a_killed_takeover_had_detached_is_put_back_by_the_next_run() {
    require_root!();
    for (next, mode) in [("apply", XdpMode::Native), ("detach", XdpMode::Generic)] {
        let stand = Stand::new("killed", mode);
        let site = &stand.site;
        // In the namespace of the device: there, all calls are made by one thread, and strace counts per thread.
        site.config("[interfaces.eth0]\n");
        let log = site.lab.dir().join("strace.log");
        let apply = |extra: &[&str]| {
            Invocation::of("strace")
                .args(["-qq", "-e", "signal=none", "-e", "trace=sendto,recvfrom", "-o"])
                .arg(&log)
                .args(extra)
                .arg(xdpd().path())
                .args(["apply", "config.toml", "--takeover", "--confirm-timeout", "0s"])
                .current_dir(site.lab.dir())
                .netns(site.lab.near())
                .run()
        };
        apply(&[]).expect_code(3);
        assert!(stand.is_theirs(mode));
        let text = std::fs::read_to_string(&log).unwrap();
        let until = text.lines().take_while(|line| !line.contains("RTM_SETLINK"));
        let answers = until.filter(|line| line.starts_with("recvfrom(")).count();
        // The kernel has detached it, and its answer is not read any more.
        let killed = apply(&["-e", &format!("inject=recvfrom:signal=KILL:when={}", answers + 1)]);
        assert_eq!(killed.status.signal(), Some(9), "{killed}");
        assert_eq!(site.running("eth0"), None, "killed in the gap");

        let run = |command: &str, code| {
            let run = site.run(&format!("{command} config.toml")).netns(site.lab.near()).run();
            run.expect_code(code)
        };
        let diff = run("diff", 2);
        assert!(flat(&diff.stdout).contains("put back"), "{}", diff.stdout);
        // Without --takeover it blocks the plan again, once it is back.
        run(next, if next == "apply" { 2 } else { 0 });
        assert!(stand.is_theirs(mode));
        assert_eq!(site.bpffs.tree(), Vec::<String>::new());
    }
}
