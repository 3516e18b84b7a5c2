//! An apply on trial: what it did stays only if somebody confirms it in time.
//!
//! The apply keeps running, with the lock and with open descriptors of everything that it needs to undo. What tells that
//! it waits is a symbolic link in the directory of the lock, whose text is the path of the config. Whoever removes it
//! decides, and only one can: `xdpd confirm` for keeping what was done, the apply itself for taking it back. So no
//! confirmation that was accepted is ever lost, and no daemon is needed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xdpd_config::shell;
use xdpd_kernel::{Attempt, Dir, Look};

use crate::interrupt::{Interrupt, Interrupted};
use crate::observed::LOCK;
use crate::output;

/// The symbolic link in the directory of the lock.
const MARKER: &str = "unconfirmed";
/// How often the apply looks whether it is confirmed.
const POLL: Duration = Duration::from_millis(20);

/// How long to wait for a confirmation, and of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// Absolute path of the config.
    pub config: &'a Path,
    /// How long.
    pub timeout: Duration,
}

/// Why a trial ended.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A call failed.
    #[error("cannot wait for a confirmation: {0}")]
    Kernel(#[from] xdpd_kernel::Error),
    /// A signal asked to stop.
    #[error("interrupted by {0}")]
    Interrupted(#[from] Interrupted),
    /// Nobody confirmed it.
    #[error("not confirmed within {}", humantime::format_duration(*.0))]
    Unconfirmed(Duration),
}

/// Why nothing was confirmed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    /// There is nothing to confirm.
    #[error("no apply waits for a confirmation under {}; `xdpd diff` shows where things are", .0.display())]
    NothingWaits(PathBuf),
    /// Another config's apply waits.
    #[error("the apply that waits is one of {}", .0.display())]
    OtherConfig(PathBuf),
    /// The one that waited is no more.
    #[error(
        "the apply that waited was killed; what it had done stays, and the next apply or detach clears up after it"
    )]
    Died,
    /// A call failed.
    #[error(transparent)]
    Kernel(#[from] xdpd_kernel::Error),
}

impl Trial<'_> {
    /// Waits under the lock until somebody confirms. SIGINT and SIGTERM end the trial; that the terminal is gone
    /// (SIGHUP) does not, since a connection that was lost can be made anew.
    pub(crate) fn wait(&self, root: &Dir, interrupt: &Interrupt) -> Result<(), TrialError> {
        let lock = root.open_dir(LOCK)?;
        let text = self.config.as_os_str();
        let begun = Instant::now();
        lock.symlink(text, MARKER)?;
        output::say(format_args!(
            "applied on trial: `xdpd confirm {}` keeps it, or the previous state is back in {}",
            shell::word(self.config),
            humantime::format_duration(self.timeout)
        ));
        loop {
            let ended = match lock.find_symlink(MARKER) {
                Ok(Look::Gone) => return Ok(()),
                Err(e) => Some(e.into()),
                Ok(Look::Found(_) | Look::Other(_)) => match interrupt.check_stop() {
                    Err(signal) => Some(signal.into()),
                    Ok(()) => {
                        (begun.elapsed() >= self.timeout).then_some(TrialError::Unconfirmed(self.timeout))
                    }
                },
            };
            let Some(reason) = ended else {
                std::thread::sleep(POLL);
                continue;
            };
            return match lock.remove(MARKER) {
                // Confirmed at the last moment.
                Ok(false) => Ok(()),
                _ => Err(reason),
            };
        }
    }
}

/// Confirms the apply of `config` that waits under `pin_root`.
pub(crate) fn confirm(pin_root: &Path, config: &Path) -> Result<(), ConfirmError> {
    let nothing = || ConfirmError::NothingWaits(pin_root.to_owned());
    let root = Dir::find(pin_root)?.found().ok_or_else(nothing)?;
    let lock = root.find_dir(LOCK)?.found().ok_or_else(nothing)?;
    let waiting = PathBuf::from(lock.find_symlink(MARKER)?.found().ok_or_else(nothing)?);
    if waiting != config {
        return Err(ConfirmError::OtherConfig(waiting));
    }
    match root.try_lock(LOCK)? {
        Attempt::Taken(_) => return Err(ConfirmError::Died),
        Attempt::Gone => return Err(nothing()),
        Attempt::Busy => {}
    }
    if lock.remove(MARKER)? { Ok(()) } else { Err(nothing()) }
}

/// Whether an apply waits for a confirmation.
pub(crate) fn is_waiting(root: &Dir) -> bool {
    root.open_dir(LOCK).is_ok_and(|lock| lock.readlink(MARKER).is_ok())
}

/// Forgets an apply that was killed while it waited. For who holds the lock.
pub(crate) fn forget(root: &Dir) -> Result<(), xdpd_kernel::Error> {
    if root.open_dir(LOCK)?.remove(MARKER)? {
        output::say("an apply was killed while it waited for `xdpd confirm`; what it had done has stayed");
    }
    Ok(())
}
