//! Where the kernel is not as our own record says.

use serde::Serialize;
use xdpd_config::Label;
use xdpd_config::record::Record;
use xdpd_kernel::{Device, NetNsId};

use crate::devices::Devices;
use crate::observed::{LinkState, Pinned};

/// A difference between our record and the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The interface.
    pub interface: String,
    /// What is not as it was left.
    pub what: String,
    /// Which is that its device is not there any more.
    #[serde(skip)]
    pub device_gone: bool,
}

/// Where the kernel is not as the record of an interface says.
pub fn drift(label: &Label, pinned: &Pinned, devices: &Devices) -> Vec<Drift> {
    let Ok(record) = &pinned.record else { return Vec::new() };
    let gone = matches!(pinned.link, LinkState::Defunct { .. }) && !is_in_place(record, devices);
    let mut found: Vec<Drift> = Vec::new();
    let mut add = |what: String| {
        // That is told first.
        let device_gone = gone && found.is_empty();
        found.push(Drift { interface: label.to_string(), what, device_gone });
    };
    match &pinned.link {
        LinkState::Missing if here(record, devices).is_some_and(|d| runs(record, d)) => {
            add(format!("the link's pin is gone, while program {} still runs", record.program));
        }
        LinkState::Missing => add("the link's pin is gone, so nothing keeps the program attached".into()),
        LinkState::NotALink(what) => add(format!("the pin of the link is {what}")),
        LinkState::Defunct { .. } => {
            add(if gone {
                format!("device {} (ifindex {}) is gone", record.device, record.ifindex)
            } else {
                format!("the link is detached from device {}", record.device)
            });
        }
        LinkState::Live { program, ifindex, .. } => {
            if program.0 != record.program {
                add(format!("program {program} runs, not {} that was loaded", record.program));
            }
            if let Some(moved) = moved(record, pinned, devices) {
                add(moved);
            } else if ifindex.0 != record.ifindex {
                add(format!("the link is on ifindex {ifindex}, it was attached on {}", record.ifindex));
            }
        }
    }
    for (name, id) in &record.maps {
        match pinned.maps.get(name) {
            None => add(format!("the pin of map {name} is gone")),
            Some(map) if map.id.0 != *id => {
                add(format!("the pin of map {name} holds map {}, not {id}", map.id));
            }
            Some(_) => {}
        }
    }
    found
}

/// The device of a record, where it is in the namespace that it was in.
fn here<'d>(record: &Record, devices: &'d Devices) -> Option<&'d Device> {
    devices.in_netns(netns_of(record))?.iter().find(|d| d.ifindex.0 == record.ifindex)
}

/// Whether the program of a record is on this device.
fn runs(record: &Record, device: &Device) -> bool {
    device.xdp.iter().any(|attached| attached.program_id.0 == record.program)
}

/// Whether the program on this device is one that the record of an interface tells of, and that none of its pins holds.
pub(super) fn is_unheld(pinned: &Pinned, device: &Device, netns: NetNsId) -> bool {
    let is_its_own = |record: &Record| {
        netns_of(record) == netns && record.ifindex == device.ifindex.0 && runs(record, device)
    };
    pinned.link.id().is_none() && pinned.record.as_ref().is_ok_and(is_its_own)
}

/// Whether the device of a record is where it was, and is still called so, if only by an alternative name.
pub fn is_in_place(record: &Record, devices: &Devices) -> bool {
    here(record, devices).is_some_and(|d| d.is_called(&record.device))
}

/// What became of the device that a live link is on, where that is not as it was: the link goes with it wherever it goes.
pub(super) fn moved(record: &Record, pinned: &Pinned, devices: &Devices) -> Option<String> {
    let here = devices.in_netns(netns_of(record))?;
    if is_in_place(record, devices) {
        return None;
    }
    let device = &record.device;
    Some(match (here.iter().find(|d| pinned.runs_on(d)), devices.iter().find(|(_, d)| pinned.runs_on(d))) {
        (Some(renamed), _) => format!("device {device} is called {} now", renamed.name),
        (None, Some((Some(netns), there))) => {
            format!("device {device} is {} in netns {netns} now", there.name)
        }
        (None, _) => format!("device {device} is in another network namespace now"),
    })
}

fn netns_of(record: &Record) -> NetNsId {
    NetNsId { dev: record.netns.0, ino: record.netns.1 }
}
