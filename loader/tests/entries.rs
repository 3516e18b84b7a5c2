//! Promises about maps of which the file says what they hold.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Instant;

use common::strace::traced;
use common::{DROP, PASS, Site, changes, flat};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use xdpd::entries::{self, Content};
use xdpd_kernel::{Access, MapId};
use xdpd_testlab::{Invocation, Output, Veth, require_root, wait_until, xdpd};

/// The keys of the block list's map, in the notation of the file.
fn blocked(site: &Site) -> Vec<String> {
    let content = entries::read(&site.map("eth0", "blocked4")).unwrap();
    assert!(content.values().all(|value| *value == [1]));
    let text = |key: &Vec<u8>| format!("{}.{}.{}.{}/{}", key[4], key[5], key[6], key[7], key[0]);
    content.keys().map(text).collect()
}

/// A site with the example's program, compiled as `blocklist.o`.
fn block_list(name: &str) -> (Site, Veth) {
    let site = Site::new(name);
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site);
    (site, veth)
}

fn compile(site: &Site) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs/blocklist.c");
    common::compile_file(&site.lab.dir().join("blocklist.o"), &source, &[]);
}

/// Writes the file of a block list: what is behind `entries`, and more of the interface.
fn file(site: &Site, entries: &str, more: &str) {
    site.config(&format!(
        "[programs.p]\nobject = 'blocklist.o'\n[programs.p.maps.blocked4]\nentries = {entries}\n\
         [interfaces.eth0]\nprogram = 'p'\nnetns = '$NETNS'\n{more}\n"
    ));
}

fn ids(site: &Site) -> (u32, u32, MapId) {
    let link = site.link("eth0").info().unwrap().id.0;
    (link, site.running("eth0").unwrap(), site.map("eth0", "blocked4").id())
}

/// Sends packets from an address, which are all dropped or all passed.
#[track_caller]
fn expect(site: &Site, veth: &Veth, source: &str, action: u32) {
    let before = site.packets("eth0", action);
    site.lab.sender(veth).from_address(source.parse().unwrap()).send(20);
    wait_until("the packets to be counted", xdpd_testlab::DEADLINE, || {
        site.packets("eth0", action) == before + 20
    });
}

#[test]
#[ignore = "needs root"]
fn what_is_on_the_list_is_dropped_and_an_edit_of_it_reloads_nothing() {
    require_root!();
    let (site, veth) = block_list("blocklist");
    file(&site, "['192.0.2.0/24']", "");
    let diff = site.run("diff config.toml").run().expect_code(1);
    assert!(flat(&diff.stdout).contains("131072 entries filled with 1 entry"), "{diff}");
    site.apply();
    expect(&site, &veth, "192.0.2.7", DROP);
    expect(&site, &veth, "198.51.100.7", PASS);

    let before = (ids(&site), site.bpffs.fingerprint());
    file(&site, "['198.51.100.0/24', '192.0.2.0/28']", "");
    let diff = site.run("diff config.toml").run().expect_code(1);
    assert_eq!(
        diff.stdout,
        "+ apply adds   ~ changes   - removes   ! blocked\n\n\
         ~ eth0\n    \
             ~ map blocked4: 2 entries added, 1 removed\n        \
                 + 192.0.2.0/28 = 1\n        \
                 + 198.51.100.0/24 = 1\n        \
                 - 192.0.2.0/24 = 1\n\n\
         Plan: 0 to add, 1 to change, 0 to remove, 0 blocked.\n"
    );
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    let apply = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(apply["changes"], diff["changes"]);
    let id = before.0.2.0;
    assert_eq!(
        diff["changes"],
        json!([{
            "interface": "eth0", "address": "eth0.map.blocked4", "actions": ["update"],
            "reason": "2 entries added, 1 removed",
            "before": {"id": id, "entries": 1, "changed": 0, "removed": 1,
                       "listed": [{"key": "192.0.2.0/24", "value": 1}]},
            "after": {"id": id, "entries": 2, "changed": 0, "added": 2,
                      "listed": [{"key": "192.0.2.0/28", "value": 1}, {"key": "198.51.100.0/24", "value": 1}]},
            "blocked_by": null
        }])
    );
    assert_eq!((ids(&site), site.bpffs.fingerprint()), before, "program, link, map and pins are the same");
    expect(&site, &veth, "198.51.100.7", DROP);
    expect(&site, &veth, "192.0.2.7", DROP);
    expect(&site, &veth, "192.0.2.77", PASS);
    site.expect("diff", 0);
    assert!(site.apply().stderr.contains("nothing to change"));
}

