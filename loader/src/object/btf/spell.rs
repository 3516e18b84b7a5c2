//! Types as C declares them, and the values of variables, for people.

use std::fmt::Write;

use super::{Btf, Kind, MAX_DEPTH, Member};

/// Members of a struct that are spelled; the rest is `…`.
const MAX_MEMBERS: usize = 24;
/// Elements of an array that are shown.
const MAX_ELEMENTS: usize = 8;
/// Characters of a string that are shown.
const MAX_TEXT: usize = 40;

/// A variable of a data section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::object) struct Variable {
    /// Its name.
    pub(in crate::object) name: String,
    /// Its type, as [`Btf::declare`] has it.
    pub(in crate::object) type_id: u32,
    /// Bytes from the start of the section.
    pub(in crate::object) offset: u32,
    /// Bytes.
    pub(in crate::object) size: u32,
}

impl Btf {
    /// The variables of the data section `name`, in the order of the section; empty where it is not described.
    pub(in crate::object) fn section_variables(&self, name: &str) -> Vec<Variable> {
        let section = self.data_section(name).and_then(|id| self.get(id));
        let Some(Kind::DataSec { vars, .. }) = section.map(|t| &t.kind) else { return Vec::new() };
        let variable = |var: &super::SecVar| {
            let declared = self.get(var.type_id)?;
            let Kind::Var(type_id) = declared.kind else { return None };
            let name = self.name(declared.name).to_owned();
            Some(Variable { name, type_id, offset: var.offset, size: var.size })
        };
        vars.iter().filter_map(variable).collect()
    }

    /// The type in the words of C: `unsigned int`, `struct datarec`, `__u8[16]`, `void *`.
    pub fn spell(&self, id: u32) -> String {
        self.declare(id, "")
    }

    /// The type with the members of its struct: `struct datarec { __u64 rx_packets; __u64 rx_bytes; }`.
    pub fn define(&self, id: u32) -> String {
        let members = self.resolve(id).and_then(|id| self.get(id)).map(|t| &t.kind);
        let Some(Kind::Struct { members, bitfields, .. }) = members else { return self.spell(id) };
        let mut text = format!("{} {{", self.spell(id));
        for member in members.iter().take(MAX_MEMBERS) {
            text.push(' ');
            text.push_str(&self.declare(member.type_id, self.name(member.name)));
            let width = if *bitfields { member.offset >> 24 } else { 0 };
            if width > 0 {
                let _ = write!(text, " : {width}");
            }
            text.push(';');
        }
        text.push_str(if members.len() > MAX_MEMBERS { " … }" } else { " }" });
        text
    }

    /// The declaration of `name`, which may be empty, with the type `id`.
    fn declare(&self, mut id: u32, name: &str) -> String {
        // What stands behind the name, and between it and the type.
        let (mut dimensions, mut pointers, mut qualifiers) = (String::new(), String::new(), "");
        let mut base = None;
        for _ in 0..MAX_DEPTH {
            let Some(t) = self.get(id) else {
                base = Some(if id == 0 { "void".to_owned() } else { "?".to_owned() });
                break;
            };
            let word = match (t.number, &t.kind) {
                // const, volatile, restrict, tags: they change nothing of what is in memory.
                (9 | 11 | 18, Kind::Alias(target)) => {
                    id = *target;
                    continue;
                }
                (10, Kind::Alias(target)) => {
                    if pointers.is_empty() {
                        qualifiers = "const ";
                    }
                    id = *target;
                    continue;
                }
                (_, Kind::Ptr(target)) => {
                    pointers.push('*');
                    id = *target;
                    continue;
                }
                (_, Kind::Array { element, len }) if pointers.is_empty() => {
                    let _ = write!(dimensions, "[{len}]");
                    id = *element;
                    continue;
                }
                (_, Kind::Array { .. }) => {
                    base = Some("array".to_owned());
                    break;
                }
                // A struct, or one that is only declared.
                (4 | 7, _) => "struct ",
                (5, _) => "union ",
                (6 | 19, _) => "enum ",
                (12 | 13, _) => {
                    base = Some("function".to_owned());
                    break;
                }
                _ => "",
            };
            let own = self.name(t.name);
            base = Some(if own.is_empty() { format!("{word}{{…}}") } else { format!("{word}{own}") });
            break;
        }
        let base = base.unwrap_or_else(|| "?".to_owned());
        let space = if name.is_empty() && pointers.is_empty() { "" } else { " " };
        format!("{qualifiers}{base}{space}{pointers}{name}{dimensions}")
    }

