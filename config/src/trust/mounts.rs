//! Mounts: whether one makes permissions void because it is read-only, and who serves a file system.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// File systems whose content only this machine changes, through a mount. Those that are served over a network or by a
/// process can be changed by whoever serves them, and an overlay in its layers.
const LOCAL: [&str; 16] = [
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "ramfs", "squashfs",
    "tmpfs", "udf", "vfat", "xfs", "zfs",
];

/// The mounts of this process's mount namespace that its root directory leads to.
#[derive(Debug)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    /// `MAJOR:MINOR` of the file system: equal where the same one is mounted.
    device: Vec<u8>,
    /// The directory, or file, of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    read_only: bool,
    file_system: String,
    /// Options of the file system, which all its mounts share.
    options: Vec<u8>,
}

/// What a mount means for the permissions of what lies on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// They count.
    Allowed,
    /// The file system is read-only: nobody writes it.
    Impossible,
    /// It is mounted read-only here. In this mount namespace, the same thing has these names on mounts that are not, if
    /// nothing else is mounted over them. With the ids of those mounts.
    OnlyAs(Vec<(u64, PathBuf)>),
    /// It is mounted read-only here. Others can write this kind of file system in another way.
    Elsewhere(String),
}

impl Mounts {
    /// Reads them.
    pub(super) fn read() -> io::Result<Self> {
        let text = std::fs::read("/proc/thread-self/mountinfo")?;
        Self::parse(&text).ok_or_else(|| io::Error::other("/proc/thread-self/mountinfo cannot be understood"))
    }

    /// The format is that of `proc_pid_mountinfo(5)`.
    fn parse(text: &[u8]) -> Option<Self> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(Mount::parse).collect::<Option<_>>().map(Self)
    }

    /// The user who serves the file system of a mount, where that is a FUSE file system; `Err`: there is no such mount.
    pub(super) fn server(&self, id: u64) -> Result<Option<u32>, ()> {
        let options = &self.find(id).ok_or(())?.options;
        let user = options.split(|byte| *byte == b',').find_map(|option| option.strip_prefix(b"user_id="));
        user.map(|uid| std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok()).ok_or(())).transpose()
    }

    /// Whether and how what is called `place` on a mount can be written.
    pub(super) fn writing(&self, id: u64, place: &Path) -> Writing {
        // One that /proc does not tell of cannot be judged; the permissions remain.
        let Some(mount) = self.find(id) else { return Writing::Allowed };
        let file_system_read_only = is_read_only(&mount.options);
        if !mount.read_only && !file_system_read_only {
            return Writing::Allowed;
        }
        if !LOCAL.contains(&&*mount.file_system) {
            return Writing::Elsewhere(mount.file_system.clone());
        }
        if file_system_read_only {
            return Writing::Impossible;
        }
        let Ok(below) = place.strip_prefix(&mount.point) else { return Writing::Allowed };
        let inside = join(&mount.root, below);
        let others = self.0.iter().filter(|other| other.device == mount.device && !other.read_only);
        let name = |other: &Mount| Some(join(&other.point, inside.strip_prefix(&other.root).ok()?));
        let names = others.filter_map(|other| Some((other.id, name(other)?)));
        Writing::OnlyAs(names.collect())
    }

    /// Whether something is mounted at this place.
    pub(super) fn is_mount_point(&self, place: &Path) -> bool {
        self.0.iter().any(|mount| mount.point == place)
    }

    /// Whether another mount could lie over what a mount shows by this name.
    pub(super) fn may_hide(&self, id: u64, name: &Path) -> bool {
        self.0
            .iter()
            .any(|mount| mount.id != id && mount.point != Path::new("/") && name.starts_with(&mount.point))
    }

    fn find(&self, id: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let (_parent, device) = (words.next()?, words.next()?.to_vec());
        let (root, point, options) = (unescape(words.next()?), unescape(words.next()?), words.next()?);
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let file_system = String::from_utf8_lossy(words.next()?).into_owned();
        let (_source, super_options) = (words.next()?, words.next()?.to_vec());
        let read_only = is_read_only(options);
        Some(Self { id, device, root, point, read_only, file_system, options: super_options })
    }
}

/// The first option is `ro` or `rw`, of a mount as of a file system.
fn is_read_only(options: &[u8]) -> bool {
    options.split(|byte| *byte == b',').next() == Some(b"ro")
}

