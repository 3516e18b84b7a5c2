//! How a program of redbpf's dialect refers to global variables.
//!
//! redbpf makes a map of its own for each data section, and takes no other in its place. So it gets to see neither the
//! sections nor the relocations that refer to them: the instructions are completed here, up to the descriptor of the map.

use object::elf;
use object::read::elf::{Rel, SectionHeader, Sym};
use object::{Endianness, SectionIndex, SymbolIndex};
use serde::{Deserialize, Serialize};

use super::{Dialect, Elf, LE, Object, ObjectError, Patch, XdpProgram, corrupt, section_of};

/// `BPF_PSEUDO_MAP_VALUE`: the constant is the descriptor of a map, and the next instruction's an offset in its value.
const PSEUDO_MAP_VALUE: u8 = 2;
/// Where the constant is in an instruction.
const IMM: usize = 4;
/// Where `sh_type` and `sh_size` are in a section header.
const SH_TYPE: u64 = 4;
const SH_SIZE: u64 = 32;
/// The size of `Elf64_Rel`.
const REL_LEN: u64 = 16;

/// A place in the bytes for the engine that takes the descriptor of a map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReference {
    /// The data section, by whose name its map goes.
    pub map: String,
    /// Where the 32 bits of the descriptor are, little-endian.
    pub at: usize,
}

impl Object {
    /// Where the bytes for the engine ([`engine_bytes`](Self::engine_bytes)) take descriptors of the maps of global
    /// variables. aya resolves them itself, so its objects have none.
    pub fn data_references(&self, program: &XdpProgram) -> Result<Vec<DataReference>, ObjectError> {
        if self.dialect != Dialect::Redbpf {
            return Ok(Vec::new());
        }
        let elf = Elf::parse(&self.bytes)?;
        let mut references = Vec::new();
        elf.each_relocation(program, |relocation| {
            if let Some(map) = relocation.data {
                references.push(DataReference { map: map.to_owned(), at: relocation.instruction + IMM });
            }
            Ok(())
        })?;
        Ok(references)
    }
}

/// A relocation of a program's instructions.
struct Relocation<'a> {
    /// The section that holds it.
    section: SectionIndex,
    rel: &'a elf::Rel64<Endianness>,
    /// Where the instruction is in the object.
    instruction: usize,
    /// Where the variable is in its section.
    value: u64,
    /// The data section that it refers to, if it does.
    data: Option<&'a str>,
}

impl<'a> Elf<'a> {
    /// What redbpf gets to see instead of references to global variables.
    pub(super) fn resolve_data_references(&self, program: &XdpProgram) -> Result<Vec<Patch>, ObjectError> {
        let mut patches = Vec::new();
        let mut kept = std::collections::BTreeMap::<usize, Vec<u8>>::new();
        self.each_relocation(program, |relocation| {
            let Relocation { section, rel, instruction, value, data } = relocation;
            let kept = kept.entry(section.0).or_default();
            if data.is_none() {
                kept.extend_from_slice(object::pod::bytes_of(rel));
                return Ok(());
            }
            let at = |offset: usize, len: usize| {
                let at = instruction.checked_add(offset)?;
                self.bytes.get(at..at.checked_add(len)?).map(|bytes| (at, bytes))
            };
            let outside = || corrupt("an instruction outside of the file");
            let (registers, old) = at(1, 1).ok_or_else(outside)?;
            let source = old.iter().map(|byte| byte & 0x0f | PSEUDO_MAP_VALUE << 4).collect();
            patches.push(Patch { at: registers, bytes: source });
            // What is added to the variable's place, as redbpf and libbpf take it.
            let (_, addend) = at(IMM, 4).ok_or_else(outside)?;
            let addend = addend.try_into().map(u32::from_le_bytes).map_err(|_| outside())?;
            let (offset, _) = at(8 + IMM, 4).ok_or_else(outside)?;
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the kernel refuses offsets beyond a map's value"
            )]
            let place = addend.wrapping_add(value as u32);
            patches.push(Patch { at: offset, bytes: place.to_le_bytes().to_vec() });
            Ok(())
        })?;
        for (section, rels) in kept {
            let index = SectionIndex(section);
            let header = self.sections.section(index).map_err(corrupt)?;
            patches.push(Patch::of_header(self, index, SH_SIZE, (rels.len() as u64).to_le_bytes().to_vec()));
            let at = usize::try_from(header.sh_offset(LE)).unwrap_or(usize::MAX);
            patches.push(Patch { at, bytes: rels });
        }
        for (index, section) in self.sections.enumerate() {
            if is_data(self.name(section)?) {
                patches.push(Patch::of_header(self, index, SH_TYPE, vec![0; 4]));
            }
        }
        Ok(patches)
    }

    /// Shows the relocations of a program, in their order.
    fn each_relocation(
        &self,
        program: &XdpProgram,
        mut each: impl FnMut(Relocation<'a>) -> Result<(), ObjectError>,
    ) -> Result<(), ObjectError> {
        // A program of this dialect is one function, which fills its section.
        let Some(code) = program.code.first() else { return Ok(()) };
        for (index, header) in self.sections.enumerate() {
            if header.sh_type(LE) != elf::SHT_REL || header.sh_info(LE) as usize != code.section {
                continue;
            }
            let Some((rels, _)) = header.rel(LE, self.bytes).map_err(corrupt)? else { continue };
            debug_assert_eq!(size_of::<elf::Rel64<Endianness>>() as u64, REL_LEN);
            for rel in rels {
                let symbol = self.symbols.symbol(SymbolIndex(rel.r_sym(LE) as usize)).map_err(corrupt)?;
                // Absolute and undefined symbols are in no section.
                let target = self.sections.section(SectionIndex(section_of(symbol))).ok();
                let name = target.map(|target| self.name(target)).transpose()?;
                let offset = usize::try_from(rel.r_offset(LE)).unwrap_or(usize::MAX);
                each(Relocation {
                    section: index,
                    rel,
                    instruction: code.bytes.start.saturating_add(offset),
                    value: symbol.st_value(LE),
                    data: name.filter(|name| is_data(name)),
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a section holds global variables.
fn is_data(section: &str) -> bool {
    section == ".data" || section.starts_with(".data.")
}
