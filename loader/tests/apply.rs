//! Promises of apply, diff and detach on real devices with real packets.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{DROP, PASS, Site, changes};
use xdpd_testlab::{Invocation, KernelObjects, require_root, wait_until, xdpd};

fn counts_what_is_sent_and_is_idempotent(mode: &str) {
    let site = Site::new("apply");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", &format!("mode = \"{mode}\""));
    let first = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(first["outcome"], "applied");
    assert_eq!(first["summary"]["add"], 1);
    site.send(&veth, "eth0", DROP, 1000);

    let before = site.bpffs.fingerprint();
    let (link, program) = (site.link("eth0").info().unwrap(), site.running("eth0"));
    let second = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(second["outcome"], "unchanged");
    assert_eq!(second["summary"]["unchanged"], 1);
    assert_eq!(site.bpffs.fingerprint(), before, "a second apply touches nothing");
    assert_eq!((site.link("eth0").info().unwrap(), site.running("eth0")), (link, program));
    assert_eq!(site.packets("eth0", DROP), 1000);

    let diff = site.expect("diff", 0);
    assert_eq!(diff.stdout, "", "equal: stdout stays empty");
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert_eq!(status["interfaces"][0]["mode"], mode);
    assert_eq!(status["interfaces"][0]["program"]["function"], "xdp_drop_func");
}

#[test]
#[ignore = "needs root"]
fn native_mode_counts_what_is_sent_and_a_second_apply_changes_nothing() {
    require_root!();
    counts_what_is_sent_and_is_idempotent("native");
}

#[test]
#[ignore = "needs root"]
fn generic_mode_counts_what_is_sent_and_a_second_apply_changes_nothing() {
    require_root!();
    counts_what_is_sent_and_is_idempotent("generic");
}

