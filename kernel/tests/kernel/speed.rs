//! What the calls on hot paths cost. Run alone, in release mode, with `--ignored --nocapture`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use xdpd_kernel::{Access, netlink};
use xdpd_testlab::{command, require_root};

use crate::lab::{Bpffs, Lab, counters};

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[runs / 2]
}

#[test]
#[ignore = "measures"]
fn devices_cost_less_than_ip_link() {
    require_root!();
    let lab = Lab::empty();
    for number in 0..100 {
        lab.ip(&format!("link add v{number} type veth peer name w{number}"));
    }
    assert_eq!(lab.within(|| netlink::devices().unwrap().len()), 201);
    let ours = lab.within(|| median(100, || drop(black_box(netlink::devices().unwrap()))));
    // In the namespace already, so that entering it is not in the figure.
    let ip = lab.within(|| median(50, || drop(black_box(command("ip", &["-j", "link", "show"])))));
    println!("200 devices: {ours:?}, ip -j link show: {ip:?}");
}

#[test]
#[ignore = "measures"]
fn a_batch_read_costs_little() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    root.pin("map", &counters("m")).unwrap();
    let map = root.open_map("map", Access::ReadOnly).unwrap();
    let (mut keys, mut values, mut position) = ([0; 20], vec![0; 5 * map.value_len()], [0; 4]);
    let read = median(20_000, || {
        black_box(map.lookup_batch(&mut keys, &mut values, &mut position).unwrap());
    });
    let open = median(5_000, || drop(black_box(root.open_map("map", Access::ReadOnly).unwrap())));
    let stat = median(5_000, || _ = black_box(root.stat("map").unwrap()));
    println!("batch read: {read:?}, open and info: {open:?}, stat: {stat:?}");
}
