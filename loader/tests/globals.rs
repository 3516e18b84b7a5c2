//! Promises about `globals`: values from the file for an object's global variables.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use common::strace::{Fault, SWEPT, Tries, injected, numbered, strace_of, tries};
use common::verdict::{ERRNOS, is_named};
use common::{DROP, PASS, Site, changes, compile, flat};
use serde_json::{Value as Json, json};
use xdpd::globals::Globals;
use xdpd::object::Object;
use xdpd::object::typed::decode;
use xdpd_config::escape::escape;
use xdpd_kernel::{Access, Map, MapDef};
use xdpd_testlab::{Invocation, require_root, xdpd};

const ABORTED: u32 = 0;
const MMAPABLE: u32 = 1 << 10;

/// A file whose program has these globals.
fn config(globals: &str, extra: &str) -> String {
    format!(
        "[programs.p]\nobject = \"own.o\"\nglobals = {{ {globals} }}\n{extra}\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
    )
}

/// What a variable holds in the kernel, in TOML.
fn held(site: &Site, name: &str) -> String {
    let object = Object::inspect(std::fs::read(site.lab.dir().join("own.o")).unwrap()).unwrap();
    let variable = object.variables().into_iter().find(|v| v.name == name).unwrap();
    let map = site.map("eth0", &escape(&variable.section));
    let mut value = vec![0; map.value_len()];
    assert!(map.lookup(&0u32.to_ne_bytes(), &mut value).unwrap());
    let bytes = &value[variable.offset..variable.offset + variable.initial.len()];
    decode(&object.parsed_btf().unwrap(), variable.type_id, bytes).to_string()
}

/// The counters of settings.c.
fn counters(site: &Site) -> Vec<u64> {
    let numbers = held(site, "counters");
    numbers.trim_matches(['[', ']']).split(", ").map(|n| n.parse().unwrap()).collect()
}

/// The changes of globals in a plan: what of which, from what to what.
fn values(plan: &Json) -> BTreeMap<String, (Json, Json)> {
    let list = plan["changes"].as_array().unwrap().iter();
    list.filter_map(|change| {
        let name = change["address"].as_str()?.strip_prefix("eth0.globals.")?;
        Some((name.to_owned(), (change["before"].clone(), change["after"].clone())))
    })
    .collect()
}

#[test]
#[ignore = "needs root"]
fn every_value_is_set_as_its_type_wants_it() {
    require_root!();
    let site = Site::new("kinds");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "settings");
    let globals = "limit = 5, wanted = 'nobody', strict = true, verdict = 'PASS_ALL', port = 443, \
                   bytes = [1, 2, 3, 4, 255], slot = 3, name = 'nobody', small = 255, extra = '0xffffffffffffffff', \
                   balance = -300, window = { to = 7, from = 6 }";
    site.config(&config(globals, ""));
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    let added = values(&diff);
    assert_eq!(added.len(), 12);
    assert_eq!(added["window"], (Json::Null, json!({"value": {"from": 6, "to": 7}})));
    assert_eq!(added["extra"], (Json::Null, json!({"value": "18446744073709551615"})));
    site.apply();
    for (name, value) in [
        ("slot", "3"),
        ("name", "\"nobody\""),
        ("small", "255"),
        ("own", "7"),
        ("extra", "\"18446744073709551615\""),
        ("balance", "-300"),
        ("window", "{ from = 6, to = 7 }"),
    ] {
        assert_eq!(held(&site, name), value, "{name}");
    }
    site.send(&veth, "eth0", ABORTED, 5); // the name is wanted
    site.send(&veth, "eth0", DROP, 2); // and the limit is reached
    site.expect("diff", 0);
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert_eq!(status["interfaces"][0]["globals"]["limit"], 5);
    assert!(site.expect("status", 0).stdout.contains("eth0: balance = -300, "));
}

