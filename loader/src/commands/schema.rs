//! `xdpd schema`: the JSON Schema of the file.

use super::{Failure, Outcome};
use crate::exit::Exit;
use crate::output;

/// Prints it.
pub fn run() -> Outcome {
    output::data(xdpd_config::SCHEMA).map_err(Failure::refused)?;
    Ok(Exit::Done)
}