#[test]
#[ignore = "needs root"]
fn what_old_and_new_list_have_is_blocked_at_every_instant() {
    require_root!();
    let (site, veth) = block_list("gapless");
    let list = |from: u32| {
        let others = (from..from + 3000).map(|n| Ipv4Addr::from(0x0a00_0000 + n).to_string() + "\n");
        site.lab.write("list.csv", others.chain(["192.0.2.0/24\n".to_owned()]).collect::<String>());
    };
    list(0);
    file(&site, "'list.csv'", "");
    site.apply();
    let traffic = site.lab.sender(&veth).from_address(Ipv4Addr::new(192, 0, 2, 7)).background(50_000);
    for round in 1..=10 {
        list(round * 1500);
        site.apply();
    }
    // A new program with new maps, which are filled before anybody asks them; and back to the old one.
    for function in ["reuse = 'never'", ""] {
        let object = std::fs::read(site.lab.dir().join("blocklist.o")).unwrap();
        site.lab.write("blocklist.o", [&*object, b"\0"].concat());
        file(&site, "'list.csv'", function);
        site.apply();
    }
    let sent = traffic.stop();
    wait_until("all packets to be counted", xdpd_testlab::DEADLINE, || {
        let retired = site.bpffs.tree().into_iter().filter_map(|entry| {
            let name = entry.strip_prefix("xdpd/eth0/")?.split(' ').next()?.to_owned();
            name.starts_with("xdp_stats_map").then_some(name)
        });
        let of = |action| -> u64 {
            retired.clone().map(|name| common::packets(&site.map("eth0", &name), action)).sum()
        };
        assert_eq!(of(PASS), 0, "a packet has passed");
        of(DROP) == sent
    });
    assert!(sent > 1000, "only {sent} packets");
    assert_eq!(blocked(&site).len(), 3001);
}

#[test]
#[ignore = "needs root"]
fn a_hundred_thousand_entries_take_little_time() {
    require_root!();
    let (site, _veth) = block_list("many");
    let list = |from: u32| {
        let mut text = "key,value\n".to_owned();
        for n in from..from + 100_000 {
            writeln!(text, "{},1", Ipv4Addr::from(0x0a00_0000 + n)).unwrap();
        }
        site.lab.write("list.csv", text);
    };
    let timed = |what: &str, command: &str, code: i32| {
        let start = Instant::now();
        let output = site.expect(command, code);
        println!("{what}: {:?}", start.elapsed());
        output
    };
    list(0);
    file(&site, "'list.csv'", "");
    timed("fill", "apply", 0);
    timed("no difference", "diff", 0);
    assert_eq!(blocked(&site).len(), 100_000);
    list(50_000);
    let diff = timed("half differs", "diff", 1);
    let lines: Vec<&str> = diff.stdout.lines().map(str::trim).collect();
    assert!(lines.contains(&"~ map blocked4: 50,000 entries added, 50,000 removed"), "{diff}");
    // 10.1.134.160 is 100,000 addresses behind 10.0.0.0.
    assert!(lines.contains(&"+ 10.1.134.160/32 = 1") && lines.contains(&"- 10.0.0.0/32 = 1"), "{diff}");
    assert_eq!(lines.iter().filter(|line| **line == "+ … and 49,990 more").count(), 1, "{diff}");
    assert_eq!(lines.iter().filter(|line| **line == "- … and 49,990 more").count(), 1, "{diff}");
    timed("replace half", "apply", 0);
    let status = timed("status", "status", 0);
    assert!(flat(&status.stdout).contains("eth0: map blocked4 holds 100,000 entries"), "{status}");
    file(&site, "[]", "");
    timed("empty", "apply", 0);
    assert_eq!(blocked(&site), Vec::<String>::new());
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    let map = status["interfaces"][0]["maps"].as_array().unwrap().iter().find(|m| m["name"] == "blocked4");
    assert_eq!(map.unwrap()["entries"], 0);
}