/// Reloads all the time, with constants and variables that change: no packet is missed, and what counts goes on.
#[test]
#[ignore = "needs root"]
fn values_change_under_traffic_and_no_packet_or_count_is_lost() {
    require_root!();
    let site = Site::new("traffic");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "settings");
    let file = |n: usize| {
        let verdict = ["PASS_ALL", "DROP_ALL"][n % 2];
        site.config(&config(&format!("verdict = '{verdict}', slot = {}", 1 + n % 3), ""));
    };
    file(0);
    site.apply();
    let maps = || [".data", ".bss"].map(|name| site.map("eth0", &escape(name)).id());
    let (before, link) = (maps(), site.link("eth0").info().unwrap().id);
    let traffic = site.lab.sender(&veth).background(4000);
    for n in 1..=20 {
        file(n);
        let outcome = site.run("apply config.toml --json").run().expect_code(0).json();
        let changed: Vec<String> = values(&outcome).into_keys().collect();
        assert_eq!(changed, ["slot", "verdict"], "{outcome}");
        assert_eq!(held(&site, "slot"), (1 + n % 3).to_string());
    }
    let sent = traffic.stop();
    assert!(sent > 20, "there was traffic");
    let all = || site.packets("eth0", DROP) + site.packets("eth0", PASS);
    xdpd_testlab::wait_until("all packets to be counted", xdpd_testlab::DEADLINE, || all() == sent);
    let counted = counters(&site);
    assert_eq!((counted[0], counted[1..].iter().sum::<u64>()), (sent, sent), "{counted:?}");
    assert!(counted[1..].iter().all(|n| *n > 0), "each counter had its time: {counted:?}");
    assert_eq!((maps(), site.link("eth0").info().unwrap().id), (before, link));
}

#[test]
#[ignore = "needs root"]
fn only_what_the_file_changes_is_written() {
    require_root!();
    let site = Site::new("own");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "settings");
    site.config(&config("own = 100, slot = 1", ""));
    site.apply();
    site.send(&veth, "eth0", PASS, 4);
    assert_eq!(held(&site, "own"), "104", "the program changes it");
    site.config(&config("slot = 2, own = 0x64", ""));
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(
        changes(&diff),
        [
            ("eth0.program".to_owned(), "update".to_owned()),
            ("eth0.globals.slot".to_owned(), "update".to_owned())
        ]
    );
    assert_eq!(diff["changes"][0]["reason"], "global slot");
    assert_eq!(values(&diff)["slot"], (json!({"value": 1}), json!({"value": 2})));
    assert!(site.expect("diff", 1).stdout.contains("~ global slot: 1 -> 2"));
    site.apply();
    assert_eq!((held(&site, "own"), held(&site, "slot")), ("104".into(), "2".into()));
    // Another spelling of the same value is none other.
    site.config(&config("slot = 0b10, own = '0x64'", ""));
    site.expect("diff", 0);
    site.config(&config("own = 50", ""));
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(values(&diff)["slot"], (json!({"value": 2}), Json::Null));
    assert!(
        flat(&site.expect("diff", 1).stdout)
            .contains("- global slot: 2 no longer set; the object's own value holds")
    );
    site.apply();
    assert_eq!((held(&site, "own"), held(&site, "slot")), ("50".into(), "1".into()));
    assert_eq!(counters(&site)[0], 4, "the rest goes on");
    // Another object with the same variables: they keep what they hold.
    site.send(&veth, "eth0", PASS, 1);
    let object = std::fs::read(site.lab.dir().join("own.o")).unwrap();
    site.lab.write("own.o", [&*object, b"another digest"].concat());
    site.apply();
    assert_eq!((held(&site, "own"), counters(&site)[0]), ("51".into(), 5));
    // A fresh map has the values from the start.
    site.config(&config("own = 50", "maps.\".data\".reuse = 'never'"));
    site.lab.write("own.o", [&*object, b"a third digest"].concat());
    site.apply();
    assert_eq!((held(&site, "own"), held(&site, "slot"), counters(&site)[0]), ("50".into(), "1".into(), 5));
    site.config(&config("", ""));
    site.apply();
    assert_eq!(held(&site, "own"), "7");
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_constant_that_is_no_longer_set_is_what_the_object_says() {
    require_root!();
    let site = Site::new("constant");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "settings");
    site.config(&config("limit = 0", ""));
    site.apply();
    site.send(&veth, "eth0", DROP, 2);
    site.config(&config("", ""));
    site.apply();
    site.send(&veth, "eth0", PASS, 2);
}

