//! Devices and their changes.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use xdpd_kernel::netlink::{self, Change, Events, LinkEvent};
use xdpd_kernel::{Device, IfIndex, LinkMonitor, XdpLink, XdpMode};
use xdpd_testlab::{DEADLINE, require_root};

use crate::lab::{Lab, pass};

/// What `ip` says, in our words.
fn from_ip(json: &str) -> Vec<Device> {
    let links: Vec<Value> = serde_json::from_str(json).unwrap();
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    links
        .iter()
        .map(|link| Device {
            ifindex: IfIndex(number(&link["ifindex"])),
            name: link["ifname"].as_str().unwrap().into(),
            alt_names: link["altnames"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect(),
            mtu: number(&link["mtu"]),
            xdp: link["xdp"]["prog"]["id"]
                .as_u64()
                .map(|id| netlink::Attached {
                    mode: match link["xdp"]["mode"].as_u64() {
                        Some(1) => XdpMode::Native,
                        Some(2) => XdpMode::Generic,
                        other => panic!("{other:?}"),
                    },
                    program_id: xdpd_kernel::ProgramId(u32::try_from(id).unwrap()),
                })
                .into_iter()
                .collect(),
        })
        .collect()
}

#[test]
#[ignore = "needs root"]
fn devices_are_those_that_ip_shows() {
    require_root!();
    let lab = Lab::new();
    for number in 0..60 {
        lab.ip(&format!("link add v{number} mtu {} type veth peer name w{number}", 1400 + number));
    }
    // The dump has alternative names without being asked for them.
    let long = "n".repeat(127);
    lab.ip(&format!("link property add dev v5 altname uplink-of-v5 altname {long}"));
    let (ifindexes, program) = ([lab.ifindex("v3"), lab.ifindex("w7")], pass("p"));
    let links = lab.within(|| {
        [
            XdpLink::create(&program, ifindexes[0], XdpMode::Generic).unwrap(),
            XdpLink::create(&program, ifindexes[1], XdpMode::Native).unwrap(),
        ]
    });
    let devices = lab.within(|| netlink::devices().unwrap());
    assert_eq!(devices, from_ip(&lab.ip("-j link show")));
    assert_eq!(netlink::called(&devices, &long).map(|device| &*device.name), Some("v5"));
    assert_eq!(devices.len(), 123);
    assert_eq!(devices.iter().filter(|device| !device.xdp.is_empty()).count(), links.len());
}

#[test]
fn devices_need_no_privileges() {
    let devices = netlink::devices().unwrap();
    assert!(devices.iter().any(|device| device.name == "lo" && device.mtu == 65536));
}

/// Waits until the monitor told of something.
fn changes(monitor: &mut LinkMonitor, wanted: impl Fn(&LinkEvent) -> bool) -> Vec<LinkEvent> {
    let deadline = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    loop {
        match monitor.drain().unwrap() {
            Events::Changed(events) => seen.extend(events),
            Events::Overflow => panic!("overflow"),
        }
        if seen.iter().any(&wanted) {
            return seen;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not announced: {seen:?}");
        let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap(), tv_nsec: 1 };
        poll(&mut [PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_device_that_comes_changes_its_name_and_goes_is_announced() {
    require_root!();
    let lab = Lab::empty();
    let mut monitor = lab.within(|| LinkMonitor::open().unwrap());
    assert_eq!(monitor.drain().unwrap(), Events::Changed(Vec::new()));
    lab.ip("link add new type veth peer name peer");
    let ifindex = lab.ifindex("new");
    changes(&mut monitor, |event| (event.change, event.name.as_str()) == (Change::New, "new"));
    lab.ip("link set new name other");
    changes(&mut monitor, |event| {
        (event.change, event.ifindex, event.name.as_str()) == (Change::New, ifindex, "other")
    });
    lab.ip("link del other");
    let seen = changes(&mut monitor, |event| (event.change, event.ifindex) == (Change::Del, ifindex));
    assert!(seen.iter().all(|event| !event.name.is_empty()));
}

#[test]
#[ignore = "needs root"]
fn an_alternative_name_that_comes_or_goes_is_announced() {
    require_root!();
    let lab = Lab::empty();
    // Only of a device that is up (`netdev_state_change` in the kernel's `net/core/dev.c`).
    lab.ip("link set lo up");
    for command in ["add", "del"] {
        let mut monitor = lab.within(|| LinkMonitor::open().unwrap());
        lab.ip(&format!("link property {command} dev lo altname loop"));
        changes(&mut monitor, |event| (event.change, event.name.as_str()) == (Change::New, "lo"));
    }
}

#[test]
#[ignore = "needs root"]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    require_root!();
    let lab = Lab::new();
    lab.ip("link add bridge type bridge");
    lab.ip("link set left master bridge");
    let mut monitor = lab.within(|| LinkMonitor::open().unwrap());
    lab.ip("link set left nomaster");
    // Before Linux 6.2 a device that is up keeps its name.
    lab.ip("link set left down");
    lab.ip("link set left name last");
    let seen = changes(&mut monitor, |event| event.name == "last");
    assert!(seen.iter().all(|event| event.change == Change::New), "{seen:?}");
}

#[test]
#[ignore = "needs root"]
fn more_changes_than_the_kernel_keeps_are_an_overflow() {
    require_root!();
    let lab = Lab::new();
    let mut monitor = lab.within(|| LinkMonitor::open().unwrap());
    let batch = "link set left mtu 1400
link set left mtu 1300
"
    .repeat(300);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    lab.ip(&format!("-batch {}", file.path().display()));
    assert_eq!(monitor.drain().unwrap(), Events::Overflow);
    // It goes on afterwards.
    assert_eq!(monitor.drain().unwrap(), Events::Changed(Vec::new()));
    lab.ip("link set left down");
    lab.ip("link set left name after");
    changes(&mut monitor, |event| event.name == "after");
}

#[test]
#[ignore = "needs root"]
fn devices_are_found_while_others_come_and_go() {
    require_root!();
    let lab = Lab::new();
    for number in 0..40 {
        lab.ip(&format!("link add v{number} type veth peer name w{number}"));
    }
    let batch = "link add new type veth peer name peer\nlink del new\n".repeat(20);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| lab.ip(&format!("-batch {}", file.path().display())));
        while !churn.is_finished() {
            let devices = lab.within(|| netlink::devices().unwrap());
            let stable = devices.iter().filter(|device| !matches!(device.name.as_str(), "new" | "peer"));
            assert_eq!(stable.count(), 83);
        }
    });
}
