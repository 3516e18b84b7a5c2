//! The reader as an ordinary user without any capability, in a group that the modes of pins and directories let in.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use common::{MAP, PASS, Pins, Site, add, between_ticks, counted, names, wait_ticks};
use serde_json::{Value, json};
use xdpd_kernel::Map;
use xdpd_testlab::{Invocation, Lab, Stats, require_root, xdp_stats};

const EDGE: &str = "[interfaces.edge]\n";

/// A user and a group without names that own nothing.
const USER: u32 = 54_321;
const GROUP: u32 = 54_322;

fn applied(generation: u64, map: &Map) -> Pins<'_> {
    Pins { generation, map, retired: &[], base: None }
}

/// A site whose pin root is closed but to the group.
fn site(text: &str) -> Site {
    let site = Site::new(text);
    let root = site.bpffs.pin_root();
    chown(&root, None, Some(GROUP)).unwrap();
    chmod(&root, 0o750);
    // Where the user may run it. By another process: what is open here for writing, another test's child may hold a
    // moment longer, and then it cannot be run.
    Invocation::of("install")
        .args(["-m", "755"])
        .args([xdp_stats().path(), site.dir.path().join("xdp-stats")])
        .run()
        .expect_code(0);
    site
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Gives the group the rights that the contract names: map pins 0640, directories 0750; the rest is root's.
fn let_in(site: &Site, label: &str) {
    let root = site.root();
    root.chown(label, None, Some(GROUP)).unwrap();
    root.chmod(label, 0o750).unwrap();
    let dir = root.open_dir(label).unwrap();
    for entry in dir.list().unwrap() {
        if entry.name.as_encoded_bytes().starts_with(MAP.as_bytes()) {
            dir.chown(&entry.name, None, Some(GROUP)).unwrap();
            dir.chmod(&entry.name, 0o640).unwrap();
        }
    }
}

/// `xdp-stats` as the user, in the group, with nothing that it could become.
fn reader(site: &Site) -> Invocation {
    let (user, group) = (USER.to_string(), GROUP.to_string());
    Invocation::of("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--groups", &group, "--no-new-privs"])
        .args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"])
        .arg(site.dir.path().join("xdp-stats"))
        .arg("--config")
        .arg(site.config_path())
        .args(["--interval", "25ms"])
}

#[test]
#[ignore = "needs root"]
fn everything_is_read_without_any_capability_and_what_cannot_be_seen_is_null() {
    require_root!();
    let lab = Lab::new("nobody");
    let veth = lab.veth("eth0", "peer0");
    let tenant = format!("[interfaces.tenant]\nname = \"eth0\"\nnetns = \"{}\"\n", lab.far().name());
    let site = site(&format!("{EDGE}{tenant}[interfaces.eth0]\n[interfaces.\"v*\"]\n"));
    let (edge, tenants, own, pattern) = (counted(10), counted(20), counted(30), counted(40));
    for (label, map) in [("edge", &edge), ("eth0", &own), ("v7", &pattern)] {
        site.apply(label, &applied(0, map));
        let_in(&site, label);
    }
    site.pin("tenant", &tenants);
    let_in(&site, "tenant");
    let stats = Stats::spawn(reader(&site).netns(lab.near()));
    stats.wait_event("edge", "baseline");
    let process = std::fs::read_to_string(format!("/proc/{}/status", stats.pid())).unwrap();
    let field = |name: &str| {
        let line = process.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), [USER.to_string().as_str(); 4]);
    assert_eq!(field("Groups:"), [GROUP.to_string()]);
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }

    // Devices of its own namespace are seen as they are; of another, only what xdpd recorded, and there is no record.
    assert_eq!(stats.wait_event("eth0", "baseline")["ifindex"], lab.near().ifindex("eth0").unwrap());
    assert_eq!(stats.wait_event("edge", "baseline")["ifindex"], 4_000_007);
    let unseen = stats.wait_event("tenant", "baseline");
    assert_eq!((&unseen["device"], &unseen["ifindex"]), (&Value::Null, &Value::Null));
    assert_eq!(unseen["netns"], lab.far().name());
    // A pattern finds the pins, and is told of new ones.
    stats.wait_event("v7", "baseline");
    let later = counted(4);
    // Not to be found before the group is let in.
    between_ticks(stats.pid(), || {
        site.apply("v8", &applied(0, &later));
        let_in(&site, "v8");
    });
    stats.wait_packets("v8", 4);

    add(&edge, PASS, 3);
    add(&tenants, PASS, 2);
    stats.wait_packets("edge", 3);
    stats.wait_packets("tenant", 2);
    let (between, next) = (counted(5), counted(4));
    between_ticks(stats.pid(), || {
        add(&edge, PASS, 1);
        site.apply("edge", &Pins { retired: &[(0, &edge), (1, &between)], ..applied(2, &next) });
        let_in(&site, "edge");
    });
    stats.wait_packets("edge", 3 + 1 + 5 + 4);
    site.config(&format!("{EDGE}[interfaces.eth0]\n"));
    stats.wait("the edit", |r| r["event"] == "config_reloaded");
    lab.delete(&veth);
    stats.wait_event("eth0", "interface_gone");
    let finished = stats.stop();
    assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
    assert_eq!(names(&finished.records, "edge"), ["baseline", "map_replaced"]);
    assert_eq!(names(&finished.records, "tenant"), ["baseline"]);
}

