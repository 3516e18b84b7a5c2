//! `xdpd completions`: what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Failure, Outcome};
use crate::cli::Cli;
use crate::exit::Exit;
use crate::output;

/// Prints the completions for `shell`.
pub fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "xdpd", &mut script);
    output::data(&String::from_utf8_lossy(&script)).map_err(Failure::refused)?;
    Ok(Exit::Done)
}
