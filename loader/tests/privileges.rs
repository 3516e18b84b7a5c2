//! What xdpd may do while it runs, that this is enough, and what is said where it is not.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Child;

use common::{DROP, Site};
use xdpd_testlab::{DEADLINE, Invocation, Stats, require_root, wait_until, xdp_stats, xdpd};

/// Numbers of capabilities, as in include/uapi/linux/capability.h.
const CHOWN: u32 = 0;
const DAC_READ_SEARCH: u32 = 2;
const NET_ADMIN: u32 = 12;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

const NOBODY: u32 = 65534;

/// A field of /proc/<pid>/status.
fn field(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

/// Asserts that a process has these capabilities, no way to get others, and hands none of them on.
#[track_caller]
fn assert_has(pid: u32, expected: &[u32]) {
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(set(pid, name), expected.iter().copied().collect(), "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(set(pid, name), BTreeSet::new(), "{name}");
    }
    assert_eq!(field(pid, "NoNewPrivs"), "1");
}

fn set(pid: u32, name: &str) -> BTreeSet<u32> {
    let bits = u64::from_str_radix(&field(pid, name), 16).unwrap();
    (0..u64::BITS).filter(|n| bits >> n & 1 == 1).collect()
}

/// An apply that waits for its confirmation.
fn held(site: &Site) -> Child {
    let child = site.run("apply config.toml --confirm-timeout 30s").spawn();
    wait_until("the apply to wait", DEADLINE, || {
        site.root().join("%lock/unconfirmed").symlink_metadata().is_ok()
    });
    child
}

fn confirm(site: &Site, mut child: Child) {
    site.expect("confirm", 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
#[ignore = "needs root"]
fn an_apply_has_four_capabilities_and_its_loader_three() {
    require_root!();
    let site = Site::new("caps");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let apply = held(&site);
    assert_has(apply.id(), &[BPF, NET_ADMIN, PERFMON, SYS_ADMIN]);
    let [loader] = *children(apply.id()) else { panic!("one loader process") };
    for name in ["CapEff", "CapPrm"] {
        assert_eq!(set(loader, name), BTreeSet::from([BPF, NET_ADMIN, PERFMON]), "{name}");
    }
    // What it inherits as the bound of what an exec may gain is of no use: no exec gains anything.
    assert!(set(loader, "CapInh").is_empty() && set(loader, "CapAmb").is_empty());
    assert_eq!(field(loader, "NoNewPrivs"), "1");
    let limits = std::fs::read_to_string(format!("/proc/{loader}/limits")).unwrap();
    for limit in ["Max file size", "Max core file size"] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limit}");
    }
    confirm(&site, apply);
}

#[test]
#[ignore = "needs root"]
fn an_apply_has_more_only_where_its_file_asks_for_it() {
    require_root!();
    let site = Site::new("morecaps");
    site.lab.veth("eth0", "peer0");
    let file = |netns: &str, stats: &str| {
        site.config(&format!("[interfaces.eth0]\nnetns = \"{netns}\"\n[stats]\n{stats}\n"))
    };
    file("$NETNS", "group = 54321");
    let apply = held(&site);
    assert_has(apply.id(), &[BPF, CHOWN, NET_ADMIN, PERFMON, SYS_ADMIN]);
    confirm(&site, apply);
    let path = format!("/run/netns/{}", site.netns());
    file(&path, "");
    let apply = held(&site);
    // The group's pins may have to be given back to it.
    assert_has(apply.id(), &[BPF, CHOWN, DAC_READ_SEARCH, NET_ADMIN, PERFMON, SYS_ADMIN, SYS_PTRACE]);
    confirm(&site, apply);
    // What is pinned asks, too: it may have to be put back.
    site.config("[interfaces.other]\nname = \"lo\"\nnetns = \"$NETNS\"\nmode = \"generic\"\n");
    let apply = held(&site);
    assert_has(apply.id(), &[BPF, DAC_READ_SEARCH, NET_ADMIN, PERFMON, SYS_ADMIN, SYS_PTRACE]);
    confirm(&site, apply);
}

#[test]
#[ignore = "needs root"]
fn the_namespace_of_a_process_is_entered_by_its_path_and_entered_again_for_an_undo() {
    require_root!();
    let site = Site::new("procns");
    // A process that may do more than xdpd does.
    let mut other = Invocation::of("unshare").args(["--net", "sleep", "1000"]).spawn();
    let netns = format!("/proc/{}/ns/net", other.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("the namespace", DEADLINE, || std::fs::read_link(&netns).is_ok_and(|ns| ns != own));
    site.config(&format!("[interfaces.lo]\nmode = \"generic\"\nnetns = \"{netns}\"\n"));
    site.apply();
    site.expect("diff", 0);
    let program = site.link("lo").info().unwrap().program_id;
    // The namespace is none of the file's any more, and still where the program has to be put back.
    site.config("[interfaces.nothing-yet]\nname = \"eth7\"\noptional = true\n");
    let failed = site.run("apply config.toml --confirm-timeout 50ms").run().expect_code(3);
    assert!(failed.stderr.contains("restored"), "{}", failed.stderr);
    assert_eq!(site.link("lo").info().unwrap().program_id, program);
    site.expect("detach", 0);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn the_file_of_who_called_sudo_is_read_where_only_that_user_gets_to() {
    require_root!();
    let site = Site::new("sudo");
    let veth = site.lab.veth("eth0", "peer0");
    let home = site.lab.dir().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("own.o"), common::builtin_object()).unwrap();
    let config = home.join("config.toml");
    let text = format!(
        "pin_root = \"{}\"\n[programs.p]\nobject = \"own.o\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.eth0]\nnetns = \"{}\"\nprogram = \"p\"\n",
        site.root().display(),
        site.netns()
    );
    std::fs::write(&config, text).unwrap();
    for path in [home.join("own.o"), config.clone(), home.clone()] {
        let mode = if path == home { 0o700 } else { 0o600 };
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let run = |command: &str, sudo: Option<u32>| {
        let xdpd = xdpd().arg(command).arg(&config);
        sudo.map(|uid| uid.to_string()).into_iter().fold(xdpd, |xdpd, uid| xdpd.env("SUDO_UID", uid)).run()
    };
    run("check", Some(NOBODY)).expect_code(0);
    run("apply", Some(NOBODY)).expect_code(0);
    site.send(&veth, "eth0", DROP, 3);
    for command in ["diff", "status"] {
        run(command, Some(NOBODY)).expect_code(0);
    }
    let refused = run("apply", None).expect_code(2);
    assert!(refused.stderr.contains("belongs to user 65534"), "{}", refused.stderr);
    run("detach", Some(NOBODY)).expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn a_capability_that_is_missing_is_named_with_what_it_is_for() {
    require_root!();
    let site = Site::new("lacking");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let without = |capability: &str| {
        Invocation::of("setpriv")
            .arg(format!("--bounding-set=-{capability}"))
            .arg(xdpd().path())
            .args(["apply", "config.toml"])
            .current_dir(site.lab.dir())
            .run()
    };
    for (capability, expected) in [
        ("bpf", "CAP_BPF (making maps and loading programs)"),
        ("net_admin", "CAP_NET_ADMIN (attaching XDP programs)"),
        ("sys_admin", "CAP_SYS_ADMIN (opening programs by their ids"),
    ] {
        let refused = without(capability).expect_code(2);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert_eq!(refused.stderr.matches("CAP_").count(), 1, "only that one: {}", refused.stderr);
        assert_eq!(site.bpffs.tree(), Vec::<String>::new());
    }
    // Nor is it waited for: what a process lacks, it never gets.
    let watch = Invocation::of("setpriv")
        .arg("--bounding-set=-bpf")
        .arg(xdpd().path())
        .args(["watch", "config.toml"])
        .current_dir(site.lab.dir());
    assert!(watch.run().expect_code(2).stderr.contains("CAP_BPF"));
    // One that is given up anyway is not missed.
    without("net_raw").expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn in_a_user_namespace_it_says_why_it_cannot_work() {
    require_root!();
    let site = Site::new("userns");
    site.lab.veth("eth0", "peer0");
    site.config("[interfaces.lo]\n");
    let script = format!("{} apply config.toml", xdpd().path().display());
    let refused = Invocation::of("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &script])
        .current_dir(site.lab.dir())
        .run()
        .expect_code(2);
    assert!(refused.stderr.contains("this is a user namespace"), "{}", refused.stderr);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn the_reader_keeps_only_what_looking_takes() {
    require_root!();
    let site = Site::new("readercaps");
    site.lab.veth("eth0", "peer0");
    let config = site.one("eth0", "xdp_drop_func", "");
    site.apply();
    let stats = Stats::spawn(xdp_stats().arg("--config").arg(&config));
    stats.wait_event("eth0", "baseline");
    assert_has(stats.pid(), &[DAC_READ_SEARCH, SYS_ADMIN, SYS_PTRACE]);
}

/// Of the pins of an interface, by name: owner, group and permission bits.
fn permissions(site: &Site, pin: &str) -> (u32, u32, u32) {
    let stat = site.dir("eth0").stat(pin).unwrap();
    (stat.uid, stat.gid, stat.mode)
}

#[test]
#[ignore = "needs root"]
fn diff_and_apply_see_the_same_of_a_map_that_belongs_to_another_user() {
    const STATS: &str = "xdp_stats_map";
    require_root!();
    let site = Site::new("owners");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    let map = site.map("eth0", STATS).id();
    for (function, mode, difference) in [
        ("xdp_drop_func", 0o600, "owner 4321 -> 0"),
        ("xdp_drop_func", 0o000, "mode 0000 -> 0600"),
        // The program is loaded anew: its loader process has to open the map as well.
        ("xdp_pass_func", 0o600, "owner 4321 -> 0"),
        ("xdp_drop_func", 0o440, "mode 0440 -> 0600"),
    ] {
        let dir = site.dir("eth0");
        dir.chmod(STATS, mode).unwrap();
        dir.chown(STATS, Some(4321), Some(4322)).unwrap();
        site.one("eth0", function, "");
        let diff = site.expect("diff", 1);
        assert!(common::flat(&diff.stdout).contains(difference), "{diff}");
        site.expect("diff --json", 1);
        site.expect("status", 0);
        site.apply();
        assert_eq!(permissions(&site, STATS), (0, 0, 0o600), "{function} {mode:o}");
        assert_eq!(site.map("eth0", STATS).id(), map, "{function} {mode:o}");
        assert_eq!(site.packets("eth0", DROP), 3);
        site.expect("diff", 0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_link_that_belongs_to_another_user_is_an_error_that_names_it_wherever_it_is_looked_at() {
    require_root!();
    let site = Site::new("link-owner");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    let before = site.running("eth0").unwrap();
    site.dir("eth0").chown("xdp-link", Some(4321), None).unwrap();
    let pins = site.bpffs.fingerprint();
    for command in ["diff", "diff --json", "status", "status --json", "apply", "detach"] {
        let output = site.expect(command, 2);
        let expected =
            "xdp-link: Permission denied (EACCES), it belongs to user 4321 and has mode 0600; chown root ";
        assert!(output.stderr.contains(expected), "{output}");
        assert!(!output.stderr.contains("someone else"), "{output}");
        assert_eq!(
            (site.running("eth0"), site.bpffs.fingerprint()),
            (Some(before), pins.clone()),
            "{output}"
        );
    }
    // The advice is right.
    site.dir("eth0").chown("xdp-link", Some(0), None).unwrap();
    site.expect("diff", 0);
    site.expect("detach", 0);
    assert_eq!(site.running("eth0"), None);
}
