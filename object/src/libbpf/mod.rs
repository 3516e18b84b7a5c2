//! The conventions of libbpf: programs in `xdp` and `xdp.frags`, maps that BTF describes in `.maps`, global variables
//! in `.data`, `.bss` and `.rodata`, functions of their own in `.text`.
//!
//! What is accepted here is what aya's parser and linker take, less what they get wrong: it skips names that it cannot
//! resolve, and mixes up functions of two sections that lie at the same address.

mod code;
mod ext;
mod maps;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::{FileHeader, SectionHeader};
use object::{SectionIndex, elf};

use super::{
    Btf, Dialect, Elf, LE, MAX_OBJECT_SIZE, Machine, ObjectBtf, ObjectError, Parsed, Patch, corrupt,
    data_map, data_types, is_code, license_text, too_many_maps,
};
use code::{functions, programs, references};
use ext::core_relocations;
pub(super) use ext::{info_blocks, read_word};
use maps::{VALUES, declared_maps, map_symbols};

/// Where `sh_flags` is in a section header of 64-bit ELF.
const SH_FLAGS: u64 = 8;

/// The sections by what they are for.
#[derive(Default)]
struct Sections {
    /// `xdp`, `xdp.frags`, and those with a name after a slash: whether it takes fragments.
    programs: BTreeMap<usize, bool>,
    /// `.text`.
    text: BTreeSet<usize>,
    /// Code for other hooks.
    others: Vec<String>,
    /// `.maps`.
    maps: Option<usize>,
    /// Global variables.
    data: BTreeMap<usize, String>,
}

impl Sections {
    fn holds_code(&self, section: usize) -> bool {
        self.programs.contains_key(&section) || self.text.contains(&section)
    }
}

pub(super) fn inspect(elf: &Elf<'_>, machine: Machine<'_>) -> Result<Parsed, ObjectError> {
    let mut sections = Sections::default();
    let mut license = String::new();
    let mut maps = BTreeMap::new();
    let mut contents = BTreeMap::new();
    for (index, section) in elf.sections.enumerate() {
        let name = elf.name(section)?;
        let kind = section.sh_type(LE);
        if name.starts_with(".bss") && kind == elf::SHT_NOBITS {
            let size = section.sh_size(LE);
            if size > MAX_OBJECT_SIZE {
                return Err(ObjectError::Unsupported(format!("section `{name}` has {size} bytes")));
            }
            if let Some(spec) = data_map(name, size) {
                sections.data.insert(index.0, name.to_owned());
                maps.insert(name.to_owned(), spec);
            }
        }
        if kind != elf::SHT_PROGBITS {
            continue;
        }
        let data = elf.data(section)?;
        if name == "license" {
            license = license_text(data)?;
        } else if name == ".maps" {
            sections.maps = Some(index.0);
        } else if name == ".data" || name.starts_with(".data.") || name.starts_with(".rodata") {
            if let Some(spec) = data_map(name, data.len() as u64) {
                contents.insert(name.to_owned(), data.to_vec());
                sections.data.insert(index.0, name.to_owned());
                maps.insert(name.to_owned(), spec);
            }
        } else if is_code(section) && !data.is_empty() {
            if section.sh_addr(LE) != 0 {
                return Err(corrupt(format!("section `{}` has an address", name.escape_debug())));
            }
            match takes_frags(name) {
                Some(frags) => drop(sections.programs.insert(index.0, frags)),
                None if name == ".text" => drop(sections.text.insert(index.0)),
                None => sections.others.push(name.to_owned()),
            }
        }
    }
    refuse_ambiguous_names(elf, &sections)?;
    let mut functions = functions(elf, &sections)?;
    let map_symbols = map_symbols(elf, sections.maps)?;
    references(elf, &sections, &map_symbols, &mut functions)?;
    let mut programs = programs(elf, &sections, &functions)?;
    let mut defects = BTreeMap::new();
    let btf = match elf.raw_btf()? {
        Some(btf) => {
            let parsed = Btf::parse(&btf.raw).map_err(corrupt)?;
            let values_at = declared_maps(&parsed, machine, &map_symbols, &mut maps)?;
            data_types(&parsed, &mut maps);
            let (sections, symbols, functions) = (&sections, &map_symbols, &functions);
            let context = slots::Context { elf, sections, symbols, values_at: &values_at, functions };
            defects = context.fill(&mut maps)?;
            if let Some(core) = core_relocations(elf, &parsed)? {
                let sections: BTreeSet<&str> = core.blocks.iter().map(|(name, _)| *name).collect();
                for program in &mut programs {
                    program.needs_kernel_types =
                        sections.contains(".text") || sections.contains(&*program.section);
                }
            }
            Some(btf)
        }
        None if map_symbols.is_empty() => None,
        None => {
            return Err(ObjectError::Unsupported(
                "the object has no BTF, which describes the maps in `.maps`: compile it with -g".into(),
            ));
        }
    };
    too_many_maps(maps.len())?;
    slots::follow(&mut programs, &maps, &defects);
    Ok(Parsed { dialect: Dialect::Libbpf, license, programs, maps, btf, data: contents })
}

