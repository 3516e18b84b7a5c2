//! The entries of a map as the file wants them, in the bytes of the map.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;

use xdpd_config::{Diagnostic, Entry};
use xdpd_kernel::MapDef;
use xdpd_kernel::map::map_type_name;
use xdpd_kernel::map_types::{
    BPF_F_RDONLY, BPF_F_WRONLY, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PROG_ARRAY,
};

use super::content::spread;
use super::edits::{Content, grouped};
use super::notation::{Notation, Text};
use super::{holds_entries, is_array};
use crate::object::{MapOrigin, MapSpec};

/// What a map is to hold.
pub struct Declared {
    def: MapDef,
    /// One value under each key; of arrays those that are not zero.
    values: Content,
    notation: Notation,
}

impl Declared {
    /// Entries for a map, each checked against its types; `default` is the value of those without one. Err: everything
    /// that is wrong with them.
    ///
    /// `what` names the map; an error without a place is one of the entries as a whole.
    pub fn new(
        what: &str,
        def: MapDef,
        notation: Notation,
        entries: &[Entry],
        default: Option<&[u8]>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut places: HashMap<_, &Entry> = HashMap::with_capacity(entries.len());
        let mut values = Content::new();
        for entry in entries {
            let key = match notation.key(&entry.key) {
                Ok(key) => key,
                Err(problem) => {
                    problems.push(problem.diagnostic(&format!("{what}: key")));
                    continue;
                }
            };
            match places.entry(key.clone()) {
                Slot::Occupied(first) => problems.push(twice(what, &notation, &key, entry, first.get())),
                Slot::Vacant(free) => drop(free.insert(entry)),
            }
            if is_array(def.map_type) && index(&key).is_none_or(|index| index >= def.max_entries) {
                let last = def.max_entries.saturating_sub(1);
                let message = format!("{what}: key: expected an index from 0 to {last}");
                let found = format!("found {}", Text(&notation.show_key(&key)));
                problems.push(Diagnostic::new(message).at(entry.key.span.clone()).label(found));
            }
            match notation.value(&entry.value, default, &entry.key.span) {
                Ok(value) if is_array(def.map_type) && value.iter().all(|byte| *byte == 0) => {}
                Ok(value) => drop(values.insert(key, value)),
                Err(problem) => {
                    let of = format!("{what}: value of {}", Text(&notation.show_key(&key)));
                    problems.push(problem.diagnostic(&of));
                }
            }
        }
        if places.len() > def.max_entries as usize && !is_array(def.map_type) {
            let count = grouped(places.len());
            let room = grouped(def.max_entries as usize);
            problems.push(Diagnostic::new(format!("{what}: {count} entries, the map has room for {room}")));
        }
        if problems.is_empty() { Ok(Self { def, values, notation }) } else { Err(problems) }
    }

    /// What the kernel holds under each key when that is so, with a value for each of `cpus` in per-CPU maps.
    pub fn content(&self, cpus: u32) -> Content {
        let values = self.values.iter();
        values.map(|(key, value)| (key.clone(), spread(&self.def, value, cpus as usize))).collect()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the map is to be empty.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How its entries are written.
    pub fn notation(&self) -> &Notation {
        &self.notation
    }

    /// How many entries the map has room for while entries come and go. An array has room for all of its keys.
    pub fn room(&self) -> usize {
        if is_array(self.def.map_type) { usize::MAX } else { self.def.max_entries as usize }
    }
}

fn twice(what: &str, notation: &Notation, key: &[u8], entry: &Entry, first: &Entry) -> Diagnostic {
    let shown = notation.show_key(key);
    Diagnostic::new(format!("{what}: the key {} is there twice", Text(&shown)))
        .at(entry.key.span.clone())
        .label("the second time")
        .related(first.key.span.clone(), "the first time")
}

fn index(key: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(key.try_into().ok()?))
}

/// Whether the file can say what a map holds. Err: why it cannot, and what to do.
pub(super) fn is_supported(spec: &MapSpec) -> Result<(), String> {
    let def = &spec.def;
    if spec.origin != MapOrigin::Declared {
        return Err("it holds the object's global variables, which `globals` sets".to_owned());
    }
    let name = match map_type_name(def.map_type) {
        "unknown" => format!("type {}", def.map_type),
        name => name.to_owned(),
    };
    if [BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH].contains(&def.map_type) {
        return Err(format!("a map of type {name} forgets entries by itself; a hash keeps them"));
    }
    if spec.inner().is_some() {
        return Err(format!(
            "its type is {name}, which the object fills (`values`); maps of the object that are in it can have `entries` of \
             their own"
        ));
    }
    if def.map_type == BPF_MAP_TYPE_PROG_ARRAY {
        return Err("its type is prog_array, which the object fills (`values`), or others do".to_owned());
    }
    if !holds_entries(def.map_type) {
        return Err(format!(
            "its type is {name}; `entries` are for hash, percpu_hash, array, percpu_array and lpm_trie"
        ));
    }
    match (def.flags & BPF_F_RDONLY != 0, def.flags & BPF_F_WRONLY != 0) {
        (true, _) => Err("its flag BPF_F_RDONLY lets nobody but programs write it".to_owned()),
        (_, true) => Err("its flag BPF_F_WRONLY lets nobody but programs read it".to_owned()),
        _ => Ok(()),
    }
}

/// By what the map is to hold, however it is written.
impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        (self.def, &self.values) == (other.def, &other.values)
    }
}

impl Eq for Declared {}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared")
            .field("def", &self.def)
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use xdpd_config::{EntryValue, Value};

    use super::*;
    use crate::entries::{BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_ARRAY};

    fn declare(map_type: u32, max_entries: u32, entries: &[(i64, i64)]) -> Result<Declared, Vec<Diagnostic>> {
        let def = MapDef { map_type, key_size: 4, value_size: 2, max_entries, flags: 0, map_extra: 0 };
        let spec = MapSpec::plain(def, MapOrigin::Declared);
        let entry = |(key, value): &(i64, i64)| Entry {
            key: Value::Integer(*key).unplaced(),
            value: EntryValue::Typed(Value::Integer(*value).unplaced()),
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        Declared::new("m", def, Notation::of(&spec, None, &entries).unwrap(), &entries, None)
    }

    #[test]
    fn of_an_array_zero_is_no_entry_and_every_index_has_room() {
        let declared = declare(BPF_MAP_TYPE_PERCPU_ARRAY, 2, &[(0, 0), (1, 7)]).unwrap();
        assert_eq!((declared.len(), declared.room()), (1, usize::MAX));
        let slot = [7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(declared.content(2), Content::from([(vec![1, 0, 0, 0], slot.repeat(2))]));
        let declared = declare(BPF_MAP_TYPE_HASH, 2, &[(0, 0), (1, 7)]).unwrap();
        assert_eq!((declared.len(), declared.room()), (2, 2));
    }

    #[test]
    fn what_has_no_place_in_the_map_is_an_error() {
        assert!(declare(BPF_MAP_TYPE_ARRAY, 2, &[(2, 1)]).is_err());
        assert!(declare(BPF_MAP_TYPE_HASH, 2, &[(2, 1), (3, 1), (4, 1)]).is_err());
        // The kernel makes no such map; an object can define it all the same.
        assert!(declare(BPF_MAP_TYPE_ARRAY, 0, &[(0, 1)]).is_err());
    }
}
