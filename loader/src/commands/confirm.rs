//! `xdpd confirm`: keeps what an apply has done that waits for it.

use super::{Failure, Outcome, kernel_failure, locate};
use crate::cli::ConfigArg;
use crate::exit::Exit;
use crate::output;
use crate::trial::{self, ConfirmError};

/// Confirms; of the file, only its path and `pin_root` matter.
pub fn run(config: &ConfigArg) -> Outcome {
    let (path, pin_root) = locate(config.config.as_deref())?;
    trial::confirm(&pin_root, &path).map_err(|error| match error {
        ConfirmError::Kernel(error) => kernel_failure(error),
        other => Failure::refused(other),
    })?;
    output::say("confirmed");
    Ok(Exit::Done)
}
