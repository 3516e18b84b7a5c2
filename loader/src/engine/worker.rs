//! The loader process: `xdpd` runs itself once more and lets that copy parse and load objects.
//!
//! The parsers of the loading libraries trust their input: measured on mutated objects, redbpf's panics and takes
//! SIGSEGV. In a process of its own the worst is an error for that object. It gets what it needs as file descriptors
//! over a socket, hands back the program's, keeps no state between requests, and ends with its parent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, Signal};
use xdpd_config::escape::escape;
use xdpd_kernel::Dir;
use xdpd_kernel::program::Program;

use super::protocol::{self, MapPin, Reply, Request};
use super::refusal::Refusal;
use super::{Engine, EngineError, LoadRequest};
use crate::object::{Dialect, MAX_OBJECT_SIZE, MapOrigin, ObjectError, SourceLine};
use crate::privileges;

/// First argument of the loader process. Not a command: it is of no use without the socket on standard input.
pub const WORKER_ARG: &str = "__load";

/// The verifier takes up to a million instructions' time; far above that, something hangs.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Address space of the loader process: bounds what a mangled object can make a parser allocate.
const MAX_MEMORY: u64 = 1 << 30;

/// A running loader process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    socket: UnixStream,
}

impl Worker {
    /// Starts one.
    pub fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(TIMEOUT))?;
        let child = Command::new("/proc/self/exe")
            .arg0("xdpd")
            .arg(WORKER_ARG)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal is for the parent, which undoes what it has begun.
            .process_group(0)
            .spawn()
            .map_err(|e| match e.kind() {
                // Root has no right to everything any more.
                io::ErrorKind::PermissionDenied => io::Error::new(
                    e.kind(),
                    format!("{e}; the file of this program must be executable for everybody: chmod a+x"),
                ),
                _ => e,
            })?;
        Ok(Self { child, socket: ours })
    }

    /// The process has closed its end: it is on its way out, and its status tells why.
    fn ended(&mut self) -> EngineError {
        EngineError::Crashed(self.child.wait().map_or_else(|e| e.to_string(), describe))
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "no status".to_owned(),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine for Worker {
    fn load(&mut self, request: &LoadRequest<'_>) -> Result<Program, EngineError> {
        let pins = |origin: MapOrigin| {
            let maps = request.object.maps().iter().filter(|(_, spec)| spec.origin == origin);
            maps.map(|(name, _)| MapPin { name: name.clone(), pin: escape(name) }).collect()
        };
        let failed = |e: ObjectError| EngineError::Failed(e.to_string());
        let program = request.object.program(Some(request.function)).map_err(failed)?;
        let object =
            memfd(&request.object.engine_bytes(program, request.globals.constants()).map_err(failed)?)?;
        let message = Request {
            dialect: request.object.dialect(),
            function: request.function.to_owned(),
            functions: request.object.functions(program).collect(),
            maps: pins(MapOrigin::Declared),
            data: pins(MapOrigin::Data),
            data_references: request.object.data_references(program).map_err(failed)?,
            license: request.object.license().to_owned(),
            frags: program.frags,
            attach_type: request.attach_type,
        };
        match protocol::send(&self.socket, &message, &[object.as_fd(), request.maps.as_fd()]) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(self.ended()),
            sent => sent?,
        }
        let asked = Instant::now();
        match protocol::receive::<Reply>(&self.socket) {
            Ok(Some((Reply::Loaded, mut fds))) => match fds.pop() {
                Some(fd) => {
                    Program::from_fd(fd, request.function).map_err(|e| EngineError::Failed(e.to_string()))
                }
                None => Err(EngineError::Failed("the loader process returned no program".into())),
            },
            Ok(Some((Reply::Rejected { errno, log }, _))) => {
                let refusal = Refusal::read(&log);
                let known = refusal.insn.and_then(|insn| request.object.source_line(program, insn));
                let line = SourceLine::told(refusal.line, known).map(Box::new);
                Err(EngineError::Rejected { cause: refusal.cause.unwrap_or(errno), line, log })
            }
            Ok(Some((Reply::Failed(why), _))) => Err(EngineError::Failed(why)),
            Ok(None) => Err(self.ended()),
            Err(e) => match e.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Err(self.ended()),
                // The time decides, and not the number of the error.
                _ if asked.elapsed() >= TIMEOUT => Err(EngineError::TimedOut(TIMEOUT)),
                _ => Err(e.into()),
            },
        }
    }
}

fn memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("xdpd-object", MemfdFlags::CLOEXEC)?;
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::write(&fd, &bytes[at..])?;
    }
    Ok(fd)
}

/// The loader process itself: answers requests on standard input until it closes.
pub fn run() -> io::Result<()> {
    privileges::start_loader()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It writes no file, not even of its own end.
    for (resource, most) in [(Resource::As, MAX_MEMORY), (Resource::Fsize, 0), (Resource::Core, 0)] {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    let socket = UnixStream::from(rustix::io::dup(io::stdin())?);
    while let Some((request, fds)) = protocol::receive::<Request>(&socket)? {
        let [object, maps] =
            <[OwnedFd; 2]>::try_from(fds).map_err(|_| io::Error::other("object and directory expected"))?;
        let outcome = read_all(&object).and_then(|bytes| {
            drop(object);
            let maps = Dir::from_fd(maps, "maps")?;
            Ok(match request.dialect {
                Dialect::Redbpf => super::redbpf::load(bytes, &request, &maps),
                Dialect::Libbpf => super::aya::load(&bytes, &request, &maps),
            })
        });
        match outcome {
            Ok(Ok(program)) => protocol::send(&socket, &Reply::Loaded, &[program.as_fd()])?,
            Ok(Err(reply)) => protocol::send(&socket, &reply, &[])?,
            Err(e) => protocol::send(&socket, &Reply::Failed(e.to_string()), &[])?,
        }
    }
    Ok(())
}

fn read_all(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let size = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(u64::MAX);
    if size > MAX_OBJECT_SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    let mut at = 0;
    while at < bytes.len() {
        match rustix::io::pread(fd, &mut bytes[at..], at as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => at += n,
        }
    }
    Ok(bytes)
}
