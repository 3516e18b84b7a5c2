//! A network namespace of one's own, without any packet in it that a test did not send.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, netdevice};
use xdpd_kernel::NetNs;

/// Where iproute2 keeps named network namespaces.
pub(crate) const RUN_NETNS: &str = "/run/netns";

/// A named network namespace, deleted on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates the namespace `name` with IPv6 off, so that no neighbour or multicast packets add to the
    /// counts.
    pub fn create(name: &str) -> Self {
        command("ip", &["netns", "add", name]);
        let netns = Self { name: name.to_owned() };
        netns.run(|| {
            // Devices made later inherit it; a kernel without IPv6 has nothing to switch off.
            for which in ["default", "all"] {
                let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                if Path::new(&path).exists() {
                    std::fs::write(&path, "1").unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
                }
            }
        });
        netns
    }

    /// The name, as `netns = "..."` in a configuration wants it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(RUN_NETNS).join(&self.name)
    }

    /// Runs `work` inside the namespace and returns what it returns. Processes it starts are born there.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        run_in(self.path(), work)
    }

    /// Runs `ip` in the namespace with the words of `arguments`, and returns its stdout.
    pub fn ip(&self, arguments: &str) -> String {
        let mut words = vec!["-n", &self.name];
        words.extend(arguments.split_whitespace());
        command("ip", &words)
    }

    /// The index of a device in the namespace, `None` when there is no such device.
    pub fn ifindex(&self, device: &str) -> Option<u32> {
        self.run(|| {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
            netdevice::name_to_index(socket, device).ok()
        })
    }

    /// One of the device's counters, such as `rx_packets` or `tx_dropped`.
    pub fn counter(&self, device: &str, name: &str) -> u64 {
        let links: serde_json::Value =
            serde_json::from_str(&self.ip(&format!("-s -j link show dev {device}"))).expect("JSON from ip");
        let (side, field) = name.split_once('_').expect("a counter such as rx_packets");
        links[0]["stats64"][side][field].as_u64().unwrap_or_else(|| panic!("no counter {name} in {links}"))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Deletes a namespace as far as possible: when it fails nothing is left to do, and a panic in a drop would
/// hide the first.
pub(crate) fn delete(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Runs `work` in the namespace of that name or path.
pub(crate) fn run_in<R: Send>(namespace: impl AsRef<Path>, work: impl FnOnce() -> R + Send) -> R {
    NetNs::open(namespace).and_then(|netns| netns.run(work)).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a tool that has to succeed, and returns its stdout.
pub fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}; make setup installs what the tests need"));
    assert!(
        output.status.success(),
        "{program} {}: {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lab, require_root};

    #[test]
    #[ignore = "needs root"]
    fn namespaces_are_removed_when_the_test_panics() {
        require_root!();
        let mut path = PathBuf::new();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let lab = Lab::new("panic");
            path = lab.near().path();
            assert!(path.exists());
            lab.near().run(|| std::panic::resume_unwind(Box::new("on purpose")));
        }));
        assert!(panicked.is_err());
        assert!(path.starts_with(RUN_NETNS) && !path.exists());
    }
}
