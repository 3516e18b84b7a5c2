//! The network devices that exist, per namespace that the file names.

use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::record::Record;
use xdpd_kernel::netlink::{self, Device};
use xdpd_kernel::{Entrance, IfIndex, NetNs, NetNsId};

/// A snapshot of the devices in every namespace of a file.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    spaces: BTreeMap<Option<String>, Space>,
}

/// One network namespace.
#[derive(Debug, Clone)]
pub enum Space {
    /// It cannot be entered; the reason in words.
    Absent(String),
    /// Its identity (device and inode of its file) and its devices.
    Present {
        /// Which one it is.
        id: NetNsId,
        /// In the kernel's order.
        devices: Vec<Device>,
    },
}

impl Devices {
    /// Asks the kernel: one dump per namespace that a file names, and of the one that this process is in.
    pub fn observe<'a>(netns: impl IntoIterator<Item = Option<&'a str>>) -> Result<Self, xdpd_kernel::Error> {
        let names: BTreeSet<Option<&str>> = netns.into_iter().chain([None]).collect();
        let mut spaces = BTreeMap::new();
        for name in names {
            let space = match find(name)? {
                Entrance::Open(netns) => {
                    let devices = netns.run(netlink::devices)??;
                    Space::Present { id: netns.identity(), devices }
                }
                Entrance::Absent(why) => Space::Absent(why.to_string()),
            };
            spaces.insert(name.map(str::to_owned), space);
        }
        Ok(Self { spaces })
    }

    /// Puts a snapshot together from plain data.
    pub fn from_spaces(spaces: impl IntoIterator<Item = (Option<String>, Space)>) -> Self {
        Self { spaces: spaces.into_iter().collect() }
    }

    /// The namespace that the file calls `netns`.
    pub fn space(&self, netns: Option<&str>) -> &Space {
        static UNKNOWN: Space = Space::Absent(String::new());
        // A BTreeMap with Option<String> keys cannot be asked with Option<&str>.
        self.spaces.get(&netns.map(str::to_owned)).unwrap_or(&UNKNOWN)
    }

    /// A device by its name or an alternative name, see [`netlink::called`].
    pub fn device(&self, netns: Option<&str>, name: &str) -> Option<&Device> {
        match self.space(netns) {
            Space::Present { devices, .. } => netlink::called(devices, name),
            Space::Absent(_) => None,
        }
    }

    /// That a device, or its namespace, is not there, in words.
    pub fn absence(&self, netns: Option<&str>, name: &str) -> String {
        match (self.space(netns), netns) {
            (Space::Absent(why), netns) => {
                format!("network namespace `{}`: {why}", netns.unwrap_or("of xdpd"))
            }
            (Space::Present { .. }, None) => format!("no device `{name}` in this network namespace"),
            (Space::Present { .. }, Some(netns)) => format!("no device `{name}` in netns `{netns}`"),
        }
    }

    /// Whether a name stands for the same device, or for none, in another snapshot.
    pub fn agrees(&self, other: &Self, netns: Option<&str>, name: &str) -> bool {
        let ifindex = |devices: &Self| devices.device(netns, name).map(|d| d.ifindex);
        ifindex(self) == ifindex(other)
    }

    /// A device by its index, for seeing it as it will be.
    pub fn device_mut(&mut self, netns: Option<&str>, ifindex: IfIndex) -> Option<&mut Device> {
        match self.spaces.get_mut(&netns.map(str::to_owned))? {
            Space::Present { devices, .. } => devices.iter_mut().find(|d| d.ifindex == ifindex),
            Space::Absent(_) => None,
        }
    }

    /// The devices of a namespace by its identity; `None` where nobody has asked for it.
    pub fn in_netns(&self, netns: NetNsId) -> Option<&[Device]> {
        self.spaces.values().find_map(|space| match space {
            Space::Present { id, devices } if *id == netns => Some(&**devices),
            _ => None,
        })
    }

    /// All devices of all namespaces, with the name of the namespace.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Device)> {
        self.spaces.iter().flat_map(|(netns, space)| {
            let devices = match space {
                Space::Present { devices, .. } => &**devices,
                Space::Absent(_) => &[],
            };
            devices.iter().map(move |d| (netns.as_deref(), d))
        })
    }
}

/// Looks for a namespace as the file names it.
pub fn find(netns: Option<&str>) -> Result<Entrance, xdpd_kernel::Error> {
    match netns {
        None => NetNs::current().map(Entrance::Open),
        Some(name) => NetNs::find(name),
    }
}

/// The namespace that a record tells of; `None` where it is gone, or another one has its name.
pub fn netns_of(record: &Record) -> Result<Option<NetNs>, xdpd_kernel::Error> {
    Ok(match find(record.netns_name.as_deref())? {
        Entrance::Open(netns) if netns.identity().is(record.netns) => Some(netns),
        Entrance::Open(_) | Entrance::Absent(_) => None,
    })
}

/// Opens a namespace as the file names it, which must exist.
pub fn open(netns: Option<&str>) -> Result<NetNs, xdpd_kernel::Error> {
    match netns {
        None => NetNs::current(),
        Some(name) => NetNs::open(name),
    }
}
