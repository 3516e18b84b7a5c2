//! The file system that pins live on: finding it, mounting it, and whether it is a place that lasts.

use std::path::Path;

use rustix::fs::StatFs;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Error, Result};
use crate::uapi::BPF_FS_MAGIC;

/// Where a bpffs is mounted by convention; sysfs provides the directory.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// Whether a path is on a bpffs. `ENOENT` when there is no such path.
pub fn is_bpffs(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    let fs = rustix::fs::statfs(path).map_err(|errno| Error::new("statfs", path.to_string_lossy(), errno))?;
    Ok(has_magic(&fs))
}

/// Mounts a bpffs at a directory, in our mount namespace, for root alone (mode 0700, as systemd does it; the kernel
/// adds the sticky bit).
///
/// Its root need not be empty: a kernel with `CONFIG_BPF_PRELOAD` puts `maps.debug` and `progs.debug` there.
pub fn mount(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("bpf", path, "bpf", flags, c"mode=0700")
        .map_err(|errno| Error::new("mount", path.to_string_lossy(), errno))
}

/// Takes away what is mounted at a path; the pins of a bpffs go with its last mount. `EBUSY` when it is in use.
pub fn unmount(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    rustix::mount::unmount(path, UnmountFlags::NOFOLLOW)
        .map_err(|errno| Error::new("umount2", path.to_string_lossy(), errno))
}

/// Whether our mount namespace is that of process 1, so that what is mounted here stays when we end.
///
/// Compares the id of the mount at `/` with that in /proc/1/mountinfo, which every process may read: ids are unique in
/// the kernel, and a new mount namespace gets copies with new ones. Limits: in a container with a pid namespace of its
/// own, process 1 is the container's; after chroot(2) the answer is that for the mount at the new root.
pub fn in_init_mount_namespace() -> Result<bool> {
    let root = |path: &str| {
        let text = std::fs::read_to_string(path).map_err(|source| Error::new("read", path, source))?;
        root_mount(&text).ok_or_else(|| Error::invalid("read", path, "no mount at /"))
    };
    Ok(root("/proc/thread-self/mountinfo")? == root("/proc/1/mountinfo")?)
}

/// The id of the mount at `/` in a mountinfo: of the last one, which lies on top of those before it.
fn root_mount(mountinfo: &str) -> Option<u64> {
    let mut roots = mountinfo.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let id = words.next()?.parse().ok()?;
        (words.nth(3)? == "/").then_some(id)
    });
    roots.next_back()
}

// The field's type differs between architectures; the number is a 32-bit one everywhere.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
pub(crate) fn has_magic(fs: &StatFs) -> bool {
    fs.f_type as u32 == BPF_FS_MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_mount_is_the_topmost() {
        let mountinfo = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                         27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                         31 27 254:1 / / rw,relatime shared:1 - ext4 /dev/vdb rw\n\
                         32 31 254:1 / /home rw - ext4 /dev/vdb rw\n";
        assert_eq!(root_mount(mountinfo), Some(31));
        assert_eq!(root_mount("22 27 0:21 / /proc rw - proc proc rw\n"), None);
        assert_eq!(root_mount("garbage"), None);
    }
}
