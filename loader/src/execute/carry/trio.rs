//! A map whose entries are carried over: the old one, the new one and the base between them.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, AsRawFd};

use xdpd_kernel::program::XdpLoad;
use xdpd_kernel::{Map, MapDef, Program, cpu};

use super::CarryError;
use crate::entries::canonical;
use crate::migrate::program::{self, Descriptors, Direction};
use crate::migrate::{self, Family, Mapping, Settings, Side};
use crate::observed::layout_of;

/// Told how many more entries are done, and says whether to go on.
pub(super) type Progress<'p> = &'p mut dyn FnMut(usize) -> Result<(), CarryError>;

/// A map whose entries are carried over.
#[derive(Debug)]
pub(super) struct Trio {
    name: String,
    old: Map,
    base: Map,
    new: Map,
    mapping: Mapping,
    settings: Settings,
    forward: Settler,
    back: Settler,
    /// The CPUs in the order of their values under a key; any one where they share a value.
    cpus: Vec<usize>,
}

/// What settles an entry.
#[derive(Debug)]
enum Settler {
    Program(Program),
    /// No program may write to the map that is settled, so none can be in the way.
    UserSpace,
}

impl Trio {
    /// Puts three maps together; all is checked that settling will need, so that it cannot fail for that.
    pub(super) fn new(
        name: &str,
        old: Map,
        base: Map,
        new: Map,
        settings: Settings,
    ) -> Result<Self, CarryError> {
        let (old_layout, new_layout) = (layout_of(old.info())?, layout_of(new.info())?);
        let sides = [(&old, &old_layout), (&new, &new_layout)];
        let [from, to] = sides.map(|(map, layout)| Side { def: map.def(), layout: layout.as_ref() });
        let impossible = |reason| CarryError::Impossible(format!("map {name}: {reason}"));
        let mapping = Mapping::between(from, to, &settings).map_err(impossible)?;
        let per_cpu = old.def().is_per_cpu();
        let number = |map: &Map| map.as_fd().as_raw_fd();
        let maps = Descriptors { old: number(&old), base: number(&base), new: number(&new) };
        let settler = |direction, target: &MapDef| {
            if migrate::is_read_only(target) {
                return Ok(Settler::UserSpace);
            }
            let key_size = old.def().key_size;
            let insns = program::instructions(&mapping, direction, key_size, per_cpu, maps)
                .ok_or_else(|| impossible("its values are too large to be settled".into()))?;
            let load = XdpLoad {
                name: "xdpd_settle",
                insns: &insns,
                license: c"Dual MIT/GPL",
                frags: false,
                attach_type: 0,
                debug: None,
            };
            Ok::<_, CarryError>(Settler::Program(load.load(None)?))
        };
        let forward = settler(Direction::Forward, new.def())?;
        let back = settler(Direction::Back, old.def())?;
        let cpus = if per_cpu { cpu::possible_list()? } else { vec![0] };
        let trio = Self { name: name.to_owned(), old, base, new, mapping, settings, forward, back, cpus };
        trio.check_cpus()?;
        Ok(trio)
    }

    /// The name of the map.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many entries there can be.
    pub(super) fn room(&self) -> usize {
        self.old.def().max_entries as usize
    }

