//! Programs of others that ours take the place of, kept until that is final.

use xdpd_config::OWNER_PIN;
use xdpd_config::record::Record;
use xdpd_kernel::{Dir, Error, PinError, Program, Result};

/// A program of someone else's that ours takes the place of, as it is kept until that is final: its pin, and a record
/// of where it ran.
#[derive(Debug)]
pub struct Taken {
    /// Its device, mode and program.
    pub record: Record,
    /// The program.
    pub program: Program,
}

/// Name of the program's pin.
const TAKEN_PROGRAM: &str = "program";

impl Taken {
    /// Keeps it. Until all of it is there, nothing may be detached.
    pub fn write(&self, root: &Dir, directory: &str) -> Result<()> {
        root.mkdir(directory, 0o700)?;
        let dir = root.open_dir(directory)?;
        dir.symlink(self.record.format(), OWNER_PIN)?;
        dir.pin(TAKEN_PROGRAM, &self.program)
    }

    /// Reads it; `None` where it is not all there, so nothing was detached.
    pub fn read(root: &Dir, directory: &str) -> Result<Option<Self>> {
        let absent = |e: &Error| [libc::ENOENT, libc::EINVAL].contains(&e.errno());
        let dir = match root.open_dir(directory) {
            Err(e) if absent(&e) => return Ok(None),
            dir => dir?,
        };
        let record = match dir.readlink(OWNER_PIN) {
            Err(e) if absent(&e) => return Ok(None),
            text => text?.to_str().and_then(|text| Record::parse(text).ok()),
        };
        match (record, dir.open_program(TAKEN_PROGRAM)) {
            (Some(record), Ok(program)) => Ok(Some(Self { record, program })),
            (_, Err(PinError::Kernel(e))) if !absent(&e) => Err(e),
            _ => Ok(None),
        }
    }
}
