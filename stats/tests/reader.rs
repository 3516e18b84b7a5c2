//! What `xdp-stats` promises, asked of the program itself on a real bpffs. The pins are made by hand here;
//! loader/tests/reload.rs has the promise of both programs together.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::Path;

use common::{
    DROP, Lines, MAP, PASS, Pins, SIZE, Site, TX, add, between_ticks, counted, events, hash_map, names, set,
    stats_map, wait_ticks,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use xdpd_kernel::{Program, bpffs};
use xdpd_testlab::stats::Counts;
use xdpd_testlab::{DEADLINE, Lab, Stats, require_root, wait_until, xdp_stats};

/// The only interface of most tests, and no device of the machine.
const EDGE: &str = "[interfaces.edge]\n";

fn first(map: &xdpd_kernel::Map) -> Pins<'_> {
    Pins { generation: 0, map, retired: &[], base: None }
}

/// All samples of an interface from the first that is partial on, up to the first of the current map.
fn tick_of_replacement(stats: &Stats, interface: &str) -> Vec<Value> {
    let replaced = stats.wait_event(interface, "map_replaced");
    let new = &replaced["new_map_id"];
    let last = stats.wait("the sample of the new map", |r| r["event"] == "sample" && r["map_id"] == *new);
    let within = |record: &&Value| {
        let seq = record["seq"].as_u64();
        seq > replaced["seq"].as_u64() && seq <= last["seq"].as_u64()
    };
    stats.records().iter().filter(within).cloned().collect()
}

fn packets(record: &Value) -> (u64, u64) {
    let totals = &record["totals"];
    (totals["packets"].as_u64().unwrap(), totals["packets_total"].as_u64().unwrap())
}

#[test]
#[ignore = "needs root"]
fn a_sample_has_exactly_the_documented_keys_in_their_order() {
    require_root!();
    let site = Site::new(EDGE);
    let map = counted(5);
    site.apply("edge", &first(&map));
    let mut reader = Lines::spawn(site.stats().args(["--json", "--interval", "30ms"]));
    let baseline = reader.next();
    between_ticks(reader.pid(), || {
        add(&map, PASS, 3);
        set(&map, DROP, 0, 2, 3000);
    });
    let (line, sample) = loop {
        let line = reader.next();
        let sample: Value = serde_json::from_str(&line).unwrap();
        if sample["totals"]["packets"] == 5 {
            break (line, sample);
        }
    };
    // Those that nobody can know beforehand are taken from the line; all else, and the order, is given.
    let head = |record: &Value, event: &str| {
        format!(
            r#"{{"schema":1,"event":"{event}","ts":{},"mono_ns":{},"boot_id":{},"run_id":{},"seq":{},"host":{},"interface":"edge","device":"dev-edge","netns":null,"ifindex":4000007,"map":"xdp_stats_map","map_id":{}"#,
            record["ts"],
            record["mono_ns"],
            record["boot_id"],
            record["run_id"],
            record["seq"],
            record["host"],
            map.id()
        )
    };
    let rate = |count: u64| json!(f64::from(u32::try_from(count).unwrap()) * 1e9 / seconds(&sample));
    let six = |packets: u64, bytes: u64, packets_total: u64, bytes_total: u64| {
        let bits = json!(rate(bytes).as_f64().unwrap() * 8.0);
        format!(
            r#"{{"packets":{packets},"bytes":{bytes},"packets_total":{packets_total},"bytes_total":{bytes_total},"packets_per_second":{},"bits_per_second":{bits}}}"#,
            rate(packets)
        )
    };
    let zero = r#"{"packets":0,"bytes":0,"packets_total":0,"bytes_total":0,"packets_per_second":0.0,"bits_per_second":0.0}"#;
    let expected = format!(
        r#"{},"interval_ns":{},"partial":false,"actions":{{"aborted":{zero},"drop":{},"pass":{},"tx":{zero},"redirect":{zero}}},"totals":{}}}"#,
        head(&sample, "sample"),
        sample["interval_ns"],
        six(2, 3000, 2, 3000),
        six(3, 3 * SIZE, 8, 8 * SIZE),
        six(5, 3000 + 3 * SIZE, 10, 3000 + 8 * SIZE),
    );
    assert_eq!(line, expected + "\n");

    let two = |packets: u64| format!(r#"{{"packets_total":{packets},"bytes_total":{}}}"#, packets * SIZE);
    let record: Value = serde_json::from_str(&baseline).unwrap();
    let expected = format!(
        r#"{},"actions":{{"aborted":{zero},"drop":{zero},"pass":{five},"tx":{zero},"redirect":{zero}}},"totals":{five}}}"#,
        head(&record, "baseline"),
        zero = two(0),
        five = two(5),
    );
    assert_eq!(baseline, expected + "\n");
    assert_eq!(record["seq"], 1);

    let ts = sample["ts"].as_str().unwrap();
    assert!(ts.len() == "2026-11-22T09:30:00.123456Z".len() && ts.ends_with('Z'), "{ts}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(sample["boot_id"], read("/proc/sys/kernel/random/boot_id"));
    assert_eq!(sample["host"], read("/proc/sys/kernel/hostname"));
    assert_eq!(sample["run_id"].as_str().unwrap().len(), 32);
}

fn seconds(sample: &Value) -> f64 {
    sample["interval_ns"].as_f64().unwrap()
}

#[test]
#[ignore = "needs root"]
fn records_are_numbered_without_a_hole_and_their_clock_does_not_go_back() {
    require_root!();
    let site = Site::new("[interfaces.a]\n[interfaces.b]\n[interfaces.c]\n");
    let (a, b) = (counted(1), counted(2));
    site.apply("a", &first(&a));
    site.apply("b", &first(&b));
    let output = site.stats().args(["--json", "--interval", "20ms", "--count", "4"]).run().expect_code(0);
    let records = output.json_lines();
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=3 + 4 * 2).collect::<Vec<_>>());
    for (index, interface) in ["a", "b"].into_iter().enumerate() {
        let samples = events(&records, interface, "sample");
        let mut clock = records[index]["mono_ns"].as_u64().unwrap();
        for sample in samples {
            let now = sample["mono_ns"].as_u64().unwrap();
            assert_eq!(sample["interval_ns"], now - clock, "measured between the two readings");
            clock = now;
        }
    }
}