    /// A value of the type `id` in words; `None` where that would be long, or means nothing.
    pub fn show(&self, id: u32, value: &[u8]) -> Option<String> {
        let id = self.resolve(id)?;
        match &self.get(id)?.kind {
            Kind::Int { size, encoding } => {
                let bytes = value.get(..usize::try_from(*size).ok()?)?;
                integer(bytes, encoding >> 24)
            }
            Kind::Enum { size } => integer(value.get(..usize::try_from(*size).ok()?)?, 0),
            Kind::Array { element, len } => self.show_array(*element, *len, value),
            Kind::Struct { members, .. } if value.iter().any(|byte| *byte != 0) => {
                self.show_members(members, value)
            }
            Kind::Struct { .. } => Some("{0}".to_owned()),
            _ => None,
        }
    }

    fn show_array(&self, element: u32, len: u32, value: &[u8]) -> Option<String> {
        let size = usize::try_from(self.size(element)?).ok().filter(|size| *size > 0)?;
        if value.iter().all(|byte| *byte == 0) {
            return Some("{0}".to_owned());
        }
        let name = self.get(self.resolve(element)?).map(|t| self.name(t.name))?;
        if name == "char" {
            let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let text = std::str::from_utf8(&value[..end]).ok()?;
            let sound = end <= MAX_TEXT && !text.contains(char::is_control);
            return sound.then(|| format!("\"{}\"", text.escape_debug()));
        }
        if usize::try_from(len).ok()? > MAX_ELEMENTS || !self.is_scalar(element, MAX_DEPTH)? {
            return None;
        }
        let elements: Option<Vec<String>> =
            value.chunks_exact(size).map(|element_value| self.show(element, element_value)).collect();
        Some(format!("{{{}}}", elements?.join(", ")))
    }

    fn show_members(&self, members: &[Member], value: &[u8]) -> Option<String> {
        if members.len() > MAX_ELEMENTS {
            return None;
        }
        let member = |member: &Member| {
            // Whole bytes only: bitfields have their width in the upper bits.
            let at = usize::try_from(member.offset).ok().filter(|bits| bits.is_multiple_of(8))? / 8;
            let scalar = self.is_scalar(member.type_id, MAX_DEPTH)?;
            let shown = scalar.then(|| self.show(member.type_id, value.get(at..)?))??;
            Some(format!(".{} = {shown}", self.name(member.name)))
        };
        let members: Option<Vec<String>> = members.iter().map(member).collect();
        Some(format!("{{{}}}", members?.join(", ")))
    }
}

/// A number of up to eight bytes. `encoding` is as in BTF: 1 signed, 4 boolean.
fn integer(bytes: &[u8], encoding: u32) -> Option<String> {
    if bytes.len() > 8 {
        return None;
    }
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let unsigned = u64::from_le_bytes(wide);
    if encoding & 4 != 0 && unsigned <= 1 {
        return Some((unsigned == 1).to_string());
    }
    if encoding & 1 != 0 && !bytes.is_empty() {
        let unused = 64 - 8 * u32::try_from(bytes.len()).ok()?;
        return Some(((unsigned << unused).cast_signed() >> unused).to_string());
    }
    Some(unsigned.to_string())
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn numbers_are_shown_as_their_type_says() {
        assert_eq!(integer(&[0xff, 0xff], 1).as_deref(), Some("-1"));
        assert_eq!(integer(&[0xff, 0xff], 0).as_deref(), Some("65535"));
        assert_eq!(integer(&[1], 4).as_deref(), Some("true"));
        assert_eq!(integer(&[2], 4).as_deref(), Some("2"), "what is neither true nor false");
        assert_eq!(integer(&i64::MIN.to_le_bytes(), 1).as_deref(), Some("-9223372036854775808"));
        assert_eq!(integer(&[0; 16], 0), None);
    }
}
