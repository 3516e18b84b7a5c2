//! How devices are called: a device is meant by its name or an alternative name, patterns leave out what `except` names,
//! and no name of a device stops the file.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use common::{DROP, Site, changes};
use serde_json::Value;
use xdpd_testlab::{DEADLINE, Netns, Stats, require_root, wait_until, xdp_stats};

const ALTNAME: &str = "long-name-of-eth0-at-the-uplink";

fn add_altname(netns: &Netns, device: &str, altname: &str) {
    netns.ip(&format!("link property add dev {device} altname {altname}"));
}

/// The labels of an `xdp-stats --once`, with what it says of each.
fn once(site: &Site, code: i32) -> Vec<(String, String)> {
    let config = site.lab.dir().join("config.toml");
    let stats = xdp_stats().arg("--config").arg(config).args(["--json", "--once"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let output = stats.netns(site.lab.near()).run().expect_code(code);
    let mut found: Vec<_> =
        output.json_lines().iter().map(|r| (text(&r["interface"]), text(&r["event"]))).collect();
    found.sort();
    found
}

#[test]
#[ignore = "needs root"]
fn a_device_is_meant_by_an_alternative_name_in_every_command() {
    require_root!();
    let site = Site::new("altname");
    let mut veth = site.lab.veth("eth0", "peer0");
    add_altname(site.lab.near(), "eth0", ALTNAME);
    add_altname(site.lab.near(), "eth0", &"n".repeat(127));
    // Optional: where alternative names are not known, exit 0 would hide that nothing is attached.
    let config = site.one(ALTNAME, "xdp_drop_func", "optional = true");
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!((&diff["summary"]["add"], diff.get("notes")), (&1.into(), None), "{diff}");
    site.apply();
    let program = site.running("eth0");
    assert!(program.is_some(), "it runs on the device that the name means");
    site.send(&veth, ALTNAME, DROP, 5);
    assert_eq!(site.expect("diff", 0).stdout, "");
    let again = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!((&again["outcome"], again["drift"].as_array().unwrap().len()), (&"unchanged".into(), 0));
    let status = || site.run("status config.toml --json").run().expect_code(0).json();
    let (interface, notes) = (status()["interfaces"][0].clone(), status().get("notes").cloned());
    assert_eq!((&interface["interface"], &interface["device"]), (&ALTNAME.into(), &"eth0".into()));
    assert_eq!((&interface["state"], notes), (&"attached".into(), None));

    let reader = Stats::spawn(xdp_stats().arg("--config").arg(&config));
    let baseline = reader.wait_event(ALTNAME, "baseline");
    let ifindex = site.lab.near().ifindex("eth0").unwrap();
    assert_eq!((&baseline["device"], &baseline["ifindex"]), (&ALTNAME.into(), &ifindex.into()));
    // The device gets another name and keeps the one that the file says: nothing is different.
    let mark = reader.mark();
    site.lab.rename(&mut veth, "eth7");
    site.expect("diff", 0);
    assert_eq!(status()["drift"], Value::Array(Vec::new()));
    assert_eq!(status()["interfaces"][0]["device"], "eth7");
    site.send(&veth, ALTNAME, DROP, 2);
    reader.wait_after(mark, "the packets after the new name", |record| {
        record["actions"]["drop"]["packets_total"] == 7
    });
    let gone = reader.stop().records.iter().any(|record| record["event"] == "interface_gone");
    assert!(!gone, "the same device all the time");
    assert_eq!(site.running("eth7"), program);

    // The longest name there is means the same device: only the record follows.
    let longest = "n".repeat(127);
    let with_name = format!("name = \"{longest}\"\noptional = true");
    site.one(ALTNAME, "xdp_drop_func", &with_name);
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(changes(&diff), [(format!("{ALTNAME}.link"), "update".to_owned())]);
    assert!(diff["changes"][0]["reason"].as_str().unwrap().contains("another of its names"), "{diff}");
    site.apply();
    assert_eq!(site.running("eth7"), program);
    site.expect("diff", 0);

    site.expect(&format!("detach --interface {ALTNAME}"), 0);
    assert_eq!(site.running("eth7"), None);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn an_alternative_name_means_a_device_of_the_own_namespace_as_well() {
    require_root!();
    let site = Site::new("altown");
    let _veth = site.lab.veth("eth0", "peer0");
    site.config(&format!("[interfaces.uplink]\nname = \"{ALTNAME}\"\n"));
    let inside = |command: &str| site.run(&format!("{command} config.toml")).netns(site.lab.near()).run();
    let refused = inside("apply").expect_code(2);
    assert!(refused.stderr.contains(&format!("no device `{ALTNAME}`")), "{}", refused.stderr);
    // A near miss may be of an alternative name.
    add_altname(site.lab.near(), "eth0", &format!("{ALTNAME}s"));
    let refused = inside("apply").expect_code(2);
    assert!(refused.stderr.contains(&format!("did you mean `{ALTNAME}s`?")), "{}", refused.stderr);
    add_altname(site.lab.near(), "eth0", ALTNAME);
    inside("apply").expect_code(0);
    assert!(site.running("eth0").is_some());
    inside("diff").expect_code(0);
    assert_eq!(once(&site, 0), [("uplink".to_owned(), "baseline".to_owned())]);
}

#[test]
#[ignore = "needs root"]
fn an_alternative_name_that_goes_is_a_device_that_is_absent_and_what_runs_stays() {
    require_root!();
    let site = Site::new("altgone");
    let veth = site.lab.veth("eth0", "peer0");
    add_altname(site.lab.near(), "eth0", ALTNAME);
    site.one(ALTNAME, "xdp_drop_func", "");
    site.apply();
    let program = site.running("eth0");
    site.lab.near().ip(&format!("link property del dev eth0 altname {ALTNAME}"));
    let refused = site.expect("apply", 2);
    for text in [&format!("no device `{ALTNAME}`"), "is called eth0 now, its program still attached"] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    site.one(ALTNAME, "xdp_drop_func", "optional = true");
    let applied = site.apply();
    assert!(applied.stderr.contains("its pins stay"), "{}", applied.stderr);
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert!(status["drift"][0]["what"].as_str().unwrap().contains("is called eth0 now"), "{status}");
    assert_eq!(site.running("eth0"), program);
    site.send(&veth, ALTNAME, DROP, 3);
    add_altname(site.lab.near(), "eth0", ALTNAME);
    site.expect("diff", 0);
    assert_eq!(site.running("eth0"), program);
}

#[test]
#[ignore = "needs root"]
fn two_entries_that_mean_one_device_by_two_names_are_an_error_that_names_both() {
    require_root!();
    let site = Site::new("twonames");
    let _veth = site.lab.veth("eth0", "peer0");
    add_altname(site.lab.near(), "eth0", ALTNAME);
    site.config(&format!(
        "[interfaces.eth0]\nnetns = \"$NETNS\"\n[interfaces.wan]\nnetns = \"$NETNS\"\nname = \"{ALTNAME}\"\n"
    ));
    for command in ["diff", "apply"] {
        let refused = site.expect(command, 2).stderr;
        for text in [
            "claimed twice, by `eth0` and by `wan`",
            &format!("`eth0` and `{ALTNAME}` are names"),
            ":2:13",
            ":4:13",
        ] {
            assert!(refused.contains(text), "{refused}");
        }
    }
    assert_eq!((site.running("eth0"), site.bpffs.tree()), (None, Vec::new()));
}

#[test]
#[ignore = "needs root"]
fn a_pattern_leaves_out_what_is_excepted_and_what_is_meant_by_an_alternative_name() {
    require_root!();
    let site = Site::new("except");
    let veths = site.lab.veths_called(&["v0", "v1", "v2", "v-mgmt0"]);
    let near = site.lab.near();
    add_altname(near, "v1", "no-xdp-on-this-one");
    add_altname(near, "v2", ALTNAME);
    let config = site.config(&format!(
        "[programs.p]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.\"v*\"]\nexcept = [\"v-mgmt*\", \"no-xdp*\"]\n\
         [interfaces.{ALTNAME}]\nprogram = \"p\"\n"
    ));
    let inside = |command: &str| site.run(&format!("{command} config.toml")).netns(near).run();
    inside("apply").expect_code(0);
    let running = || ["v0", "v1", "v2", "v-mgmt0"].map(|device| site.running(device).is_some());
    assert_eq!(running(), [true, false, true, false]);
    assert_eq!(once(&site, 0), [ALTNAME, "v0"].map(|label| (label.to_owned(), "baseline".to_owned())));
    inside("diff").expect_code(0);
    let check = inside("check").expect_code(0).stdout;
    assert!(check.contains("interfaces v* except v-mgmt*, no-xdp*: program"), "{check}");

    // One that is excepted while its program runs no longer matches; the reader follows what is left of it, and no more.
    let stats =
        Stats::spawn(xdp_stats().arg("--config").arg(&config).args(["--interval", "100ms"]).netns(near));
    stats.wait_event("v0", "baseline");
    assert_eq!(site.lab.sender(&veths[0]).send(4), 4);
    stats.wait_packets("v0", 4);
    add_altname(near, "v0", "no-xdp-any-more");
    assert_eq!(site.lab.sender(&veths[0]).send(3), 3);
    stats.wait_packets("v0", 7);
    let diff = site.run("diff config.toml --json").netns(near).run().expect_code(1).json();
    assert_eq!(diff["summary"]["remove"], 1, "{diff}");
    inside("apply").expect_code(0);
    assert_eq!(running(), [false, false, true, false]);
    assert_eq!(once(&site, 0), [(ALTNAME.to_owned(), "baseline".to_owned())]);
    // What happens to its device is nobody's business here from now on, until it may have a program again: the new map is
    // read from zero.
    stats.wait_event("v0", "waiting");
    site.lab.delete(&veths[0]);
    site.lab.create(&veths[0]);
    inside("apply").expect_code(0);
    assert_eq!(site.lab.sender(&veths[0]).send(5), 5);
    stats.wait_packets("v0", 12);
    assert_eq!(running(), [true, false, true, false]);
    let gone = stats.stop().records.iter().any(|record| record["event"] == "interface_gone");
    assert!(!gone, "told of a device that is excepted");
}

#[test]
#[ignore = "needs root"]
fn no_name_of_a_device_under_a_pattern_stops_the_file() {
    require_root!();
    let site = Site::new("hostile");
    let tenant = xdpd_testlab::Lab::new("tenant");
    let _veths = (site.lab.veth("eth0", "peer0"), tenant.veth("v0", "peer0"));
    let name = tenant.near().name().to_owned();
    for (n, bytes) in [&b"v\x1b[2J"[..], b"v\xff", b"v\xfe"].into_iter().enumerate() {
        let added = Command::new("ip")
            .args(["-n", &name, "link", "add"])
            .arg(OsStr::from_bytes(bytes))
            .args(["type", "veth", "peer", "name", &format!("p{n}")])
            .output()
            .unwrap();
        assert!(added.status.success(), "{added:?}");
    }
    let text = format!(
        "[interfaces.eth0]\nnetns = \"$NETNS\"\n[interfaces.\"v*\"]\nnetns = \"{name}\"\nmode = \"generic\"\n"
    );
    let config = site.config(&text);
    let diff = site.expect("diff", 1);
    assert!(diff.stdout.contains("2 to add"), "{}", diff.stdout);
    let applied = site.apply();
    for said in [&diff.stderr, &applied.stderr] {
        assert!(said.contains(&format!("v*: 3 devices in netns `{name}` are left out")), "{said}");
        assert!(
            said.contains("(it holds a control character)") && said.contains("(it is not UTF-8)"),
            "{said}"
        );
        assert!(!said.contains('\x1b'), "{said:?}");
    }
    let json = site.run("diff config.toml --json").run().expect_code(0).json();
    assert_eq!((&json["notes"][0]["interface"], &json["summary"]["unchanged"]), (&"v*".into(), &2.into()));
    assert!(site.running("eth0").is_some());
    let stats = xdp_stats().arg("--config").arg(&config).args(["--json", "--once"]).run().expect_code(0);
    assert_eq!(stats.json_lines().len(), 2, "{}", stats.stdout);
    assert_eq!(stats.stderr, "");

    // A tenant's device cannot take the label of an entry, either.
    tenant.near().ip("link add v1 type veth peer name p9");
    site.config(&text.replace("[interfaces.eth0]", &format!("[interfaces.\"{name}:v1\"]\nname = \"eth0\"")));
    let applied = site.apply();
    assert!(applied.stderr.contains("v*: 4 devices"), "{}", applied.stderr);
    assert!(site.running("eth0").is_some());
    site.expect("diff", 0);
    // Nobody but a pattern is content with such names.
    site.config("[interfaces.x]\nnetns = \"$NETNS\"\nname = \"v\\u001b[2J\"\n");
    site.expect("diff", 2);
}

#[test]
#[ignore = "needs root"]
fn watch_attaches_a_device_when_it_gets_the_name() {
    require_root!();
    let site = Site::new("altwatch");
    let _veth = site.lab.veth("eth0", "peer0");
    site.one(ALTNAME, "xdp_drop_func", "optional = true");
    let mut watch = site.run("watch config.toml").spawn();
    let told = |device| site.running(device).is_some();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        add_altname(site.lab.near(), "eth0", ALTNAME);
        wait_until("the program to run", DEADLINE, || told("eth0"));
        wait_until("no difference", DEADLINE, || site.run("diff config.toml").run().code() == Some(0));
    }));
    watch.kill().unwrap();
    watch.wait().unwrap();
    result.unwrap();
}