#[test]
#[ignore = "needs root"]
fn only_a_map_that_was_there_at_the_start_is_a_baseline() {
    require_root!();
    let site = Site::new("[interfaces.here]\n[interfaces.later]\n");
    site.apply("here", &first(&counted(10)));
    let stats = site.follow();
    let baseline = stats.wait_event("here", "baseline");
    assert_eq!(baseline["actions"]["pass"], json!({ "packets_total": 10, "bytes_total": 640 }));
    let waiting = stats.wait_event("later", "waiting");
    assert!(waiting["reason"].as_str().unwrap().ends_with("/later does not exist"), "{waiting}");

    let later = counted(5);
    site.apply("later", &first(&later));
    add(&later, TX, 2);
    stats.wait_packets("later", 7);
    let records = stats.stop().records;
    assert_eq!(names(&records, "here"), ["baseline"]);
    assert_eq!(names(&records, "later"), ["waiting"]);
    let sums = xdpd_testlab::stats::sum(&records, "later");
    assert_eq!(sums["pass"], Counts { packets: 5, bytes: 5 * SIZE });
    assert_eq!(sums["tx"], Counts { packets: 2, bytes: 2 * SIZE });
    assert!(events(&records, "here", "sample").iter().all(|sample| packets(sample) == (0, 10)));
}

