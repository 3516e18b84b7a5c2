//! Where the kernel is not as our own record says.

use serde::Serialize;
use xdpd_config::Label;

use crate::devices::Devices;
use crate::observed::{LinkState, Pinned};

/// A difference between our record and the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The interface.
    pub interface: String,
    /// What is not as it was left.
    pub what: String,
}

/// Where the kernel is not as the record of an interface says.
pub fn drift(label: &Label, pinned: &Pinned, devices: &Devices) -> Vec<Drift> {
    let Ok(record) = &pinned.record else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |what: String| found.push(Drift { interface: label.to_string(), what });
    match &pinned.link {
        LinkState::Missing => add("the link's pin is gone, so nothing keeps the program attached".into()),
        LinkState::NotALink(what) => add(format!("the pin of the link is {what}")),
        LinkState::Defunct { .. } => {
            let is_there =
                devices.iter().any(|(_, d)| d.ifindex.0 == record.ifindex && d.name == record.device);
            add(if is_there {
                format!("the link is detached from device {}", record.device)
            } else {
                format!("device {} (ifindex {}) is gone", record.device, record.ifindex)
            });
        }
        LinkState::Live { program, ifindex, .. } => {
            if program.0 != record.program {
                add(format!("program {program} runs, not {} that was loaded", record.program));
            }
            if ifindex.0 != record.ifindex {
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