/// Without a slash at the end, where there is nothing to add.
fn join(path: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(rest) }
}

/// The kernel writes spaces, tabs, line ends, `\` and `#` as `\` and three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let octal = |digits: &[u8; 3]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let escaped = after.first_chunk().and_then(octal).filter(|_| *first == b'\\');
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod on a node with containerd, shortened.
    const POD: &str = "\
600 500 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
601 600 254:1 /var/lib/kubelet/pods/1/volumes/kubernetes.io~configmap/xdpd /etc/xdpd ro,relatime - ext4 /dev/vda1 rw
602 600 254:1 /var/lib/kubelet/pods/1/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
603 600 254:1 / /host\\040root rw,relatime shared:7 master:1 - ext4 /dev/vda1 rw
604 600 254:1 /var /mnt/var ro,relatime - ext4 /dev/vda1 rw
605 600 0:61 / /cd ro - iso9660 /dev/loop0 ro
606 600 0:62 / /nfs ro,relatime - nfs4 server:/export ro,vers=4.2
607 600 0:63 / /home/bob/fuse rw,nosuid,nodev,relatime - fuse.sshfs bob@server: rw,user_id=1000,group_id=1000,allow_other
608 600 0:64 / /virtio rw,relatime - virtiofs share rw
609 600 0:65 / /squash rw,relatime - squashfs /dev/loop1 ro,errors=continue
";

    fn pod() -> Mounts {
        Mounts::parse(POD.as_bytes()).unwrap()
    }

    fn writing(id: u64, place: &str) -> Writing {
        pod().writing(id, Path::new(place))
    }

    #[test]
    fn a_read_only_mount_is_writable_under_the_names_that_other_mounts_give_it() {
        let volume = "/host root/var/lib/kubelet/pods/1/volumes/kubernetes.io~configmap/xdpd";
        assert_eq!(writing(601, "/etc/xdpd"), Writing::OnlyAs(vec![(603, volume.into())]));
        let data = writing(601, "/etc/xdpd/..data");
        assert_eq!(data, Writing::OnlyAs(vec![(603, Path::new(volume).join("..data"))]));
        // The other mounts of the file system do not show this part of it, or are read-only.
        let hosts = writing(604, "/mnt/var/lib/kubelet/pods/1/etc-hosts");
        let names = [(602, "/etc/hosts"), (603, "/host root/var/lib/kubelet/pods/1/etc-hosts")];
        assert_eq!(hosts, Writing::OnlyAs(names.map(|(id, name)| (id, name.into())).to_vec()));
    }

    #[test]
    fn only_a_local_file_system_that_is_read_only_is_written_by_nobody() {
        assert_eq!(writing(605, "/cd/file"), Writing::Impossible);
        assert_eq!(writing(609, "/squash/file"), Writing::Impossible);
        assert_eq!(writing(606, "/nfs/file"), Writing::Elsewhere("nfs4".into()));
        for (id, place) in
            [(600, "/etc"), (602, "/etc/hosts"), (603, "/host root/etc"), (999, "/x"), (601, "/x")]
        {
            assert_eq!(writing(id, place), Writing::Allowed, "{id} {place}");
        }
    }

    #[test]
    fn who_serves_a_fuse_file_system_is_known() {
        assert_eq!(pod().server(607), Ok(Some(1000)));
        // The machine below serves this one.
        assert_eq!(pod().server(608), Ok(None));
        assert_eq!(pod().server(999), Err(()));
    }

    #[test]
    fn mount_points_are_known_and_what_is_no_mountinfo_is_refused() {
        assert!(pod().is_mount_point(Path::new("/host root")) && !pod().is_mount_point(Path::new("/host")));
        assert!(Mounts::parse(b"").unwrap().0.is_empty());
        for broken in ["x", "1 2 3:4 / / rw", "1 2 3:4 / / rw - ext4", "a 2 3:4 / / rw - ext4 x rw"] {
            assert!(Mounts::parse(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn escaped_names_are_read() {
        for (escaped, name) in
            [("/a\\040b", "/a b"), ("/\\134040", "/\\040"), ("/x\\", "/x\\"), ("/\\9", "/\\9")]
        {
            assert_eq!(unescape(escaped.as_bytes()), Path::new(name));
        }
    }
}
