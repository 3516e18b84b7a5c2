//! What `xdpd watch` waits for: edits of files, devices that come and go, signals, and the time for another look.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xdpd_config::follow::{FileWatch, QUIET};
use xdpd_kernel::netlink::LinkMonitor;
use xdpd_kernel::ready::{self, Wait};

use crate::devices;

/// However much happens, after this long it is looked at.
const LONGEST_BUSY: Duration = Duration::from_secs(1);

/// What ended the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// SIGINT, SIGTERM or SIGHUP came.
    Signal,
    /// A file is another than before.
    Files,
    /// Something happened to devices.
    Devices,
    /// Nothing happened.
    Time,
}

/// Everything that is waited for.
#[derive(Debug)]
pub(crate) struct Events {
    /// Readable when a signal came.
    signals: UnixStream,
    files: FileWatch,
    /// One per network namespace of the file that there was at the last call of [`Events::follow`].
    devices: Vec<LinkMonitor>,
}

impl Events {
    /// Signals are noted from now on; nothing else is followed yet.
    pub(crate) fn new() -> io::Result<Self> {
        let (signals, tell) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(Self { signals, files: FileWatch::new()?, devices: Vec::new() })
    }

    /// Follows these files and the devices of these network namespaces from now on, and no others. What cannot be
    /// followed, such as devices of a namespace that is absent, is found when the time for another look has come.
    pub(crate) fn follow<'a>(
        &mut self,
        files: impl IntoIterator<Item = PathBuf>,
        namespaces: impl IntoIterator<Item = Option<&'a str>>,
    ) {
        self.files.follow(files);
        let monitor = |name| devices::open(name).and_then(|netns| netns.run(LinkMonitor::open)?).ok();
        self.devices = namespaces.into_iter().filter_map(monitor).collect();
    }

    /// Waits until something has happened and it is quiet again, at most for `pause` and the time that takes.
    pub(crate) fn wait(&mut self, pause: Duration) -> io::Result<Woken> {
        let (mut files, mut devices) = (false, false);
        let mut until = Instant::now() + pause;
        let mut limit = None;
        loop {
            let told = self.listen(until)?;
            if told.signal {
                return Ok(Woken::Signal);
            }
            devices |= told.device;
            // Asked in any case: not every change is told.
            let changed = self.files.changed() || told.file;
            files |= changed;
            let now = Instant::now();
            let limit = *limit.get_or_insert(now + LONGEST_BUSY);
            if now >= limit || !(told.device || changed) {
                return Ok(match (files, devices) {
                    (true, _) => Woken::Files,
                    (false, true) => Woken::Devices,
                    (false, false) => Woken::Time,
                });
            }
            until = limit.min(now + QUIET);
        }
    }

    /// Listens until something is told or the time has come.
    fn listen(&mut self, until: Instant) -> io::Result<Told> {
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.files.descriptor(), PollFlags::IN),
        ];
        fds.extend(self.devices.iter().map(|d| PollFd::from_borrowed_fd(d.as_fd(), PollFlags::IN)));
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        if ready::poll(&mut fds, Some(&timeout))? == Wait::Interrupted {
            // The signal has written to the pipe: the next call tells.
            return Ok(Told::default());
        }
        let readable: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let told = Told { signal: readable[0], file: readable[1], device: readable[2..].contains(&true) };
        if told.signal {
            let mut buffer = [0; 64];
            while (&self.signals).read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
        if told.file {
            self.files.take_in();
        }
        for (monitor, _) in self.devices.iter_mut().zip(&readable[2..]).filter(|(_, readable)| **readable) {
            // What happened to which device does not matter: all of them are looked at.
            let _ = monitor.drain();
        }
        Ok(told)
    }
}

/// What was told by whom.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    signal: bool,
    file: bool,
    device: bool,
}