#[test]
#[ignore = "needs root"]
fn a_replaced_map_gives_one_sample_per_map_and_no_gap() {
    require_root!();
    let site = Site::new(EDGE);
    let (old, between, new) = (counted(10), stats_map(), stats_map());
    site.apply("edge", &first(&old));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    // Two replacements while the reader sleeps: of the map in between it has only the retired pin.
    between_ticks(stats.pid(), || {
        add(&old, PASS, 3);
        site.apply("edge", &Pins { generation: 1, map: &between, retired: &[(0, &old)], base: None });
        add(&between, DROP, 4);
        let retired = [(0, &old), (1, &between)];
        site.apply("edge", &Pins { generation: 2, map: &new, retired: &retired, base: None });
        add(&new, TX, 5);
    });
    stats.wait_packets("edge", 12);
    let replaced = stats.wait_event("edge", "map_replaced");
    assert_eq!(replaced["old_map_id"], old.id().0);
    assert_eq!(replaced["new_map_id"], new.id().0);
    assert_eq!(replaced["generation"], 2);
    let tick = tick_of_replacement(&stats, "edge");
    let told: Vec<_> = tick
        .iter()
        .map(|r| (r["event"].clone(), r["map_id"].clone(), r["partial"].clone(), packets(r)))
        .collect();
    let sample = |map: &xdpd_kernel::Map, partial: bool, counts: (u64, u64)| {
        (json!("sample"), json!(map.id().0), json!(partial), counts)
    };
    assert_eq!(
        told,
        [sample(&old, true, (3, 13)), sample(&between, true, (4, 4)), sample(&new, false, (5, 5))]
    );
    for partial in &tick[..2] {
        for counts in partial["actions"].as_object().unwrap().values().chain([&partial["totals"]]) {
            assert_eq!(
                (&counts["packets_per_second"], &counts["bits_per_second"]),
                (&Value::Null, &Value::Null)
            );
        }
    }
    assert!(tick[2]["totals"]["packets_per_second"].as_f64().unwrap() > 0.0);

    wait_ticks(&stats, "edge", 3);
    let records = stats.stop().records;
    assert_eq!(names(&records, "edge"), ["baseline", "map_replaced"]);
    assert_eq!(events(&records, "edge", "sample").iter().filter(|r| r["partial"] == true).count(), 2);
}

#[test]
#[ignore = "needs root"]
fn a_map_that_took_entries_over_goes_on_from_their_values() {
    require_root!();
    let site = Site::new(EDGE);
    let old = counted(10);
    site.apply("edge", &first(&old));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    between_ticks(stats.pid(), || {
        add(&old, PASS, 3);
        let new = counted(13 + 4);
        site.apply("edge", &Pins { generation: 1, map: &new, retired: &[(0, &old)], base: Some(old.id()) });
    });
    stats.wait_packets("edge", 7);
    wait_ticks(&stats, "edge", 2);
    let records = stats.stop().records;
    assert_eq!(names(&records, "edge"), ["baseline", "map_replaced"]);
    assert_eq!(packets(events(&records, "edge", "sample").last().unwrap()), (0, 17));
}

#[test]
#[ignore = "needs root"]
fn migrations_in_a_row_and_one_that_is_taken_back_count_every_packet_once() {
    require_root!();
    let site = Site::new(EDGE);
    let (a, b, c, d) = (counted(10), counted(12 + 3), counted(15 + 4), counted(19 + 5));
    site.apply("edge", &first(&a));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    // Twice between two ticks: 2 packets more in the first map, 3 in the second, 4 in the third.
    let retired = [(0, &a), (1, &b)];
    let third = Pins { generation: 2, map: &c, retired: &retired, base: Some(b.id()) };
    between_ticks(stats.pid(), || {
        add(&a, PASS, 2);
        site.apply_migrated("edge", &third, &[(b.id(), a.id())]);
    });
    stats.wait_packets("edge", 2 + 3 + 4);
    // On trial for some ticks: 5 packets. Then they are given back, and 6 more come.
    site.apply("edge", &Pins { generation: 3, map: &d, retired: &[(2, &c)], base: Some(c.id()) });
    stats.wait_packets("edge", 9 + 5);
    wait_ticks(&stats, "edge", 2);
    between_ticks(stats.pid(), || {
        add(&c, PASS, 5 + 6);
        site.apply_migrated("edge", &third, &[(b.id(), a.id())]);
    });
    stats.wait_packets("edge", 14 + 6);
    add(&c, PASS, 1);
    stats.wait_packets("edge", 21);
    let records = stats.stop().records;
    assert_eq!(names(&records, "edge"), ["baseline", "map_replaced", "map_replaced", "map_replaced"]);
}

