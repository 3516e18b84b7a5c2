//! Interfaces whose device may be absent: skipped and told, attached when it is there, never a reason to fail.

mod common;

use common::{DROP, Site, changes};
use xdpd_testlab::{require_root, xdp_stats};

#[test]
#[ignore = "needs root"]
fn an_absent_optional_device_is_told_and_attached_by_the_next_apply_that_finds_it() {
    require_root!();
    let site = Site::new("optional");
    let veths = site.lab.veths("v", 2);
    let config = site.config(
        "[programs.p]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.v0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n\
         [interfaces.v1]\nnetns = \"$NETNS\"\nprogram = \"p\"\noptional = true\n",
    );
    site.lab.delete(&veths[1]);
    let applied = site.apply();
    assert!(applied.stderr.contains("v1: no device `v1`"), "{}", applied.stderr);
    assert!(site.running("v0").is_some());
    assert!(!site.root().join("v1").exists(), "nothing is pinned for a device that never was there");

    // Nothing is left to do, so stdout is empty and the exit code 0; it is told all the same.
    let diff = site.expect("diff", 0);
    assert_eq!(diff.stdout, "");
    assert!(diff.stderr.contains("v1: no device `v1`"), "{}", diff.stderr);
    let json = site.run("diff config.toml --json").run().expect_code(0).json();
    assert_eq!((&json["notes"][0]["interface"], &json["summary"]["unchanged"]), (&"v1".into(), &1.into()));
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert_eq!(status["notes"][0]["interface"], "v1");
    let status = site.expect("status", 0);
    assert!(status.stdout.contains(":v0  native  xdp_drop_func  "), "{}", status.stdout);
    let check = site.expect("check", 0);
    assert!(check.stdout.contains("program p, native, optional\n"), "{}", check.stdout);
    // The reader waits for it, as for every device that is not there yet.
    let once = xdp_stats().arg("--config").arg(&config).args(["--json", "--once"]).run().expect_code(2);
    let events: Vec<_> =
        once.json_lines().iter().map(|r| (r["interface"].clone(), r["event"].clone())).collect();
    assert_eq!(events, [("v0".into(), "baseline".into()), ("v1".into(), "waiting".into())]);

    site.lab.create(&veths[1]);
    site.apply();
    site.send(&veths[1], "v1", DROP, 3);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn pins_of_an_optional_device_outlive_it_and_are_taken_up_when_it_comes_back() {
    require_root!();
    let site = Site::new("comeback");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "optional = true");
    site.apply();
    site.send(&veth, "eth0", DROP, 5);
    let program = site.running("eth0");
    let map = site.map("eth0", "xdp_stats_map").id();
    site.lab.delete(&veth);

    let before = site.bpffs.fingerprint();
    let diff = site.run("diff config.toml --json").run().expect_code(0).json();
    assert!(diff["drift"][0]["what"].as_str().unwrap().contains("is gone"), "{diff}");
    assert!(diff["notes"][0]["what"].as_str().unwrap().contains("its pins stay"), "{diff}");
    let applied = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(applied["outcome"], "unchanged");
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert_eq!(status["interfaces"][0]["state"], "device gone");
    let status = site.expect("status", 0).stdout;
    assert!(status.contains("  device gone  xdp_drop_func  "), "{status}");
    let told: Vec<&str> =
        status.lines().filter(|line| line.starts_with("eth0: ") || line.contains("drift")).collect();
    assert_eq!(told, [format!("eth0: no device `eth0` in netns `{}` (optional)", site.netns())], "{status}");
    assert_eq!(site.bpffs.fingerprint(), before, "not touched");

    site.lab.create(&veth);
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(changes(&diff), [("eth0.link".to_owned(), "delete+create".to_owned())]);
    site.apply();
    // The program and its map go on: the counts with them.
    assert_eq!((site.running("eth0"), site.map("eth0", "xdp_stats_map").id()), (program, map));
    site.send(&veth, "eth0", DROP, 2);
    assert_eq!(site.packets("eth0", DROP), 7);
    // Once the entry is gone, so are the pins, whether the device is there or not.
    site.lab.delete(&veth);
    site.config("[interfaces.other]\nnetns = \"$NETNS\"\noptional = true\n");
    site.apply();
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn an_absent_namespace_is_a_device_that_is_absent() {
    require_root!();
    let site = Site::new("nsgone");
    let other = xdpd_testlab::Lab::new("nsgone-other");
    other.veth("eth0", "peer0");
    let config = |netns: &str, optional: bool| {
        site.config(&format!(
            "[interfaces.tenant]\nname = \"eth0\"\nnetns = \"{netns}\"\noptional = {optional}\n"
        ))
    };
    config("no-such-namespace", false);
    let refused = site.expect("apply", 2);
    assert!(refused.stderr.contains("no-such-namespace"), "{}", refused.stderr);
    config("no-such-namespace", true);
    let applied = site.apply();
    assert!(applied.stderr.contains("/run/netns/no-such-namespace"), "{}", applied.stderr);

    let name = other.near().name().to_owned();
    config(&name, true);
    site.apply();
    assert!(site.root().join("tenant/xdp-link").exists());
    drop(other);
    let diff = site.run("diff config.toml --json").run().expect_code(0).json();
    assert_eq!((&diff["notes"][0]["interface"], &diff["summary"]["remove"]), (&"tenant".into(), &0.into()));
    site.apply();
    assert!(site.root().join("tenant/xdp_stats_map").exists());
    // A file of that name that is no namespace, as a namespace leaves it whose mount is gone, is one that is absent, too.
    let file = std::path::Path::new("/run/netns").join(&name);
    std::fs::write(&file, "").unwrap();
    let diff = site.run("diff config.toml").run();
    std::fs::remove_file(&file).unwrap();
    assert!(diff.expect_code(0).stderr.contains("not a network namespace"));
}

#[test]
#[ignore = "needs root"]
fn an_optional_device_that_vanishes_during_an_apply_is_no_failure() {
    require_root!();
    let site = Site::new("vanish");
    let veths = site.lab.veths("v", 6);
    let file = |n: usize| {
        let function = ["xdp_pass_func", "xdp_drop_func"][n % 2];
        let entry = |v| format!("[interfaces.v{v}]\nnetns = \"$NETNS\"\nprogram = \"p\"\noptional = true\n");
        let entries = (0..veths.len()).map(entry).collect::<Vec<_>>().concat();
        site.config(&format!(
            "reuse = \"never\"\n[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n{entries}"
        ));
    };
    file(0);
    site.apply();
    for n in 1..=9 {
        file(n);
        let mut child = site.run("apply config.toml").spawn();
        let delay = std::time::Instant::now() + std::time::Duration::from_millis(n as u64 * 8);
        while std::time::Instant::now() < delay && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let veth = &veths[n % veths.len()];
        site.lab.delete(veth);
        if n % 3 == 0 {
            // Another device by the same name is for the next run.
            site.lab.create(veth);
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "round {n}");
        if n % 3 != 0 {
            site.lab.create(veth);
        }
        site.apply();
        site.expect("diff", 0);
        assert!(veths.iter().all(|veth| site.running(&veth.near).is_some()), "round {n}");
    }
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}
