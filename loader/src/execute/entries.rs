//! Writes what maps hold: into new maps before a program has them, and into those that stay.
//!
//! Maps that stay are written first of all that is committed: a new program finds what it needs. Each edit is one that
//! the map takes at once, so that an entry which stays is never missing; what was there before is put back when
//! anything fails later on.

use xdpd_config::Label;
use xdpd_kernel::Map;

use super::filling::{Filling, write_all};
use super::undo::Undo;
use super::{Executor, StepError};
use crate::engine::Engine;
use crate::entries::{self, Declared};

impl<'a, E: Engine> Executor<'a, E> {
    /// Writes into maps that stay.
    pub(super) fn fill<'s>(
        &self,
        fillings: &'s [Filling<'a>],
        undo: &mut Vec<Undo<'s, 'a>>,
    ) -> Result<(), StepError> {
        for filling in fillings {
            let Filling { label, name, map, edits } = filling;
            undo.push(Undo::Fill { filling });
            write_all(label, name, map, edits, self.interrupt)?;
        }
        Ok(())
    }

    /// Writes into a map that nothing uses yet.
    pub(super) fn fill_new(
        &self,
        label: &Label,
        name: &str,
        map: &Map,
        declared: &Declared,
    ) -> Result<(), StepError> {
        let content = declared.content(self.observed.possible_cpus);
        let edits = entries::edits(&entries::Content::new(), &content, declared.room());
        write_all(label, name, map, &edits, self.interrupt)
    }
}
