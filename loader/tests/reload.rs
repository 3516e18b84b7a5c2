//! The promise of both programs together: deltas that add up to every packet, over any reload.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{DROP, PASS, Site};
use xdpd_testlab::{Stats, require_root, xdp_stats};

const RELOADS: usize = 50;
/// Frames per second: some dozens per reload, few enough that the sender keeps the pace on a busy machine.
const RATE: u32 = 4000;

fn follow(site: &Site) -> Stats {
    Stats::spawn(
        xdp_stats().args(["--config", "config.toml", "--interval", "40ms"]).current_dir(site.lab.dir()),
    )
}

/// Sends while the function changes back and forth, and compares the sum of the reader's deltas with what was sent: a
/// packet that no program saw would be missing, one that was read twice would be too many.
fn reloads_lose_no_count(reuse: &str, mode: &str) {
    let site = Site::new("reload");
    let veth = site.lab.veth("eth0", "peer0");
    let file = |n: usize| {
        let function = ["xdp_pass_func", "xdp_drop_func"][n % 2];
        site.one("eth0", function, &format!("reuse = \"{reuse}\"\nmode = \"{mode}\""))
    };
    file(0);
    site.apply();
    let stats = follow(&site);
    stats.wait_event("eth0", "baseline");
    let traffic = site.lab.sender(&veth).background(RATE);
    let first = site.map("eth0", "xdp_stats_map").id();
    for n in 1..=RELOADS {
        file(n);
        let outcome = site.run("apply config.toml --json").run().expect_code(0).json();
        assert_eq!(outcome["outcome"], "applied", "reload {n}");
    }
    let sent = traffic.stop();
    assert!(sent > RELOADS as u64, "there was traffic");
    stats.wait_packets("eth0", sent);
    let finished = stats.stop();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);

    let events = |event: &str| finished.records.iter().filter(|r| r["event"] == event).count();
    assert_eq!((events("gap"), events("counter_reset"), events("error")), (0, 0, 0));
    let same_map = site.map("eth0", "xdp_stats_map").id() == first;
    assert_eq!(same_map, reuse == "if-compatible");
    assert_eq!(events("map_replaced") > 0, !same_map);
    let samples = finished.records.iter().filter(|r| r["event"] == "sample");
    for sample in samples {
        for action in sample["actions"].as_object().unwrap().values() {
            assert!(action["packets"].as_u64().is_some(), "never negative: {sample}");
        }
    }
    assert_eq!(site.packets("eth0", DROP) + site.packets("eth0", PASS) == sent, same_map);
}

#[test]
#[ignore = "needs root"]
fn native_reloads_with_maps_reused_lose_no_count() {
    require_root!();
    reloads_lose_no_count("if-compatible", "native");
}

#[test]
#[ignore = "needs root"]
fn native_reloads_with_fresh_maps_lose_no_count() {
    require_root!();
    reloads_lose_no_count("never", "native");
}

#[test]
#[ignore = "needs root"]
fn generic_reloads_with_maps_reused_lose_no_count() {
    require_root!();
    reloads_lose_no_count("if-compatible", "generic");
}

#[test]
#[ignore = "needs root"]
fn generic_reloads_with_fresh_maps_lose_no_count() {
    require_root!();
    reloads_lose_no_count("never", "generic");
}

#[test]
#[ignore = "needs root"]
fn a_device_that_goes_and_comes_back_is_followed_through() {
    require_root!();
    let site = Site::new("comeback");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    let stats = follow(&site);
    stats.wait_event("eth0", "baseline");
    site.send(&veth, "eth0", DROP, 100);
    stats.wait_packets("eth0", 100);
    site.lab.delete(&veth);
    stats.wait_event("eth0", "interface_gone");
    site.lab.create(&veth);
    stats.wait_event("eth0", "interface_up");
    site.apply();
    site.send(&veth, "eth0", DROP, 50);
    stats.wait_packets("eth0", 150);
    // Detached and applied anew: the pin goes and comes, the counts go on from zero.
    site.expect("detach", 0);
    stats.wait_event("eth0", "waiting");
    site.apply();
    site.send(&veth, "eth0", DROP, 25);
    stats.wait_packets("eth0", 175);
    assert_eq!(stats.stop().status.code(), Some(0));
}

#[test]
#[ignore = "needs root"]
fn an_edit_of_the_file_is_followed_without_a_restart() {
    require_root!();
    let site = Site::new("edits");
    let veths = site.lab.veths("v", 2);
    site.config("[interfaces.v0]\nnetns = \"$NETNS\"\n");
    site.apply();
    let stats = follow(&site);
    stats.wait_event("v0", "baseline");
    site.send(&veths[0], "v0", PASS, 10);
    site.config("[interfaces.v0]\nnetns = \"$NETNS\"\n[interfaces.v1\n");
    let rejected = stats.wait("the broken edit", |r| r["event"] == "config_rejected");
    assert_eq!(rejected["line"], 4, "{rejected}");
    site.config("[interfaces.v0]\nnetns = \"$NETNS\"\n[interfaces.v1]\nnetns = \"$NETNS\"\n");
    stats.wait("the edit", |r| r["event"] == "config_reloaded");
    stats.wait_event("v1", "waiting");
    site.apply();
    site.send(&veths[1], "v1", PASS, 20);
    stats.wait_packets("v1", 20);
    stats.wait_packets("v0", 10);
    assert_eq!(stats.stop().status.code(), Some(0));
}

/// The tutorial's layout: another loader's map, pinned where basic04 pins it, is read through a two-line file.
#[test]
#[ignore = "needs root"]
fn a_map_that_another_loader_pinned_is_read() {
    require_root!();
    let site = Site::new("tutorial");
    let veth = site.lab.veth("eth0", "peer0");
    std::fs::create_dir_all(site.root().join("eth0")).unwrap();
    let pin = site.root().join("eth0/xdp_stats_map");
    let words = "type percpu_array key 4 value 16 entries 5 name xdp_stats_map";
    let bpftool = |args: &[&str]| xdpd_testlab::Invocation::of("bpftool").args(args).run().expect_code(0);
    let mut create = vec!["map", "create", pin.to_str().unwrap()];
    create.extend(words.split(' '));
    let _ = bpftool(&create);
    site.config("[interfaces.eth0]\nnetns = \"$NETNS\"\n");
    let stats = follow(&site);
    stats.wait_event("eth0", "baseline");
    // Two packets of 60 bytes on CPU 0, as a program would count them.
    let map = xdpd_kernel::Dir::open(site.root().join("eth0"))
        .unwrap()
        .open_map("xdp_stats_map", xdpd_kernel::Access::ReadWrite)
        .unwrap();
    let mut value = vec![0; map.value_len()];
    value[..8].copy_from_slice(&2_u64.to_ne_bytes());
    value[8..16].copy_from_slice(&120_u64.to_ne_bytes());
    map.update(&PASS.to_ne_bytes(), &value, 0).unwrap();
    stats.wait_packets("eth0", 2);
    assert_eq!(stats.sum("eth0")["pass"].bytes, 120);
    let _ = stats.stop();

    // And the other way round: what xdpd pins is what the tutorial's reader and bpftool expect.
    std::fs::remove_dir_all(site.root()).unwrap();
    site.apply();
    site.send(&veth, "eth0", PASS, 3);
    let dump = bpftool(&["map", "dump", "pinned", pin.to_str().unwrap()]).stdout;
    assert!(dump.contains("\"rx_packets\": 3") || dump.contains("rx_packets"), "{dump}");
    assert!(dump.contains("rx_bytes"), "{dump}");
}
