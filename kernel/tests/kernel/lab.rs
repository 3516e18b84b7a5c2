//! What tests build on beside the labs of all crates: a bpffs that this crate has mounted, and a pair of devices in one
//! namespace.

use std::path::{Path, PathBuf};
use std::time::Instant;

use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_ARRAY;
use xdpd_kernel::netlink::{self, Device};
use xdpd_kernel::{Dir, IfIndex, Map, MapDef, NetNs, Program, bpffs};
use xdpd_testlab::{DEADLINE, wait_until};

/// A bpffs that lives as long as the test, and an empty directory on it. (Its root need not be empty: a kernel with
/// `CONFIG_BPF_PRELOAD` puts `maps.debug` and `progs.debug` there.)
pub(crate) struct Bpffs {
    mount_point: PathBuf,
    path: PathBuf,
    // Removed after the unmount, since fields are dropped after `drop`.
    _dir: tempfile::TempDir,
}

impl Bpffs {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        bpffs::mount(dir.path()).unwrap();
        let path = dir.path().join("pins");
        std::fs::create_dir(&path).unwrap();
        Self { mount_point: dir.path().to_owned(), path, _dir: dir }
    }

    pub(crate) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn root(&self) -> Dir {
        Dir::open(&self.path).unwrap()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Busy for as long as a process that another test starts has not come to exec, which closes our descriptors.
        let deadline = Instant::now() + DEADLINE;
        while let Err(error) = bpffs::unmount(&self.mount_point) {
            // Nothing is left to do, and a second panic would hide the first.
            if error.errno() != Some(libc::EBUSY) || Instant::now() > deadline {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A network namespace with the veth pair `left` and `right`, gone with all in it when this is dropped.
pub(crate) struct Lab {
    lab: xdpd_testlab::Lab,
    pub(crate) netns: NetNs,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self::empty();
        lab.ip("link add left type veth peer name right");
        lab.ip("link set left up");
        lab.ip("link set right up");
        lab
    }

    pub(crate) fn empty() -> Self {
        let lab = xdpd_testlab::Lab::new("kernel");
        let netns = NetNs::open(lab.near().name()).unwrap();
        Self { lab, netns }
    }

    pub(crate) fn name(&self) -> &str {
        self.lab.near().name()
    }

    /// Runs `ip` in the namespace, the arguments in one string, and returns what it prints.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.lab.near().ip(arguments)
    }

    pub(crate) fn within<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.netns.run(work).unwrap()
    }

    pub(crate) fn device(&self, name: &str) -> Device {
        let devices = self.within(|| netlink::devices().unwrap());
        devices.into_iter().find(|device| device.name == name).expect("device")
    }

    pub(crate) fn ifindex(&self, name: &str) -> IfIndex {
        self.device(name).ifindex
    }
}

/// Waits until a condition holds; the kernel frees objects in the background.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    wait_until(what, DEADLINE, condition);
}

/// A program that passes all packets.
pub(crate) fn pass(name: &str) -> Program {
    Program::load_xdp_returning(name, 2).unwrap()
}

pub(crate) fn def(map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> MapDef {
    MapDef { map_type, key_size, value_size, max_entries, ..MapDef::default() }
}

/// The shape of the counters: 16 bytes per action and CPU.
pub(crate) fn counters(name: &str) -> Map {
    Map::create(name, &def(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, 5), None).unwrap()
}
