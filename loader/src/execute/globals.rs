//! Writes values of global variables into maps that are kept, and takes that back.
//!
//! It is done right before the link changes, so that no new program runs with an old value. What the variables held is
//! noted first, in a map of its own that is pinned beside the interfaces: an apply that is killed between the two leaves
//! new values to an old program, and the next run puts back what was there.

use std::collections::BTreeMap;

use xdpd_config::Label;
use xdpd_kernel::map_types::BPF_MAP_TYPE_ARRAY;
use xdpd_kernel::{Access, Dir, Map, MapDef, MapId, MappedValue, ProgramId};

use super::error::{at, pin_at};
use super::{Executor, Staged, StepError};
use crate::engine::Engine;
use crate::object::Store;
use crate::observed::{FORMER, map_pin};

/// The length of what stands before the bytes in an entry of a note: map id, program id, offset and length.
const HEAD: usize = 16;

/// What an apply writes into one interface's global variables.
pub(super) struct Written {
    /// The note of what they held.
    note: String,
    maps: BTreeMap<String, Map>,
    former: Vec<Store>,
}

impl<'a, E: Engine> Executor<'a, E> {
    /// Notes what the variables of an interface hold that are to be written. `None`: there are none.
    pub(super) fn note_former(&self, staged: &Staged<'a>) -> Result<Option<Written>, StepError> {
        let (label, stores) = (staged.label, &staged.install.stores);
        if stores.is_empty() {
            return Ok(None);
        }
        let mut maps = BTreeMap::new();
        let mut former = Vec::new();
        for Store { section, offset, bytes } in stores {
            if !maps.contains_key(section) {
                let map = staged.dir.open_map(map_pin(section), Access::ReadWrite);
                maps.insert(section.clone(), map.map_err(pin_at(label, "open a map of global variables"))?);
            }
            let value = value_of(&maps[section]).map_err(at(label, "read global variables"))?;
            let held = offset.checked_add(bytes.len()).and_then(|end| value.get(*offset..end));
            let held = held.ok_or_else(|| {
                StepError::Verification(format!("{label}: a variable lies outside of map {section}"))
            })?;
            former.push(Store { section: section.clone(), offset: *offset, bytes: held.to_vec() });
        }
        let note = note_name(label);
        write_note(self.root, &note, &former, &maps, staged.record.program)
            .map_err(at(label, "note the values of global variables"))?;
        Ok(Some(Written { note, maps, former }))
    }
}

impl Written {
    /// Writes the new values.
    pub(super) fn write(&self, stores: &[Store]) -> Result<(), xdpd_kernel::Error> {
        stores
            .iter()
            .try_for_each(|store| self.maps.get(&store.section).map_or(Ok(()), |map| put(map, store)))
    }

    /// Puts back what was there; then the note has served.
    pub(super) fn take_back(&self, root: &Dir) -> Result<(), xdpd_kernel::Error> {
        self.write(&self.former)?;
        forget_note(root, &self.note)
    }
}

/// The name of the note about an interface.
fn note_name(label: &Label) -> String {
    format!("{FORMER}{}", label.file_name())
}

/// Removes the note about an interface whose new program runs for good.
pub(super) fn forget(root: &Dir, label: &Label) -> Result<(), xdpd_kernel::Error> {
    forget_note(root, &note_name(label))
}

fn forget_note(root: &Dir, note: &str) -> Result<(), xdpd_kernel::Error> {
    root.remove(note).map(drop)
}

/// Settles the note of a run that was killed: `running` is the program of the interface that it is about. Where that is
/// the one that the values were for, they stay.
pub(super) fn settle(root: &Dir, note: &str, running: Option<ProgramId>) -> Result<(), xdpd_kernel::Error> {
    for (program, map, store) in read_note(root, note)? {
        if running == Some(program) {
            continue;
        }
        // One that is gone went with its interface.
        if let Some(map) = Map::find_by_id(map)? {
            put(&map, &store)?;
        }
    }
    forget_note(root, note)
}

/// Writes one variable. A map that cannot be shared with user space is from a version of xdpd that did not ask for it; it
/// is written as a whole, as the plan has said.
fn put(map: &Map, store: &Store) -> Result<(), xdpd_kernel::Error> {
    if MappedValue::is_possible(map) {
        return MappedValue::map(map)?.store(store.offset, &store.bytes);
    }
    let mut value = value_of(map)?;
    if let Some(place) = value.get_mut(store.offset..store.offset + store.bytes.len()) {
        place.copy_from_slice(&store.bytes);
    }
    map.update(&0u32.to_ne_bytes(), &value, 0)
}

fn value_of(map: &Map) -> Result<Vec<u8>, xdpd_kernel::Error> {
    let mut value = vec![0; map.value_len()];
    map.lookup(&0u32.to_ne_bytes(), &mut value)?;
    Ok(value)
}

/// Writes a note: one entry per variable. It is pinned once it is complete.
fn write_note(
    root: &Dir,
    name: &str,
    former: &[Store],
    maps: &BTreeMap<String, Map>,
    program: u32,
) -> Result<(), xdpd_kernel::Error> {
    let longest = former.iter().map(|store| store.bytes.len()).max().unwrap_or(0);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let def = MapDef {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: number(HEAD + longest),
        max_entries: number(former.len()),
        ..MapDef::default()
    };
    let note = Map::create("xdpd_former", &def, None)?;
    for (n, store) in former.iter().enumerate() {
        let map = maps.get(&store.section).map_or(0, |map| map.id().0);
        let head = [map, program, number(store.offset), number(store.bytes.len())];
        let mut entry: Vec<u8> = head.iter().flat_map(|word| word.to_ne_bytes()).collect();
        entry.extend(&store.bytes);
        entry.resize(note.value_len(), 0);
        note.update(&number(n).to_ne_bytes(), &entry, 0)?;
    }
    root.pin(name, &note)
}

/// The entries of a note. One that cannot be understood is none of this version's, and has nothing to say.
fn read_note(root: &Dir, name: &str) -> Result<Vec<(ProgramId, MapId, Store)>, xdpd_kernel::Error> {
    let Some(note) = root.find_map(name, Access::ReadOnly)?.found() else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for key in note.keys() {
        let mut entry = vec![0; note.value_len()];
        note.lookup(&key?, &mut entry)?;
        entries.extend(entry_of(&entry));
    }
    Ok(entries)
}

fn entry_of(entry: &[u8]) -> Option<(ProgramId, MapId, Store)> {
    let word = |n: usize| Some(u32::from_ne_bytes(entry.get(n * 4..n * 4 + 4)?.try_into().ok()?));
    let bytes = entry.get(HEAD..HEAD.checked_add(word(3)? as usize)?)?.to_vec();
    let store = Store { section: String::new(), offset: word(2)? as usize, bytes };
    Some((ProgramId(word(1)?), MapId(word(0)?), store))
}
