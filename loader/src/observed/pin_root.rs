//! The pin root itself: whether pins can be made there, and who may reach them.

use std::path::{Path, PathBuf};

use xdpd_config::shell;
use xdpd_config::trust::{self, OpenError, Reason, Untrusted};
use xdpd_kernel::{Dir, Stat, bpffs};

use super::interrupted::Leftovers;
use super::names::{LOCK, MADE};
use crate::permissions::Permissions;

/// The state of the pin root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// It is there.
    #[default]
    Present,
    /// It does not exist yet; its file system is a bpffs.
    Missing,
    /// There is no bpffs at /sys/fs/bpf, below which it is to be: apply mounts one.
    Mountable,
    /// The same, in a mount namespace of its own, where a mount would help nobody.
    PrivateMounts,
    /// It is a symlink, or no directory at all.
    NotADirectory,
    /// It belongs to this user, and not to root.
    NotRoots(u32),
    /// Others than root may make entries in it. Holds its permission bits.
    OthersWrite(u32),
    /// Others than root can change which directory its path leads to. Says how.
    Misled(String),
    /// Neither it nor an ancestor lies on a bpffs, and it is no place to mount one.
    NoBpffs,
}

/// Who may reach the pins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The pin root's own permissions; `None`: it does not exist.
    pub root: Option<Permissions>,
    /// xdpd has made it.
    pub made: bool,
    /// The directories that lead to it, from the nearest on.
    pub above: Vec<(PathBuf, Permissions)>,
}

/// What can be done about a pin root that is not there, or not on a bpffs.
pub fn missing_root(pin_root: &Path) -> Result<Root, xdpd_kernel::Error> {
    if let Some(misled) = misled(pin_root)? {
        return Ok(misled);
    }
    Ok(if bpffs::is_bpffs(nearest_existing(pin_root)?)? {
        Root::Missing
    } else if !pin_root.starts_with(bpffs::MOUNT_POINT) {
        Root::NoBpffs
    } else if bpffs::in_init_mount_namespace()? {
        Root::Mountable
    } else {
        Root::PrivateMounts
    })
}

/// The path itself, or the nearest directory above it that exists.
fn nearest_existing(path: &Path) -> Result<&Path, xdpd_kernel::Error> {
    for ancestor in path.ancestors() {
        if Stat::find(ancestor)?.is_some() {
            return Ok(ancestor);
        }
    }
    Ok(Path::new("/"))
}

/// Whether others than root can change where the path of a pin root leads: it decides which pins are made, exchanged and
/// removed.
pub(super) fn misled(pin_root: &Path) -> Result<Option<Root>, xdpd_kernel::Error> {
    let Some(parent) = pin_root.parent() else { return Ok(None) };
    let existing = nearest_existing(parent)?;
    let failed = |place: &Path, source| xdpd_kernel::Error::of_look(place.display().to_string(), source);
    match trust::check(existing) {
        Ok(()) => Ok(None),
        Err(OpenError::Untrusted(Untrusted::Refused(refusal))) => Ok(Some(Root::Misled(refusal.to_string()))),
        Err(OpenError::Untrusted(Untrusted::Unknown { place, source, .. })) => Err(failed(&place, source)),
        Err(OpenError::Failed(source)) => Err(failed(existing, source)),
    }
}

impl Root {
    /// Of one that is there.
    pub fn of(permissions: Permissions) -> Self {
        match permissions.judge() {
            Ok(()) => Self::Present,
            Err(Reason::Owner(uid)) => Self::NotRoots(uid),
            Err(_) => Self::OthersWrite(permissions.mode),
        }
    }

    /// Why nothing can be pinned there, and what to do.
    pub fn problem(&self, pin_root: &Path) -> Option<String> {
        let (path, word) = (pin_root.display(), shell::word(pin_root));
        match self {
            Self::Present | Self::Missing | Self::Mountable => None,
            Self::NotADirectory => Some(format!(
                "pin_root {path} is no directory; a symlink is not followed, name what it leads to"
            )),
            Self::NotRoots(uid) => Some(format!(
                "pin_root {path} belongs to user {uid}, not to root: not used; chown root {word}, or name another one"
            )),
            Self::OthersWrite(mode) => Some(format!(
                "pin_root {path} has mode {mode:04o}, so that others than root can put pins there: not used; chmod go-w \
                 {word}, or name a directory in it, which apply makes"
            )),
            Self::Misled(how) => Some(format!("pin_root {path} is not used: {how}")),
            Self::NoBpffs => Some(format!(
                "pin_root {path} is not on a bpffs; mount one there: mount -t bpf -o mode=0700,X-mount.mkdir bpf {word}"
            )),
            Self::PrivateMounts => Some(format!(
                "no bpffs at {} in this mount namespace: `ip netns exec` has a /sys of its own, and pins made in it \
                 die with the process. Run xdpd in the host's mount namespace, either with \
                 `nsenter --net=/run/netns/NAME xdpd ...` or by naming the namespace in the file: netns = \"NAME\"",
                bpffs::MOUNT_POINT
            )),
        }
    }
}

/// The directories that lead to a pin root, from the nearest on, as far as they exist.
pub(super) fn above(pin_root: &Path) -> Result<Vec<(PathBuf, Permissions)>, xdpd_kernel::Error> {
    let mut above = Vec::new();
    for path in pin_root.ancestors().skip(1) {
        if let Some(stat) = Stat::find(path)? {
            above.push((path.to_owned(), stat.into()));
        }
    }
    Ok(above)
}

/// How many directories of the path xdpd has made, of which the pin root is the first; `None` where it has made none.
pub fn made(root: &Dir) -> Result<Option<usize>, xdpd_kernel::Error> {
    let Some(lock) = root.find_dir(LOCK)?.found() else { return Ok(None) };
    let text = lock.find_symlink(MADE)?.found();
    Ok(text.and_then(|text| text.to_str()?.parse().ok()))
}

/// What a command without the lock makes of leftovers: those of a run that goes on are none.
pub fn leftovers(path: &Path) -> Result<Leftovers, xdpd_kernel::Error> {
    Ok(if lock_holder(path)?.is_some() { Leftovers::Ignore } else { Leftovers::FoldIn })
}

/// Who holds the lock of a pin root, `NAME (pid N)`.
pub fn lock_holder(path: &Path) -> Result<Option<String>, xdpd_kernel::Error> {
    let Some(root) = Dir::find(path)?.found() else { return Ok(None) };
    Ok(root.lock_holders(LOCK)?.first().map(ToString::to_string))
}
