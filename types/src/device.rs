//! Network devices, and how they are called: the one place that says which device a name means.

use crate::id::{IfIndex, ProgramId};
use crate::mode::XdpMode;

/// A program attached to a device, by a link or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: XdpMode,
    /// The program.
    pub program_id: ProgramId,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub ifindex: IfIndex,
    /// Its name. The kernel allows names that are not UTF-8: such bytes are replaced here.
    pub name: String,
    /// Its alternative names (`ip link property add dev X altname Y`), in the kernel's order: each as [`Device::name`],
    /// of up to 127 bytes, and in its network namespace the name of no other device.
    pub alt_names: Vec<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The programs attached to it: mostly none or one, at most one per mode.
    pub xdp: Vec<Attached>,
}

impl Device {
    /// All its names: [`Device::name`], then the alternative ones.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.alt_names).map(String::as_str)
    }

    /// Whether `name` is one of its names, as for `ip`, `bpftool` and all calls that take a name.
    pub fn is_called(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }
}

/// The device that `name` means among those of one network namespace: the device of this name, else the one that has it
/// as an alternative name.
///
/// The kernel gives a name to one device only, whichever kind of name it is (`netdev_name_in_use` in its
/// `net/core/dev.c`). The names decide where bytes that are no UTF-8 make two of them alike here.
pub fn called<'a>(devices: &'a [Device], name: &str) -> Option<&'a Device> {
    let named = devices.iter().find(|device| device.name == name);
    named.or_else(|| devices.iter().find(|device| device.is_called(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, name: &str, alt_names: &[&str]) -> Device {
        let alt_names = alt_names.iter().map(ToString::to_string).collect();
        Device { ifindex: IfIndex(ifindex), name: name.to_owned(), alt_names, mtu: 1500, xdp: Vec::new() }
    }

    #[test]
    fn a_device_is_meant_by_any_of_its_names_and_by_no_other() {
        let devices = [device(2, "eth0", &["uplink", "enp5s0f0np0"]), device(3, "eth1", &[])];
        let found = |name: &str| called(&devices, name).map(|device| device.ifindex.0);
        assert_eq!(found("eth0"), Some(2));
        assert_eq!(found("uplink"), Some(2));
        assert_eq!(found("enp5s0f0np0"), Some(2));
        assert_eq!(found("eth1"), Some(3));
        for other in ["", "eth", "uplin", "uplink0", "UPLINK"] {
            assert_eq!(found(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_name_goes_before_an_alternative_name() {
        let devices = [device(2, "eth0", &["v\u{fffd}"]), device(3, "v\u{fffd}", &[])];
        assert_eq!(called(&devices, "v\u{fffd}").map(|device| device.ifindex.0), Some(3));
    }
}