#[test]
fn what_does_not_fit_is_refused_where_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    common::compile_to(&dir.path().join("own.o"), "settings");
    let check = |globals: &str, object: &str| {
        let text = format!("[programs.p]\nobject = \"{object}\"\nglobals = {{ {globals} }}\n");
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let output = xdpd().args(["check", "config.toml"]).current_dir(dir.path()).run().expect_code(2);
        flat(&output.stderr)
    };
    let cases = [
        (
            "limt = 1",
            "3:13",
            "`limt` cannot be set: its object has no such variable",
            "did you mean `limit`?",
        ),
        ("nothing = 1", "3:13", "its object has no such variable", " and 9 more"),
        ("limit = -1", "3:21", "expected an integer from 0 to 4294967295 (`__u32`)", "found -1"),
        ("limit = 4294967296", "3:21", "expected an integer from 0 to 4294967295", "found 4294967296"),
        ("limit = true", "3:21", "expected an integer from 0 to 4294967295", "write 1 for true"),
        ("small = 256", "3:21", "expected an integer from 0 to 255 (`__u8`)", "found 256"),
        ("balance = 32768", "3:23", "expected an integer from -32768 to 32767 (`__s16`)", "found 32768"),
        ("strict = 1", "3:22", "expected true or false (`_Bool`)", "found 1"),
        ("port = 65536", "3:20", "expected an integer from 0 to 65535 (`__be16`)", "found 65536"),
        (
            "wanted = 'somebody'",
            "3:22",
            "expected a string of at most 7 bytes, which leaves room for its NUL (`char[8]`)",
            "found \"somebody\"",
        ),
        (
            "verdict = 'PAS_ALL'",
            "3:23",
            "expected one of \"PASS_ALL\", \"DROP_ALL\"",
            "did you mean \"PASS_ALL\"?",
        ),
        (
            "bytes = [1, 2]",
            "3:21",
            "expected an array of 5 elements (`__u8[5]`)",
            "found an array of 2 elements",
        ),
        ("bytes = [1, 2, 3, 4, 256]", "3:34", "`bytes`[4]: expected an integer from 0 to 255", "found 256"),
        (
            "window = { from = 1, too = 2 }",
            "3:34",
            "expected a member of `struct window { __u16 from; __u32 to; }`",
            "did you mean `to`?",
        ),
        ("window = { from = 1 }", "3:22", "expected every member of", "found a table without `to`"),
        ("both = 1", "3:20", "expected a type that the file can set", "`union both`: a union"),
        ("pointer = 1", "3:23", "expected a type that the file can set", "`void *`: a pointer"),
        ("folded = 1", "3:13", "it is `const` without `volatile`", "declare it `const volatile`"),
        ("xdp_stats_map = 1", "3:13", "it is in section `.maps`, which the file cannot set", ""),
    ];
    for (globals, place, what, more) in cases {
        let said = check(globals, "own.o");
        for part in [&format!("config.toml:{place}"), what, more] {
            assert!(said.contains(part), "{globals}: {part}\n{said}");
        }
    }
    let all = check("limit = -1, strict = 5", "own.o");
    assert!(all.contains("found -1") && all.contains("found 5"), "{all}");
    let builtin = check("limit = 1", "builtin");
    assert!(
        builtin.contains("its object has no such variable") && builtin.contains("it has none at all"),
        "{builtin}"
    );
    common::compile_with(&dir.path().join("bare.o"), "no_maps", &["-g0"]);
    let bare = check("limit = 1", "bare.o");
    assert!(bare.contains("its object has no BTF") && bare.contains("compile it with -g"), "{bare}");
}

