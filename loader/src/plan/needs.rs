//! What a plan needs to know of maps before it can be made, beyond what each look at the pins tells.

use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::{Label, Reuse};
use xdpd_kernel::MapId;
use xdpd_kernel::map_types::{
    BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY,
};

use super::continued;
use super::reload::reload_reasons;
use crate::desired::{Desired, DesiredMap};
use crate::migrate::family;
use crate::object::Slots;
use crate::observed::{Observed, PinnedMap};

const MAPS_OF_MAPS: [u32; 2] = [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS];

/// The pinned interfaces whose program would be loaded anew: those for which the layout of maps matters. An interface
/// that continues another label is meant by that one's.
pub fn reloads(desired: &Desired, observed: &Observed) -> BTreeSet<Label> {
    let reloaded = continued(desired, observed)
        .filter(|(_, pinned, instance)| !reload_reasons(instance, pinned).is_empty());
    reloaded.map(|(from, ..)| from.clone()).collect()
}

/// The pinned maps whose entries are to be carried to one with less room, and that room: those of which it matters how
/// many entries they have.
pub fn shrinking(desired: &Desired, observed: &Observed) -> BTreeMap<(Label, String), u32> {
    let mut shrinking = BTreeMap::new();
    for (from, pinned, instance) in continued(desired, observed) {
        if reload_reasons(instance, pinned).is_empty() {
            continue;
        }
        let carried = |map: &DesiredMap| map.reuse == Reuse::Migrate && map.entries.is_none();
        for (name, map) in instance.maps.iter().filter(|(_, map)| carried(map)) {
            let room = map.spec.def.max_entries;
            let shrinks = |now: &PinnedMap| family(now.def.map_type).is_some() && room < now.def.max_entries;
            if pinned.maps.get(name).is_some_and(shrinks) {
                shrinking.insert((from.clone(), name.clone()), room);
            }
        }
    }
    shrinking
}

/// The pinned maps of which the file says what they hold: those whose content matters.
pub fn declared_maps(desired: &Desired, observed: &Observed) -> BTreeSet<MapId> {
    let mut ids = BTreeSet::new();
    for (_, pinned, instance) in continued(desired, observed) {
        for (name, _) in instance.maps.iter().filter(|(_, map)| map.entries.is_some()) {
            ids.extend(pinned.maps.get(name).map(|map| map.id));
            ids.extend(pinned.record.as_ref().ok().and_then(|r| r.maps.get(name)).map(|id| MapId(*id)));
        }
    }
    ids
}

/// The pinned program arrays that hold programs of the object, with the slots of those: whether they do matters.
pub fn filled_arrays(desired: &Desired, observed: &Observed) -> BTreeMap<(Label, String), Slots> {
    let arrays = continued(desired, observed).flat_map(|(from, pinned, instance)| {
        instance.maps.iter().filter_map(move |(name, map)| {
            let now = pinned.maps.get(name)?;
            let slots = map.spec.programs().filter(|_| now.def.map_type == BPF_MAP_TYPE_PROG_ARRAY)?;
            Some(((from.clone(), name.clone()), slots.clone()))
        })
    });
    arrays.collect()
}

/// The pinned maps of maps of programs that would be loaded anew: those of which it matters what they hold.
pub fn maps_of_maps(desired: &Desired, observed: &Observed) -> BTreeSet<(Label, String)> {
    let reloaded = continued(desired, observed)
        .filter(|(_, pinned, instance)| !reload_reasons(instance, pinned).is_empty());
    let outer = reloaded.flat_map(|(from, pinned, instance)| {
        instance.maps.iter().filter_map(move |(name, map)| {
            let now = pinned.maps.get(name)?;
            let is_outer = map.spec.inner().is_some() && MAPS_OF_MAPS.contains(&now.def.map_type);
            is_outer.then(|| (from.clone(), name.clone()))
        })
    });
    outer.collect()
}
