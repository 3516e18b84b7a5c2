//! What happens to the maps of an interface.

use std::collections::BTreeMap;

use xdpd_config::Reuse;
use xdpd_kernel::MapId;
use xdpd_kernel::map_types::BPF_MAP_TYPE_PROG_ARRAY;

use super::change::{map_facts, replaced};
use super::definition::{attribute_differences, definition_difference};
use super::interface::Planner;
use super::slots::{filling, program_array};
use super::{Action, Address, Change, MapWork, ProgramWork, RetiredMap};
use crate::desired::DesiredMap;
use crate::entries::entry_count;
use crate::migrate::{Mapping, Side};
use crate::observed::PinnedMap;

impl Planner<'_> {
    pub(super) fn maps(&self, program: ProgramWork, changes: &mut Vec<Change>) -> BTreeMap<String, MapWork> {
        let pinned = self.pinned;
        let mut work = BTreeMap::new();
        // What becomes of a map of maps depends on what becomes of those.
        let (outer, others): (Vec<_>, Vec<_>) =
            self.instance.maps.iter().partition(|(_, map)| map.spec.inner().is_some());
        for (name, map) in others.into_iter().chain(outer) {
            let now = pinned.and_then(|p| p.maps.get(name));
            let recorded = pinned.and_then(|p| p.record.as_ref().ok()?.maps.get(name)).map(|id| MapId(*id));
            let (todo, change) = match (program, now) {
                (ProgramWork::Load, None) => (MapWork::Create, Some(map_created(map))),
                (ProgramWork::Load, Some(now)) if map.spec.programs().is_some() => program_array(map, now),
                (ProgramWork::Load, Some(now)) if map.spec.inner().is_some() => {
                    self.map_of_maps(name, map, now, &work)
                }
                (ProgramWork::Load, Some(now)) => self.map_on_reload(map, now),
                (ProgramWork::Keep(_), now) => kept_map(map, now, recorded),
            };
            changes.extend(change.map(|c| Change { address: Address::Map(name.clone()), ..c }));
            work.insert(name.clone(), todo);
        }
        for (name, map) in pinned.iter().flat_map(|p| &p.maps) {
            if !self.instance.maps.contains_key(name) {
                changes.push(Change {
                    reason: Some("the program has no such map; its content is lost".into()),
                    before: Some(map_facts(&map.def, Some(map.id))),
                    ..Change::new(Address::Map(name.clone()), Action::Delete)
                });
            }
        }
        work
    }

    /// What the policy says of a pinned map when the program is loaded anew.
    fn map_on_reload(&self, map: &DesiredMap, now: &PinnedMap) -> (MapWork, Option<Change>) {
        let replaced = |reason: String| Some(replaced(map, now, reason));
        let difference = definition_difference(&map.spec, now, self.observed.possible_cpus);
        match (map.reuse, difference) {
            (Reuse::Never, _) => (MapWork::Create, replaced("its content is lost: reuse = \"never\"".into())),
            (_, None) => (MapWork::Keep(now.id), None),
            (Reuse::Require, Some(difference)) => {
                let blocked_by =
                    Some(format!("reuse = \"require\", and the definition differs: {difference}"));
                (MapWork::Create, replaced(difference).map(|c| Change { blocked_by, ..c }))
            }
            (Reuse::Migrate, Some(difference)) if map.entries.is_some() => (
                MapWork::Create,
                replaced(format!("it holds what the file says: another definition, {difference}")),
            ),
            (Reuse::Migrate, Some(difference)) => match self.migration(map, now) {
                Ok(how) => (MapWork::Migrate(now.id), replaced(format!("entries are carried over: {how}"))),
                Err(why) => {
                    let blocked_by = Some(format!("reuse = \"migrate\", and {why}"));
                    (MapWork::Create, replaced(difference).map(|c| Change { blocked_by, ..c }))
                }
            },
            (Reuse::IfCompatible, Some(difference)) => {
                (MapWork::Create, replaced(format!("its content is lost: another definition, {difference}")))
            }
        }
    }

    /// What carrying the entries over means, in words; Err: why that cannot be done.
    fn migration(&self, map: &DesiredMap, now: &PinnedMap) -> Result<String, String> {
        let old = Side { def: &now.def, layout: now.layout.as_ref() };
        let new = Side { def: &map.spec.def, layout: map.spec.layout.as_ref() };
        let mapping = Mapping::between(old, new, &map.settings)?;
        let mut words = attribute_differences(&map.spec, now, self.observed.possible_cpus);
        words.extend(mapping.notes);
        match now.excess {
            Some(excess) if excess > 0 && map.settings.lossy => {
                words.push(format!(
                    "no room for {}, or for more if more come: they are lost",
                    entry_count(excess)
                ));
            }
            Some(excess) if excess > 0 => {
                return Err(format!(
                    "it has no room for {}; make it larger, or allow their loss with lossy = true",
                    entry_count(excess)
                ));
            }
            _ => {}
        }
        Ok(words.join(", "))
    }

    /// The stats map that this plan replaces goes into retirement, and generations count such replacements.
    pub(super) fn retirement(&self, maps: &BTreeMap<String, MapWork>) -> (Option<RetiredMap>, u64) {
        let Some(pinned) = self.pinned else { return (None, 0) };
        let generation = pinned.record.as_ref().map_or(0, |r| r.generation);
        // A map that ran and was rolled back is retired with a generation of its own, above the record's.
        let highest = pinned.retired.iter().map(|r| r.generation).max().unwrap_or(0).max(generation);
        let name = &self.desired.stats_map;
        match (pinned.maps.get(name), maps.get(name)) {
            (Some(now), work) if work.is_none_or(MapWork::replaces) => {
                (Some(RetiredMap { map: name.clone(), id: now.id, generation }), highest + 1)
            }
            _ => (None, generation),
        }
    }
}

fn map_created(map: &DesiredMap) -> Change {
    Change {
        reason: filling(&map.spec),
        after: Some(map_facts(&map.spec.def, None)),
        ..Change::new(Address::Map(String::new()), Action::Create)
    }
}

/// A map whose program goes on: only its pin can be wrong.
fn kept_map(map: &DesiredMap, now: Option<&PinnedMap>, recorded: Option<MapId>) -> (MapWork, Option<Change>) {
    match (now, recorded) {
        (Some(now), Some(id)) if now.id != id => {
            let change = Change {
                reason: Some(format!("the pin holds map {}, the program uses map {id}", now.id)),
                before: Some(map_facts(&now.def, Some(now.id))),
                after: Some(map_facts(&map.spec.def, Some(id))),
                ..Change::new(Address::Map(String::new()), Action::Replace)
            };
            (MapWork::Repin(id), Some(change))
        }
        (Some(now), _) => (MapWork::Keep(now.id), None),
        (None, recorded) => {
            // The kernel empties a program array once nothing but programs refers to it (`prog_array_map_clear`).
            let reason = if map.spec.def.map_type == BPF_MAP_TYPE_PROG_ARRAY {
                "its pin is gone, and the programs in it; the map is pinned again"
            } else {
                "its pin is gone; the map is pinned again, its content is kept"
            };
            let change = Change {
                reason: Some(reason.into()),
                after: Some(map_facts(&map.spec.def, recorded)),
                ..Change::new(Address::Map(String::new()), Action::Create)
            };
            (recorded.map_or(MapWork::Create, MapWork::Repin), Some(change))
        }
    }
}
