//! What maps hold from the start: `.values` in the source, relocations of `.maps` in the object. And what a program
//! reaches through them.
//!
//! At each place of a slot the linker would put an address: that of a variable in `.maps`, or of a program. There is no
//! other way to tell which is meant.

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::{Rel, SectionHeader, Sym};
use object::{SectionIndex, SymbolIndex, elf};
use xdpd_types::MapDef;
use xdpd_types::map_types::BPF_MAP_TYPE_HASH_OF_MAPS;

use super::Sections;
use super::code::{At, Function};
use super::maps::MapSymbol;
use crate::values::{differences, have_the_same_kernel_fields};
use crate::{Elf, LE, MapSpec, ObjectError, Values, XdpProgram, corrupt, section_of};

/// Slots of an object: what is done for each of them takes bounded time then.
const MAX_SLOTS: usize = 1024;
/// `R_BPF_64_ABS64`: the address of a symbol, in data.
const ADDRESS: u32 = 2;
/// Bytes of a slot in `.maps`: it is a pointer.
const SLOT_LEN: u64 = 8;

/// Everything that slots may refer to.
pub(super) struct Context<'a, 'e> {
    pub(super) elf: &'a Elf<'e>,
    pub(super) sections: &'a Sections,
    pub(super) symbols: &'a BTreeMap<usize, MapSymbol>,
    /// Where in the variable of a map its slots begin, by its name.
    pub(super) values_at: &'a BTreeMap<String, u64>,
    pub(super) functions: &'a BTreeMap<At, Function>,
}

impl Context<'_, '_> {
    /// Notes what the maps hold from the start. Tells of program arrays that cannot be filled why: other programs may not
    /// need them.
    pub(super) fn fill(
        &self,
        maps: &mut BTreeMap<String, MapSpec>,
    ) -> Result<BTreeMap<String, String>, ObjectError> {
        let mut defects = BTreeMap::new();
        let mut count = 0;
        for (_, section) in self.elf.sections.enumerate() {
            let kind = section.sh_type(LE);
            if ![elf::SHT_REL, elf::SHT_RELA].contains(&kind)
                || Some(section.sh_info(LE) as usize) != self.sections.maps
            {
                continue;
            }
            let Some((rels, _)) = section.rel(LE, self.elf.bytes).map_err(corrupt)? else {
                return Err(ObjectError::Unsupported(
                    "relocations with addends (RELA) are none of BPF's".into(),
                ));
            };
            count += rels.len();
            if count > MAX_SLOTS {
                return Err(ObjectError::Unsupported(format!(
                    "more than {MAX_SLOTS} initial values in `.maps`"
                )));
            }
            for rel in rels {
                let at = rel.r_offset(LE);
                let (map, index) = self.slot(at).filter(|_| rel.r_type(LE) == ADDRESS).ok_or_else(|| {
                    corrupt(format!("an address at byte {at} of `.maps`, where no slot is"))
                })?;
                let referent = self.referent(rel.r_sym(LE) as usize, at)?;
                let place = format!("map `{map}`, slot {index}");
                let spec = maps.get(map).ok_or_else(|| corrupt(format!("{place}: there is no such map")))?;
                let name = match &spec.values {
                    Values::Maps { .. } => Some(self.inner_map(&place, spec, referent, maps)?),
                    Values::Programs(_) => match self.program(&place, referent) {
                        Ok(name) => Some(name),
                        Err(why) => {
                            defects.entry(map.to_owned()).or_insert(why);
                            None
                        }
                    },
                    Values::Bytes => None,
                };
                if let (Some(name), Some(spec)) = (name, maps.get_mut(map)) {
                    put(&place, spec, index, name)?;
                }
            }
        }
        Ok(defects)
    }

    /// The map and the number of the slot that is at a byte of `.maps`.
    fn slot(&self, at: u64) -> Option<(&str, u32)> {
        let end = at.checked_add(SLOT_LEN)?;
        let symbol = self.symbols.values().find(|s| s.range.start <= at && end <= s.range.end)?;
        let place = (at - symbol.range.start).checked_sub(*self.values_at.get(&symbol.name)?)?;
        let index = u32::try_from(place / SLOT_LEN).ok().filter(|_| place.is_multiple_of(SLOT_LEN))?;
        Some((&symbol.name, index))
    }

    /// What the address at a byte of `.maps` is: that of a symbol, and of the section for one that is static, plus what is
    /// there already.
    fn referent(&self, symbol: usize, at: u64) -> Result<At, ObjectError> {
        let symbol = self.elf.symbols.symbol(SymbolIndex(symbol)).map_err(corrupt)?;
        let section = SectionIndex(self.sections.maps.unwrap_or_default());
        let data = self.elf.data(self.elf.sections.section(section).map_err(corrupt)?)?;
        let addend = usize::try_from(at).ok().and_then(|at| data.get(at..)?.first_chunk::<8>());
        let addend = addend.ok_or_else(|| corrupt(format!("an address at byte {at}, behind `.maps`")))?;
        Ok((section_of(symbol), symbol.st_value(LE).wrapping_add(u64::from_le_bytes(*addend))))
    }

