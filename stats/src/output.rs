//! Standard output: records as JSON or as tables, those of a tick together, and nothing kept beyond its end.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use xdpd_config::LoadError;
use xdpd_config::terminal::printable;
use xdpd_kernel::ready::{self, Wait, Written};

use crate::clock::TimeOfDay;
use crate::json::{Json, Run};
use crate::record::{Event, Notice, Subject};
use crate::table::Table;

/// How much is written to a pipe in one piece, whoever else writes to it: pipe(7). For this much there is room in a
/// socket or a terminal that has room at all.
const PIPE_BUF: usize = 4096;

/// How much is written at once to what always has room.
const CHUNK: usize = 64 * 1024;

/// Where records go, and in which form.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    /// What is not written yet.
    text: Vec<u8>,
    stdout: Stdout,
}

#[derive(Debug)]
enum Format {
    Json(Json),
    Table(Table),
}

/// Why nothing more can be written.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nobody reads any more.
    Closed,
    /// A signal came while the reader was slow.
    Signalled,
    Failed(Errno),
}

impl Output {
    pub(crate) fn json(run: &Run) -> Self {
        Self { format: Format::Json(Json::new(run)), text: Vec::new(), stdout: Stdout::open() }
    }

    pub(crate) fn table() -> Self {
        Self { format: Format::Table(Table::default()), text: Vec::new(), stdout: Stdout::open() }
    }

    /// Where records go: an error of this descriptor says that nobody reads them any more.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stdout.descriptor()
    }

    /// Takes an event of an interface; it is written by [`Output::flush`] at the latest. `signal` becomes readable when
    /// the reader shall end.
    pub(crate) fn event(
        &mut self,
        time: TimeOfDay,
        at: u64,
        subject: &Subject,
        event: &Event,
        signal: BorrowedFd<'_>,
    ) -> Result<(), Stopped> {
        let before = self.text.len();
        match &mut self.format {
            Format::Json(json) => json.event(&mut self.text, time, at, subject, event),
            Format::Table(table) => table.event(&mut self.text, time, at, subject.facts(), event),
        }
        self.make_room(before, signal)
    }

    /// Takes something that concerns no interface.
    pub(crate) fn notice(
        &mut self,
        time: TimeOfDay,
        at: u64,
        notice: &Notice<'_>,
        signal: BorrowedFd<'_>,
    ) -> Result<(), Stopped> {
        let before = self.text.len();
        match &mut self.format {
            Format::Json(json) => json.notice(&mut self.text, time, at, notice),
            Format::Table(table) => table.notice(&mut self.text, time, at, notice),
        }
        self.make_room(before, signal)
    }

    /// Writes all that was taken.
    pub(crate) fn flush(&mut self, signal: BorrowedFd<'_>) -> Result<(), Stopped> {
        self.stdout.write(&self.text, signal)?;
        self.text.clear();
        Ok(())
    }

    /// Writes the first `before` bytes, whole records, if there are too many in all.
    fn make_room(&mut self, before: usize, signal: BorrowedFd<'_>) -> Result<(), Stopped> {
        if self.text.len() > self.stdout.chunk() {
            self.stdout.write(&self.text[..before], signal)?;
            self.text.drain(..before);
        }
        Ok(())
    }
}

/// Standard output without a buffer of its own.
#[derive(Debug)]
struct Stdout {
    /// A pipe of our own, which a slow reader cannot make us hang on. It is another open file of the same pipe, so that
    /// the processes with which we share standard output do not find it changed.
    pipe: Option<File>,
    /// It may have no room for a while, and then writing is to wait for it or for a signal.
    is_slow: bool,
}

impl Stdout {
    fn open() -> Self {
        let stdout = rustix::stdio::stdout();
        let kind = rustix::fs::fstat(stdout).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_pipe = kind == Ok(FileType::Fifo);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = is_pipe.then(|| rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()));
        // Without /proc, or when the pipe belongs to somebody else, there is only the one that we were given.
        let pipe = pipe.and_then(Result::ok).map(File::from);
        let is_slow = is_pipe || kind == Ok(FileType::Socket) || std::io::stdout().is_terminal();
        Self { pipe, is_slow }
    }

    /// As many bytes are written at once.
    fn chunk(&self) -> usize {
        if self.is_slow { PIPE_BUF } else { CHUNK }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.pipe {
            Some(pipe) => pipe.as_fd(),
            None => rustix::stdio::stdout(),
        }
    }

    fn write(&self, mut text: &[u8], signal: BorrowedFd<'_>) -> Result<(), Stopped> {
        let stdout = self.descriptor();
        while !text.is_empty() {
            if self.is_slow && self.pipe.is_none() {
                wait(stdout, signal)?;
            }
            match ready::write(stdout, text).map_err(Stopped::Failed)? {
                Written::Bytes(count) => text = &text[count..],
                Written::Full => wait(stdout, signal)?,
                Written::Closed => return Err(Stopped::Closed),
            }
        }
        Ok(())
    }
}

/// Tells people something, on stderr, in one line whatever is in it. That nobody listens is no reason to stop.
pub(crate) fn say(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "xdp-stats: {}", printable(&message.to_string()));
}

/// Tells people on stderr what is wrong with the config: every error, with the place in the file.
pub(crate) fn say_config_error(error: &LoadError) {
    match error {
        LoadError::Invalid(diagnostics) => {
            let _ = writeln!(std::io::stderr(), "xdp-stats: {diagnostics}");
        }
        other => say(format_args!("{other}")),
    }
}

/// Waits until there is room on stdout, or until a signal comes.
fn wait(stdout: BorrowedFd<'_>, signal: BorrowedFd<'_>) -> Result<(), Stopped> {
    let mut fds = [PollFd::new(&stdout, PollFlags::OUT), PollFd::new(&signal, PollFlags::IN)];
    let wait = ready::poll(&mut fds, None).map_err(Stopped::Failed)?;
    if wait == Wait::Over && !fds[1].revents().is_empty() { Err(Stopped::Signalled) } else { Ok(()) }
}
