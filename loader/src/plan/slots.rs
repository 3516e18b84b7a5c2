//! What happens to maps that hold maps or programs.

use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::{Reuse, join_some};

use super::change::replaced;
use super::definition::definition_difference;
use super::interface::Planner;
use super::{Change, MapWork};
use crate::desired::DesiredMap;
use crate::entries::entry_count;
use crate::inner_map;
use crate::object::{MapSpec, Slots};
use crate::observed::PinnedMap;

/// As many of the maps or programs in a map are named.
const SHOWN: usize = 8;

impl Planner<'_> {
    /// What the policy says of a map of maps when the program is loaded anew. It is kept where it is what the object wants,
    /// and so are the maps of the object that it holds: `work` is done with those.
    pub(super) fn map_of_maps(
        &self,
        name: &str,
        map: &DesiredMap,
        now: &PinnedMap,
        work: &BTreeMap<String, MapWork>,
    ) -> (MapWork, Option<Change>) {
        let record = self.pinned.and_then(|pinned| pinned.record.as_ref().ok());
        let recorded = record.and_then(|record| record.inner.get(name)).map(String::as_str);
        let mut why: Vec<String> =
            definition_difference(&map.spec, now, self.observed.possible_cpus).into_iter().collect();
        if now.def.map_type == map.spec.def.map_type {
            why.extend(inner_map::changes(recorded, &map.spec));
        }
        let held: BTreeSet<&String> = map.spec.slots().values().collect();
        // A pin may hold another map than the one that was put there: then the program would use both.
        let is_the_same = |inner: &str| match work.get(inner) {
            Some(MapWork::Keep(id)) => record.and_then(|record| record.maps.get(inner)) == Some(&id.0),
            _ => false,
        };
        let replaced_ones: BTreeSet<&str> =
            held.iter().map(|inner| &***inner).filter(|inner| !is_the_same(inner)).collect();
        why.extend(match replaced_ones.len() {
            0 => None,
            1 => Some(format!("its inner map {} is replaced", join_some(replaced_ones, SHOWN))),
            _ => Some(format!("its inner maps {} are replaced", join_some(replaced_ones, SHOWN))),
        });
        let lost = self.lost(&map.spec, now, recorded);
        let filling = filling(&map.spec).unwrap_or_else(|| "empty".to_owned());
        let others = lost.map_or_else(
            || "its content".to_owned(),
            |lost| format!("what others put there ({})", entry_count(lost)),
        );
        let warning = if lost == Some(0) { String::new() } else { format!("; {others} is lost") };
        let change = |why: &str| replaced(map, now, format!("{why}; made anew, {filling}{warning}"));
        if map.reuse == Reuse::Never {
            return (MapWork::Create, Some(change("reuse = \"never\"")));
        }
        if why.is_empty() {
            return (MapWork::Keep(now.id), None);
        }
        let why = why.join(", ");
        let blocked_by = match (map.reuse, lost) {
            (Reuse::Require, _) => format!("reuse = \"require\", and the map cannot stay: {why}"),
            (Reuse::Migrate, Some(0)) | (Reuse::IfCompatible | Reuse::Never, _) => {
                return (MapWork::Create, Some(change(&why)));
            }
            (Reuse::Migrate, _) => {
                let take_out = lost.map_or("", |_| "take it out, or ");
                format!(
                    "reuse = \"migrate\", and {others} cannot be carried over to another map: {why}; {take_out}allow its \
                     loss with reuse = \"if-compatible\" for this map"
                )
            }
        };
        (MapWork::Create, Some(Change { blocked_by: Some(blocked_by), ..replaced(map, now, why) }))
    }

    /// How many of the maps in a map of maps are there by somebody else's will; `None` where that is not known.
    fn lost(&self, spec: &MapSpec, now: &PinnedMap, recorded: Option<&str>) -> Option<usize> {
        let held = now.slots.as_ref()?;
        let pinned = self.pinned?;
        let ids = pinned.maps.iter().map(|(name, map)| (name, map.id.0));
        // A map that has lost its pin is the object's still.
        let used = pinned.record.iter().flat_map(|record| &record.maps).map(|(name, id)| (name, *id));
        let names: BTreeMap<u32, &String> = ids.chain(used).map(|(name, id)| (id, name)).collect();
        let name_of = |id: u32| names.get(&id).copied();
        let slot = |(key, id): (&Vec<u8>, &u32)| {
            let index = u32::from_ne_bytes(<[u8; 4]>::try_from(&**key).ok()?);
            Some((index, name_of(*id)?.clone()))
        };
        let slots: Option<Slots> = held.iter().map(slot).collect();
        if slots.is_some_and(|slots| inner_map::was_filled_so(recorded, &slots)) {
            return Some(0);
        }
        // A map that the object has no more is lost as such, which is told there.
        let is_told = |entry| {
            slot(entry).is_some_and(|(index, name)| {
                spec.slots().get(&index) == Some(&name) || !self.instance.maps.contains_key(&name)
            })
        };
        Some(held.iter().filter(|entry| !is_told(*entry)).count())
    }
}

/// A program array with programs of the object: they are code of this version, so it is never kept.
pub(super) fn program_array(map: &DesiredMap, now: &PinnedMap) -> (MapWork, Option<Change>) {
    let filling = filling(&map.spec).unwrap_or_default();
    let reason = format!("made anew with each load, {filling}; what others put there is lost");
    (MapWork::Create, Some(replaced(map, now, reason)))
}

/// What a map is filled with from the start; `None` where that is nothing, or bytes.
pub(super) fn filling(spec: &MapSpec) -> Option<String> {
    let slots = spec.slots();
    let names: BTreeSet<&str> = slots.values().map(|name| &**name).collect();
    let what = match (spec.inner().is_some(), names.len()) {
        (_, 0) => return None,
        (true, 1) => "the map",
        (true, _) => "the maps",
        (false, 1) => "the program",
        (false, _) => "the programs",
    };
    Some(format!("filled with {what} {}", join_some(names, SHOWN)))
}
