//! What tests build on beside the labs of all crates: a bpffs that this crate has mounted, and a pair of devices in one
//! namespace.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_ARRAY;
use xdpd_kernel::netlink::{self, Device};
use xdpd_kernel::program::XdpLoad;
use xdpd_kernel::{Dir, IfIndex, Insn, Map, MapDef, NetNs, Program, bpffs};
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

/// A program that writes into the first entry of an array: the value of the CPU that it runs on.
pub(crate) fn counts_in(map: &Map) -> Program {
    const LD_IMM64: u8 = 0x18;
    const PSEUDO_MAP_FD: u8 = 1;
    const LOOKUP: i32 = 1;
    let fd = map.as_fd().as_raw_fd();
    let insns = [
        Insn::new(0x62, 10, 0, -4, 0),                // *(u32 *)(r10 - 4) = 0
        Insn::new(0xbf, 2, 10, 0, 0),                 // r2 = r10
        Insn::new(0x07, 2, 0, 0, -4),                 // r2 += -4
        Insn::new(LD_IMM64, 1, PSEUDO_MAP_FD, 0, fd), // r1 = map
        Insn::new(0, 0, 0, 0, 0),
        Insn::new(0x85, 0, 0, 0, LOOKUP), // r0 = bpf_map_lookup_elem(r1, r2)
        Insn::new(0x15, 0, 0, 1, 0),      // if r0 == 0 goto +1
        Insn::new(0x7a, 0, 0, 0, 1),      // *(u64 *)r0 = 1
        Insn::mov(0, 2),
        Insn::exit(),
    ];
    let load = XdpLoad {
        name: "counts",
        insns: &insns,
        license: c"Dual MIT/GPL",
        frags: false,
        attach_type: 0,
        debug: None,
    };
    load.load(None).unwrap()
}