#[test]
#[ignore = "needs root"]
fn a_missing_generation_is_a_gap_with_the_number_of_maps() {
    require_root!();
    let site = Site::new(EDGE);
    let (first_map, fourth, fifth) = (counted(10), counted(4), counted(5));
    site.apply("edge", &Pins { generation: 1, map: &first_map, retired: &[], base: None });
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    between_ticks(stats.pid(), || {
        add(&first_map, PASS, 3);
        let retired = [(1, &first_map), (4, &fourth)];
        site.apply("edge", &Pins { generation: 5, map: &fifth, retired: &retired, base: None });
    });
    let gap = stats.wait_event("edge", "gap");
    assert_eq!((&gap["maps"], &gap["map_id"]), (&json!(2), &json!(fifth.id().0)), "{gap}");
    assert!(gap["reason"].is_string());
    stats.wait_packets("edge", 3 + 4 + 5);
    wait_ticks(&stats, "edge", 3);
    assert_eq!(names(&stats.stop().records, "edge"), ["baseline", "map_replaced", "gap"]);
}

/// A program that ran while it was replaced counts once more, in a map that was read already.
fn the_late_count_is_read_at_the_next_tick(retire: bool) {
    wait_until("a count between the tick that sees the replacement and the next one", DEADLINE, || {
        a_late_count_is_read_at_the_next_tick(retire)
    });
}

/// False, and nothing is known, where the count came only after the next tick, since this process had to wait for a CPU.
fn a_late_count_is_read_at_the_next_tick(retire: bool) -> bool {
    let site = Site::new(EDGE);
    let (old, new) = (stats_map(), stats_map());
    site.apply("edge", &first(&old));
    let stats = Stats::spawn(site.stats().args(["--interval", "200ms"]));
    stats.wait_event("edge", "baseline");
    between_ticks(stats.pid(), || {
        add(&old, PASS, 3);
        let retired = [(0, &old)];
        let retired = if retire { retired.as_slice() } else { &[] };
        let pins = Pins { generation: 1, map: &new, retired, base: None };
        // Where nothing is retired there is no record either: another loader has made this.
        if retire { site.apply("edge", &pins) } else { site.pin("edge", &new) }
    });
    let of_new = |record: &Value| record["event"] == "sample" && record["map_id"] == new.id().0;
    stats.wait("the new map", of_new);
    between_ticks(stats.pid(), || {
        add(&old, PASS, 1);
        add(&new, PASS, 2);
    });
    stats.wait("what the new map counts", |r| of_new(r) && packets(r) == (2, 2));
    wait_ticks(&stats, "edge", 1);
    let records = stats.stop().records;
    let samples = events(&records, "edge", "sample");
    let news: Vec<_> = samples.iter().filter(|sample| of_new(sample)).collect();
    if packets(news[1]) != (2, 2) {
        return false;
    }
    assert_eq!(names(&records, "edge"), ["baseline", "map_replaced"]);
    // At the next tick both maps are read, the old one first.
    let late = &samples[samples.iter().position(|sample| sample == news[1]).unwrap() - 1];
    assert_eq!((&late["map_id"], &late["partial"]), (&json!(old.id().0), &json!(true)), "{late}");
    assert_eq!(packets(late), (1, 4), "{late}");
    assert_eq!(samples.iter().map(|sample| packets(sample).0).sum::<u64>(), 6);
    true
}

#[test]
#[ignore = "needs root"]
fn a_late_count_in_a_retired_map_is_read_at_the_next_tick() {
    require_root!();
    the_late_count_is_read_at_the_next_tick(true);
}

#[test]
#[ignore = "needs root"]
fn a_late_count_in_a_map_that_has_no_pin_any_more_is_read_at_the_next_tick() {
    require_root!();
    the_late_count_is_read_at_the_next_tick(false);
}

