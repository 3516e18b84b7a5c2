//! Signals that ask to stop: noted when they come, asked for between steps, so that a step is never cut in half.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xdpd_kernel::signal;

/// The signals that have come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    /// SIGINT or SIGTERM: somebody wants it to end.
    stop: Arc<AtomicUsize>,
    /// SIGHUP: the terminal is gone.
    hangup: Arc<AtomicUsize>,
}

/// A signal asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", match .0 { 1 => "SIGHUP", 2 => "SIGINT", _ => "SIGTERM" })]
pub struct Interrupted(usize);

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end the process.
    pub(crate) fn install() -> io::Result<Self> {
        let interrupt = Self::install_stop()?;
        // Under nohup(1) it is to go on without its terminal.
        if !signal::is_ignored(SIGHUP).unwrap_or(false) {
            note(SIGHUP, &interrupt.hangup)?;
        }
        Ok(interrupt)
    }

    /// From now on SIGINT and SIGTERM no longer end the process. SIGHUP is for somebody else to handle.
    pub(crate) fn install_stop() -> io::Result<Self> {
        let interrupt = Self::default();
        note(SIGINT, &interrupt.stop)?;
        note(SIGTERM, &interrupt.stop)?;
        Ok(interrupt)
    }

    /// Whether to go on.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        self.check_stop().and_then(|()| seen(&self.hangup))
    }

    /// Whether to go on, with or without a terminal.
    pub(crate) fn check_stop(&self) -> Result<(), Interrupted> {
        seen(&self.stop)
    }
}

fn note(signal: i32, seen: &Arc<AtomicUsize>) -> io::Result<()> {
    let number = usize::try_from(signal).map_err(io::Error::other)?;
    signal_hook::flag::register_usize(signal, Arc::clone(seen), number).map(drop)
}

fn seen(signal: &AtomicUsize) -> Result<(), Interrupted> {
    match signal.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => Err(Interrupted(signal)),
    }
}
