//! What carrying entries over means for a stage that is put together.

use std::collections::BTreeMap;

use xdpd_config::{Label, retired};
use xdpd_kernel::{Access, Dir};

use super::{Carried, Wanted};
use crate::desired::Instance;
use crate::engine::Engine;
use crate::execute::error::{carry_at, pin_at};
use crate::execute::{Executor, Old, StepError};
use crate::observed::map_pin;
use crate::plan::{Install, MapWork, RetiredMap};

impl<E: Engine> Executor<'_, E> {
    /// Copies the entries of maps that are replaced by others of another definition.
    pub(in crate::execute) fn carry_entries(
        &self,
        label: &Label,
        install: &Install,
        instance: &Instance,
        dir: &Dir,
        old: Option<&Old>,
    ) -> Result<Option<Carried>, StepError> {
        let mut wanted = Vec::new();
        for (name, work) in &install.maps {
            let (MapWork::Migrate(id), Some(old)) = (work, old) else { continue };
            let open =
                |dir: &Dir, what| dir.open_map(map_pin(name), Access::ReadWrite).map_err(pin_at(label, what));
            let (old, new) = (open(&old.dir, "open a map to be carried over")?, open(dir, "open a new map")?);
            if old.id() != *id {
                return Err(StepError::Verification(format!("{label}: map {name} was replaced meanwhile")));
            }
            let settings = instance.maps.get(name).map(|map| map.settings.clone()).unwrap_or_default();
            wanted.push(Wanted { name, old, new, settings });
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        Carried::copy(self.root, label, wanted, self.interrupt)
            .map(Some)
            .map_err(carry_at(label, "carry entries over"))
    }

    /// The maps whose entries are in those of the stage, and in the retired ones that are kept, by the names of pins.
    pub(in crate::execute) fn bases(
        &self,
        install: &Install,
        kept: &BTreeMap<u32, u64>,
    ) -> BTreeMap<String, u32> {
        let pinned = install.replaces.as_ref().and_then(|directory| self.observed.pinned_in(directory));
        let before = pinned.and_then(|pinned| pinned.record.as_ref().ok());
        let base_of = |name: &str| before.and_then(|record| record.base.get(name)).copied();
        let mut bases: BTreeMap<String, u32> = before
            .iter()
            .flat_map(|record| &record.base)
            .filter(|(name, _)| retired::parse(name).is_some_and(|(_, _, id)| kept.contains_key(&id)))
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        for (name, work) in &install.maps {
            let base = match work {
                MapWork::Migrate(old) => Some(old.0),
                MapWork::Keep(_) | MapWork::Repin(_) => base_of(name),
                MapWork::Create => None,
            };
            bases.extend(base.map(|base| (name.clone(), base)));
        }
        if let Some(RetiredMap { map, id, generation }) = &install.retire {
            bases.extend(base_of(map).map(|base| (retired::name(map, *generation, id.0), base)));
        }
        bases
    }
}
