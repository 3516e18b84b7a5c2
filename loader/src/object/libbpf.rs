//! The conventions of libbpf: programs in `xdp` and `xdp.frags`, maps that BTF describes in `.maps`, global variables
//! in `.data`, `.bss` and `.rodata`, functions of their own in `.text`.
//!
//! What is accepted here is what aya's parser and linker take, less what they get wrong: it skips names that it cannot
//! resolve, and mixes up functions of two sections that lie at the same address.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use object::elf;
use object::read::elf::{FileHeader, Rel, SectionHeader, Sym};
use object::{SectionIndex, SymbolIndex};
use xdpd_kernel::cpu;
use xdpd_kernel::map::{MapDef, map_type_name};

use super::{
    Btf, Dialect, Elf, INSN_LEN, LD_IMM64, LE, MAX_OBJECT_SIZE, MapOrigin, MapSpec, ObjectBtf, ObjectError,
    Parsed, Patch, XdpProgram, check_name, corrupt, data_map, data_types, is_code, license_text, map_layout,
    section_of, too_many_maps,
};

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`: the source register of a call to another function of the object.
const PSEUDO_CALL: u8 = 1;
/// Where `sh_flags` is in a section header of 64-bit ELF.
const SH_FLAGS: u64 = 8;

const PERF_EVENT_ARRAY: u32 = 4;
const LPM_TRIE: u32 = 11;
const RINGBUF: u32 = 27;
/// The types of maps that an XDP program can use: `enum bpf_map_type`, less those that are bound to sockets, tasks or
/// cgroups, and maps of maps.
const MAP_TYPES: [u32; 20] =
    [1, 2, 3, PERF_EVENT_ARRAY, 5, 6, 7, 9, 10, LPM_TRIE, 14, 15, 16, 17, 18, 22, 23, 25, RINGBUF, 30];
/// Functions of an object: what is done for each pair of them takes bounded time then.
const MAX_FUNCTIONS: usize = 1024;
/// Functions of one program, with itself (`BPF_MAX_SUBPROGS`, `include/linux/bpf_verifier.h`).
const MAX_FUNCTIONS_OF_PROGRAM: usize = 256;
const MAPS_OF_MAPS: [u32; 2] = [12, 13];
/// The types of maps whose keys and values may have types of their own in BTF. The kernel refuses it for the others
/// (`map_check_no_btf` in kernel/bpf/syscall.c).
const TYPED: [u32; 7] = [1, 2, 5, 6, 9, 10, LPM_TRIE];

/// Where a function starts: index of its section, bytes.
type At = (usize, u64);

struct Function {
    name: String,
    len: u64,
    /// It is visible to other objects: only such functions are programs.
    global: bool,
    maps: BTreeSet<String>,
    calls: BTreeSet<At>,
    /// Some of those functions are not called, but their addresses are loaded.
    callbacks: bool,
    /// What it refers to that nothing can resolve: it must not be loaded.
    defect: Option<String>,
}

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

pub(super) fn inspect(elf: &Elf<'_>) -> Result<Parsed, ObjectError> {
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
    let btf = match elf.raw_btf()? {
        Some(btf) => {
            let parsed = Btf::parse(&btf.raw).map_err(corrupt)?;
            declared_maps(&parsed, &map_symbols, &mut maps)?;
            data_types(&parsed, &mut maps);
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

/// The functions of the sections that hold code for XDP.
fn functions(elf: &Elf<'_>, sections: &Sections) -> Result<BTreeMap<At, Function>, ObjectError> {
    let mut functions = BTreeMap::new();
    for symbol in elf.symbols.iter().filter(|s| s.st_type() == elf::STT_FUNC) {
        let section = section_of(symbol);
        if !sections.holds_code(section) {
            continue;
        }
        let name = elf.symbol_name(symbol)?.to_owned();
        let (start, len) = (symbol.st_value(LE), symbol.st_size(LE));
        let size = elf.sections.section(SectionIndex(section)).map_err(corrupt)?.sh_size(LE);
        let sound = len > 0
            && start.is_multiple_of(INSN_LEN)
            && len.is_multiple_of(INSN_LEN)
            && start.checked_add(len).is_some_and(|end| end <= size);
        if !sound {
            return Err(corrupt(format!("function `{name}`: {len} bytes at {start} of {size}")));
        }
        let global = symbol.st_bind() != elf::STB_LOCAL;
        let function = Function {
            name,
            len,
            global,
            maps: BTreeSet::new(),
            calls: BTreeSet::new(),
            callbacks: false,
            defect: None,
        };
        if functions.len() == MAX_FUNCTIONS {
            return Err(corrupt(format!("more than {MAX_FUNCTIONS} functions")));
        }
        if let Some(other) = functions.insert((section, start), function) {
            return Err(corrupt(format!("two functions start where `{}` does", other.name)));
        }
    }
    let neighbours = functions.iter().zip(functions.iter().skip(1));
    for (((section, start), function), ((next_section, next), _)) in neighbours {
        if section == next_section && start + function.len > *next {
            return Err(corrupt(format!("function `{}` reaches into the next one", function.name)));
        }
    }
    Ok(functions)
}

/// The names of the symbols in `.maps`, by their index.
fn map_symbols(elf: &Elf<'_>, section: Option<usize>) -> Result<BTreeMap<usize, String>, ObjectError> {
    let Some(section) = section else { return Ok(BTreeMap::new()) };
    let mut names = BTreeMap::new();
    for (index, symbol) in elf.symbols.enumerate() {
        if section_of(symbol) == section && symbol.st_type() == elf::STT_OBJECT {
            let name = elf.symbol_name(symbol)?;
            check_name("map", name)?;
            names.insert(index.0, name.to_owned());
            too_many_maps(names.len())?;
        }
    }
    Ok(names)
}

/// Notes for each function the maps that it loads and the functions that it calls. Every reference must be one that
/// the engine resolves.
fn references(
    elf: &Elf<'_>,
    sections: &Sections,
    maps: &BTreeMap<usize, String>,
    functions: &mut BTreeMap<At, Function>,
) -> Result<(), ObjectError> {
    let mut resolved = BTreeSet::new();
    for (_, section) in elf.sections.enumerate() {
        if section.sh_type(LE) != elf::SHT_REL && section.sh_type(LE) != elf::SHT_RELA {
            continue;
        }
        let target = section.sh_info(LE) as usize;
        if Some(target) == sections.maps {
            return Err(ObjectError::Unsupported(
                "initial values in `.maps` (`.values = …`) are not supported yet".into(),
            ));
        }
        if let Some(data) = sections.data.get(&target) {
            return Err(ObjectError::Unsupported(format!(
                "section `{data}` holds addresses, which nothing can fill in"
            )));
        }
        if !sections.holds_code(target) {
            continue;
        }
        let Some((rels, _)) = section.rel(LE, elf.bytes).map_err(corrupt)? else {
            return Err(ObjectError::Unsupported("relocations with addends (RELA) are none of BPF's".into()));
        };
        let code = elf.data(elf.sections.section(SectionIndex(target)).map_err(corrupt)?)?;
        for rel in rels {
            let at = (target, rel.r_offset(LE));
            let function = owner(functions, at, INSN_LEN)
                .ok_or_else(|| corrupt(format!("a relocation at byte {}, where no function is", at.1)))?;
            let insn = Insn::read(code, at.1).ok_or_else(|| corrupt("a relocation outside of the code"))?;
            // The address is in the second half of the instruction too.
            let is_load = insn.code == LD_IMM64 && owner(functions, at, 2 * INSN_LEN).is_some();
            let index = rel.r_sym(LE) as usize;
            let symbol = elf.symbols.symbol(SymbolIndex(index)).map_err(corrupt)?;
            let place = section_of(symbol);
            let Some(function) = functions.get_mut(&function) else { continue };
            let kind = if is_load { elf::R_BPF_64_64 } else { elf::R_BPF_64_32 };
            if (!is_load && !insn.is_call()) || rel.r_type(LE) != kind {
                return Err(corrupt(format!(
                    "`{}`: the reference at byte {} is neither in a 64-bit load nor in a call",
                    function.name, at.1
                )));
            }
            if sections.holds_code(place) {
                if ![elf::STT_FUNC, elf::STT_SECTION].contains(&symbol.st_type()) {
                    return Err(corrupt(format!("`{}` refers to code that is no function", function.name)));
                }
                resolved.insert(at);
                function.callbacks |= is_load;
                let base = symbol.st_value(LE);
                let to = match (symbol.st_type() == elf::STT_SECTION, is_load) {
                    (false, _) => Some(base),
                    (true, true) => base.checked_add_signed(insn.imm.into()),
                    (true, false) => base.checked_add(INSN_LEN).and_then(|base| insn.target(base)),
                };
                function.calls.insert((place, to.unwrap_or(u64::MAX)));
                continue;
            }
            let map = match sections.data.get(&place) {
                None if Some(place) == sections.maps => maps.get(&index),
                data => data,
            };
            let Some(map) = map.filter(|_| is_load) else {
                if function.defect.is_none() {
                    function.defect = Some(unresolved(elf, &function.name, symbol)?);
                }
                // It is not a call to a function of the object, whatever it looks like.
                resolved.insert(at);
                continue;
            };
            if !function.maps.contains(map) {
                function.maps.insert(map.clone());
            }
        }
    }
    // Calls within a section need no relocation.
    for ((section, start), function) in functions.iter_mut() {
        let code = elf.data(elf.sections.section(SectionIndex(*section)).map_err(corrupt)?)?;
        let mut at = *start;
        while at < start + function.len {
            let insn = Insn::read(code, at).ok_or_else(|| corrupt("a function is cut off"))?;
            if insn.is_call() && !resolved.contains(&(*section, at)) {
                function.calls.insert((*section, insn.target(at + INSN_LEN).unwrap_or(u64::MAX)));
            }
            at += if insn.code == LD_IMM64 { 2 * INSN_LEN } else { INSN_LEN };
        }
    }
    for function in functions.values() {
        for callee in &function.calls {
            let name = &function.name;
            let Some(called) = functions.get(callee) else {
                return Err(corrupt(format!("`{name}` calls something that is no function")));
            };
            if !sections.text.contains(&callee.0) {
                return Err(ObjectError::Unsupported(format!(
                    "`{name}` calls `{}`, which lies among the programs: functions that are called must be in \
                     `.text`",
                    called.name
                )));
            }
        }
    }
    Ok(())
}

/// The function that holds the `len` bytes at a place.
fn owner(functions: &BTreeMap<At, Function>, at: At, len: u64) -> Option<At> {
    let (key, function) = functions.range((at.0, 0)..=at).next_back()?;
    (at.1.checked_add(len)? <= key.1 + function.len).then_some(*key)
}

fn unresolved(
    elf: &Elf<'_>,
    function: &str,
    symbol: &elf::Sym64<object::Endianness>,
) -> Result<String, ObjectError> {
    let name = String::from_utf8_lossy(elf.symbols.symbol_name(LE, symbol).map_err(corrupt)?).into_owned();
    let name = name.escape_debug();
    let why = match section_of(symbol) {
        0 => "it is not in the object; extern variables (`.kconfig`, `.ksyms`) and kernel functions are not \
              supported"
            .to_owned(),
        index => match elf.sections.section(SectionIndex(index)) {
            Ok(section) => {
                format!("section `{}` is neither a map nor data", elf.name(section)?.escape_debug())
            }
            Err(_) => "it is in no section".to_owned(),
        },
    };
    Ok(format!("`{function}` refers to `{name}`: {why}"))
}

/// The programs in the order of the file, each with what it reaches through the functions that it calls.
fn programs(
    elf: &Elf<'_>,
    sections: &Sections,
    functions: &BTreeMap<At, Function>,
) -> Result<Vec<XdpProgram>, ObjectError> {
    let mut programs: Vec<XdpProgram> = Vec::new();
    let mut names = BTreeSet::new();
    for (at, function) in functions {
        let Some(frags) = sections.programs.get(&at.0) else { continue };
        if !function.global {
            continue;
        }
        check_name("program", &function.name)?;
        if !names.insert(&*function.name) {
            return Err(corrupt(format!("two programs are called `{}`", function.name)));
        }
        let name = &function.name;
        let (mut reached, mut open) = (BTreeSet::from([*at]), vec![*at]);
        let (mut maps, mut len, mut code) = (BTreeSet::new(), 0, Vec::new());
        let (mut callbacks, mut defect) = (false, None);
        while let Some((at, function)) = open.pop().and_then(|at| Some((at, functions.get(&at)?))) {
            len += function.len;
            code.push(elf.code_range(at.0, at.1, function.len)?);
            callbacks |= function.callbacks;
            defect = defect.or_else(|| function.defect.clone());
            maps.extend(function.maps.iter().cloned());
            open.extend(function.calls.iter().filter(|callee| reached.insert(**callee)));
            if reached.len() > MAX_FUNCTIONS_OF_PROGRAM {
                defect = Some(format!(
                    "`{name}` consists of more than {MAX_FUNCTIONS_OF_PROGRAM} functions, which the kernel refuses"
                ));
                break;
            }
        }
        let section = elf.sections.section(SectionIndex(at.0)).map_err(corrupt)?;
        programs.push(XdpProgram {
            name: function.name.clone(),
            section: elf.name(section)?.to_owned(),
            frags: *frags,
            needs_kernel_types: false,
            instructions: len / INSN_LEN,
            maps,
            code,
            callbacks,
            defect,
        });
    }
    if programs.is_empty() {
        let others: Vec<String> = sections.others.iter().map(|n| format!("`{}`", n.escape_debug())).collect();
        let what = if others.is_empty() {
            String::new()
        } else {
            format!("; its programs are in {}", others.join(", "))
        };
        return Err(ObjectError::Unsupported(format!(
            "the object holds no XDP program: no function is in `xdp`, `xdp.frags` or `xdp/NAME`{what}"
        )));
    }
    Ok(programs)
}

/// The definitions in `.maps`: each variable is a struct whose members' types say what the map is.
fn declared_maps(
    btf: &Btf,
    symbols: &BTreeMap<usize, String>,
    maps: &mut BTreeMap<String, MapSpec>,
) -> Result<(), ObjectError> {
    if symbols.is_empty() {
        return Ok(());
    }
    let variables: BTreeMap<&str, u32> = btf
        .variables_of(".maps")
        .ok_or_else(|| corrupt("its BTF does not describe `.maps`"))?
        .into_iter()
        .collect();
    if let Some(name) = variables.keys().find(|name| !symbols.values().any(|s| s == *name)) {
        return Err(corrupt(format!("map `{}` is in BTF, but not in `.maps`", name.escape_debug())));
    }
    for name in symbols.values() {
        let id =
            variables.get(&**name).ok_or_else(|| corrupt(format!("map `{name}` is not described by BTF")))?;
        if maps.insert(name.clone(), declared_map(btf, name, *id)?).is_some() {
            return Err(corrupt(format!("two maps are called `{name}`")));
        }
    }
    Ok(())
}

fn declared_map(btf: &Btf, map: &str, id: u32) -> Result<MapSpec, ObjectError> {
    let bad = |what: &str| corrupt(format!("map `{map}`: {what}"));
    let members = btf.members(id).ok_or_else(|| bad("its definition is no struct"))?;
    let mut def = MapDef::default();
    let (mut key, mut value) = (0, 0);
    for (name, id) in members {
        let malformed = || bad(&format!("member `{}` of its definition is malformed", name.escape_debug()));
        let number = || btf.pointee(id).and_then(|array| btf.array_len(array)).ok_or_else(malformed);
        let typed = |size: &mut u32, to: &mut u32| {
            *to = btf.pointee(id).ok_or_else(malformed)?;
            let bytes = btf.size(*to).ok_or_else(malformed)?;
            if ![0, bytes].contains(size) {
                return Err(bad(&format!("`{name}` has {bytes} bytes, and `{name}_size` is {size}")));
            }
            *size = bytes;
            Ok(())
        };
        let sized = |size: &mut u32| {
            let bytes = number()?;
            if ![0, bytes].contains(size) {
                return Err(bad(&format!("`{name}` is {bytes}, and its type has {size} bytes")));
            }
            *size = bytes;
            Ok(())
        };
        match name {
            "type" => def.map_type = number()?,
            "key" => typed(&mut def.key_size, &mut key)?,
            "key_size" => sized(&mut def.key_size)?,
            "value" => typed(&mut def.value_size, &mut value)?,
            "value_size" => sized(&mut def.value_size)?,
            "max_entries" => def.max_entries = number()?,
            "map_flags" => def.flags = number()?,
            "map_extra" => def.map_extra = number()?.into(),
            // Where maps are pinned is for the file to say.
            "pinning" => drop(number()?),
            "values" => {
                return Err(ObjectError::Unsupported(format!(
                    "map `{map}`: maps of maps and initial values (`values`) are not supported yet"
                )));
            }
            other => {
                return Err(ObjectError::Unsupported(format!(
                    "map `{map}`: `{}` in its definition is not supported",
                    other.escape_debug()
                )));
            }
        }
    }
    let kind = map_type_name(def.map_type);
    if MAPS_OF_MAPS.contains(&def.map_type) {
        return Err(ObjectError::Unsupported(format!(
            "map `{map}`: maps of maps ({kind}) are not supported yet"
        )));
    }
    if !MAP_TYPES.contains(&def.map_type) {
        return Err(ObjectError::Unsupported(format!(
            "map `{map}`: its type {} ({kind}) is none that XDP programs can use",
            def.map_type
        )));
    }
    complete(&mut def);
    let typed = TYPED.contains(&def.map_type)
        && key != 0
        && value != 0
        // kernel/bpf/lpm_trie.c wants a struct as key.
        && (def.map_type != LPM_TRIE || btf.members(key).is_some());
    Ok(MapSpec {
        def,
        btf: typed.then_some((key, value)),
        layout: typed.then(|| map_layout(btf, key, value)).flatten(),
        origin: MapOrigin::Declared,
    })
}

/// Completes what libbpf would: an array of perf events has a slot per CPU unless it says otherwise, and the size of a
/// ring buffer is a power of two of pages.
fn complete(def: &mut MapDef) {
    match def.map_type {
        PERF_EVENT_ARRAY if def.max_entries == 0 => {
            let cpus = cpu::possible().ok().and_then(|n| u32::try_from(n).ok());
            def.max_entries = cpus.unwrap_or(1);
        }
        RINGBUF if def.max_entries > 0 => {
            let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
            let pages = def.max_entries.div_ceil(page).checked_next_power_of_two();
            def.max_entries = pages.and_then(|n| n.checked_mul(page)).unwrap_or(def.max_entries);
        }
        _ => {}
    }
}

/// The references to types of the running kernel (CO-RE) in `.BTF.ext`.
struct CoreRelocations<'a> {
    data: &'a [u8],
    /// Where the section starts in the object.
    at: usize,
    /// Where they are in it.
    range: Range<usize>,
    /// Those of each section of code, by its name.
    blocks: Vec<(&'a str, Range<usize>)>,
}

impl CoreRelocations<'_> {
    /// Where the header says where they are: offset and length.
    const PLACE: usize = 24;

    /// The same section with nothing but those of one section of programs.
    fn only(&self, section: &str) -> Option<Patch> {
        let mut kept = self.data.get(self.range.start..self.range.start + 4)?.to_vec();
        for (_, block) in self.blocks.iter().filter(|(name, _)| [section, ".text"].contains(name)) {
            kept.extend(self.data.get(block.clone())?);
        }
        let len = if kept.len() > 4 { u32::try_from(kept.len()).ok()? } else { 0 };
        let mut bytes = self.data.to_vec();
        bytes.get_mut(self.range.start..self.range.start + kept.len())?.copy_from_slice(&kept);
        bytes.get_mut(Self::PLACE + 4..Self::PLACE + 8)?.copy_from_slice(&len.to_le_bytes());
        Some(Patch { at: self.at, bytes })
    }
}

/// Reads `.BTF.ext`: what it tells of functions and lines is only checked, since aya trusts it.
fn core_relocations<'a>(elf: &Elf<'a>, btf: &'a Btf) -> Result<Option<CoreRelocations<'a>>, ObjectError> {
    /// The sizes of `struct bpf_func_info`, `struct bpf_line_info` and `struct bpf_core_relo`.
    const RECORDS: [usize; 3] = [8, 16, 16];
    let Some((_, section)) = elf.sections.section_by_name(LE, b".BTF.ext") else { return Ok(None) };
    let data = elf.data(section)?;
    let cut = || corrupt("section `.BTF.ext` is malformed");
    let word = |at: usize| read_word(data, at).ok_or_else(cut);
    let header = word(4)?;
    if header < 24 {
        return Err(cut());
    }
    let mut core = None;
    for (n, record) in RECORDS.into_iter().enumerate() {
        let place = 8 + n * 8;
        // The references to types of the kernel came later.
        if header < place + 8 {
            break;
        }
        let (offset, len) = (word(place)?, word(place + 4)?);
        let range = header + offset..header + offset + len;
        if range.end > data.len() {
            return Err(cut());
        }
        let blocks = info_blocks(data, range.clone(), record, btf).ok_or_else(cut)?;
        if place == CoreRelocations::PLACE && !blocks.is_empty() {
            let at = usize::try_from(section.sh_offset(LE)).map_err(corrupt)?;
            core = Some(CoreRelocations { data, at, range, blocks });
        }
    }
    Ok(core)
}

/// The blocks of one kind of record: the size of a record, then per section its name, how many there are, and they.
pub(super) fn info_blocks<'a>(
    data: &[u8],
    range: Range<usize>,
    min_record: usize,
    btf: &'a Btf,
) -> Option<Vec<(&'a str, Range<usize>)>> {
    let mut blocks = Vec::new();
    if range.is_empty() {
        return Some(blocks);
    }
    let size = read_word(data, range.start).filter(|size| *size >= min_record && size.is_multiple_of(4))?;
    let mut at = range.start + 4;
    while at < range.end {
        let (name, count) = (read_word(data, at)?, read_word(data, at + 4)?);
        let end = count.checked_mul(size)?.checked_add(at + 8).filter(|end| *end <= range.end)?;
        let name = btf.string(name);
        if name.is_empty() {
            return None;
        }
        blocks.push((name, at..end));
        at = end;
    }
    Some(blocks)
}

pub(super) fn read_word(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
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
    if let Some(cut) = cut {
        let places = parsed.find_strings(section).into_iter();
        patches.extend(places.map(|at| Patch { at: btf.at + at + cut, bytes: vec![0] }));
    }
    Ok(patches)
}

fn patch(at: u64, bytes: Vec<u8>) -> Patch {
    Patch { at: usize::try_from(at).unwrap_or(usize::MAX), bytes }
}

/// The parts of an instruction that tell what it refers to.
#[derive(Clone, Copy)]
struct Insn {
    code: u8,
    source: u8,
    imm: i32,
}

impl Insn {
    fn read(code: &[u8], at: u64) -> Option<Self> {
        let at = usize::try_from(at).ok()?;
        let bytes: [u8; 8] = code.get(at..at.checked_add(8)?)?.try_into().ok()?;
        let [code, registers, _, _, imm @ ..] = bytes;
        Some(Self { code, source: registers >> 4, imm: i32::from_le_bytes(imm) })
    }

    fn is_call(self) -> bool {
        self.code == CALL && self.source == PSEUDO_CALL
    }

    /// Where a call leads whose distance counts from `base`.
    fn target(self, base: u64) -> Option<u64> {
        base.checked_add_signed(i64::from(self.imm) * 8)
    }
}
