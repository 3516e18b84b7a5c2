//! `xdp-stats`: follows the pinned XDP counters of the interfaces in an xdpd config.
//!
//! What is pinned ([`pins`]) and which devices there are ([`devices`]) goes through the rules of [`delta`], which know
//! neither system calls nor clocks, and comes out as records ([`record`]) that [`json`] and [`table`] write. [`reader`]
//! does all that at every tick. docs/json-stats.md says what the records mean.

mod cli;
mod clock;
mod delta;
mod denied;
mod devices;
mod follow;
mod json;
mod output;
mod pins;
mod reader;
mod record;
mod table;
mod targets;
mod waiter;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::rand::{GetRandomFlags, getrandom};
use signal_hook::consts::{SIGINT, SIGTERM};
use xdpd_config::terminal::parse_arguments;
use xdpd_config::{Config, LoadError};
use xdpd_kernel::clock::boot_id;
use xdpd_kernel::open_files;
use xdpd_kernel::privilege::{self, Capability};

use crate::cli::Arguments;
use crate::follow::Follower;
use crate::json::Run;
use crate::output::{Output, Stopped, say, say_config_error};
use crate::reader::{Options, Reader};
use crate::targets::Choice;

/// What is kept of root's capabilities: entering the network namespaces that the file names, now or after an edit, and
/// reading it wherever it lies. Reading maps takes none.
const KEPT: [Capability; 3] = [Capability::SysAdmin, Capability::SysPtrace, Capability::DacReadSearch];

/// The exit code of trouble: a bad command line (from clap too), a bad config, with `--once` an interface without a map.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let arguments = parse_arguments(std::env::args_os(), Arguments::try_parse_from);
    match run(arguments.unwrap_or_else(|e| e.exit())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(TROUBLE),
        Err(error) => {
            match error.downcast_ref::<LoadError>() {
                Some(error) => say_config_error(error),
                None => say(format_args!("{error:#}")),
            }
            ExitCode::from(TROUBLE)
        }
    }
}

/// Reads until the end; false when `--once` found an interface that it could not read.
fn run(arguments: Arguments) -> Result<bool> {
    privilege::keep_only(&KEPT).context("cannot give up capabilities")?;
    // Each map takes a descriptor. Where it fails, what has no room is an `error` record.
    _ = open_files::raise_limit();
    let found = xdpd_config::find(arguments.config.as_deref())?;
    if found.searched {
        say(format_args!("reading {}", found.path.display()));
    }
    let signals = signals().context("cannot wait for signals")?;
    // The file is watched before it is read: what happens in between is noticed.
    let mut follower = Follower::new(&found.path).context("cannot follow the config")?;
    if !follower.is_prompt() {
        say(format_args!("cannot watch {}: edits are seen at the next reading", found.path.display()));
    }
    let config = Config::load(&found.path)?;
    let choice = Choice::new(arguments.interface);
    if let Some(unknown) = choice.unknown(&config) {
        return Err(anyhow!(unknown));
    }
    let output = if arguments.json { Output::json(&this_run()?) } else { Output::table() };
    let options = Options { interval: arguments.interval, count: arguments.count, choice };
    let mut reader = Reader::new(config, options, output, signals);
    let ended = if arguments.once { reader.once() } else { reader.run(&mut follower).map(|()| true) };
    match ended {
        Ok(complete) => Ok(complete),
        Err(Stopped::Closed | Stopped::Signalled) => Ok(true),
        Err(Stopped::Failed(errno)) => Err(errno).context("cannot write to standard output"),
    }
}

/// A descriptor that becomes readable when a signal asks to end.
fn signals() -> Result<OwnedFd> {
    let (signalled, signal) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    signal_hook::low_level::pipe::register(SIGTERM, signal.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, signal)?;
    Ok(signalled)
}

/// What tells this run from others.
fn this_run() -> Result<Run> {
    let mut random = [0; 16];
    getrandom(&mut random[..], GetRandomFlags::empty()).context("no random numbers")?;
    let run_id = format!("{:032x}", u128::from_be_bytes(random));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Run { boot_id: boot_id()?, run_id, host })
}