#[test]
#[ignore = "needs root"]
fn the_conventions_of_redbpf_have_global_variables_too() {
    require_root!();
    let site = Site::new("redbpf");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "settings_of_redbpf");
    site.config(&config("action = 1, step = 2", ""));
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    assert_eq!((held(&site, "seen"), held(&site, "step")), ("7".into(), "2".into()));
    let data = site.map("eth0", "%2Edata").id();
    site.config(&config("action = 2, step = 10", ""));
    site.apply();
    site.send(&veth, "eth0", PASS, 1);
    assert_eq!((held(&site, "seen"), site.map("eth0", "%2Edata").id()), ("17".into(), data));
    site.config(&config("", ""));
    site.apply();
    assert_eq!((held(&site, "seen"), held(&site, "step")), ("17".into(), "1".into()));
    site.expect("diff", 0);
}

/// The kernel keeps so little of their names that these do not tell them apart.
#[test]
#[ignore = "needs root"]
fn variables_of_several_sections_keep_what_they_hold_by_the_conventions_of_redbpf_too() {
    require_root!();
    let site = Site::new("sections");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "sections_of_redbpf");
    site.config(&config("", ""));
    site.apply();
    let all_held = || ["first", "second", "third"].map(|name| held(&site, name));
    site.send(&veth, "eth0", DROP, 3);
    assert_eq!(all_held(), ["4", "40", "400"]);
    site.config(&config("third = 500, pad = 8", ""));
    site.apply();
    site.send(&veth, "eth0", PASS, 2);
    assert_eq!(all_held(), ["6", "60", "700"]);
    site.expect("diff", 0);
}

/// A map from before such maps were made for being shared is no other definition, and is written as a whole.
#[test]
#[ignore = "needs root"]
fn a_map_that_cannot_be_shared_is_kept_and_written_as_a_whole() {
    require_root!();
    let site = Site::new("whole");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "settings");
    site.config(&config("slot = 1, extra = 1", ""));
    site.apply();
    site.send(&veth, "eth0", PASS, 2);
    let dir = site.dir("eth0");
    let bss = dir.open_map("%2Ebss", Access::ReadOnly).unwrap();
    assert_eq!(bss.def().flags, MMAPABLE);
    let old = Map::create(".bss", &MapDef { flags: 0, ..*bss.def() }, None).unwrap();
    let mut value = vec![0; bss.value_len()];
    assert!(bss.lookup(&0u32.to_ne_bytes(), &mut value).unwrap());
    old.update(&0u32.to_ne_bytes(), &value, 0).unwrap();
    dir.unlink("%2Ebss").unwrap();
    dir.pin("%2Ebss", &old).unwrap();
    site.config(&config("slot = 1, extra = 5", ""));
    let diff = site.expect("diff", 1);
    assert!(flat(&diff.stdout).contains("can only be written as a whole"), "{}", diff.stdout);
    site.apply();
    assert_eq!(site.map("eth0", "%2Ebss").id(), old.id());
    assert_eq!((held(&site, "extra"), counters(&site)), ("5".into(), vec![2, 4, 0, 0]));
    site.send(&veth, "eth0", PASS, 1);
    assert_eq!(counters(&site), [3, 10, 0, 0]);
}

/// The text of a record is limited. Of a value that does not fit, it has a digest.
#[test]
#[ignore = "needs root"]
fn a_value_that_is_too_long_for_the_record_is_set_all_the_same() {
    require_root!();
    let site = Site::new("long");
    site.lab.veth("eth0", "peer0");
    compile(&site, "settings_long");
    let file = |letter: &str, limit: u32| {
        site.config(&config(&format!("text = '{}', limit = {limit}", letter.repeat(4000)), ""));
    };
    file("a", 5);
    site.apply();
    site.expect("diff", 0);
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert_eq!(status["interfaces"][0]["globals"], json!({"limit": 5, "text": null}));
    file("b", 5);
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(values(&diff), [("text".into(), (Json::Null, json!({"value": "b".repeat(4000)})))].into());
    assert_eq!(changes(&diff)[1], ("eth0.globals.text".into(), "update".into()));
    site.apply();
    site.expect("diff", 0);
}

