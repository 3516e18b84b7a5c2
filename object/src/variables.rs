//! The global variables of an object: where they are, of which type, and what they hold at first.

use std::fmt;

use super::btf::{self, Btf};
use super::{Dialect, MapOrigin, Object};

/// A global variable that the file may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The map that holds it: `.rodata`, `.data`, `.bss`, or one of their kind.
    pub section: String,
    /// Bytes from the start of the section.
    pub offset: usize,
    /// Its type in the object's BTF.
    pub type_id: u32,
    /// What it holds at first.
    pub initial: Vec<u8>,
    /// It is a constant, so part of the program.
    pub constant: bool,
}

/// Bytes of a global variable that take the place of those in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The section that holds the variable.
    pub section: String,
    /// Bytes from its start.
    pub offset: usize,
    /// What the variable holds.
    pub bytes: Vec<u8>,
}

/// Why an object has no variable of a name that the file may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoVariable {
    /// The object says nothing of its variables.
    NoBtf,
    /// There is none of that name.
    Unknown,
    /// There is one, in this section, whose content is not the object's.
    Section(String),
    /// It is a constant whose value the compiler has put into the code.
    Folded,
}

impl fmt::Display for NoVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf => f.write_str("its object has no BTF, which tells its variables and their types"),
            Self::Unknown => f.write_str("its object has no such variable"),
            Self::Section(section) => {
                write!(f, "it is in section `{}`, which the file cannot set", section.escape_debug())
            }
            Self::Folded => {
                f.write_str("it is `const` without `volatile`, so its value is in the code already")
            }
        }
    }
}

impl Object {
    /// Its global variables, by section and place. What its BTF does not tell soundly is left out.
    pub fn variables(&self) -> Vec<Variable> {
        let Some(btf) = self.parsed_btf() else { return Vec::new() };
        let sections = self.maps().iter().filter(|(_, spec)| spec.origin != MapOrigin::Declared);
        let variables = sections.flat_map(|(section, spec)| {
            let size = spec.def.value_size as usize;
            let placed = btf.section_variables(section);
            let placed = if are_sound(&placed, size) { placed } else { Vec::new() };
            let content = self.data(section);
            placed.into_iter().map(move |placed| {
                let range = placed.offset as usize..(placed.offset + placed.size) as usize;
                Variable {
                    name: placed.name.to_owned(),
                    section: section.clone(),
                    offset: range.start,
                    type_id: placed.type_id,
                    initial: content
                        .and_then(|content| content.get(range.clone()))
                        .map_or_else(|| vec![0; range.len()], <[u8]>::to_vec),
                    constant: spec.origin == MapOrigin::ReadOnlyData,
                }
            })
        });
        variables.collect()
    }

    /// The variable that the file calls `name`.
    pub fn variable(&self, name: &str) -> Result<Variable, NoVariable> {
        let btf = self.parsed_btf().ok_or(NoVariable::NoBtf)?;
        let Some(found) = self.variables().into_iter().find(|variable| variable.name == name) else {
            return Err(btf
                .section_of(name)
                .map_or(NoVariable::Unknown, |s| NoVariable::Section(s.to_owned())));
        };
        // Rust has no qualifiers: there, a program asks for its constants with `read_volatile`.
        if found.constant && self.dialect() == Dialect::Libbpf && !btf.is_volatile(found.type_id) {
            return Err(NoVariable::Folded);
        }
        Ok(found)
    }

    /// Its BTF, read.
    pub fn parsed_btf(&self) -> Option<Btf> {
        Btf::parse(self.btf()?).ok()
    }
}

/// The variables lie in their section, each for itself.
fn are_sound(placed: &[btf::Variable<'_>], size: usize) -> bool {
    let mut ranges: Vec<_> = placed.iter().map(|p| (p.offset, p.size)).collect();
    ranges.sort_unstable();
    let mut end = 0;
    ranges.iter().all(|(offset, size_of_it)| {
        let start = *offset as usize;
        let apart = start >= end;
        end = start + *size_of_it as usize;
        apart && end <= size
    })
}
