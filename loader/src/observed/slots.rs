//! What is in maps that hold maps or programs.

use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::Label;
use xdpd_kernel::{Error, Map};

use super::Observed;
use crate::object::Slots;

impl Observed {
    /// Reads what program arrays hold in these slots.
    pub fn read_programs(&mut self, wanted: &BTreeMap<(Label, String), Slots>) -> Result<(), Error> {
        for ((label, name), slots) in wanted {
            self.read_slots(label, name, |map| {
                let mut held = BTreeMap::new();
                for index in slots.keys() {
                    let mut id = [0; 4];
                    if map.lookup(&index.to_ne_bytes(), &mut id)? {
                        held.insert(index.to_ne_bytes().to_vec(), u32::from_ne_bytes(id));
                    }
                }
                Ok(held)
            })?;
        }
        Ok(())
    }

    /// Reads all that maps of maps hold.
    pub fn read_inner_maps(&mut self, wanted: &BTreeSet<(Label, String)>) -> Result<(), Error> {
        for (label, name) in wanted {
            self.read_slots(label, name, |map| {
                let mut held = BTreeMap::new();
                map.for_each(|key, id| {
                    let id = id.try_into().map(u32::from_ne_bytes);
                    held.extend(id.ok().map(|id| (key.to_vec(), id)));
                })?;
                Ok(held)
            })?;
        }
        Ok(())
    }

    fn read_slots(
        &mut self,
        label: &Label,
        name: &str,
        read: impl FnOnce(&Map) -> Result<BTreeMap<Vec<u8>, u32>, Error>,
    ) -> Result<(), Error> {
        let pinned = self.interfaces.get_mut(label).and_then(|pinned| pinned.maps.get_mut(name));
        let Some(pinned) = pinned else { return Ok(()) };
        // It can have gone away meanwhile.
        pinned.slots = Map::find_by_id(pinned.id)?.map(|map| read(&map)).transpose()?;
        Ok(())
    }
}
