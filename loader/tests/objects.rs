//! Promises about objects: what loads, which maps are reused, and that no file hurts.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{DROP, Site, changes, object_with, set_word};
use xdpd_testlab::require_root;

const MAP: &str = "maps/xdp_stats_map";

fn file_program(extra: &str) -> String {
    format!(
        "[programs.p]\nobject = \"own.o\"\nfunction = \"xdp_drop_func\"\n{extra}\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
    )
}

#[test]
#[ignore = "needs root"]
fn an_object_file_is_loaded_and_a_changed_one_is_loaded_anew() {
    require_root!();
    let site = Site::new("file");
    let veth = site.lab.veth("eth0", "peer0");
    let object = site.lab.write("own.o", common::builtin_object());
    site.config(&file_program(""));
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    site.expect("diff", 0);
    // Another instruction: another digest, the same map.
    object_with(&object, "xdp/xdp_drop_func", |code| {
        // The return value: r0 = XDP_DROP, in either width, becomes r0 = XDP_PASS.
        let set = code.chunks_mut(8).filter(|insn| matches!(insn[..2], [0xb7 | 0xb4, 0]) && insn[4] == 1);
        assert_eq!(set.map(|insn| insn[4] = 2).count(), 1);
    });
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(changes(&diff), [("eth0.program".to_owned(), "update".to_owned())]);
    assert!(diff["changes"][0]["reason"].as_str().unwrap().starts_with("object sha256:"));
    site.apply();
    assert_eq!(site.packets("eth0", DROP), 10);
    site.expect("diff", 0);
}