    /// What the file says of it.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The three, each with the part that it has.
    pub(super) fn maps(&self) -> [(&Map, &'static str); 3] {
        [(&self.old, "old"), (&self.base, "base"), (&self.new, "new")]
    }

    /// The values of a CPU can be changed without a race on that CPU only.
    fn check_cpus(&self) -> Result<(), CarryError> {
        if !self.old.def().is_per_cpu() {
            return Ok(());
        }
        Ok(self.cpus.iter().try_for_each(|cpu| cpu::run_on(*cpu, || ()).map(drop))?)
    }

    /// Copies all entries as they are now into the base and, converted, into the new map. Both are nobody else's yet.
    pub(super) fn copy(&self, progress: Progress<'_>) -> Result<(), CarryError> {
        let is_array = migrate::family(self.old.def().map_type) == Some(Family::Array);
        // Global variables begin with the values of the object.
        let mut initial = vec![0; self.new.value_len()];
        if is_array && self.new.def().max_entries == 1 {
            self.new.lookup(&0_u32.to_ne_bytes(), &mut initial)?;
        }
        let nothing = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let may_skip = is_array && nothing(&initial);
        self.old.for_each_batch(|keys, values| {
            let (mut new_keys, mut base_keys) = (Vec::new(), Vec::new());
            let (mut new_values, mut base_values) = (Vec::new(), Vec::new());
            for (key, value) in entries(&self.old, keys, values) {
                if !migrate::fits(self.new.def(), key) || (may_skip && nothing(value)) {
                    continue;
                }
                let mut converted = initial.clone();
                fill((&self.new, &mut converted), (&self.old, value), |new, old| {
                    self.mapping.convert(old, new);
                });
                new_keys.extend(key);
                new_values.extend(converted);
                base_keys.extend(canonical(self.old.def(), key));
                base_values.extend(value);
            }
            if self.new.update_all_if_room(&new_keys, &new_values)? {
                self.base.update_all(&base_keys, &base_values)?;
            } else if self.settings.lossy {
                // Those that have no room are in no base: they are as if they had never been.
                let mut kept = (Vec::new(), Vec::new());
                let new = entries(&self.new, &new_keys, &new_values);
                let base = entries(&self.base, &base_keys, &base_values);
                for ((key, value), (base_key, base_value)) in new.zip(base) {
                    if self.new.update_if_room(key, value)? {
                        kept.0.extend(base_key);
                        kept.1.extend(base_value);
                    }
                }
                self.base.update_all(&kept.0, &kept.1)?;
            } else {
                return Err(self.full());
            }
            progress(keys.len() / self.old.key_len())
        })
    }

    /// Settles in the new map what the old program has changed since the copy, or since it was settled last.
    pub(super) fn settle(&self, progress: Progress<'_>) -> Result<(), CarryError> {
        let family = migrate::family(self.old.def().map_type);
        let mut base = vec![0; self.base.value_len()];
        let mut present = HashSet::new();
        self.old.for_each_batch(|keys, values| {
            let mut queue = Queue::default();
            let bases = self.bases(keys)?;
            for (key, value) in entries(&self.old, keys, values) {
                if !migrate::fits(self.new.def(), key) {
                    continue;
                }
                let base_key = canonical(self.old.def(), key);
                if !bases.find(&base_key, &mut base)? {
                    let mut seed = vec![0; self.new.value_len()];
                    fill((&self.new, &mut seed), (&self.old, value), |new, old| self.mapping.seed(old, new));
                    if !self.appear(&self.new, key, &seed, &base_key)? {
                        if self.settings.lossy {
                            continue;
                        }
                        return Err(self.full());
                    }
                    base.fill(0);
                }
                if family == Some(Family::Trie) {
                    present.insert(base_key);
                }
                for (slot, (old, base)) in pairs((&self.old, value), (&self.base, &base)).enumerate() {
                    if self.mapping.changed(old, base) {
                        queue.add(slot, key);
                    }
                }
            }
            self.run(&self.forward, Direction::Forward, &queue)?;
            progress(keys.len() / self.old.key_len())
        })?;
        if family == Some(Family::Array) { Ok(()) } else { self.disappear(&present, progress) }
    }

    /// Entries that the old program has removed go from the new map, unless the new program has changed them.
    fn disappear(&self, present: &HashSet<Vec<u8>>, progress: Progress<'_>) -> Result<(), CarryError> {
        let is_trie = migrate::family(self.old.def().map_type) == Some(Family::Trie);
        let (mut old, mut new) = (vec![0; self.old.value_len()], vec![0; self.new.value_len()]);
        self.base.for_each_batch(|keys, values| {
            for (key, base) in entries(&self.base, keys, values) {
                // What a trie finds may be a shorter prefix.
                let is_there =
                    if is_trie { present.contains(key) } else { self.old.lookup(key, &mut old)? };
                if is_there {
                    continue;
                }
                if self.new.lookup(key, &mut new)?
                    && pairs((&self.base, base), (&self.new, &new))
                        .all(|(base, new)| self.mapping.untouched(base, new))
                {
                    self.new.delete(key)?;
                }
                self.base.delete(key)?;
            }
            progress(keys.len() / self.old.key_len())
        })
    }

    /// Settles in the old map what the new program has counted; tells how many entries of its own had no room there.
    pub(super) fn settle_back(&self) -> Result<usize, CarryError> {
        let mut base = vec![0; self.base.value_len()];
        let mut homeless = 0;
        self.new.for_each_batch(|keys, values| -> Result<(), CarryError> {
            let mut queue = Queue::default();
            let bases = self.bases(keys)?;
            for (key, value) in entries(&self.new, keys, values) {
                if !migrate::fits(self.old.def(), key) {
                    continue;
                }
                let base_key = canonical(self.old.def(), key);
                if !bases.find(&base_key, &mut base)? {
                    let mut seed = vec![0; self.old.value_len()];
                    fill((&self.old, &mut seed), (&self.new, value), |old, new| {
                        self.mapping.seed_back(new, old);
                    });
                    if !self.appear(&self.old, key, &seed, &base_key)? {
                        homeless += 1;
                        continue;
                    }
                    base.fill(0);
                }
                for (slot, (new, base)) in pairs((&self.new, value), (&self.base, &base)).enumerate() {
                    if self.mapping.counted(new, base) {
                        queue.add(slot, key);
                    }
                }
            }
            self.run(&self.back, Direction::Back, &queue)
        })?;
        Ok(homeless)
    }

    /// An entry that is new on one side becomes one of the other, with nothing counted yet: that is settled. False where
    /// there is no room for it. The base comes second: until then, it is done again.
    fn appear(&self, target: &Map, key: &[u8], seed: &[u8], base_key: &[u8]) -> Result<bool, CarryError> {
        if !target.add_if_room(key, seed)? {
            return Ok(false);
        }
        self.base.update(base_key, &vec![0; self.base.value_len()], 0)?;
        Ok(true)
    }

    /// Settles the entries of a queue, those of each CPU on that CPU.
    fn run(&self, settler: &Settler, direction: Direction, queue: &Queue) -> Result<(), CarryError> {
        for (slot, keys) in &queue.0 {
            let program = match settler {
                Settler::Program(program) => program,
                Settler::UserSpace => {
                    keys.iter().try_for_each(|key| self.settle_in_memory(direction, *slot, key))?;
                    continue;
                }
            };
            let cpu = self.cpus.get(*slot).copied().unwrap_or(0);
            let number = u32::try_from(cpu).unwrap_or(u32::MAX);
            // That an entry is gone by now is no error.
            let run = || {
                let mut runs = keys.iter().map(|key| program.test_run(&program::packet(number, key), 1));
                runs.try_for_each(|run| run.map(drop))
            };
            if !self.old.def().is_per_cpu() {
                run()?;
                continue;
            }
            match cpu::run_on(cpu, run)? {
                Some(result) => result?,
                // Nobody counts on a CPU that is offline.
                None => run()?,
            }
        }
        Ok(())
    }

    fn settle_in_memory(&self, direction: Direction, slot: usize, key: &[u8]) -> Result<(), CarryError> {
        let base_key = canonical(self.old.def(), key);
        let mut values = [&self.old, &self.base, &self.new].map(|map| vec![0; map.value_len()]);
        let [old, base, new] = &mut values;
        if !(self.old.lookup(key, old)? && self.base.lookup(&base_key, base)? && self.new.lookup(key, new)?) {
            return Ok(());
        }
        let of = |map: &Map| map.layout().range(slot);
        let (o, b, n) = (&mut old[of(&self.old)], &mut base[of(&self.base)], &mut new[of(&self.new)]);
        match direction {
            Direction::Forward => {
                self.mapping.settle(o, b, n);
                self.new.update(key, new, 0)?;
            }
            Direction::Back => {
                self.mapping.settle_back(n, b, o);
                self.old.update(key, old, 0)?;
            }
        }
        self.base.update(&base_key, base, 0)?;
        Ok(())
    }

    /// The base of the entries of a batch: of arrays with one call.
    fn bases(&self, keys: &[u8]) -> Result<Bases<'_>, CarryError> {
        let first = keys.first_chunk::<4>().map(|index| u32::from_ne_bytes(*index));
        let run = match first {
            Some(first) if migrate::family(self.base.def().map_type) == Some(Family::Array) => {
                let left = self.base.def().max_entries.saturating_sub(first) as usize;
                let count = left.min(keys.len() / self.base.key_len());
                let mut values = vec![0; count * self.base.value_len()];
                self.base.lookup_run(first, &mut values)?;
                Some((first, values))
            }
            _ => None,
        };
        Ok(Bases { base: &self.base, run })
    }