#[test]
#[ignore = "needs root"]
fn a_value_below_its_predecessor_is_a_reset_whose_delta_is_the_new_value() {
    require_root!();
    let site = Site::new(EDGE);
    let map = stats_map();
    let last_cpu = map.layout().count() - 1;
    set(&map, PASS, 0, 10, 640);
    set(&map, DROP, last_cpu, 7, 700);
    site.apply("edge", &first(&map));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    // The sum over all CPUs grows, and so do the packets of one slot whose bytes go back.
    between_ticks(stats.pid(), || {
        set(&map, PASS, 0, 4, 256);
        set(&map, DROP, last_cpu, 8, 80);
        add(&map, TX, 30);
    });
    let reset = stats.wait_event("edge", "counter_reset");
    assert_eq!(reset["map_id"], map.id().0);
    assert_eq!(reset["actions"], json!(["drop", "pass"]));
    assert_eq!(reset["cpus"], if last_cpu == 0 { json!([0]) } else { json!([0, last_cpu]) });
    stats.wait_packets("edge", 4 + 8 + 30);
    let sample = stats.wait("its sample", |r| r["event"] == "sample" && r["totals"]["packets"] == 42);
    assert_eq!(sample["seq"].as_u64().unwrap(), reset["seq"].as_u64().unwrap() + 1);
    assert_eq!(sample["actions"]["pass"]["bytes"], 256);
    assert_eq!(sample["actions"]["drop"]["bytes"], 80);
    assert_eq!(sample["actions"]["drop"]["packets_total"], 8);
    wait_ticks(&stats, "edge", 2);
    assert_eq!(names(&stats.stop().records, "edge"), ["baseline", "counter_reset"]);
}

#[test]
#[ignore = "needs root"]
fn a_pin_that_is_no_stats_map_is_an_error_that_names_both_shapes_once() {
    require_root!();
    let site = Site::new("[interfaces.good]\n[interfaces.program]\n[interfaces.hash]\n");
    site.apply("good", &first(&stats_map()));
    site.pin("hash", &hash_map());
    let root = site.root();
    root.mkdir("program", 0o755).unwrap();
    let dir = root.open_dir("program").unwrap();
    dir.pin(MAP, &Program::load_xdp_returning("pass", PASS).unwrap()).unwrap();
    let stats = site.follow();
    let message = |interface| {
        let error = stats.wait_event(interface, "error");
        assert_eq!(error["map_id"], Value::Null);
        error["message"].as_str().unwrap().to_owned()
    };
    let (program, hash) = (message("program"), message("hash"));
    assert!(program.ends_with("/program/xdp_stats_map is a program, not a map"), "{program}");
    let shapes = "/hash/xdp_stats_map is hash with 4-byte keys, 16-byte values, 5 entries, \
                  expected percpu_array or array with 4-byte keys, 16-byte values, at least 5 entries";
    assert!(hash.ends_with(shapes), "{hash}");
    stats.wait_event("good", "baseline");
    wait_ticks(&stats, "good", 4);

    // What is there then has been counted since the reader looked.
    dir.pin("next", &counted(6)).unwrap();
    dir.rename("next", MAP).unwrap();
    site.pin("hash", &counted(7));
    stats.wait_packets("program", 6);
    stats.wait_packets("hash", 7);
    let records = stats.stop().records;
    assert_eq!(names(&records, "program"), ["error"]);
    assert_eq!(names(&records, "hash"), ["error"]);
    assert_eq!(names(&records, "good"), ["baseline"]);
}

#[test]
#[ignore = "needs root"]
fn a_map_beside_no_record_or_an_unreadable_one_is_read_all_the_same() {
    require_root!();
    let site = Site::new("[interfaces.plain]\n[interfaces.torn]\n");
    let (plain, torn) = (counted(1), counted(2));
    site.pin("plain", &plain);
    site.pin_beside_record("torn", &torn, "v=1 gen=many");
    let stats = site.follow();
    for interface in ["plain", "torn"] {
        let baseline = stats.wait_event(interface, "baseline");
        assert_eq!((&baseline["device"], &baseline["ifindex"]), (&Value::Null, &Value::Null));
    }
    add(&plain, PASS, 3);
    add(&torn, PASS, 4);
    stats.wait_packets("plain", 3);
    stats.wait_packets("torn", 4);
    // Without a generation nothing tells whether maps came in between, and nothing is claimed.
    site.pin("plain", &counted(5));
    stats.wait_packets("plain", 8);
    wait_ticks(&stats, "torn", 2);
    let finished = stats.stop();
    assert_eq!(names(&finished.records, "plain"), ["baseline", "map_replaced"]);
    assert_eq!(events(&finished.records, "plain", "map_replaced")[0]["generation"], Value::Null);
    assert_eq!(names(&finished.records, "torn"), ["baseline"]);
    let said = finished.stderr.matches("its maps are read without it").count();
    assert_eq!(said, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("/torn/xdp-owner: "), "{}", finished.stderr);
}

