//! What `.BTF.ext` tells of an object's code: functions, lines, and references to types of the running kernel.

use std::ops::Range;

use object::read::elf::SectionHeader;

use crate::{Btf, Elf, LE, ObjectError, Patch, corrupt};

/// The references to types of the running kernel (CO-RE) in `.BTF.ext`.
pub(super) struct CoreRelocations<'a> {
    data: &'a [u8],
    /// Where the section starts in the object.
    at: usize,
    /// Where they are in it.
    range: Range<usize>,
    /// Those of each section of code, by its name.
    pub(super) blocks: Vec<(&'a str, Range<usize>)>,
}

impl CoreRelocations<'_> {
    /// Where the header says where they are: offset and length.
    const PLACE: usize = 24;

    /// The same section with nothing but those of one section of programs.
    pub(super) fn only(&self, section: &str) -> Option<Patch> {
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
pub(super) fn core_relocations<'a>(
    elf: &Elf<'a>,
    btf: &'a Btf,
) -> Result<Option<CoreRelocations<'a>>, ObjectError> {
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
pub(crate) fn info_blocks<'a>(
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

pub(crate) fn read_word(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}
