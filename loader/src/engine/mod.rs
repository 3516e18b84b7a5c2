//! Engines turn an object into a loaded program. Nothing outside of this module knows which one did it.
//!
//! An engine gets the maps instead of making them: every map of the program, kept or new, is already pinned in the
//! stage directory. So the policy for reuse is decided in one place, the definition of a map comes from the checked
//! object, and an engine cannot leave a pin behind. Attaching and pinning are not its business either.

mod aya;
mod protocol;
mod redbpf;
mod refusal;
mod worker;

use xdpd_kernel::Dir;
use xdpd_kernel::program::Program;

use crate::globals::Globals;
use crate::object::{Dialect, Object, SourceLine};

pub use worker::run as run_worker;
pub use worker::{WORKER_ARG, Worker};

/// One program to load.
#[derive(Debug, Clone, Copy)]
pub struct LoadRequest<'a> {
    /// The object that holds it.
    pub object: &'a Object,
    /// The function, which the object has.
    pub function: &'a str,
    /// What it declares to be for, `expected_attach_type`.
    pub attach_type: u32,
    /// Values for its constants.
    pub globals: &'a Globals,
    /// The directory in which each map of the object is pinned under its escaped name (constants excepted).
    pub maps: &'a Dir,
}

/// Why a program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel's verifier refused it.
    #[error("the kernel refused the program{}: {cause}", .line.as_ref().map_or_else(String::new, |l| format!(" at {l}")))]
    Rejected {
        /// The line of the log that tells why, or the errno in words.
        cause: String,
        /// The line of the source, where it is known.
        line: Option<Box<SourceLine>>,
        /// The whole verifier log.
        log: String,
    },
    /// The engine could not make sense of the object.
    #[error("{0}")]
    Failed(String),
    /// The engine's process died; nothing else was harmed.
    #[error("the loader process ended unexpectedly ({0}): the object is most likely corrupt")]
    Crashed(String),
    /// It does not come to an end.
    #[error("the loader process has not finished within {} seconds", .0.as_secs())]
    TimedOut(std::time::Duration),
    /// Talking to the engine's process failed.
    #[error("the loader process cannot be reached: {0}")]
    Unreachable(#[from] std::io::Error),
}

/// An engine, running where a crash of its parser hurts nobody.
pub trait Engine {
    /// Verifies and loads one program with the maps it is given.
    fn load(&mut self, request: &LoadRequest<'_>) -> Result<Program, EngineError>;
}

/// The engines of one run: each is started when the first object of its dialect is loaded.
#[derive(Debug, Default)]
pub struct Engines {
    redbpf: Option<Worker>,
    aya: Option<Worker>,
}

impl Engine for Engines {
    fn load(&mut self, request: &LoadRequest<'_>) -> Result<Program, EngineError> {
        let worker = match request.object.dialect() {
            Dialect::Redbpf => &mut self.redbpf,
            Dialect::Libbpf => &mut self.aya,
        };
        let worker = match worker {
            Some(running) => running,
            none => none.insert(Worker::start()?),
        };
        worker.load(request)
    }
}