/// The values before and after, with which the next tests break off an apply.
const BEFORE: &str = "slot = 1, extra = 0, name = 'before'";
const AFTER: &str = "slot = 2, extra = 3, name = 'nobody', balance = -5, limit = 9";

/// What the variables hold with one of the two.
fn held_with(globals: &str) -> [String; 4] {
    if globals == BEFORE {
        ["1", "0", "\"before\"", "0"].map(str::to_owned)
    } else {
        ["2", "3", "\"nobody\"", "-5"].map(str::to_owned)
    }
}

fn all_held(site: &Site) -> [String; 4] {
    ["slot", "extra", "name", "balance"].map(|name| held(site, name))
}

#[test]
#[ignore = "needs root"]
fn an_apply_that_fails_gives_the_variables_back_what_they_held() {
    require_root!();
    let site = Site::new("back");
    let veth = site.lab.veth("eth0", "peer0");
    let other = site.lab.veth("eth1", "peer1");
    compile(&site, "settings");
    site.config(&config(BEFORE, ""));
    site.apply();
    site.send(&veth, "eth0", PASS, 2);
    let (tree, running) = (site.bpffs.tree(), site.running("eth0"));
    // Natively it cannot be attached to the second one, which comes after the first has been changed.
    site.lab.set_mtu(&other, 9000);
    site.config(&format!("{}[interfaces.eth1]\nnetns = \"$NETNS\"\n", config(AFTER, "")));
    let failed = site.expect("apply", 3);
    assert!(failed.stderr.contains("the previous state is restored"), "{}", failed.stderr);
    assert_eq!((all_held(&site), counters(&site)[1]), (held_with(BEFORE), 2));
    assert_eq!((site.bpffs.tree(), site.running("eth0")), (tree, running));
    site.send(&veth, "eth0", PASS, 1);
    site.config(&config(BEFORE, ""));
    site.expect("diff", 0);
}

/// Runs an apply under strace with a fault at the n-th call of a kind; its log, too.
fn traced(site: &Site, faults: &[(&str, &str, usize)]) -> (xdpd_testlab::Output, String) {
    let log = site.lab.dir().join("strace.log");
    let mut strace = Invocation::of("strace")
        .netns(site.lab.near())
        .current_dir(site.lab.dir())
        .args(["-qq", "-e", "signal=none", "-e", "trace=bpf,renameat2,unlinkat,mmap", "-o"])
        .arg(&log);
    for (call, fault, n) in faults {
        strace = strace.args(["-e", &format!("inject={call}:{fault}:when={n}")]);
    }
    let output = strace.arg(xdpd().path()).args(["apply", "config.toml"]).run();
    (output, std::fs::read_to_string(log).unwrap())
}

/// Devices of the namespace that xdpd runs in, so that its calls are all made by one thread.
fn stand(name: &str) -> Site {
    let site = Site::new(name);
    site.lab.veth("eth0", "peer0");
    compile(&site, "settings");
    for_file(&site, BEFORE);
    site.run("apply config.toml").netns(site.lab.near()).run().expect_code(0);
    site
}

fn for_file(site: &Site, globals: &str) {
    site.config(&config(globals, "").replace("netns = \"$NETNS\"\n", ""));
}

/// Applies in the namespace; then the variables hold what the file says, and nothing is left beside.
#[track_caller]
fn assert_converges(site: &Site, globals: &str, context: &str) {
    for_file(site, globals);
    let run = |command: &str| site.run(&format!("{command} config.toml")).netns(site.lab.near()).run();
    run("apply").expect_code(0);
    assert_eq!(all_held(site), held_with(globals), "{context}");
    assert_eq!(run("diff").code(), Some(0), "{context}");
    let tree = site.bpffs.tree();
    assert!(!tree.iter().any(|pin| pin.contains("%former") || pin.contains("%next")), "{context}: {tree:?}");
}