/// A map definition that differs, and what each policy makes of it.
#[test]
#[ignore = "needs root"]
fn policies_decide_about_a_map_of_another_definition() {
    require_root!();
    let site = Site::new("policy");
    let veth = site.lab.veth("eth0", "peer0");
    let object = site.lab.write("own.o", common::builtin_object());
    site.config(&file_program(""));
    site.apply();
    site.send(&veth, "eth0", DROP, 10);
    object_with(&object, MAP, |def| set_word(def, 3, 10));

    site.config(&format!("reuse = \"require\"\n{}", file_program("")));
    let before = site.bpffs.fingerprint();
    let blocked = site.expect("apply", 2);
    assert!(common::flat(&blocked.stdout).contains("max entries 5 -> 10"), "{}", blocked.stdout);
    assert_eq!(site.bpffs.fingerprint(), before, "a blocked plan changes nothing");
    assert_eq!(site.run("diff config.toml --json").run().expect_code(2).json()["applyable"], false);

    // The map's own policy comes before the interface's and the file's.
    site.config(&format!(
        "reuse = \"require\"\n{}reuse = \"require\"\n",
        file_program("[programs.p.maps.xdp_stats_map]\nreuse = \"if-compatible\"")
    ));
    let diff = site.expect("diff", 1);
    assert!(common::flat(&diff.stdout).contains("its content is lost"), "{}", diff.stdout);
    let old = site.map("eth0", "xdp_stats_map").id();
    site.apply();
    assert_eq!(site.map("eth0", "xdp_stats_map").def().max_entries, 10);
    assert_eq!(site.packets("eth0", DROP), 0);
    assert_eq!(common::packets(&site.map("eth0", &format!("xdp_stats_map-0-{old}")), DROP), 10);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_program_that_lost_its_map_drops_the_pin_and_one_that_gains_it_makes_it() {
    require_root!();
    let site = Site::new("maps");
    site.lab.veth("eth0", "peer0");
    // The same object with its map under another name: one map goes, another comes.
    let other = replace(&common::builtin_object(), b"maps/xdp_stats_map", b"maps/xdp_other_map");
    site.lab.write("other.o", other);
    site.lab.write("own.o", common::builtin_object());
    site.config(&file_program(""));
    site.apply();
    site.config(&file_program("").replace("own.o", "other.o"));
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert_eq!(
        changes(&diff),
        [
            ("eth0.program", "update"),
            ("eth0.map.xdp_other_map", "create"),
            ("eth0.map.xdp_stats_map", "delete")
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    site.apply();
    let pins: Vec<_> = site.bpffs.tree().into_iter().filter(|e| e.contains("_map")).collect();
    assert!(pins.iter().any(|p| p.ends_with("xdp_other_map")), "{pins:?}");
    assert!(!pins.iter().any(|p| p.ends_with("xdp_stats_map")), "{pins:?}");
    site.expect("diff", 0);
    site.config(&file_program(""));
    site.apply();
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn the_verifiers_refusal_is_shown_whole_and_changes_nothing() {
    require_root!();
    let site = Site::new("verifier");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    let object = site.lab.dir().join("own.o");
    // The first instruction reads through a number: r1 = *(u64 *)(r0 + 0), and r0 is not even set.
    object_with(&object, "xdp/xdp_drop_func", |code| {
        code[..8].copy_from_slice(&[0x79, 0x01, 0, 0, 0, 0, 0, 0]);
    });
    site.config(&file_program(""));
    let before = (site.bpffs.tree(), site.map("eth0", "xdp_stats_map").id(), site.running("eth0"));
    let refused = site.expect("apply", 2);
    assert!(refused.stderr.contains("R0 !read_ok"), "{}", refused.stderr);
    let last = refused.stderr.trim_end().lines().last().unwrap();
    assert!(
        last.contains("eth0") && last.contains("xdp_drop_func") && last.contains("R0 !read_ok"),
        "{last}"
    );
    assert!(last.contains("nothing was changed"), "{last}");
    assert_eq!((site.bpffs.tree(), site.map("eth0", "xdp_stats_map").id(), site.running("eth0")), before);
    site.send(&veth, "eth0", DROP, 5);
}

#[test]
#[ignore = "needs root"]
fn no_file_given_as_object_hurts() {
    require_root!();
    let site = Site::new("hostile");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    let before = (site.bpffs.fingerprint(), site.running("eth0"));
    let builtin = common::builtin_object();
    let mut cases: Vec<(String, Vec<u8>, &str)> = vec![
        ("empty".into(), Vec::new(), "empty"),
        ("text".into(), b"#!/bin/sh\necho hello\n".to_vec(), "not an ELF object"),
        ("another machine".into(), std::fs::read("/proc/self/exe").unwrap(), "not a BPF object"),
        ("no program".into(), replace(&builtin, b"xdp/", b"xxx/"), "no XDP program"),
    ];
    let lengths = [4, 63, 64, 200, 1000, builtin.len() / 2, builtin.len() - 1];
    cases.extend(lengths.map(|len| (format!("cut at {len}"), builtin[..len].to_vec(), "own.o")));
    for (what, bytes, expected) in cases {
        site.lab.write("own.o", bytes);
        site.config(&file_program(""));
        for command in ["check", "diff", "apply"] {
            let refused = site.expect(command, 2);
            assert!(refused.stderr.contains(expected), "{what}: {}", refused.stderr);
            assert!(refused.stderr.contains("config.toml:3:10"), "{what}: {}", refused.stderr);
        }
    }
    std::fs::remove_file(site.lab.dir().join("own.o")).unwrap();
    let missing = site.expect("apply", 2);
    assert!(missing.stderr.contains("No such file"), "{}", missing.stderr);
    std::fs::create_dir(site.lab.dir().join("own.o")).unwrap();
    let directory = site.expect("apply", 2);
    assert!(directory.stderr.contains("it is a directory"), "{}", directory.stderr);
    assert_eq!((site.bpffs.fingerprint(), site.running("eth0")), before);
    site.send(&veth, "eth0", DROP, 5);
}

#[test]
fn a_function_that_is_not_there_is_told_with_what_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.o"), common::builtin_object()).unwrap();
    let check = |text: &str| {
        let config = dir.path().join("config.toml");
        std::fs::write(&config, text).unwrap();
        xdpd_testlab::xdpd().arg("check").arg(&config).run().expect_code(2).stderr
    };
    let text = check(
        "[programs.p]\nobject = \"own.o\"\nfunction = \"xdp_drp_func\"\n[interfaces.x]\nprogram = \"p\"\n",
    );
    assert!(text.contains("config.toml:3:12") && text.contains("did you mean `xdp_drop_func`?"), "{text}");
    let text = check("[programs.p]\nobject = \"own.o\"\n[interfaces.x]\nprogram = \"p\"\n");
    assert!(text.contains("4 XDP programs") && text.contains("choose one with `function`"), "{text}");
    let text = check(
        "[programs.p]\nobject = \"own.o\"\nfunction = \"xdp_drop_func\"\n[programs.p.maps.xdp_stat_map]\n\
         reuse = \"never\"\n[interfaces.x]\nprogram = \"p\"\n",
    );
    assert!(text.contains("did you mean `xdp_stats_map`?"), "{text}");
}

#[test]
fn all_errors_of_a_file_its_objects_and_its_entries_are_told_at_once_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.o"), common::builtin_object()).unwrap();
    let config = dir.path().join("config.toml");
    let text = "reuse = 'migrat'\n[programs.a]\nobject = 'gone.o'\n[programs.b]\nobject = 'gone.o'\nfunktion = 'x'\n\
                [programs.c]\nobject = 'own.o'\nfunction = 'xdp_drp_func'\n[programs.d]\nobject = 'builtin'\n\
                [programs.d.maps.xdp_stats_map]\nentries = 'gone.csv'\n[interfaces.x]\nprogram = 'none'\n";
    std::fs::write(&config, text).unwrap();
    let check = || xdpd_testlab::xdpd().arg("check").arg(&config).run().expect_code(2).stderr;
    let places = |text: &str| -> Vec<String> {
        let places = text.lines().filter_map(|line| line.split_once("config.toml:"));
        places.filter_map(|(_, place)| Some(place.split_once(':')?.0.to_owned())).collect()
    };
    let told = check();
    // Of a program that has errors in the file, nothing more: what it lacks may follow from them.
    assert_eq!(places(&told), ["1", "3", "6", "9", "13", "15"], "{told}");
    // What a file that is not TOML means is anybody's guess.
    std::fs::write(&config, format!("{text}[interfaces\n")).unwrap();
    let told = check();
    assert!(!told.contains("gone.o"), "{told}");
}

/// What `check` prints of a file without other files.
fn checked(text: &str, options: &[&str]) -> xdpd_testlab::Output {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, text).unwrap();
    xdpd_testlab::xdpd().arg("check").arg(&config).args(options).run().expect_code(0)
}

#[test]
fn of_the_builtin_object_what_the_file_uses_is_explained_and_the_rest_is_named() {
    let text = checked("[interfaces.eth0]\n", &[]).stdout;
    assert!(text.contains("  program xdp_pass_func: ") && text.contains("    run by   eth0\n"), "{text}");
    assert!(
        text.contains("  and xdp_abort_func, xdp_drop_func, xdp_tx_func, which the file does not use\n"),
        "{text}"
    );
    assert_eq!(text.matches("  program ").count(), 1, "{text}");
    let json = checked("[interfaces.eth0]\n", &["--json"]).json();
    assert_eq!(json["objects"][0]["programs"].as_array().unwrap().len(), 4, "tools get all");
}

#[test]
fn a_rule_for_migrating_where_nothing_is_migrated_is_remarked_on_and_no_error() {
    let file = "[programs.p]\nobject = 'builtin'\n[programs.p.maps.xdp_stats_map]\n\
                merge = { rx_packets = 'max' }\n[interfaces.eth0]\nprogram = 'p'\n";
    let note = "program `p`, map `xdp_stats_map`: merge has no effect on eth0, where reuse = \"if-compatible\" and \
                not \"migrate\"";
    let text = checked(file, &[]).stdout;
    assert!(common::flat(&text).contains(&format!("note: {note}")), "{text}");
    assert_eq!(checked(file, &["--json"]).json()["notes"][0]["what"], note);
    let migrate = format!("reuse = 'migrate'\n{file}");
    assert!(!checked(&migrate, &[]).stdout.contains("note: "));
    assert!(checked(&migrate, &["--json"]).json().get("notes").is_none());
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}