#[test]
#[ignore = "needs root"]
fn a_device_made_again_is_gone_and_then_up_and_nothing_else() {
    require_root!();
    let lab = Lab::new("device");
    let veth = lab.veth("eth0", "peer0");
    let text = format!("[interfaces.edge]\nname = \"eth0\"\nnetns = \"{}\"\n", lab.near().name());
    let site = Site::new(&text);
    let map = counted(10);
    site.pin("edge", &map);
    let stats = site.follow();
    let baseline = stats.wait_event("edge", "baseline");
    let before = lab.near().ifindex("eth0").unwrap();
    assert_eq!((&baseline["device"], &baseline["ifindex"]), (&json!("eth0"), &json!(before)));
    assert_eq!(baseline["netns"], lab.near().name());
    wait_ticks(&stats, "edge", 2);
    assert_eq!(names(&stats.records(), "edge"), ["baseline"], "no interface_up without interface_gone");

    lab.delete(&veth);
    let gone = stats.wait_event("edge", "interface_gone");
    assert_eq!((&gone["device"], &gone["ifindex"]), (&json!("eth0"), &json!(before)));
    wait_ticks(&stats, "edge", 2);
    lab.create(&veth);
    let between = lab.near().ifindex("eth0").unwrap();
    assert_eq!(stats.wait_event("edge", "interface_up")["ifindex"], between);

    // Gone and back between two ticks: both are told all the same, each with its own index.
    let mark = stats.mark();
    between_ticks(stats.pid(), || {
        lab.delete(&veth);
        lab.create(&veth);
    });
    let after = lab.near().ifindex("eth0").unwrap();
    let gone = stats.wait_after(mark, "gone", |r| r["event"] == "interface_gone");
    let up = stats.wait_after(mark, "up", |r| r["event"] == "interface_up");
    assert_eq!((&gone["ifindex"], &up["ifindex"]), (&json!(between), &json!(after)));
    assert_eq!(up["seq"].as_u64().unwrap(), gone["seq"].as_u64().unwrap() + 1);
    add(&map, PASS, 3);
    stats.wait_packets("edge", 3);
    let records = stats.stop().records;
    assert_eq!(
        names(&records, "edge"),
        ["baseline", "interface_gone", "interface_up", "interface_gone", "interface_up"]
    );
    assert_eq!(events(&records, "edge", "sample").last().unwrap()["ifindex"], after);
}

#[test]
#[ignore = "needs root"]
fn a_broken_edit_is_rejected_with_its_place_and_the_old_config_goes_on() {
    require_root!();
    let site = Site::new(EDGE);
    let map = counted(10);
    site.apply("edge", &first(&map));
    site.apply("extra", &first(&counted(20)));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");

    site.config("[interfaces.edge]\nmodus = \"native\"\n[interfaces.extra]\nmode = \"fast\"\n");
    let rejected = stats.wait("the broken edit", |r| r["event"] == "config_rejected");
    assert_eq!(
        (&rejected["line"], &rejected["column"], &rejected["errors"]),
        (&json!(3), &json!(1), &json!(2))
    );
    assert_eq!(rejected["config"], site.config_path().to_str().unwrap());
    assert!(rejected["message"].as_str().unwrap().contains("modus"), "{rejected}");
    assert_eq!(rejected["interface"], Value::Null);
    add(&map, PASS, 1);
    stats.wait_packets("edge", 1);

    let mark = stats.mark();
    std::fs::remove_file(site.config_path()).unwrap();
    let missing = stats.wait_after(mark, "the deleted file", |r| r["event"] == "config_rejected");
    assert_eq!(
        (&missing["line"], &missing["column"], &missing["errors"]),
        (&Value::Null, &Value::Null, &json!(1))
    );
    add(&map, PASS, 1);
    stats.wait_packets("edge", 2);

    site.config("[interfaces.edge]\n[interfaces.extra]\n");
    let reloaded = stats.wait("the mended file", |r| r["event"] == "config_reloaded");
    assert_eq!((&reloaded["added"], &reloaded["removed"]), (&json!(["extra"]), &json!([])));
    assert_eq!(reloaded["interval_ns"], 25_000_000);
    assert_eq!(reloaded["sha256"].as_str().unwrap().len(), 64);
    // A label that is new to the file begins as every label does at the start, and the others go on.
    assert_eq!(stats.wait_event("extra", "baseline")["totals"]["packets_total"], 20);
    add(&map, PASS, 1);
    stats.wait_packets("edge", 3);

    let mark = stats.mark();
    site.config("[interfaces.extra]\n");
    let reloaded = stats.wait_after(mark, "the removal", |r| r["event"] == "config_reloaded");
    assert_eq!((&reloaded["added"], &reloaded["removed"]), (&json!([]), &json!(["edge"])));
    wait_ticks(&stats, "extra", 3);
    let finished = stats.stop();
    let records = finished.records;
    let after = |record: &&Value| record["seq"].as_u64() > reloaded["seq"].as_u64();
    assert!(records.iter().filter(after).all(|record| record["interface"] == "extra"));
    assert_eq!(names(&records, "edge"), ["baseline"]);
    assert_eq!(names(&records, "extra"), ["baseline"]);
    let notices: Vec<_> =
        records.iter().filter(|record| record["interface"].is_null()).map(|r| &r["event"]).collect();
    assert_eq!(notices, ["config_rejected", "config_rejected", "config_reloaded", "config_reloaded"]);
    assert!(finished.stderr.contains("config.toml:3:1"), "people are told too: {}", finished.stderr);
}

