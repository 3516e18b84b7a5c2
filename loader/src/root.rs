//! The pin root: made when missing, locked while something changes, gone when nothing is left in it.

use std::path::Path;
use std::time::{Duration, Instant};

use xdpd_config::OWNER_PIN;
use xdpd_kernel::{Attempt, Dir, Entry, EntryKind, Lock, Look, Stat, bpffs};

use crate::interrupt::{Interrupt, Interrupted};
use crate::observed::{self, LOCK, MADE, NEXT, OLD, Root, SNAP, TAKEN};
use crate::permissions::{self, Permissions};
use crate::trial;

/// The lock is for root alone.
const LOCK_MODE: u32 = 0o700;

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
        let unusable = |root: Root| RootError::Unusable(root.problem(path).unwrap_or_default());
        match Dir::find(path)? {
            Look::Found(dir) if dir.is_bpffs()? => {
                Self::lock(path, permissions::of_directories(None), timeout, interrupt).map(Some)
            }
            Look::Found(_) => Err(unusable(Root::NoBpffs)),
            Look::Other(_) => Err(unusable(Root::NotADirectory)),
            Look::Gone => Ok(None),
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
        let Look::Found(dir) = Dir::find(path)? else { return Ok(None) };
        if let Some(problem) = Root::of(dir.stat_self()?.into()).problem(path) {
            return Err(RootError::Unusable(problem));
        }
        if let Err(e) = dir.mkdir_if_gone(LOCK, LOCK_MODE) {
            return if dir.is_removed()? { Ok(None) } else { Err(e.into()) };
        }
        loop {
            match dir.try_lock(LOCK)? {
                Attempt::Taken(lock) => {
                    let root = Self { dir, lock: Some(lock), made };
                    if made > 0 {
                        root.dir.open_dir(LOCK)?.symlink(made.to_string(), MADE)?;
                    }
                    trial::forget(&root.dir)?;
                    return Ok(Some(root));
                }
                Attempt::Busy => {}
                Attempt::Gone => return Ok(None),
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

impl PinRoot {
    /// Whether anything of ours but the lock is left.
    fn holds_ours(&self) -> Result<bool, xdpd_kernel::Error> {
        for entry in self.dir.list()? {
            if self.is_ours(&entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_ours(&self, entry: &Entry) -> Result<bool, xdpd_kernel::Error> {
        let name = entry.name.to_string_lossy();
        if entry.kind != EntryKind::Dir || name == LOCK {
            return Ok(false);
        }
        if [NEXT, OLD, SNAP, TAKEN].iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(true);
        }
        let Some(dir) = self.dir.find_dir(&entry.name)?.found() else { return Ok(false) };
        let is_roots = !Permissions::from(dir.stat_self()?).is_others_to_change();
        Ok(is_roots && dir.find_symlink(OWNER_PIN)?.found().is_some())
    }
}

impl PinRoot {
    /// Removes the lock, and the note in it of how many directories of the path were made; tells how many. `None` where
    /// something is in the way, and all is as before.
    fn remove_lock(&self) -> Result<Option<usize>, xdpd_kernel::Error> {
        let Some(lock) = self.dir.find_dir(LOCK)?.found() else { return Ok(Some(self.made)) };
        let noted = observed::made(&self.dir)?;
        lock.remove(MADE)?;
        if self.dir.rmdir(LOCK).is_ok() {
            return Ok(Some(noted.unwrap_or(self.made)));
        }
        if let Some(noted) = noted {
            lock.symlink(noted.to_string(), MADE)?;
        }
        Ok(None)
    }

    /// Where nothing of ours is left, the lock goes, and so do the directories of the path that a run has made, if they
    /// are empty.
    fn remove_unused(&self) -> Result<(), xdpd_kernel::Error> {
        if self.holds_ours()? {
            return Ok(());
        }
        for path in self.dir.path().ancestors().take(self.remove_lock()?.unwrap_or(0)) {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
            Dir::open(parent)?.rmdir(name)?;
        }
        Ok(())
    }
}

impl Drop for PinRoot {
    /// Whoever waits for the lock meanwhile notices that its directory is gone, and starts over. What cannot be seen or
    /// removed stays: the next run tries again.
    fn drop(&mut self) {
        let _ = self.remove_unused();
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

/// Makes the directories of the path that are missing; tells how many.
fn make_dirs(path: &Path, permissions: Permissions) -> Result<usize, RootError> {
    let mut missing = Vec::new();
    for path in path.ancestors() {
        if Stat::find(path)?.is_some() {
            break;
        }
        missing.push(path);
    }
    let mut made = 0;
    for path in missing.into_iter().rev() {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let parent = Dir::open(parent)?;
        // Nobody else's until it is all that it is to be.
        if parent.mkdir_if_gone(name, LOCK_MODE)? {
            let name = name.to_string_lossy();
            permissions::set(&parent, Some(&name), permissions)
                .inspect_err(|_| drop(parent.rmdir(&*name)))?;
            made += 1;
        }
    }
    Ok(made)
}