    fn full(&self) -> CarryError {
        CarryError::Impossible(format!(
            "map {}: more entries than the new map has room for; allow their loss with lossy = true, or make it larger",
            self.name
        ))
    }
}

/// The entries of a batch of this map.
fn entries<'v>(
    map: &Map,
    keys: &'v [u8],
    values: &'v [u8],
) -> impl Iterator<Item = (&'v [u8], &'v [u8])> + use<'v> {
    keys.chunks_exact(map.key_len()).zip(values.chunks_exact(map.value_len()))
}

/// The values of all CPUs under a key of two maps, side by side.
fn pairs<'v>(
    (one, values): (&Map, &'v [u8]),
    (other, others): (&Map, &'v [u8]),
) -> impl Iterator<Item = (&'v [u8], &'v [u8])> + use<'v> {
    one.layout().values(values).zip(other.layout().values(others))
}

/// Fills the values of all CPUs under a key of one map from those of another.
fn fill((to, values): (&Map, &mut [u8]), (from, others): (&Map, &[u8]), each: impl Fn(&mut [u8], &[u8])) {
    to.layout().values_mut(values).zip(from.layout().values(others)).for_each(|(to, from)| each(to, from));
}

/// The base of the entries of a batch.
struct Bases<'t> {
    base: &'t Map,
    /// Of an array: values from an index on.
    run: Option<(u32, Vec<u8>)>,
}

impl Bases<'_> {
    /// Finds the value under a key; false where there is none.
    fn find(&self, key: &[u8], value: &mut [u8]) -> Result<bool, CarryError> {
        let (Some((first, values)), Some(index)) = (&self.run, key.first_chunk::<4>()) else {
            return Ok(self.base.lookup(key, value)?);
        };
        let at = u32::from_ne_bytes(*index).wrapping_sub(*first) as usize * value.len();
        let Some(found) = values.get(at..at + value.len()) else { return Ok(self.base.lookup(key, value)?) };
        value.copy_from_slice(found);
        Ok(true)
    }
}

/// Entries to be settled, by slot.
#[derive(Debug, Default)]
struct Queue(BTreeMap<usize, Vec<Vec<u8>>>);

impl Queue {
    fn add(&mut self, slot: usize, key: &[u8]) {
        self.0.entry(slot).or_default().push(key.to_vec());
    }
}
