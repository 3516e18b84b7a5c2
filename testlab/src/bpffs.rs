//! A bpffs of one's own, so that no test touches the machine's.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

use crate::leftovers::{self, PREFIX};

/// A bpffs mounted on a temporary directory; unmounted on drop, which frees what is pinned there.
#[derive(Debug)]
pub struct Bpffs {
    dir: TempDir,
}

impl Bpffs {
    /// Mounts a bpffs with mode 0755 that belongs to root. For who holds a [`crate::Lock`].
    ///
    /// A kernel with `CONFIG_BPF_PRELOAD` pins its iterators (`maps.debug`, `progs.debug`) on every mount:
    /// mount before taking [`crate::KernelObjects::snapshot`].
    pub fn private() -> Self {
        leftovers::remove();
        let prefix = format!("{PREFIX}-{}-bpffs-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory");
        rustix::mount::mount("bpf", dir.path(), "bpf", MountFlags::empty(), Some(c"mode=0755"))
            .unwrap_or_else(|errno| panic!("cannot mount a bpffs on {}: {errno}", dir.path().display()));
        Self { dir }
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A directory below the mount point that does not exist yet: a pin root, as a configuration names it.
    pub fn pin_root(&self) -> PathBuf {
        self.path().join("xdpd")
    }

    /// Everything on the mount but the kernel's own pins, sorted: directories end in `/`, symlinks in ` ->
    /// <target>`.
    ///
    /// Empty when nothing is pinned: the assertion for "leaves nothing behind".
    pub fn tree(&self) -> Vec<String> {
        let mut entries = Vec::new();
        collect(self.path(), "", &mut entries);
        entries.sort();
        entries
    }

    /// Like [`Bpffs::tree`] with each entry's inode and change time: equal only when nothing was replaced or
    /// touched.
    pub fn fingerprint(&self) -> Vec<(String, u64, i64, i64)> {
        let stat = |entry: String| {
            let name = entry.split(" -> ").next().unwrap_or_default().trim_end_matches('/');
            let meta = self.path().join(name).symlink_metadata().expect("an entry that was just listed");
            (entry, meta.ino(), meta.ctime(), meta.ctime_nsec())
        };
        self.tree().into_iter().map(stat).collect()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Nothing is left to do when this fails, and a second panic would hide the first.
        let _ = rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

fn collect(dir: &Path, prefix: &str, entries: &mut Vec<String>) {
    let list = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
    for entry in list {
        let entry = entry.unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // bpffs refuses names with a dot to everybody but the kernel.
        if name.contains('.') {
            continue;
        }
        let kind = entry.file_type().expect("the type of an entry");
        if kind.is_dir() {
            entries.push(format!("{name}/"));
            collect(&entry.path(), &format!("{name}/"), entries);
        } else if kind.is_symlink() {
            let target = entry.path().read_link().expect("the target of a symlink");
            entries.push(format!("{name} -> {}", target.display()));
        } else {
            entries.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lock, require_root};

    #[test]
    #[ignore = "needs root"]
    fn the_mount_is_empty_and_goes_away_with_its_owner() {
        require_root!();
        let _lock = Lock::shared();
        let bpffs = Bpffs::private();
        let path = bpffs.path().to_owned();
        assert_eq!(bpffs.tree(), Vec::<String>::new());
        std::fs::create_dir(bpffs.pin_root()).unwrap();
        std::os::unix::fs::symlink("text", bpffs.pin_root().join("xdp-owner")).unwrap();
        assert_eq!(bpffs.tree(), ["xdpd/", "xdpd/xdp-owner -> text"]);
        let before = bpffs.fingerprint();
        assert_eq!(before, bpffs.fingerprint());
        std::fs::remove_file(bpffs.pin_root().join("xdp-owner")).unwrap();
        assert_ne!(before, bpffs.fingerprint());
        drop(bpffs);
        assert!(!path.exists());
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*path.to_string_lossy()));
    }
}