#[test]
#[ignore = "needs root"]
fn a_call_that_fails_leaves_the_variables_as_they_were_or_as_the_file_says() {
    require_root!();
    let site = stand("calls");
    let mut ends: BTreeMap<i32, usize> = BTreeMap::new();
    for call in ["bpf", "unlinkat", "renameat2"] {
        for n in 1.. {
            for_file(&site, AFTER);
            let (output, log) = traced(&site, &[(call, "error=EIO", n)]);
            let context = format!("call {n} of {call}: {output}");
            let code = output.code().unwrap();
            let expected = if matches!(code, 2 | 3) { BEFORE } else { AFTER };
            assert!([0, 2, 3, 4].contains(&code), "{context}");
            assert_eq!(all_held(&site), held_with(expected), "{context}");
            assert_converges(&site, expected, &context);
            assert_converges(&site, BEFORE, &context);
            if !log.contains("(INJECTED)") {
                break;
            }
            *ends.entry(code).or_default() += 1;
        }
    }
    assert!(ends[&3] > 3, "some came after the first write: {ends:?}");
}

#[test]
#[ignore = "needs root"]
fn a_write_that_fails_is_taken_back() {
    require_root!();
    let site = stand("writes");
    for_file(&site, AFTER);
    let (_, log) = traced(&site, &[]);
    let maps = log.lines().filter(|line| line.starts_with("mmap("));
    let shared: Vec<usize> =
        maps.enumerate().filter(|(_, line)| line.contains("MAP_SHARED")).map(|(n, _)| n + 1).collect();
    assert_eq!(shared.len(), 4, "one for each variable");
    assert_converges(&site, BEFORE, "before");
    for n in shared {
        for_file(&site, AFTER);
        let (output, _) = traced(&site, &[("mmap", "error=ENOMEM", n)]);
        output.expect_code(3);
        assert_eq!(all_held(&site), held_with(BEFORE), "mmap {n}");
        assert_converges(&site, BEFORE, &format!("mmap {n}"));
    }
}

/// Whatever the next file says, the variables hold it: what it had said before, or what it says now.
#[test]
#[ignore = "needs root"]
fn a_kill_at_any_call_is_settled_by_the_next_apply_whichever_values_it_wants() {
    require_root!();
    let site = stand("kills");
    for call in ["bpf", "unlinkat", "renameat2", "mmap"] {
        for n in 1.. {
            for_file(&site, AFTER);
            let (output, _) = traced(&site, &[(call, "signal=KILL", n)]);
            let context = format!("call {n} of {call}");
            assert!(site.running("eth0").is_some(), "{context}");
            // To go back is the harder way, so most points take it.
            let wanted = if (n + std::process::id() as usize).is_multiple_of(4) { AFTER } else { BEFORE };
            assert_converges(&site, wanted, &context);
            assert_converges(&site, BEFORE, &context);
            if output.status.signal() != Some(9) {
                break;
            }
        }
    }
}

/// What an apply had written, and what was there before, is told by a note beside the interfaces. It is looked at by the
/// run that comes after a kill.
#[test]
#[ignore = "needs root"]
fn a_denied_look_at_what_the_variables_held_before_a_kill_is_told_and_the_next_apply_settles_it() {
    require_root!();
    let site = stand("notes");
    let log = site.lab.dir().join("looks.log");
    let run = |faults: &[Fault<'_>]| {
        let strace = strace_of(&log, &SWEPT, faults).netns(site.lab.near()).current_dir(site.lab.dir());
        let output = strace.arg(xdpd().path()).args(["apply", "config.toml"]).run();
        (output, std::fs::read_to_string(&log).unwrap())
    };
    let killed = || {
        for_file(&site, AFTER);
        let (output, _) = traced(&site, &[("renameat2", "signal=KILL", 1)]);
        assert_eq!(output.status.signal(), Some(9), "{output}");
        let tree = site.bpffs.tree();
        assert!(tree.iter().any(|pin| pin.contains("%former-eth0")), "{tree:?}");
        for_file(&site, BEFORE);
    };
    killed();
    let (output, calls) = run(&[]);
    output.expect_code(0);
    let is_look = |line: &str| line.starts_with("bpf(") || line.contains("%former-");
    let looks: Vec<_> = numbered(&calls, is_look).collect();
    let step = if tries() == Tries::Some { 4 } else { 1 };
    let first = std::process::id() as usize;
    for (at, (call, n)) in looks.into_iter().enumerate().skip(first % step).step_by(step) {
        let (errno, _) = ERRNOS[(at / step + first) % ERRNOS.len()];
        killed();
        let (output, calls) = run(&[(call, &format!("error={errno}"), n)]);
        let context = format!("{errno} in {:?}: {output}", injected(&calls));
        match output.code() {
            Some(0) => assert_eq!(all_held(&site), held_with(BEFORE), "{context}"),
            Some(2..=4) => assert!(is_named(errno, &output.stderr), "{context}"),
            code => panic!("{code:?}: {context}"),
        }
        assert_converges(&site, BEFORE, &context);
    }
}