    /// The map that a slot refers to, which must be like the pattern.
    fn inner_map(
        &self,
        place: &str,
        outer: &MapSpec,
        (section, address): At,
        maps: &BTreeMap<String, MapSpec>,
    ) -> Result<String, ObjectError> {
        let name = self
            .symbols
            .values()
            .find(|s| Some(section) == self.sections.maps && s.range.start == address)
            .map(|s| s.name.clone())
            .ok_or_else(|| ObjectError::Unsupported(format!("{place}: it refers to no map of the object")))?;
        let (Some(pattern), Some(map)) = (outer.inner(), maps.get(&name)) else {
            return Err(corrupt(format!("{place}: there is no map `{name}`")));
        };
        let mut differences = differences(&pattern.def, &map.def);
        if !have_the_same_kernel_fields(pattern.layout.as_ref(), map.layout.as_ref()) {
            differences.push("its locks and timers are at other places".to_owned());
        }
        if differences.is_empty() {
            return Ok(name);
        }
        Err(ObjectError::Unsupported(format!(
            "{place}: the kernel takes only maps like `values`, and `{name}` is another one: {}",
            differences.join(", ")
        )))
    }

    /// The program that a slot refers to. Err: why it is none.
    fn program(&self, place: &str, at: At) -> Result<String, String> {
        let function = self.functions.get(&at).filter(|_| self.sections.programs.contains_key(&at.0));
        match function {
            Some(program) if program.global => Ok(program.name.clone()),
            Some(program) => Err(format!("{place}: `{}` is static, and programs must not be", program.name)),
            None => Err(format!("{place}: it refers to no XDP program of the object")),
        }
    }
}

/// Puts a name into a slot, if the map has it.
fn put(place: &str, spec: &mut MapSpec, index: u32, name: String) -> Result<(), ObjectError> {
    let MapDef { map_type, key_size, max_entries, .. } = spec.def;
    let (Values::Maps { slots, .. } | Values::Programs(slots)) = &mut spec.values else { return Ok(()) };
    // The numbers of slots are the keys; of a hash they may be any.
    let room = if map_type == BPF_MAP_TYPE_HASH_OF_MAPS { slots.len() } else { index as usize };
    if room >= max_entries as usize {
        return Err(corrupt(format!("{place}: the map has room for {max_entries}")));
    }
    if key_size != 4 {
        return Err(ObjectError::Unsupported(format!(
            "{place}: the numbers of slots are keys of 4 bytes, and those of the map have {key_size}"
        )));
    }
    match slots.insert(index, name) {
        None => Ok(()),
        Some(_) => Err(corrupt(format!("{place} is filled twice"))),
    }
}

/// Completes what the programs refer to by what they reach through slots: inner maps, programs to jump to, and their maps.
/// A program has the defects of those that it may jump to: they are loaded with it.
pub(super) fn follow(
    programs: &mut [XdpProgram],
    maps: &BTreeMap<String, MapSpec>,
    defects: &BTreeMap<String, String>,
) {
    if maps.values().all(|spec| spec.slots().is_empty()) && defects.is_empty() {
        return;
    }
    let by_name: BTreeMap<&str, &XdpProgram> = programs.iter().map(|p| (&*p.name, p)).collect();
    let maps_behind = |spec: &MapSpec| -> BTreeSet<String> {
        let slots = spec.slots().values();
        if spec.inner().is_some() {
            return slots.cloned().collect();
        }
        slots
            .filter_map(|name| by_name.get(&**name))
            .flat_map(|program| program.maps.iter().cloned())
            .collect()
    };
    let next: BTreeMap<&String, BTreeSet<String>> =
        maps.iter().map(|(name, spec)| (name, maps_behind(spec))).collect();
    let defect = |program: &XdpProgram, map: &String| {
        let of_slot = |(index, name): (&u32, &String)| {
            let other = by_name.get(&**name)?;
            let place = format!("map `{map}`, slot {index}");
            match &other.defect {
                Some(defect) => Some(format!("{place}: {defect}")),
                None if other.frags != program.frags => {
                    let (with, without) = if program.frags { (program, *other) } else { (*other, program) };
                    Some(format!(
                        "{place}: `{}` takes packets of several buffers (frags) and `{}` does not, and the kernel lets no \
                         program array have both",
                        with.name, without.name
                    ))
                }
                None => None,
            }
        };
        let programs = maps.get(map).and_then(MapSpec::programs);
        defects.get(map).cloned().or_else(|| programs.into_iter().flatten().find_map(of_slot))
    };
    let reached: Vec<(BTreeSet<String>, Option<String>)> = programs
        .iter()
        .map(|program| {
            let mut reached = program.maps.clone();
            let mut open: Vec<&String> = program.maps.iter().collect();
            while let Some(map) = open.pop() {
                let new = next.get(map).into_iter().flatten();
                open.extend(new.filter(|map| reached.insert((*map).clone())));
            }
            let defect =
                program.defect.clone().or_else(|| reached.iter().find_map(|map| defect(program, map)));
            (reached, defect)
        })
        .collect();
    for (program, (maps, defect)) in programs.iter_mut().zip(reached) {
        program.maps = maps;
        program.defect = defect;
    }
}