#[test]
#[ignore = "needs root"]
fn an_interval_that_was_edited_holds_from_the_next_tick_on() {
    require_root!();
    let site = Site::new("[interfaces.edge]\n[stats]\ninterval = \"24h\"\n");
    let map = stats_map();
    site.apply("edge", &first(&map));
    let stats = Stats::spawn(site.stats());
    stats.wait_event("edge", "baseline");
    add(&map, PASS, 3);
    site.config("[interfaces.edge]\n[stats]\ninterval = \"30ms\"\n");
    let reloaded = stats.wait("the edit", |r| r["event"] == "config_reloaded");
    assert_eq!(reloaded["interval_ns"], 30_000_000);
    stats.wait_packets("edge", 3);
}

#[test]
#[ignore = "needs root"]
fn once_is_one_record_per_interface_and_its_exit_code_says_whether_all_could_be_read() {
    require_root!();
    let site = Site::new("[interfaces.a]\n[interfaces.b]\n");
    let (a, old) = (counted(1), counted(2));
    site.apply("a", &Pins { generation: 1, map: &a, retired: &[(0, &old)], base: None });
    site.pin("b", &counted(2));
    let once = || site.stats().args(["--json", "--once"]).run();
    let told = |records: &[Value]| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        records.iter().map(|record| (text(&record["interface"]), text(&record["event"]))).collect()
    };
    let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let all = once().expect_code(0).json_lines();
    assert_eq!(told(&all), pairs(&[("a", "baseline"), ("b", "baseline")]));

    site.config("[interfaces.a]\n[interfaces.b]\n[interfaces.c]\n[interfaces.d]\n");
    site.pin("d", &hash_map());
    let some = once().expect_code(2).json_lines();
    let expected = [("a", "baseline"), ("b", "baseline"), ("c", "waiting"), ("d", "error")];
    assert_eq!(told(&some), pairs(&expected));
    let chosen =
        site.stats().args(["--json", "--once", "--interface", "b"]).run().expect_code(0).json_lines();
    assert_eq!(told(&chosen), pairs(&[("b", "baseline")]));
}

#[test]
#[ignore = "needs root"]
fn a_count_is_of_ticks_after_the_baseline() {
    require_root!();
    let site = Site::new("[interfaces.edge]\n[stats]\ninterval = \"20ms\"\n");
    site.apply("edge", &first(&stats_map()));
    for count in [0, 1, 3] {
        let output = site.stats().args(["--json", "--count", &count.to_string()]).run().expect_code(0);
        let records = output.json_lines();
        let told: Vec<_> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
        assert_eq!(told[0], "baseline");
        assert_eq!(told[1..], vec!["sample"; count]);
    }
}

