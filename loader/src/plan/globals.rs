//! What happens to global variables: the values that change, and what is written into maps that are kept.

use std::collections::BTreeMap;

use xdpd_kernel::map_types::BPF_F_MMAPABLE;

use super::interface::Planner;
use super::reload::{Difference, differences};
use super::{Action, Address, Change, Facts, MapWork, ProgramWork};
use crate::globals::recorded_value;
use crate::object::Store;

impl Planner<'_> {
    /// The variables that change; tells what to write into the maps that have another content. Constants, and maps that
    /// are made with the content of the object, have their values from the start.
    pub(super) fn globals(
        &self,
        program: ProgramWork,
        maps: &BTreeMap<String, MapWork>,
        changes: &mut Vec<Change>,
    ) -> Vec<Store> {
        let mut stores = Vec::new();
        if program != ProgramWork::Load {
            return stores;
        }
        for Difference { name, recorded, set } in differences(self.instance, self.pinned) {
            let fact = |value: Option<_>| value.map(|value| Facts::Global { value });
            let mut change = Change {
                before: fact(recorded.and_then(recorded_value)),
                after: fact(set.map(|global| global.value.clone())),
                ..Change::new(Address::Global(name.to_owned()), action(recorded.is_some(), set.is_some()))
            };
            if set.is_none() {
                change.reason = Some("no longer set; the object's own value holds".into());
            }
            let store = set.map(|global| &global.store).or_else(|| self.instance.globals.initial(name));
            if let Some((store, work)) = store.and_then(|store| Some((store, maps.get(&store.section)?)))
                && *work != MapWork::Create
            {
                let stays = matches!(work, MapWork::Keep(_) | MapWork::Repin(_));
                if stays && !self.is_mappable(&store.section) {
                    let note = format!(
                        "map {} is from a version of xdpd whose maps can only be written as a whole: what programs \
                         write to its other variables in that instant is lost",
                        store.section
                    );
                    change.reason =
                        Some(change.reason.map_or(note.clone(), |reason| format!("{reason}; {note}")));
                }
                stores.push(store.clone());
            }
            changes.push(change);
        }
        stores
    }

    fn is_mappable(&self, section: &str) -> bool {
        let now = self.pinned.and_then(|pinned| pinned.maps.get(section));
        now.is_none_or(|map| map.def.flags & BPF_F_MMAPABLE != 0)
    }
}

fn action(was_set: bool, is_set: bool) -> Action {
    match (was_set, is_set) {
        (false, _) => Action::Create,
        (true, true) => Action::Update,
        (true, false) => Action::Delete,
    }
}
