//! The pin root: made when missing, locked while something changes, gone when nothing is left in it.

use std::path::Path;
use std::time::{Duration, Instant};

use libc::{EEXIST, ENOENT};
use xdpd_config::OWNER_PIN;
use xdpd_kernel::{Dir, Entry, EntryKind, Lock, OptionalExt, bpffs};

use crate::interrupt::{Interrupt, Interrupted};
use crate::observed::{self, LOCK, Leftovers, NEXT, OLD, Root, SNAP, TAKEN};
use crate::readers::{self, Permissions};
use crate::trial;

/// The lock is for root alone.
const LOCK_MODE: u32 = 0o700;
/// A symlink in the lock's directory: how many directories of the pin root's path were made along with it. So detach
/// removes those that xdpd has made, and not one that the operator has.
const MADE: &str = "made";
/// How often a busy lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// How long a lock is waited for in any case that nobody seems to hold: it was let go a moment ago, or its holder was
/// killed while it started a process, which has copies of all descriptors until it execs.
const NO_HOLDER: Duration = Duration::from_secs(5);

/// The locked pin root. Only who holds one changes what is under it.
#[derive(Debug)]
pub(crate) struct PinRoot {
    dir: Dir,
    lock: Option<Lock>,
    /// How many directories of the path this run has made.
    made: usize,
}

