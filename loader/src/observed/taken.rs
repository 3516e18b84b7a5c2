//! Programs of others that ours take the place of, kept until that is final.

use xdpd_config::OWNER_PIN;
use xdpd_config::record::Record;
use xdpd_kernel::{Dir, Program, Result};

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
        let Some(dir) = root.find_dir(directory)?.found() else { return Ok(None) };
        let text = dir.find_symlink(OWNER_PIN)?.found();
        let record = text.and_then(|text| Record::parse(text.to_str()?).ok());
        let program = dir.find_program(TAKEN_PROGRAM)?.found();
        Ok(record.zip(program).map(|(record, program)| Self { record, program }))
    }
}