#[test]
#[ignore = "needs root"]
fn apply_does_what_diff_said() {
    require_root!();
    let site = Site::new("plan");
    site.lab.veth("eth0", "peer0");
    site.lab.veth("eth1", "peer1");
    site.config("[interfaces.eth0]\nnetns = \"$NETNS\"\n[interfaces.eth1]\nnetns = \"$NETNS\"\n");
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    let apply = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(diff["changes"], apply["changes"]);
    assert_eq!(diff["summary"], apply["summary"]);

    // One changes, one goes, and a third would come that is not there.
    site.config(
        "reuse = \"never\"\n[programs.drop]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"drop\"\n",
    );
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(
        changes(&diff),
        [
            ("eth0.program", "update"),
            ("eth0.map.xdp_stats_map", "delete+create"),
            ("eth1.program", "delete"),
            ("eth1.link", "delete"),
            ("eth1.map.xdp_stats_map", "delete")
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let dry = site.run("apply config.toml --json --dry-run").run().expect_code(1).json();
    assert_eq!(dry, diff);
    let apply = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(diff["changes"], apply["changes"]);
    assert_eq!(site.running("eth1"), None);
    assert!(!site.root().join("eth1").exists());
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn diff_and_check_change_nothing() {
    require_root!();
    let site = Site::alone("readonly");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "");
    // Where a bpffs would be mounted; what others mount meanwhile is elsewhere.
    let mounts = || {
        let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines().filter(|line| line.contains(" /sys/fs/bpf")).map(str::to_owned).collect::<Vec<_>>()
    };
    let objects = KernelObjects::settled();
    let (tree, mounted) = (site.bpffs.fingerprint(), mounts());
    site.expect("check", 0);
    site.expect("diff", 1);
    site.expect("status", 0);
    assert_eq!(site.bpffs.fingerprint(), tree);
    assert_eq!(mounts(), mounted);
    objects.wait_until_equal();

    site.apply();
    site.one("eth0", "xdp_drop_func", "");
    let objects = KernelObjects::settled();
    let tree = site.bpffs.fingerprint();
    site.expect("check", 0);
    site.expect("diff", 1);
    site.expect("status", 0);
    assert_eq!(site.bpffs.fingerprint(), tree);
    objects.wait_until_equal();
}

#[test]
#[ignore = "needs root"]
fn detach_leaves_nothing_behind() {
    require_root!();
    let site = Site::alone("detach");
    let veths = site.lab.veths("v", 4);
    let objects = KernelObjects::settled();
    site.config("reuse = \"never\"\n[interfaces.\"v*\"]\nnetns = \"$NETNS\"\n");
    site.apply();
    site.config(
        "reuse = \"never\"\n[programs.d]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.\"v*\"]\nnetns = \"$NETNS\"\nprogram = \"d\"\nmode = \"generic\"\n",
    );
    site.apply();
    assert!(site.running(&veths[3].near).is_some());
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new(), "no pin, no lock, no pin root");
    for veth in &veths {
        assert_eq!(site.running(&veth.near), None, "detached when the command returns");
    }
    objects.wait_until_equal();
    // Once more is as wished, too.
    site.expect("detach", 0);
}

#[test]
#[ignore = "needs root"]
fn detach_takes_single_interfaces_and_names_near_misses() {
    require_root!();
    let site = Site::new("detach-one");
    site.lab.veths("v", 2);
    site.config("[interfaces.v0]\nnetns = \"$NETNS\"\n[interfaces.v1]\nnetns = \"$NETNS\"\n");
    site.apply();
    let wrong = site.run("detach config.toml --interface vv1").run().expect_code(2);
    assert!(wrong.stderr.contains("did you mean `v"), "{}", wrong.stderr);
    site.run("detach config.toml --interface v1").run().expect_code(0);
    assert_eq!((site.running("v0").is_some(), site.running("v1")), (true, None));
    // A file that is broken but for its pin_root is enough to detach.
    site.config("nonsense = 1\n");
    site.expect("detach", 0);
    assert_eq!(site.running("v0"), None);
}

#[test]
#[ignore = "needs root"]
fn if_compatible_counts_on_over_a_change_of_function() {
    require_root!();
    let site = Site::new("compat");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "");
    site.apply();
    site.send(&veth, "eth0", PASS, 100);
    let (map, link) = (site.map("eth0", "xdp_stats_map").id(), site.link("eth0").info().unwrap().id);
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    assert_eq!(site.map("eth0", "xdp_stats_map").id(), map);
    assert_eq!(site.link("eth0").info().unwrap().id, link, "replaced in place");
    site.send(&veth, "eth0", DROP, 50);
    assert_eq!((site.packets("eth0", PASS), site.packets("eth0", DROP)), (100, 50));
}

#[test]
#[ignore = "needs root"]
fn never_starts_anew_and_retires_the_stats_map() {
    require_root!();
    let site = Site::new("never");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "reuse = \"never\"");
    site.apply();
    site.send(&veth, "eth0", PASS, 100);
    let old = site.map("eth0", "xdp_stats_map").id();
    site.one("eth0", "xdp_drop_func", "reuse = \"never\"");
    site.apply();
    assert_eq!(site.packets("eth0", PASS), 0);
    let retired = format!("xdp_stats_map-0-{old}");
    assert_eq!(common::packets(&site.map("eth0", &retired), PASS), 100);
    // Retired maps are no difference.
    site.expect("diff", 0);
    // At most 16 of them stay.
    for n in 0..20 {
        site.one("eth0", ["xdp_pass_func", "xdp_drop_func"][n % 2], "reuse = \"never\"");
        site.apply();
    }
    let retired = site.bpffs.tree().iter().filter(|e| e.contains("xdp_stats_map-")).count();
    assert_eq!(retired, 16);
}