#[test]
#[ignore = "needs root"]
fn a_list_means_the_same_in_every_format() {
    require_root!();
    let (site, _veth) = block_list("formats");
    file(&site, "{ '192.0.2.0/24' = 1, '198.51.100.7' = 2 }", "");
    site.apply();
    let csv = "key,value\n192.0.2.0/24, 1 # here\n\n198.51.100.7/32,0x2\n";
    let json = r#"{ "192.0.2.0/24": 1, "198.51.100.7": 2 }"#;
    let pairs =
        r#"[{"key": "192.0.2.0/24"}, {"value": 2, "key": {"prefix_len": 32, "address": "198.51.100.7"}}]"#;
    let toml = "[[entries]]\nkey = '198.51.100.7'\nvalue = 2\n[[entries]]\nkey = '192.0.2.0/24'\n";
    for (name, text) in [("l.csv", csv), ("l.json", json), ("pairs.json", pairs), ("l.toml", toml)] {
        site.lab.write(name, text);
        file(&site, &format!("'{name}'"), "");
        site.expect("diff", 0);
    }
    // The list alone changes.
    site.lab.write("l.toml", "entries = ['192.0.2.0/24', '203.0.113.0/24']\n");
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(diff["changes"][0]["reason"], "1 entry added, 1 removed");
    site.apply();
    assert_eq!(blocked(&site), ["192.0.2.0/24", "203.0.113.0/24"]);
    // Without `entries` a map is nobody's business; with none, it is empty.
    site.config("[programs.p]\nobject = 'blocklist.o'\n[interfaces.eth0]\nprogram = 'p'\nnetns = '$NETNS'\n");
    site.expect("diff", 0);
    assert_eq!(blocked(&site).len(), 2);
    file(&site, "[]", "");
    site.apply();
    assert_eq!(blocked(&site), Vec::<String>::new());
}

/// What a map holds, as bytes.
fn content(site: &Site, map: &str) -> Content {
    entries::read(&site.map("eth0", map)).unwrap()
}

fn every_type(site: &Site, maps: &str) {
    site.config(&format!(
        "[programs.p]\nobject = 'own.o'\n{maps}[interfaces.eth0]\nprogram = 'p'\nnetns = '$NETNS'\n"
    ));
}

#[test]
#[ignore = "needs root"]
fn every_cpu_has_what_the_file_says_whatever_sysfs_says_of_the_cpus() {
    require_root!();
    for text in ["0", "0-63", "none"] {
        let site = Site::new("sysfs");
        let _ = site.lab.veth("eth0", "peer0");
        common::compile(&site, "contents");
        every_type(
            &site,
            "[programs.p.maps.counts]\nentries = { 80 = 5 }\n[programs.p.maps.slots]\nentries = [1]\nvalue = 9\n",
        );
        let run = |command: &str| site.run(command).cpus_by_sysfs(text).run();
        run("apply config.toml").expect_code(0);
        for (map, key, value) in [("counts", &[80, 0][..], 5), ("slots", &[1, 0, 0, 0], 9)] {
            let everywhere = site.map("eth0", map).layout().repeated(&[value]);
            assert_eq!(content(&site, map), Content::from([(key.to_vec(), everywhere)]), "{text}: {map}");
        }
        run("diff config.toml").expect_code(0);
        site.expect("diff", 0);
        // What one CPU has otherwise is seen and mended, the last of them too.
        let map = site.dir("eth0").open_map("slots", Access::ReadWrite).unwrap();
        let layout = map.layout();
        let mut value = layout.repeated(&[9]);
        value[layout.range(layout.count() - 1).start] = 8;
        map.update(&[1, 0, 0, 0], &value, 0).unwrap();
        run("diff config.toml").expect_code(1);
        run("apply config.toml").expect_code(0);
        site.expect("diff", 0);
    }
}