/// Compiled as its first lines say, run as its file says.
#[test]
#[ignore = "needs root"]
fn the_example_lets_in_as_many_packets_as_its_file_says() {
    require_root!();
    let site = Site::new("limit");
    let veth = site.lab.veth("eth0", "peer0");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    common::compile_file(&site.lab.dir().join("limit.o"), &examples.join("programs/limit.c"), &[]);
    let text = std::fs::read_to_string(examples.join("configs/globals.toml")).unwrap();
    let file = |limit: &str| {
        let text = text.replace("../programs/", "").replace("limit = 5000", limit);
        let text = text.replace("window = 100_000_000", "window = 3_600_000_000_000");
        site.config(&text.replace("[interfaces.eth0]", "[interfaces.eth0]\nnetns = \"$NETNS\""));
        site.apply();
    };
    file("limit = 3");
    site.send(&veth, "eth0", PASS, 3);
    site.send(&veth, "eth0", DROP, 2);
    // 5 packets have come in the window, and that goes on being known.
    file("limit = 7");
    site.send(&veth, "eth0", PASS, 2);
    site.send(&veth, "eth0", DROP, 1);
    file("limit = 7\nenabled = false");
    site.send(&veth, "eth0", PASS, 4);
    file("limit = 7");
    let from = |source: &str, action: u32| {
        let before = site.packets("eth0", action);
        site.lab.sender(&veth).from_address(source.parse().unwrap()).send(5);
        xdpd_testlab::wait_until("the packets to be counted", xdpd_testlab::DEADLINE, || {
            site.packets("eth0", action) == before + 5
        });
    };
    from("192.0.2.2", PASS);
    from("192.0.2.3", DROP);
    site.expect("diff", 0);
}

/// Whatever the types of a mangled object are, a value is one of them or refused.
#[test]
fn no_mangled_object_makes_the_check_of_values_panic() {
    let dir = tempfile::tempdir().unwrap();
    let sound = std::fs::read(common::compile_to(&dir.path().join("own.o"), "settings")).unwrap();
    let text = format!(
        "[programs.p]\nobject = \"own.o\"\nglobals = {{ {AFTER}, window = {{ from = 1, to = 2 }} }}\n"
    );
    let config = xdpd_config::Config::parse(&dir.path().join("config.toml"), &text).unwrap();
    let resolve = |object: &Object| Globals::resolve(object, &config.programs["p"]);
    assert_eq!(resolve(&Object::inspect(sound.clone()).unwrap()).unwrap().set().len(), 6);
    // The types lie in one piece; most of what else is mangled is refused before.
    let types = {
        use object::{Object as _, ObjectSection as _};
        let file = object::File::parse(&*sound).unwrap();
        let (start, len) = file.section_by_name(".BTF").unwrap().file_range().unwrap();
        usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap()
    };
    let mut ends = [0; 3];
    for at in types {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] ^= flip;
            let end = match Object::inspect(bytes).map(|object| resolve(&object)) {
                Ok(Ok(_)) => 0,
                Ok(Err(_)) => 1,
                Err(_) => 2,
            };
            ends[end] += 1;
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "taken, refused, no object: {ends:?}");
}
