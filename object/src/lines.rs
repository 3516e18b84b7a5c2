//! Which line of the source an instruction was made of, by the object's `.BTF.ext`.

use std::fmt;

use object::read::elf::SectionHeader;

use super::libbpf::{info_blocks, read_word};
use super::{Btf, Elf, INSN_LEN, LE, Object, XdpProgram};

/// A line of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// The file's name; empty where that is not told.
    pub file: String,
    /// Its number, from 1; 0 where that is not told.
    pub number: u32,
    /// What it says; empty where that is not told.
    pub text: String,
}

impl SourceLine {
    /// A line, unless neither file nor text are told. Nothing of it may steer a terminal.
    pub fn new(file: &str, number: u32, text: &str) -> Option<Self> {
        let plain = |text: &str| text.trim().replace(char::is_control, " ");
        let line = Self { file: plain(file), number, text: plain(text) };
        (!line.file.is_empty() || !line.text.is_empty()).then_some(line)
    }

    /// What the kernel says of a line, completed from what the object says of it: before Linux 6.9 the kernel tells the text
    /// alone. It is the kernel that knows where it was.
    pub fn told(by_kernel: Option<Self>, by_object: Option<Self>) -> Option<Self> {
        match (by_kernel, by_object) {
            (Some(kernel), Some(object)) if kernel.file.is_empty() && kernel.text == object.text => {
                Some(object)
            }
            (Some(kernel), _) => Some(kernel),
            (None, object) => object,
        }
    }
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.text.is_empty()) {
            (false, false) => write!(f, "{}:{}, `{}`", self.file, self.number, self.text),
            (false, true) => write!(f, "{}:{}", self.file, self.number),
            (true, _) => write!(f, "`{}`", self.text),
        }
    }
}

impl Object {
    /// The line of an instruction of `program`, which is counted from its first; none where it is not told, or where
    /// the instruction is in a function that it calls.
    pub fn source_line(&self, program: &XdpProgram, insn: u64) -> Option<SourceLine> {
        /// Where the header of `.BTF.ext` says where the records are: offset and length.
        const PLACE: usize = 16;
        /// The size of `struct bpf_line_info`.
        const RECORD: usize = 16;
        let own = program.code.first().filter(|own| insn < own.bytes.len() as u64 / INSN_LEN)?;
        let at = usize::try_from(own.start.checked_add(insn * INSN_LEN)?).ok()?;
        let elf = Elf::parse(&self.bytes).ok()?;
        // As the compiler wrote it: the completed one has other names for some things.
        let raw = self.btf.as_ref().and_then(|b| self.bytes.get(b.at..b.at.checked_add(b.raw.len())?))?;
        let btf = Btf::parse(raw).ok()?;
        let (_, section) = elf.sections.section_by_name(LE, b".BTF.ext")?;
        let data = section.data(LE, elf.bytes).ok()?;
        let start = read_word(data, 4)?.checked_add(read_word(data, PLACE)?)?;
        let range = start..start.checked_add(read_word(data, PLACE + 4)?)?;
        let blocks = info_blocks(data, range.clone(), RECORD, &btf)?;
        let (_, block) = blocks.into_iter().find(|(name, _)| *name == program.section)?;
        let record = data
            // A block begins with its section's name and the number of its records.
            .get(block.start + 8..block.end)?
            .chunks_exact(read_word(data, range.start)?)
            .filter(|record| read_word(record, 0).is_some_and(|from| from <= at))
            .max_by_key(|record| read_word(record, 0))?;
        let number = u32::try_from(read_word(record, 12)?).ok()? >> 10;
        // Without its directories, as the verifier has it.
        let file = btf.string(read_word(record, 4)?).rsplit('/').next().unwrap_or_default();
        SourceLine::new(file, number, btf.string(read_word(record, 8)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_tells_where_the_line_is_that_the_kernel_was_at() {
        let line = |file, number, text| SourceLine::new(file, number, text);
        let shown = |kernel, object| SourceLine::told(kernel, object).map(|line| line.to_string());
        let (text, object) = (|| line("", 0, "return 1;"), || line("a.c", 3, "return 1;"));
        assert_eq!(shown(text(), object()).as_deref(), Some("a.c:3, `return 1;`"));
        assert_eq!(shown(None, object()).as_deref(), Some("a.c:3, `return 1;`"));
        assert_eq!(shown(text(), line("a.c", 4, "x = 2;")).as_deref(), Some("`return 1;`"));
        assert_eq!(shown(line("b.c", 7, "y();"), object()).as_deref(), Some("b.c:7, `y();`"));
        assert_eq!(shown(text(), None).as_deref(), Some("`return 1;`"));
        assert_eq!(shown(None, None), None);
    }
}
