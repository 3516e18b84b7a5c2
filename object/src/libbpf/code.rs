//! The functions of an object that follows libbpf's conventions: what each refers to, and the programs that they make.

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::{Rel, SectionHeader, Sym};
use object::{SectionIndex, SymbolIndex, elf};

use super::Sections;
use super::maps::MapSymbol;
use crate::{Elf, INSN_LEN, LD_IMM64, LE, ObjectError, XdpProgram, check_name, corrupt, section_of};

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`: the source register of a call to another function of the object.
const PSEUDO_CALL: u8 = 1;
/// Functions of an object: what is done for each pair of them takes bounded time then.
const MAX_FUNCTIONS: usize = 1024;
/// Functions of one program, with itself (`BPF_MAX_SUBPROGS`, `include/linux/bpf_verifier.h`).
const MAX_FUNCTIONS_OF_PROGRAM: usize = 256;

/// Where a function starts: index of its section, bytes.
pub(super) type At = (usize, u64);

pub(super) struct Function {
    pub(super) name: String,
    len: u64,
    /// It is visible to other objects: only such functions are programs.
    pub(super) global: bool,
    maps: BTreeSet<String>,
    calls: BTreeSet<At>,
    /// Some of those functions are not called, but their addresses are loaded.
    callbacks: bool,
    /// What it refers to that nothing can resolve: it must not be loaded.
    defect: Option<String>,
}

/// The functions of the sections that hold code for XDP.
pub(super) fn functions(elf: &Elf<'_>, sections: &Sections) -> Result<BTreeMap<At, Function>, ObjectError> {
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

/// Notes for each function the maps that it loads and the functions that it calls. Every reference must be one that
/// the engine resolves.
pub(super) fn references(
    elf: &Elf<'_>,
    sections: &Sections,
    maps: &BTreeMap<usize, MapSymbol>,
    functions: &mut BTreeMap<At, Function>,
) -> Result<(), ObjectError> {
    let mut resolved = BTreeSet::new();
    for (_, section) in elf.sections.enumerate() {
        if section.sh_type(LE) != elf::SHT_REL && section.sh_type(LE) != elf::SHT_RELA {
            continue;
        }
        let target = section.sh_info(LE) as usize;
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
                None if Some(place) == sections.maps => maps.get(&index).map(|symbol| &symbol.name),
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
pub(super) fn programs(
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