/// Whether a section holds XDP programs for devices, and if so, whether they take fragments. Before 1.0, libbpf took
/// any name after a slash.
fn takes_frags(section: &str) -> Option<bool> {
    let (hook, name) = section.split_once('/').unwrap_or((section, ""));
    match hook {
        // They run behind a map, not on a device.
        _ if ["devmap", "cpumap"].contains(&name) => None,
        "xdp" => Some(false),
        "xdp.frags" => Some(true),
        _ => None,
    }
}

/// With `xdp` and `xdp/NAME` in one object, aya would take one for the other.
fn refuse_ambiguous_names(elf: &Elf<'_>, sections: &Sections) -> Result<(), ObjectError> {
    let mut names = BTreeSet::new();
    for index in sections.programs.keys() {
        let section = elf.sections.section(SectionIndex(*index)).map_err(corrupt)?;
        names.insert(elf.name(section)?);
    }
    let both = names.iter().find(|name| name.split_once('/').is_some_and(|(hook, _)| names.contains(hook)));
    match both {
        Some(name) => Err(ObjectError::Unsupported(format!(
            "programs lie in `{}` and in a section without a name after the slash: use one of the two",
            name.escape_debug()
        ))),
        None if names.len() < sections.programs.len() => Err(corrupt("two sections have the same name")),
        None => Ok(()),
    }
}

/// What aya gets to see differently when it loads a program of `section`.
///
/// Of the code only that section and `.text`: aya refuses an object with sections that it does not know. It does not
/// know names after `xdp/` either, so that part of the name is cut off, in the ELF and in the BTF that refers to it.
pub(super) fn patches(
    elf: &Elf<'_>,
    btf: Option<&ObjectBtf>,
    section: &str,
) -> Result<Vec<Patch>, ObjectError> {
    let mut patches = Vec::new();
    let names = elf.header.shstrndx(LE, elf.bytes).map_err(corrupt)?;
    let names = elf.sections.section(SectionIndex(names as usize)).map_err(corrupt)?.sh_offset(LE);
    let cut = section.find('/');
    for (index, header) in elf.sections.enumerate() {
        let name = elf.name(header)?;
        if name == section
            && let Some(cut) = cut
        {
            patches.push(patch(names + u64::from(header.sh_name(LE)) + cut as u64, vec![0]));
        }
        if is_code(header) && name != section && name != ".text" {
            patches.push(Patch::of_header(elf, index, SH_FLAGS, vec![0; 8]));
        }
    }
    let Some(btf) = btf else { return Ok(patches) };
    let parsed = Btf::parse(&btf.raw).map_err(corrupt)?;
    if let Some(core) = core_relocations(elf, &parsed)? {
        patches.extend(core.only(section));
    }
    // It knows but few forms of `values`, and needs none: it makes no maps. A member without a name it skips.
    for (_, id) in parsed.variables_of(".maps").unwrap_or_default() {
        let places = parsed.member_names(id, VALUES).into_iter();
        patches.extend(places.map(|at| Patch { at: btf.at + at, bytes: vec![0; 4] }));
    }
    if let Some(cut) = cut {
        let places = parsed.find_strings(section).into_iter();
        patches.extend(places.map(|at| Patch { at: btf.at + at + cut, bytes: vec![0] }));
    }
    Ok(patches)
}

fn patch(at: u64, bytes: Vec<u8>) -> Patch {
    Patch { at: usize::try_from(at).unwrap_or(usize::MAX), bytes }
}