#[test]
#[ignore = "needs root"]
fn an_edit_of_reuse_alone_is_no_difference() {
    require_root!();
    let site = Site::new("edit");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "");
    site.apply();
    site.one("eth0", "xdp_pass_func", "reuse = \"never\"");
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_device_made_again_is_attached_anew() {
    require_root!();
    let site = Site::new("again");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    site.lab.delete(&veth);
    let absent = site.run("diff config.toml --json").run().expect_code(2).json();
    assert!(absent["changes"][0]["blocked_by"].as_str().unwrap().contains("no device `eth0`"));
    site.lab.create(&veth);
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(changes(&diff), [("eth0.link".to_owned(), "delete+create".to_owned())]);
    assert!(diff["drift"][0]["what"].as_str().unwrap().contains("gone"));
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    assert_eq!(site.packets("eth0", DROP), 20, "the same program with the same map");
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_renamed_label_continues_without_a_gap() {
    require_root!();
    let site = Site::new("rename");
    let veth = site.lab.veth("eth0", "peer0");
    site.config("[interfaces.eth0]\nnetns = \"$NETNS\"\n");
    site.apply();
    site.send(&veth, "eth0", PASS, 10);
    let link = site.link("eth0").info().unwrap();
    site.config("[interfaces.uplink]\nname = \"eth0\"\nnetns = \"$NETNS\"\n");
    site.apply();
    assert_eq!(site.link("uplink").info().unwrap(), link);
    assert_eq!(site.packets("uplink", PASS), 10);
    assert!(!site.root().join("eth0").exists());
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_mode_that_the_device_refuses_falls_back_along_the_list() {
    require_root!();
    let site = Site::new("fallback");
    let veth = site.lab.veth("eth0", "peer0");
    site.lab.set_mtu(&veth, 9000);
    site.one("eth0", "xdp_drop_func", "mode = \"native\"");
    let refused = site.expect("apply", 2);
    assert!(refused.stderr.contains("MTU"), "{}", refused.stderr);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());

    site.one("eth0", "xdp_drop_func", "mode = [\"native\", \"generic\"]");
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    let status = site.run("status config.toml --json").run().json();
    assert_eq!(status["interfaces"][0]["mode"], "generic");
    let record = site.bpffs.tree().into_iter().find(|e| e.contains("xdp-owner")).unwrap();
    assert!(record.contains("mode=generic"), "{record}");
    // Any mode of the list satisfies the file.
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_change_of_mode_announces_its_gap_and_keeps_the_counters() {
    require_root!();
    let site = Site::new("mode");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "mode = \"native\"\nreuse = \"never\"");
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    let program = site.running("eth0");
    site.one("eth0", "xdp_drop_func", "mode = \"generic\"\nreuse = \"never\"");
    let diff = site.expect("diff", 1);
    assert!(common::flat(&diff.stdout).contains("mode: native -> generic"), "{}", diff.stdout);
    assert!(common::flat(&diff.stdout).contains("gap"), "{}", diff.stdout);
    site.apply();
    assert_eq!(site.running("eth0"), program, "the same program, attached anew");
    site.send(&veth, "eth0", DROP, 10);
    assert_eq!(site.packets("eth0", DROP), 20);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn globs_take_every_matching_device_and_explicit_entries_win() {
    require_root!();
    let site = Site::new("glob");
    site.lab.veths("v", 3);
    site.config(
        "[programs.d]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.\"v*\"]\nnetns = \"$NETNS\"\n\
         [interfaces.special]\nname = \"v1\"\nnetns = \"$NETNS\"\nprogram = \"d\"\n\
         [interfaces.\"none*\"]\nnetns = \"$NETNS\"\n",
    );
    site.apply();
    let status = site.run("status config.toml --json").run().json();
    let labels: Vec<_> =
        status["interfaces"].as_array().unwrap().iter().map(|i| i["interface"].as_str().unwrap()).collect();
    let netns = site.netns();
    assert_eq!(
        labels,
        ["special".to_owned(), format!("{netns}:v0"), format!("{netns}:v2")].as_slice().sorted()
    );
    // A device that goes leaves nothing to do but to forget it.
    site.lab.near().ip("link del v2");
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(diff["summary"]["remove"], 1);
    site.apply();
    site.expect("diff", 0);
    // Two globs that match the same device.
    site.config("[interfaces.\"v*\"]\nnetns = \"$NETNS\"\n[interfaces.\"?0\"]\nnetns = \"$NETNS\"\n");
    let claims = site.expect("diff", 2);
    assert!(claims.stderr.contains("v*") && claims.stderr.contains("?0"), "{}", claims.stderr);
}

trait Sorted {
    fn sorted(&self) -> Vec<String>;
}

impl Sorted for [String] {
    fn sorted(&self) -> Vec<String> {
        let mut list = self.to_vec();
        list.sort();
        list
    }
}

#[test]
#[ignore = "needs root"]
fn labels_with_dots_and_slashes_are_escaped() {
    require_root!();
    let site = Site::new("escape");
    let veth = site.lab.veth("eth0.100", "peer0");
    site.config("[interfaces.\"eth0.100\"]\nnetns = \"$NETNS\"\n");
    site.apply();
    assert!(site.root().join("eth0%2E100/xdp_stats_map").exists());
    site.send(&veth, "eth0%2E100", PASS, 3);
    site.expect("detach", 0);
}

#[test]
#[ignore = "needs root"]
fn a_pin_that_was_lost_is_made_again_with_its_content() {
    require_root!();
    let site = Site::new("repin");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    let program = site.running("eth0");
    std::fs::remove_file(site.root().join("eth0/xdp_stats_map")).unwrap();
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(changes(&diff), [("eth0.map.xdp_stats_map".to_owned(), "create".to_owned())]);
    site.apply();
    assert_eq!(site.running("eth0"), program);
    assert_eq!(site.packets("eth0", DROP), 10);

    // Without the link's pin the program is gone; the map stays.
    std::fs::remove_file(site.root().join("eth0/xdp-link")).unwrap();
    wait_until("the program to be detached", xdpd_testlab::DEADLINE, || site.running("eth0").is_none());
    site.apply();
    assert!(site.running("eth0").is_some());
    assert_eq!(site.packets("eth0", DROP), 10);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn two_files_share_a_pin_root_and_keep_apart() {
    require_root!();
    let site = Site::new("shared");
    site.lab.veths("v", 2);
    site.config("[interfaces.v0]\nnetns = \"$NETNS\"\n");
    site.apply();
    site.config_as(
        "other.toml",
        "[interfaces.v0]\nnetns = \"$NETNS\"\n[interfaces.v1]\nnetns = \"$NETNS\"\n",
    );
    let blocked = site.run("apply other.toml").run().expect_code(2);
    assert!(common::flat(&blocked.stdout).contains("--adopt"), "{}", blocked.stdout);
    assert_eq!(site.running("v1"), None, "a blocked plan changes nothing");
    let program = site.running("v0");
    site.run("apply other.toml --adopt").run().expect_code(0);
    assert_eq!(site.running("v0"), program, "taken over as it runs");
    site.run("diff other.toml").run().expect_code(0);
    // The first file no longer owns anything here.
    let alone = site.expect("detach", 0);
    assert!(alone.stderr.contains("belongs to another config"), "{}", alone.stderr);
    assert_eq!(site.running("v0"), program);
    let root = site.root();
    site.run("detach --pin-root").arg(root).run().expect_code(0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn the_table_of_status_fits_a_terminal_and_has_whole_names_in_a_pipe() {
    require_root!();
    let site = Site::new("widths");
    let _veth = site.lab.veth("a-long-device-0", "peer0");
    let label = "a-label-that-is-much-longer-than-any-device-and-its-namespace";
    site.config(&format!("[interfaces.{label}]\nname = 'a-long-device-0'\nnetns = '$NETNS'\n"));
    site.apply();
    let piped = site.expect("status", 0);
    assert!(piped.stdout.contains(label), "{piped}");
    // A terminal that does not say how wide it is.
    let status = format!("{} status config.toml", xdpd().path().display());
    let shown =
        Invocation::of("script").args(["-qec", &status, "/dev/null"]).current_dir(site.lab.dir()).run();
    let table: Vec<&str> = shown.stdout.lines().filter(|line| line.contains("native")).collect();
    let [row] = table[..] else { panic!("{shown}") };
    assert!(row.contains('…') && row.trim_end().chars().count() <= 80, "{row}");
}
