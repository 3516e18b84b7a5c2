//! Waiting: for the time to come, for a signal, for a reader that goes away, and for whatever has something to tell.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::Result;
use xdpd_kernel::ready;

/// As many events are taken in at once; there is time for the others at the next call.
const EVENTS: usize = 16;

const SIGNAL: u64 = 0;
const OUTPUT: u64 = 1;
const CONFIG: u64 = 2;
const SOURCES: u64 = 3;

/// Waits for a fixed set of descriptors.
#[derive(Debug)]
pub(crate) struct Waiter {
    epoll: OwnedFd,
    told: Vec<bool>,
}

/// What ended the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The time has come, and all that was told until then is known.
    Timeout,
    Signal,
    /// Nobody reads the output any more.
    Closed,
    /// Something happened to the config.
    Config,
    /// Something else, which can wait.
    Told,
}

impl Waiter {
    /// `sources` can wait when they have something to tell: that is only noted, once each.
    pub(crate) fn new<'a>(
        signal: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        config: BorrowedFd<'_>,
        sources: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let add = |fd: BorrowedFd<'_>, id, flags| ready::epoll_add(&epoll, fd, id, flags);
        add(signal, SIGNAL, EventFlags::IN)?;
        add(config, CONFIG, EventFlags::IN)?;
        // No event is asked for: that the other end was closed is told all the same. Files have none.
        add(output, OUTPUT, EventFlags::empty())?;
        let mut told = Vec::new();
        for (source, id) in sources.zip(SOURCES..) {
            add(source, id, EventFlags::IN | EventFlags::ONESHOT)?;
            told.push(false);
        }
        Ok(Self { epoll, told })
    }

    /// Waits until something happens, or until `timeout` has passed.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<Woken> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut events = Vec::with_capacity(EVENTS);
        if ready::epoll_wait(&self.epoll, &mut events, timeout.as_ref())?.is_none() {
            return Ok(Woken::Told);
        }
        if events.is_empty() {
            return Ok(Woken::Timeout);
        }
        let mut woken = Woken::Told;
        for event in events {
            let id = event.data.u64();
            match id {
                SIGNAL => return Ok(Woken::Signal),
                OUTPUT => return Ok(Woken::Closed),
                CONFIG => woken = Woken::Config,
                _ => {
                    let index = usize::try_from(id - SOURCES).ok();
                    if let Some(told) = index.and_then(|index| self.told.get_mut(index)) {
                        *told = true;
                    }
                }
            }
        }
        Ok(woken)
    }

    /// Which sources have told something.
    pub(crate) fn told(&self) -> &[bool] {
        &self.told
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _, pipe};
    use std::os::fd::AsFd as _;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_source_tells_once_and_does_not_disturb_the_waiting_after_that() {
        let (silent, _a) = pipe().unwrap();
        let (output_end, output) = pipe().unwrap();
        let (mut source, mut teller) = pipe().unwrap();
        let sources = [silent.as_fd(), source.as_fd()];
        let mut waiter = Waiter::new(
            silent.as_fd(),
            output.as_fd(),
            silent.try_clone().unwrap().as_fd(),
            sources[1..].iter().copied(),
        )
        .unwrap();
        assert_eq!(waiter.wait(SOON), Ok(Woken::Timeout));
        teller.write_all(b"x").unwrap();
        assert_eq!(waiter.wait(LONG), Ok(Woken::Told));
        assert_eq!(waiter.told(), [true]);
        assert_eq!(waiter.wait(SOON), Ok(Woken::Timeout));
        source.read_exact(&mut [0]).unwrap();
        drop(output_end);
        assert_eq!(waiter.wait(LONG), Ok(Woken::Closed));
    }

    #[test]
    fn a_signal_goes_before_everything_else() {
        let (signal, mut raise) = pipe().unwrap();
        let (config, mut edit) = pipe().unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut waiter =
            Waiter::new(signal.as_fd(), file.as_fd(), config.as_fd(), std::iter::empty()).unwrap();
        edit.write_all(b"x").unwrap();
        assert_eq!(waiter.wait(LONG), Ok(Woken::Config));
        raise.write_all(b"x").unwrap();
        assert_eq!(waiter.wait(LONG), Ok(Woken::Signal));
    }
}