/// Why the pin root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A call failed.
    #[error(transparent)]
    Kernel(#[from] xdpd_kernel::Error),
    /// Nothing can be pinned there.
    #[error("{0}")]
    Unusable(String),
    /// A signal asked to stop while another run held the lock.
    #[error("{0} while waiting for the lock")]
    Interrupted(#[from] Interrupted),
    /// Another run holds the lock.
    #[error("{path} is locked{}; {}", .holder.as_deref().unwrap_or(""), advice(*.waited), path = .path.display())]
    Locked {
        /// The lock.
        path: std::path::PathBuf,
        /// Who holds it, ` by NAME (pid N)`.
        holder: Option<String>,
        /// How long it was waited for, as the operator wished.
        waited: Duration,
    },
}

fn advice(waited: Duration) -> String {
    if waited.is_zero() {
        "wait for it, or give --lock-timeout".to_owned()
    } else {
        format!("gave up after {}", humantime::format_duration(waited))
    }
}

impl PinRoot {
    /// Makes what is missing, with these permissions, and takes the lock.
    pub(crate) fn lock(
        path: &Path,
        permissions: Permissions,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Self, RootError> {
        ensure_bpffs(path)?;
        let begun = Instant::now();
        loop {
            if let Some(root) = Self::try_lock(path, permissions, begun, timeout, interrupt)? {
                return Ok(root);
            }
        }
    }

    /// Takes the lock of a pin root that exists; `None` where it does not.
    pub(crate) fn lock_existing(
        path: &Path,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Option<Self>, RootError> {
        match Dir::open(path) {
            Ok(dir) if dir.is_bpffs()? => {
                Self::lock(path, readers::of_directories(None), timeout, interrupt).map(Some)
            }
            Ok(_) => {
                let problem = Root::NoBpffs.problem(path);
                Err(RootError::Unusable(problem.unwrap_or_default()))
            }
            Err(e) if e.errno() == ENOENT => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// `None`: what was made vanished under our hands, since another run has just cleaned up. Start over.
    fn try_lock(
        path: &Path,
        permissions: Permissions,
        begun: Instant,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Option<Self>, RootError> {
        let made = make_dirs(path, permissions)?;
        let Some(dir) = Dir::open(path).optional()? else { return Ok(None) };
        if let Some(problem) = Root::of(dir.stat_self()?.into()).problem(path) {
            return Err(RootError::Unusable(problem));
        }
        match dir.mkdir(LOCK, LOCK_MODE) {
            Err(e) if e.errno() == ENOENT => return Ok(None),
            Err(e) if e.errno() != EEXIST => return Err(e.into()),
            _ => {}
        }
        loop {
            match dir.try_lock(LOCK) {
                Ok(Some(lock)) => {
                    let root = Self { dir, lock: Some(lock), made };
                    if made > 0 {
                        root.dir.open_dir(LOCK)?.symlink(made.to_string(), MADE)?;
                    }
                    trial::forget(&root.dir)?;
                    return Ok(Some(root));
                }
                Ok(None) => {}
                Err(e) if e.errno() == ENOENT => return Ok(None),
                Err(e) => return Err(e.into()),
            }
            if begun.elapsed() >= timeout {
                let holders = dir.lock_holders(LOCK).unwrap_or_default();
                if !holders.is_empty() || begun.elapsed() >= NO_HOLDER {
                    let waits =
                        if trial::is_waiting(&dir) { ", an apply that waits for `xdpd confirm`" } else { "" };
                    let holder = holders.first().map(|holder| format!(" by {holder}{waits}"));
                    return Err(RootError::Locked { path: path.join(LOCK), holder, waited: timeout });
                }
            }
            interrupt.check()?;
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }
}

/// What a command without the lock makes of leftovers: those of a run that goes on are none.
pub(crate) fn leftovers(path: &Path) -> Leftovers {
    if lock_holder(path).is_some() { Leftovers::Ignore } else { Leftovers::FoldIn }
}

impl PinRoot {
    /// How many directories of the path xdpd has made, by the note in the lock's directory, which is removed.
    fn take_note_of_made(&self) -> usize {
        let Ok(lock) = self.dir.open_dir(LOCK) else { return self.made };
        let made = made(&self.dir).unwrap_or(self.made);
        // Where there is no note, there is nothing to remove.
        let _ = lock.unlink(MADE);
        made
    }

    /// Whether anything of ours but the lock is left.
    fn holds_ours(&self) -> bool {
        let is_roots =
            |dir: &Dir| dir.stat_self().is_ok_and(|stat| !Permissions::from(stat).is_others_to_change());
        let has_record = |dir: &Dir| dir.readlink(OWNER_PIN).is_ok();
        let ours = |entry: &Entry| {
            let name = entry.name.to_string_lossy();
            entry.kind == EntryKind::Dir
                && name != LOCK
                && (name.starts_with(NEXT)
                    || name.starts_with(OLD)
                    || name.starts_with(SNAP)
                    || name.starts_with(TAKEN)
                    || self.dir.open_dir(&entry.name).is_ok_and(|dir| is_roots(&dir) && has_record(&dir)))
        };
        self.dir.list().map_or(true, |entries| entries.iter().any(ours))
    }
}

impl Drop for PinRoot {
    /// Where nothing of ours is left, the lock goes, and so do the directories of the path that a run has made, if they
    /// are empty. Whoever waits for the lock meanwhile notices that its directory is gone, and starts over.
    fn drop(&mut self) {
        if !self.holds_ours() {
            let made = self.take_note_of_made();
            if self.dir.rmdir(LOCK).is_ok() {
                for path in self.dir.path().ancestors().take(made) {
                    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
                    if Dir::open(parent).and_then(|parent| parent.rmdir(name)).is_err() {
                        break;
                    }
                }
            }
        }
        drop(self.lock.take());
    }
}

/// Mounts a bpffs at /sys/fs/bpf where that would make `pin_root` usable and last.
fn ensure_bpffs(pin_root: &Path) -> Result<(), RootError> {
    let root = observed::missing_root(pin_root)?;
    match root.problem(pin_root) {
        Some(problem) => Err(RootError::Unusable(problem)),
        None if root == Root::Mountable => Ok(bpffs::mount(bpffs::MOUNT_POINT)?),
        None => Ok(()),
    }
}

/// How many directories of the path xdpd has made, of which the pin root is the first; `None` where it has made none.
pub(crate) fn made(root: &Dir) -> Option<usize> {
    root.open_dir(LOCK).and_then(|lock| lock.readlink(MADE)).ok()?.to_str()?.parse().ok()
}

/// Makes the directories of the path that are missing; tells how many.
fn make_dirs(path: &Path, permissions: Permissions) -> Result<usize, RootError> {
    let missing: Vec<_> = path.ancestors().take_while(|p| !p.exists()).collect();
    let mut made = 0;
    for path in missing.into_iter().rev() {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let parent = Dir::open(parent)?;
        // Nobody else's until it is all that it is to be.
        match parent.mkdir(name, LOCK_MODE) {
            Ok(()) => {
                let name = name.to_string_lossy();
                readers::set(&parent, Some(&name), permissions)
                    .inspect_err(|_| drop(parent.rmdir(&*name)))?;
                made += 1;
            }
            Err(e) if e.errno() == EEXIST => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(made)
}

/// Who holds the lock of a pin root, `NAME (pid N)`.
pub(crate) fn lock_holder(path: &Path) -> Option<String> {
    let holders = Dir::open(path).ok()?.lock_holders(LOCK).ok()?;
    holders.first().map(ToString::to_string)
}