#[test]
#[ignore = "needs root"]
fn each_type_of_map_holds_what_the_file_says_in_its_own_types() {
    require_root!();
    let site = Site::new("types");
    let veth = site.lab.veth("eth0", "peer0");
    common::compile(&site, "contents");
    let cpus = xdpd_kernel::cpu::possible().unwrap();
    every_type(
        &site,
        "[programs.p.maps.flows]
         entries = [{ key = { source = '192.0.2.1', port = 443, protocol = 6, zero = 0 }, value = 'DENY' }]
         [programs.p.maps.hosts]
         entries = 'hosts.csv'
         [programs.p.maps.counts]
         entries = { 80 = 5, '0x1bb' = 6 }
         [programs.p.maps.settings]
         entries = [{ key = 2, value = { rate = 1, burst = 2 } }, { key = 3, value = { rate = 0, burst = 0 } }]
         [programs.p.maps.slots]
         entries = [1, 7]
         value = 9
         [programs.p.maps.networks]
         entries = ['192.0.2.0/24', { key = { prefix_len = 1, address = [128, 0, 0, 0] }, value = 3 }]
         [programs.p.maps.untyped]
         entries = { '02:00:00:00:00:01' = 0x0102 }\n",
    );
    site.lab.write("hosts.csv", "key,burst,rate\n192.0.2.1,50,1000\n192.0.2.2,0,7\n");
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    let of = |entries: &[(&[u8], &[u8])]| -> Content {
        entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    };
    let everywhere = |value: u8| [value, 0, 0, 0, 0, 0, 0, 0].repeat(cpus);
    let check = || {
        assert_eq!(content(&site, "flows"), of(&[(&[192, 0, 2, 1, 1, 187, 6, 0], &[7, 0, 0, 0])]));
        assert_eq!(
            content(&site, "hosts"),
            of(&[
                (&[192, 0, 2, 1], &[232, 3, 0, 0, 50, 0, 0, 0]),
                (&[192, 0, 2, 2], &[7, 0, 0, 0, 0, 0, 0, 0])
            ])
        );
        assert_eq!(content(&site, "counts"), of(&[(&[80, 0], &everywhere(5)), (&[187, 1], &everywhere(6))]));
        assert_eq!(content(&site, "settings"), of(&[(&[2, 0, 0, 0], &[1, 0, 0, 0, 2, 0, 0, 0])]));
        assert_eq!(
            content(&site, "slots"),
            of(&[(&[1, 0, 0, 0], &everywhere(9)), (&[7, 0, 0, 0], &everywhere(9))])
        );
        assert_eq!(
            content(&site, "networks"),
            of(&[(&[1, 0, 0, 0, 128, 0, 0, 0], &[3]), (&[24, 0, 0, 0, 192, 0, 2, 0], &[1])])
        );
        assert_eq!(content(&site, "untyped"), of(&[(&[2, 0, 0, 0, 0, 1], &[2, 1])]));
    };
    check();
    site.expect("diff", 0);

    // Whatever somebody else does to them is told in the notation of the file, and mended.
    let map = |name: &str| site.dir("eth0").open_map(name, Access::ReadWrite).unwrap();
    map("flows").update(&[192, 0, 2, 9, 0, 80, 17, 0], &[0; 4], 0).unwrap();
    map("hosts").update(&[192, 0, 2, 2], &[8, 0, 0, 0, 0, 0, 0, 0], 0).unwrap();
    map("hosts").delete(&[192, 0, 2, 1]).unwrap();
    let mut uneven = everywhere(5);
    uneven[8] = 4;
    map("counts").update(&[80, 0], &uneven, 0).unwrap();
    map("settings").update(&[5, 0, 0, 0], &[1; 8], 0).unwrap();
    map("slots").update(&[1, 0, 0, 0], &everywhere(0), 0).unwrap();
    map("untyped").delete(&[2, 0, 0, 0, 0, 1]).unwrap();
    let diff = site.run("diff config.toml").run().expect_code(1).stdout;
    let lines: Vec<&str> = diff.lines().map(str::trim).filter(|line| line.contains(" = ")).collect();
    let each = ["5"].repeat(cpus - 2).iter().fold(String::new(), |all, each| format!("{all}, {each}"));
    assert_eq!(
        lines,
        [
            &format!("~ 80 = [5, 4{each}] -> 5"),
            "- { source = \"192.0.2.9\", port = 80, protocol = 17, zero = 0 } = ALLOW",
            "+ 192.0.2.1 = { rate = 1000, burst = 50 }",
            "~ 192.0.2.2 = { rate = 8, burst = 0 } -> { rate = 7, burst = 0 }",
            "- 5 = { rate = 16843009, burst = 16843009 }",
            "+ 1 = 9",
            "+ 02:00:00:00:00:01 = 258",
        ]
    );
    site.apply();
    check();
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_map_without_types_takes_bytes_and_numbers_by_size() {
    require_root!();
    let site = Site::new("untyped");
    site.lab.veth("eth0", "peer0");
    common::compile(&site, "contents");
    every_type(
        &site,
        "[programs.p.maps.untyped]\nentries = [{ key = [2, 0, 0, 0, 0, 1], value = 7 }, '02:00:00:00:00:02']\n",
    );
    site.apply();
    let keys: Vec<_> = content(&site, "untyped").into_iter().collect();
    assert_eq!(keys, [(vec![2, 0, 0, 0, 0, 1], vec![7, 0]), (vec![2, 0, 0, 0, 0, 2], vec![1, 0])]);
}

#[test]
fn errors_are_shown_where_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("own.o");
    common::compile_to(&object, "contents");
    let case = |maps: &str, lists: &[(&str, &str)]| -> String {
        for (name, text) in lists {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let text = format!("[programs.p]\nobject = 'own.o'\n{maps}\n[interfaces.eth0]\nprogram = 'p'\n");
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let output = xdpd().args(["check", "config.toml"]).current_dir(dir.path()).run().expect_code(2);
        output.stderr.replace(&format!("{}/", dir.path().display()), "")
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/entries");
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = std::fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 5, "only {} cases", cases.len());
    for path in cases {
        // The maps, then each list after a line with its name, then what is said.
        let text = std::fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("==== expected\n").unwrap();
        let mut parts = input.split("==== ");
        let maps = parts.next().unwrap();
        let lists: Vec<_> = parts.map(|part| part.split_once('\n').unwrap()).collect();
        let actual = case(maps, &lists);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, format!("{input}==== expected\n{actual}")).unwrap();
        } else if actual != expected {
            wrong.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as written (UPDATE_GOLDEN=1 rewrites):\n{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs root"]
fn root_does_not_follow_a_list_that_others_can_change() {
    require_root!();
    let (site, _veth) = block_list("trust");
    let list = site.lab.write("list.csv", "192.0.2.0/24\n");
    file(&site, "'list.csv'", "");
    site.expect("check", 0);
    std::fs::set_permissions(&list, std::fs::Permissions::from_mode(0o666)).unwrap();
    for command in ["check", "diff", "apply"] {
        let output = site.expect(command, 2);
        assert!(output.stderr.contains("list.csv is not trusted: everybody may write it"), "{output}");
    }
    std::fs::remove_file(&list).unwrap();
    let output = site.expect("apply", 2);
    assert!(output.stderr.contains("config.toml:5:11"), "{output}");
    assert!(output.stderr.contains("list.csv: No such file"), "{output}");
}

/// `xdpd apply` with faults of strace, which logs its calls of bpf(2).
fn under_strace(site: &Site, inject: &[String]) -> Invocation {
    let mut strace = Invocation::of("strace").netns(site.lab.near()).current_dir(site.lab.dir());
    strace = strace.args(["-qq", "-e", "signal=none", "-e", "trace=bpf", "-o", "strace.log"]);
    for inject in inject {
        strace = strace.args(["-e", &format!("inject=bpf:{inject}")]);
    }
    strace.arg(xdpd().path()).args(["apply", "config.toml"])
}

/// Runs it, and gives the calls.
fn strace(site: &Site, inject: &[String]) -> (Output, Vec<String>) {
    let output = under_strace(site, inject).run();
    let log = std::fs::read_to_string(site.lab.dir().join("strace.log")).expect("the log of strace");
    (output, log.lines().filter(|line| line.starts_with("bpf(")).map(str::to_owned).collect())
}

/// The number of the k-th call that is such a one, counted from 1.
fn nth(calls: &[String], what: &str, k: usize) -> usize {
    calls.iter().enumerate().filter(|(_, call)| call.contains(what)).nth(k - 1).expect("the call").0 + 1
}

/// The same list with `keys`, twice: what an apply is to change, and the file that it started from.
fn numbered(keys: impl Iterator<Item = u32>) -> String {
    keys.map(|n| Ipv4Addr::from(0x0a00_0000 + n).to_string() + "\n").collect()
}

#[test]
#[ignore = "needs root"]
fn a_failure_after_the_entries_restores_them() {
    require_root!();
    let (site, veth) = block_list("rollback");
    let other = site.lab.veth("eth1", "peer1");
    site.lab.set_mtu(&other, 9000);
    file(&site, "['192.0.2.0/24', '198.51.100.0/24']", "");
    site.apply();
    let before = (ids(&site), content(&site, "blocked4"));
    // The other device takes no native program, which shows when it is attached.
    file(&site, "['192.0.2.0/25', '198.51.100.0/24']", "[interfaces.eth1]\nnetns = '$NETNS'");
    let output = site.expect("apply", 3);
    assert!(output.stderr.contains("the previous state is restored"), "{output}");
    assert_eq!((ids(&site), content(&site, "blocked4")), before);
    expect(&site, &veth, "192.0.2.200", DROP);
}

#[test]
#[ignore = "needs root"]
fn a_signal_between_two_batches_takes_back_what_was_written() {
    require_root!();
    let (site, _veth) = block_list("interrupted");
    file(&site, "'list.csv'", "");
    site.lab.write("list.csv", numbered(0..20_000));
    site.apply();
    let before = content(&site, "blocked4");
    site.lab.write("list.csv", numbered(10_000..30_000));
    let (_, calls) = strace(&site, &[]);
    let update = nth(&calls, "BPF_MAP_UPDATE_BATCH", 2);
    site.lab.write("list.csv", numbered(0..20_000));
    site.apply();
    site.lab.write("list.csv", numbered(10_000..30_000));
    let (output, _) = strace(&site, &[format!("signal=INT:when={update}")]);
    let output = output.expect_code(3);
    assert!(output.stderr.contains("interrupted by SIGINT"), "{output}");
    assert!(content(&site, "blocked4") == before, "the former entries are back");
}

#[test]
#[ignore = "needs root"]
fn entries_that_somebody_else_writes_meanwhile_are_found_out() {
    require_root!();
    let (site, _veth) = block_list("race");
    let before = || {
        file(&site, "['192.0.2.0/24']", "");
        site.apply();
        file(&site, "['192.0.2.0/24', '203.0.113.0/24']", "");
    };
    before();
    let (_, calls) = strace(&site, &[]);
    let update = nth(&calls, "BPF_MAP_UPDATE", 1);
    before();
    let map = site.dir("eth0").open_map("blocked4", Access::ReadWrite).unwrap();
    let (ours, theirs) = ([24, 0, 0, 0, 203, 0, 113, 0], [8, 0, 0, 0, 10, 0, 0, 0]);
    // Stopped between the writing and the look at the result.
    let apply = under_strace(&site, &[format!("signal=STOP:when={update}")]).spawn();
    wait_until("our entry", xdpd_testlab::DEADLINE, || map.lookup(&ours, &mut [0]).unwrap());
    map.update(&theirs, &[1], 0).unwrap();
    kill_process(traced(&apply), Signal::CONT).unwrap();
    let output = apply.wait_with_output().unwrap();
    let (code, stderr) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(flat(&stderr).contains("not as planned"), "{stderr}");
    assert!(stderr.contains("- 10.0.0.0/8 = 1"), "{stderr}");
    // What is theirs is left to the next plan, which tells it.
    assert_eq!(blocked(&site), ["10.0.0.0/8", "192.0.2.0/24"]);
    site.apply();
    assert_eq!(blocked(&site), ["192.0.2.0/24", "203.0.113.0/24"]);
}

/// Old and new list, of which one is larger than a batch, and a program that is replaced on the way.
fn stand(site: &Site, is_new: bool) {
    let keys = if is_new { 3000..9000 } else { 0..6000 };
    site.lab.write("list.csv", numbered(keys));
    let reuse = if is_new { "reuse = 'never'" } else { "" };
    site.config(&format!(
        "[programs.p]\nobject = 'blocklist.o'\n[programs.p.maps.blocked4]\nentries = 'list.csv'\n\
         reuse = 'if-compatible'\n[programs.p.maps.exempt]\nentries = ['192.0.2.{}']\n\
         [interfaces.eth0]\nprogram = 'p'\n{reuse}\n",
        u8::from(is_new)
    ));
    let object = std::fs::read(site.lab.dir().join("first.o")).unwrap();
    site.lab.write("blocklist.o", [&*object, if is_new { b"\0" } else { b"" }].concat());
}

fn state(site: &Site) -> (Content, Content, u32) {
    (content(site, "blocked4"), content(site, "exempt"), site.running("eth0").unwrap())
}

fn near(site: &Site, command: &str) -> Output {
    site.run(&format!("{command} config.toml")).netns(site.lab.near()).run()
}

#[test]
#[ignore = "needs root"]
fn whichever_call_fails_entries_and_program_are_all_old_or_all_new() {
    require_root!();
    let (site, _veth) = block_list("faults");
    std::fs::rename(site.lab.dir().join("blocklist.o"), site.lab.dir().join("first.o")).unwrap();
    stand(&site, false);
    near(&site, "apply").expect_code(0);
    let mut before = state(&site);
    let mut ends = std::collections::BTreeMap::new();
    // Other processes begin elsewhere.
    for n in (1 + std::process::id() as usize % 2..).step_by(2) {
        stand(&site, true);
        let (output, calls) = strace(&site, &[format!("error=EIO:when={n}")]);
        if calls.len() < n {
            output.expect_code(0);
            break;
        }
        let code = output.code().unwrap();
        *ends.entry(code).or_insert(0) += 1;
        if code == 2 || code == 3 {
            assert!(state(&site) == before, "call {n}, {}: {output}", calls[n - 1]);
            continue;
        }
        assert!(code == 0 || output.stderr.contains("applied, but not everything"), "{n}: {output}");
        near(&site, "apply").expect_code(0);
        near(&site, "diff").expect_code(0);
        stand(&site, false);
        near(&site, "apply").expect_code(0);
        before = state(&site);
    }
    println!("{ends:?}");
    assert!(ends.get(&3).is_some_and(|count| *count > 3), "{ends:?}");
}

#[test]
#[ignore = "needs root"]
fn wherever_an_apply_is_killed_the_next_one_converges() {
    require_root!();
    let (site, _veth) = block_list("killed");
    std::fs::rename(site.lab.dir().join("blocklist.o"), site.lab.dir().join("first.o")).unwrap();
    stand(&site, false);
    near(&site, "apply").expect_code(0);
    let old = content(&site, "blocked4");
    stand(&site, true);
    near(&site, "apply").expect_code(0);
    let new = content(&site, "blocked4");
    let mut is_new = true;
    let mut kills = 0;
    for n in (1 + std::process::id() as usize % 3..).step_by(3) {
        stand(&site, !is_new);
        let (output, calls) = strace(&site, &[format!("signal=KILL:when={n}")]);
        if output.status.signal() != Some(9) {
            assert!(calls.len() < n, "{output}");
            break;
        }
        kills += 1;
        let between = content(&site, "blocked4");
        assert!(
            old.keys().filter(|key| new.contains_key(*key)).all(|key| between.contains_key(key)),
            "call {n}: an entry that both have is missing"
        );
        near(&site, "apply").expect_code(0);
        assert!(content(&site, "blocked4") == if is_new { old.clone() } else { new.clone() }, "call {n}");
        near(&site, "diff").expect_code(0);
        is_new = !is_new;
    }
    println!("{kills} kills");
    assert!(kills > 10, "only {kills} kills");
}

#[test]
#[ignore = "needs root"]
fn progress_is_shown_on_a_terminal_only() {
    require_root!();
    let (site, _veth) = block_list("progress");
    site.lab.write("list.csv", numbered(0..100_000));
    file(&site, "'list.csv'", "");
    let command = format!("{} apply config.toml", xdpd().path().display());
    let on_terminal = Invocation::of("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(site.lab.dir())
        .run()
        .expect_code(0);
    assert!(on_terminal.stdout.contains(" of 100,000\u{1b}[K"), "{on_terminal}");
    assert!(on_terminal.stdout.contains("eth0: entries of map blocked4: "), "{on_terminal}");
    site.lab.write("list.csv", numbered(1..100_000));
    let elsewhere = site.apply();
    assert_eq!(elsewhere.stderr, "xdpd: applied\n");
}

#[test]
#[ignore = "needs root"]
fn an_apply_that_is_not_confirmed_gives_the_entries_back() {
    require_root!();
    let (site, _veth) = block_list("trial");
    file(&site, "['192.0.2.0/24']", "");
    site.apply();
    file(&site, "['198.51.100.0/24']", "");
    let output = site.run("apply config.toml --confirm-timeout 100ms").run().expect_code(3);
    assert!(output.stderr.contains("not confirmed"), "{output}");
    assert_eq!(blocked(&site), ["192.0.2.0/24"]);
}

#[test]
#[ignore = "needs root"]
fn the_example_blocks_what_is_on_its_lists() {
    require_root!();
    let (site, veth) = block_list("example");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/configs");
    std::fs::copy(examples.join("blocked4.csv"), site.lab.dir().join("blocked4.csv")).unwrap();
    let text = std::fs::read_to_string(examples.join("blocklist.toml")).unwrap();
    let text = text.replace("../programs/blocklist.o", "blocklist.o");
    site.config(&text.replace("[interfaces.eth0]", "[interfaces.eth0]\nnetns = \"$NETNS\""));
    site.apply();
    expect(&site, &veth, "203.0.113.1", DROP);
    expect(&site, &veth, "192.0.2.53", PASS);
    expect(&site, &veth, "192.0.2.54", DROP);
    assert_eq!(content(&site, "blocked6").len(), 2);
    let diff: Value = site.run("diff config.toml --json").run().expect_code(0).json();
    assert_eq!(changes(&diff), []);
}