#[test]
#[ignore = "needs root"]
fn where_it_is_not_let_in_the_error_says_what_to_do_and_once_that_is_done_it_reads() {
    require_root!();
    let site = site(EDGE);
    let map = counted(10);
    site.apply("edge", &applied(0, &map));
    let_in(&site, "edge");
    let (above, root) = (site.bpffs.path().to_owned(), site.bpffs.pin_root());
    let (label, pin) = (root.join("edge"), root.join("edge").join(MAP));
    let open = format!("this user may not search {0}: as root, `chmod o+x {0}`", above.display());
    let group = "name one of this user's groups as `group` under [stats], and apply";
    for (closed, mode, named, remedy) in [
        (&above, 0o700, &root, open.as_str()),
        (&root, 0o700, &label, group),
        (&label, 0o700, &pin, group),
        (&pin, 0o600, &pin, group),
    ] {
        let before = std::fs::metadata(closed).unwrap().permissions();
        chmod(closed, mode);
        let stats = Stats::spawn(reader(&site));
        let error = stats.wait_event("edge", "error");
        let message = error["message"].as_str().unwrap();
        let expected = format!("of {}: Permission denied (EACCES); {remedy}", named.display());
        assert!(message.ends_with(&expected), "{closed:?}: {message}");
        assert_eq!(error["map_id"], json!(null));

        std::fs::set_permissions(closed, before).unwrap();
        // What it holds at the first reading is the baseline: it was there when the reader started.
        let baseline = stats.wait_event("edge", "baseline");
        wait_ticks(&stats, "edge", 2);
        // Access that is taken away later does not stop it: it has the map open.
        chmod(closed, mode);
        add(&map, PASS, 2);
        stats.wait_packets("edge", 2);
        std::fs::set_permissions(closed, Permissions::from_mode(if closed == &pin { 0o640 } else { 0o751 }))
            .unwrap();
        let finished = stats.stop();
        assert_eq!(baseline["map_id"], map.id().0);
        assert_eq!(names(&finished.records, "edge")[..2], ["error", "baseline"], "{closed:?}");
        assert!(!finished.stderr.contains("xdp-owner"), "{}", finished.stderr);
    }
}

#[test]
#[ignore = "needs root"]
fn a_pattern_whose_pins_cannot_be_listed_says_so() {
    require_root!();
    let site = site("[interfaces.\"edge*\"]\n");
    site.apply("edge1", &applied(0, &counted(10)));
    let_in(&site, "edge1");
    chmod(&site.bpffs.pin_root(), 0o710);
    let output = reader(&site).args(["--json", "--once"]).run();
    let root = site.bpffs.pin_root();
    let denied = format!("of {}: Permission denied (EACCES); name one of this user's groups", root.display());
    assert!(output.stderr.contains(&denied), "{output}");
    assert_eq!(output.stdout, "");
    // By name it needs not be listed.
    site.config("[interfaces.edge1]\n");
    let output = reader(&site).args(["--json", "--once"]).run().expect_code(0);
    assert_eq!(output.stderr, "");
}
