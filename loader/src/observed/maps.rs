//! What only some plans ask about maps: the layout of their types, and what they hold.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::Label;
use xdpd_kernel::{BtfId, Map, MapId, MapInfo, Result};

use super::Observed;
use crate::entries;
use crate::migrate::{Family, family};
use crate::object::{Btf, MapLayout, map_layout};

impl Observed {
    /// Reads the layouts of the maps of these interfaces, for comparing them with an object's.
    pub fn read_layouts(&mut self, labels: &BTreeSet<Label>) -> Result<()> {
        let mut known = BTreeMap::new();
        for (_, pinned) in self.interfaces.iter_mut().filter(|(label, _)| labels.contains(*label)) {
            for map in pinned.maps.values_mut() {
                map.layout = map.btf.map(|btf| read_layout(btf, &mut known)).transpose()?.flatten();
            }
        }
        Ok(())
    }

    /// Counts what the maps hold beyond these numbers of entries.
    pub fn read_excess(&mut self, wanted: &BTreeMap<(Label, String), u32>) -> Result<()> {
        for ((label, name), room) in wanted {
            let pinned = self.interfaces.get_mut(label).and_then(|pinned| pinned.maps.get_mut(name));
            if let Some(pinned) = pinned {
                let map = Map::find_by_id(pinned.id)?;
                pinned.excess = map.map(|map| excess(&map, *room)).transpose()?;
            }
        }
        Ok(())
    }

    /// Reads what these maps hold. One that is no more, or of a type that the file cannot fill, has no content.
    pub fn read_contents(&mut self, maps: &BTreeSet<MapId>) -> Result<()> {
        for id in maps {
            let Some(map) = Map::find_by_id(*id)? else { continue };
            if entries::holds_entries(map.def().map_type) {
                self.contents.insert(*id, entries::read(&map)?);
            }
        }
        Ok(())
    }
}

/// How many entries of a map have no room among so many: of an array those that hold anything.
fn excess(map: &Map, room: u32) -> Result<usize> {
    let is_array = family(map.def().map_type) == Some(Family::Array);
    let mut count = 0_usize;
    map.for_each(|key, value| {
        let index = <[u8; 4]>::try_from(key).map(u32::from_ne_bytes);
        let beyond = index.is_ok_and(|index| index >= room) && value.iter().any(|byte| *byte != 0);
        count += usize::from(!is_array || beyond);
    })?;
    Ok(if is_array { count } else { count.saturating_sub(room as usize) })
}

/// The layout of a map's keys and values, where type information tells it.
pub fn layout_of(info: &MapInfo) -> Result<Option<MapLayout>> {
    Ok(types_of(info).map(|btf| read_layout(btf, &mut BTreeMap::new())).transpose()?.flatten())
}

/// BTF object with the type ids of key and value.
type Types = (BtfId, u32, u32);

pub(super) fn types_of(info: &MapInfo) -> Option<Types> {
    info.btf_id.map(|btf| (btf, info.btf_key_type_id, info.btf_value_type_id))
}

fn read_layout(
    (object, key, value): Types,
    known: &mut BTreeMap<BtfId, Option<Btf>>,
) -> Result<Option<MapLayout>> {
    let btf = match known.entry(object) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            // A map keeps its types: where they are gone, it went away meanwhile.
            let raw = xdpd_kernel::Btf::find_by_id(object)?.map(|btf| btf.raw()).transpose()?;
            new.insert(raw.and_then(|raw| Btf::parse(&raw).ok()))
        }
    };
    Ok(btf.as_ref().and_then(|btf| map_layout(btf, key, value)))
}

#[cfg(test)]
mod tests {
    use xdpd_kernel::MapDef;
    use xdpd_testlab::require_root;

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn a_map_that_goes_away_between_two_looks_is_no_error() {
        require_root!();
        // No object has that id: the kernel's are below 2³¹.
        let info = MapInfo {
            id: MapId(u32::MAX),
            name: "gone".to_owned(),
            def: MapDef::default(),
            btf_id: Some(BtfId(u32::MAX)),
            btf_key_type_id: 1,
            btf_value_type_id: 2,
        };
        assert_eq!(layout_of(&info).ok(), Some(None));
    }
}
