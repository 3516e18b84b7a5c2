//! What a run has told already: `watch` applies again and again, and says nothing twice.

use std::io;

use super::{human, say, show, stdout_colour};
use crate::plan::{Note, Plan};

/// What was told already.
#[derive(Debug, Default)]
pub struct Told {
    legend: bool,
    notes: Vec<Note>,
}

impl Told {
    /// Tells people those of `notes` that did not hold before. One that ceases to hold is told again when it is back.
    pub fn notes(&mut self, notes: &[Note]) {
        notes.iter().filter(|note| !self.notes.contains(note)).for_each(say);
        notes.clone_into(&mut self.notes);
    }

    /// Notes are told again.
    pub fn forget_notes(&mut self) {
        self.notes.clear();
    }

    /// Prints a plan, the first one with the legend.
    pub fn plan(&mut self, plan: &Plan) -> io::Result<()> {
        let text = if self.legend { human::changes } else { human::plan };
        self.legend |= !plan.is_empty();
        show(&text(plan, stdout_colour())).map(drop)
    }
}