#[test]
#[ignore = "needs root"]
fn an_unknown_interface_is_refused_with_what_may_have_been_meant() {
    require_root!();
    let site = Site::new("[interfaces.uplink]\n[interfaces.tenant]\n");
    let near = site.stats().args(["--json", "--interface", "uplnk"]).run().expect_code(2);
    assert!(near.stderr.contains("did you mean \"uplink\"?"), "{near}");
    let far = site.stats().args(["--json", "--interface", "wlan7"]).run().expect_code(2);
    assert!(far.stderr.contains("has \"uplink\", \"tenant\""), "{far}");
    assert_eq!(near.stdout + &far.stdout, "");
}

#[test]
#[ignore = "needs root"]
fn a_closed_output_ends_it_at_once_and_is_no_failure() {
    require_root!();
    let site = Site::new(EDGE);
    site.apply("edge", &first(&stats_map()));
    // Long before it would write again, and while it writes.
    for interval in ["1h", "20ms"] {
        for format in [Some("--json"), None] {
            let mut reader = Lines::spawn(site.stats().args(format).args(["--interval", interval]));
            let _ = reader.next();
            reader.close();
            let (status, stderr) = reader.end();
            assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{interval} {format:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_signal_ends_it_at_once_and_is_no_failure() {
    require_root!();
    let site = Site::new(EDGE);
    site.apply("edge", &first(&stats_map()));
    for signal in [Signal::TERM, Signal::INT] {
        let mut reader = Lines::spawn(site.stats().args(["--json", "--interval", "1h"]));
        assert!(reader.next().contains("\"baseline\""));
        reader.signal(signal);
        let (status, stderr) = reader.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{signal:?}");
    }
}

/// A bpffs on a directory that the test has from the start.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // In use no more: the reader is gone by now. What cannot be undone harms no other test.
        let _ = bpffs::unmount(self.0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_missing_bpffs_is_said_and_what_is_pinned_there_later_is_read() {
    require_root!();
    let dir = tempfile::tempdir().unwrap();
    let mount_point = dir.path().join("bpf");
    std::fs::create_dir(&mount_point).unwrap();
    let root = mount_point.join("xdpd");
    let config = dir.path().join("config.toml");
    std::fs::write(&config, format!("pin_root = \"{}\"\n{EDGE}", root.display())).unwrap();
    let mounted = Mounted(&mount_point);
    let stats = Stats::spawn(xdp_stats().arg("--config").arg(&config).args(["--interval", "25ms"]));
    let waiting = stats.wait_event("edge", "waiting");
    let why =
        format!("{} does not exist, and no bpffs is mounted at {}", root.display(), mount_point.display());
    assert_eq!(waiting["reason"], why);

    bpffs::mount(&mount_point).unwrap();
    std::fs::create_dir_all(root.join("edge")).unwrap();
    let map = counted(5);
    xdpd_kernel::Dir::open(root.join("edge")).unwrap().pin(MAP, &map).unwrap();
    stats.wait_packets("edge", 5);
    add(&map, PASS, 2);
    stats.wait_packets("edge", 7);
    let finished = stats.stop();
    assert!(!names(&finished.records, "edge").contains(&"baseline".to_owned()));
    assert_eq!(finished.stderr.matches(&why).count(), 1, "{}", finished.stderr);
    drop(mounted);
}

#[test]
#[ignore = "needs root"]
fn a_table_fits_80_columns() {
    require_root!();
    // As long as a device's name can be.
    let label = "interface-name5";
    let site = Site::new(&format!("[interfaces.{label}]\n"));
    let map = stats_map();
    // A year at 100 Mpps, and a byte counter near its end.
    set(&map, PASS, 0, 3_155_760_000_000_000, 18_000_000_000_000_000_000);
    site.apply(label, &first(&map));
    let mut reader = Lines::spawn(site.stats().args(["--interval", "30ms"]));
    let mut text = reader.next();
    set(&map, PASS, 0, 3_155_760_003_000_000, 18_000_000_003_000_000_000);
    for _ in 0..3 * 8 {
        text += &reader.next();
    }
    reader.signal(Signal::TERM);
    assert_eq!(reader.end().0.code(), Some(0));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}\n{text}", line.chars().count());
    }
    // The tutorial's actions in the tutorial's order.
    let actions: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let order = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];
    assert!(actions.windows(order.len()).any(|window| window == order), "{text}");
    for column in ["packets", "pps", "Kbytes", "Mbits/s", "period"] {
        assert!(text.contains(column), "{text}");
    }
}
