//! What tests build on: a bpffs of their own, a namespace with a veth pair, and waiting with a deadline.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use xdpd_kernel::netlink::{self, Device};
use xdpd_kernel::{Dir, IfIndex, Map, MapDef, NetNs, Program, bpffs};

/// Leaves a test that needs root when we are not, and says so.
macro_rules! require_root {
    () => {
        if !xdpd_kernel::privilege::is_root() {
            println!("skipped: needs root");
            return;
        }
    };
}
pub(crate) use require_root;

/// A number that no other test of this or another run uses.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}n{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

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
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = bpffs::unmount(&self.mount_point) {
            if error.errno() != libc::EBUSY || Instant::now() > deadline {
                eprintln!("{error}");
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A network namespace with the veth pair `left` and `right`, gone with all in it when this is dropped.
pub(crate) struct Lab {
    name: String,
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
        let name = format!("xk{}", unique());
        run("ip", &["netns", "add", &name]);
        let netns = NetNs::open(&name).unwrap();
        Self { name, netns }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in the namespace, the arguments in one string, and returns what it prints.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_ascii_whitespace());
        run("ip", &all)
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

impl Drop for Lab {
    fn drop(&mut self) {
        let done = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("namespace {} is left over", self.name);
        }
    }
}

/// Runs a program that must succeed, and returns what it prints.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until a condition holds; the kernel frees objects in the background.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// A program that passes all packets.
pub(crate) fn pass(name: &str) -> Program {
    Program::load_xdp_returning(name, 2).unwrap()
}

/// `BPF_MAP_TYPE_*` of the types that tests use.
pub(crate) const HASH: u32 = 1;
pub(crate) const ARRAY: u32 = 2;
pub(crate) const PERCPU_HASH: u32 = 5;
pub(crate) const PERCPU_ARRAY: u32 = 6;
pub(crate) const LPM_TRIE: u32 = 11;

pub(crate) fn def(map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> MapDef {
    MapDef { map_type, key_size, value_size, max_entries, ..MapDef::default() }
}

/// The shape of the counters: 16 bytes per action and CPU.
pub(crate) fn counters(name: &str) -> Map {
    Map::create(name, &def(PERCPU_ARRAY, 4, 16, 5), None).unwrap()
}
