//! A lab: a near namespace where the product works, a far one where packets come from, veth pairs between
//! them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::leftovers::{self, PREFIX};
use crate::lock::Lock;
use crate::netns::Netns;
use crate::sender::Sender;

/// Two namespaces and a directory for files, all gone on drop, also when the test panics.
#[derive(Debug)]
pub struct Lab {
    near: Netns,
    far: Netns,
    dir: TempDir,
    _lock: Lock,
}

/// A veth pair of a lab: `near` is the device under test, `far` the other end of its cable.
///
/// What a program sends back (`XDP_TX`) is counted by the program and ends at `far`, which does not listen: a
/// veth device takes such frames only with a program of its own or with GRO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
    /// Name of the device in the near namespace.
    pub near: String,
    /// Name of the device in the far namespace.
    pub far: String,
}

impl Lab {
    /// A lab beside those of other tests. `name` makes its namespaces recognisable in `ip netns`.
    pub fn new(name: &str) -> Self {
        Self::with_lock(name, Lock::shared())
    }

    /// The only lab of the machine, for tests that count kernel objects; waits until the others are gone.
    ///
    /// A test holds no other lab or [`Lock`] when it calls this.
    pub fn alone(name: &str) -> Self {
        Self::with_lock(name, Lock::alone())
    }

    fn with_lock(name: &str, lock: Lock) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        leftovers::remove();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{PREFIX}-{}-{count}-{name}", std::process::id());
        let dir =
            tempfile::Builder::new().prefix(&format!("{unique}-")).tempdir().expect("a temporary directory");
        let far = Netns::create(&format!("{unique}-far"));
        Self { near: Netns::create(&unique), far, dir, _lock: lock }
    }

    /// The namespace of the devices under test.
    pub fn near(&self) -> &Netns {
        &self.near
    }

    /// The namespace of the other ends.
    pub fn far(&self) -> &Netns {
        &self.far
    }

    /// A directory for the test's files, owned by root and writable by nobody else.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file below [`Lab::dir`], and returns its path. In one step, so that who follows the file never reads half of
    /// it, however long this process has to wait for a CPU.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(name);
        let mut next = path.clone().into_os_string();
        next.push(".next");
        std::fs::write(&next, content)
            .and_then(|()| std::fs::rename(&next, &path))
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        path
    }

    /// Makes a veth pair, both ends up.
    pub fn veth(&self, near: &str, far: &str) -> Veth {
        let veth = Veth { near: near.to_owned(), far: far.to_owned() };
        self.create(&veth);
        veth
    }

    /// Makes `count` pairs at once, `<prefix>0` to `<prefix><count - 1>` on the near side.
    pub fn veths(&self, prefix: &str, count: usize) -> Vec<Veth> {
        let names: Vec<_> = (0..count).map(|n| format!("{prefix}{n}")).collect();
        self.veths_called(&names)
    }

    /// Makes a pair for each of these names at once: `<name>` on the near side, `p-<name>` on the other.
    pub fn veths_called(&self, names: &[impl AsRef<str>]) -> Vec<Veth> {
        let pair = |name: &str| Veth { near: name.to_owned(), far: format!("p-{name}") };
        let veths: Vec<_> = names.iter().map(|name| pair(name.as_ref())).collect();
        let mut near = String::new();
        let mut far = String::new();
        for Veth { near: a, far: b } in &veths {
            let peer = self.far.name();
            writeln!(near, "link add {a} type veth peer name {b} netns {peer}\nlink set {a} up")
                .expect("a string");
            writeln!(far, "link set {b} up").expect("a string");
        }
        batch(&self.near, &near);
        batch(&self.far, &far);
        veths
    }

    /// Deletes the pair, as when a container goes away.
    pub fn delete(&self, veth: &Veth) {
        self.near.ip(&format!("link del dev {}", veth.near));
    }

    /// Makes a deleted pair again: the same names, another ifindex.
    pub fn create(&self, veth: &Veth) {
        let Veth { near, far } = veth;
        self.near.ip(&format!("link add {near} type veth peer name {far} netns {}", self.far.name()));
        self.near.ip(&format!("link set {near} up"));
        self.far.ip(&format!("link set {far} up"));
    }

    /// Gives the near device another name; its ifindex stays.
    pub fn rename(&self, veth: &mut Veth, name: &str) {
        // Before Linux 6.2 a device that is up keeps its name.
        self.near.ip(&format!("link set dev {} down", veth.near));
        self.near.ip(&format!("link set dev {} name {name}", veth.near));
        self.near.ip(&format!("link set dev {name} up"));
        name.clone_into(&mut veth.near);
    }

    /// Sets the MTU of both ends: what native XDP accepts on one end depends on the other.
    pub fn set_mtu(&self, veth: &Veth, mtu: u32) {
        self.near.ip(&format!("link set dev {} mtu {mtu}", veth.near));
        self.far.ip(&format!("link set dev {} mtu {mtu}", veth.far));
    }

    /// A sender at the far end: what it sends, the near device receives.
    pub fn sender(&self, veth: &Veth) -> Sender {
        self.far
            .run(|| Sender::open(&veth.far))
            .unwrap_or_else(|e| panic!("cannot send on {}: {e}", veth.far))
    }
}

/// Runs many `ip` commands in one process: a process each would take most of a second for a hundred devices.
fn batch(netns: &Netns, commands: &str) {
    let mut ip = Command::new("ip")
        .args(["-n", netns.name(), "-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run ip: {e}"));
    ip.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("ip reads its commands");
    let status = ip.wait().expect("the end of ip");
    assert!(status.success(), "ip -batch: {status}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::require_root;

    #[test]
    #[ignore = "needs root"]
    fn a_device_made_again_has_another_index_and_a_renamed_one_keeps_it() {
        require_root!();
        let lab = Lab::new("devices");
        let mut veth = lab.veth("eth0", "peer0");
        let first = lab.near().ifindex("eth0");
        lab.delete(&veth);
        assert_eq!(lab.near().ifindex("eth0"), None);
        lab.create(&veth);
        let second = lab.near().ifindex("eth0");
        assert!(second.is_some() && second != first);
        lab.near().ip("link set eth0 down");
        lab.rename(&mut veth, "wan0");
        assert_eq!((lab.near().ifindex("wan0"), lab.near().ifindex("eth0")), (second, None));
    }

    #[test]
    #[ignore = "needs root"]
    fn many_pairs_are_made_at_once() {
        require_root!();
        let lab = Lab::new("many");
        let veths = lab.veths("v", 20);
        assert_eq!(veths.len(), 20);
        lab.set_mtu(&veths[19], 9000);
        assert_eq!(lab.sender(&veths[19]).size(9014).send(3), 3);
    }
}
