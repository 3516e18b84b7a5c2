//! Reads BTF: enough of the format to compare the layout of map keys and values, and to spell them.
//!
//! The format is described in the kernel's Documentation/bpf/btf.rst. The bytes come either from an object's
//! `.BTF` section or from the kernel; both are treated as hostile, so every access is checked.

mod kind;
mod layout;
mod loadable;
mod parse;
mod shape;

pub use layout::{Field, FieldKind, Layout};
pub(crate) use loadable::make_loadable;
pub use shape::Shape;
pub(super) use shape::{Enumerators, StructMember};

/// Types deeper than this are cut off: real keys and values are a few levels deep, mangled BTF may be a cycle.
const MAX_DEPTH: usize = 16;
/// The kernel refuses longer names (`KSYM_NAME_LEN`). Many types may share one, so its length costs as often.
const MAX_NAME: usize = 512;

/// Why some bytes are not BTF that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed BTF: {0}")]
pub struct BtfError(&'static str);

/// Parsed BTF. Type ids start at 1; 0 is `void`.
#[derive(Debug)]
pub struct Btf {
    types: Vec<Type>,
    strings: Vec<u8>,
    /// Where the types start in the raw BTF.
    types_at: usize,
    /// Where the strings start in the raw BTF.
    strings_at: usize,
}

#[derive(Debug)]
struct Type {
    name: u32,
    /// Where the type's record starts in the type section, for patching.
    at: usize,
    /// `BTF_KIND_*`: what the kinds that are alike here differ in.
    number: u8,
    /// Of functions and variables: static, global or extern.
    linkage: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Of `bits` that begin `offset` bits into a word of `size` bytes: C bitfields of old compilers are a part of it.
    Int {
        size: u32,
        bits: u8,
        offset: u8,
        signed: bool,
        boolean: bool,
    },
    Ptr(u32),
    Array {
        element: u32,
        len: u32,
    },
    Struct {
        size: u32,
        members: Vec<Member>,
        bitfields: bool,
        union: bool,
    },
    Enum {
        size: u32,
        signed: bool,
        /// Names and values; the values of an unsigned one as its bits.
        values: Vec<(u32, i64)>,
    },
    Float {
        size: u32,
    },
    /// typedef, const, volatile, restrict, `type_tag`: another name of the type it refers to.
    Alias {
        target: u32,
        volatile: bool,
    },
    Var(u32),
    DataSec {
        size: u32,
        vars: Vec<SecVar>,
    },
    Other,
}

#[derive(Debug)]
struct Member {
    name: u32,
    type_id: u32,
    /// Bits; with bitfields the top 8 bits hold the field's width.
    offset: u32,
}

#[derive(Debug)]
struct SecVar {
    type_id: u32,
    /// Bytes from the start of the section.
    offset: u32,
    /// Bytes.
    size: u32,
    /// Where the entry's record is in the type section.
    at: usize,
}

/// A variable of a data section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable<'a> {
    pub(super) name: &'a str,
    pub(super) type_id: u32,
    /// Bytes from the start of the section.
    pub(super) offset: u32,
    /// Bytes.
    pub(super) size: u32,
}

impl Btf {
    fn get(&self, id: u32) -> Option<&Type> {
        self.types.get((id as usize).checked_sub(1)?)
    }

    fn name(&self, offset: u32) -> &str {
        let tail = self.strings.get(offset as usize..).unwrap_or_default();
        let tail = &tail[..tail.len().min(MAX_NAME)];
        let len = tail.iter().position(|b| *b == 0).unwrap_or(0);
        std::str::from_utf8(&tail[..len]).unwrap_or("?")
    }

    /// Whether that is the name at an offset.
    fn is_named(&self, offset: u32, wanted: &str) -> bool {
        let tail = self.strings.get(offset as usize..).unwrap_or_default();
        tail.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The string at an offset; empty where there is none.
    pub(super) fn string(&self, offset: usize) -> &str {
        u32::try_from(offset).map_or("", |offset| self.name(offset))
    }

    /// Where this string starts in the raw BTF, each time that it is there.
    pub(super) fn find_strings(&self, wanted: &str) -> Vec<usize> {
        let mut at = self.strings_at;
        let mut found = Vec::new();
        for string in self.strings.split(|b| *b == 0) {
            if string == wanted.as_bytes() {
                found.push(at);
            }
            at += string.len() + 1;
        }
        found
    }

    /// The id of the type that the global variable `name` has.
    pub fn variable(&self, name: &str) -> Option<u32> {
        self.types.iter().find_map(|t| match t.kind {
            Kind::Var(type_id) if self.is_named(t.name, name) => Some(type_id),
            _ => None,
        })
    }

    /// The type id of the member `name` of the struct `id`.
    pub fn member(&self, id: u32, name: &str) -> Option<u32> {
        match &self.get(id)?.kind {
            Kind::Struct { members, .. } => {
                members.iter().find(|m| self.is_named(m.name, name)).map(|m| m.type_id)
            }
            _ => None,
        }
    }

    /// Where the raw BTF has the names of the members `name` of the struct `id`, each an offset into the strings.
    pub(super) fn member_names(&self, id: u32, name: &str) -> Vec<usize> {
        let Some(Type { at, kind: Kind::Struct { members, .. }, .. }) =
            self.resolve(id).and_then(|id| self.get(id))
        else {
            return Vec::new();
        };
        let named = members.iter().enumerate().filter(|(_, member)| self.is_named(member.name, name));
        named.map(|(n, _)| self.types_at + at + 12 + n * 12).collect()
    }

    /// Whether the type `id` is that of a function.
    pub fn is_function(&self, id: u32) -> bool {
        self.resolve(id).and_then(|id| self.get(id)).is_some_and(|t| t.number == kind::FUNC_PROTO)
    }

    /// The id of the data section `name`.
    pub fn data_section(&self, name: &str) -> Option<u32> {
        let at = self
            .types
            .iter()
            .position(|t| matches!(t.kind, Kind::DataSec { .. }) && self.is_named(t.name, name))?;
        u32::try_from(at + 1).ok()
    }

    /// Names and type ids of the variables in the data section `name`.
    pub fn variables_of(&self, name: &str) -> Option<Vec<(&str, u32)>> {
        let Kind::DataSec { vars, .. } = &self.get(self.data_section(name)?)?.kind else { return None };
        let variable = |var: &SecVar| match self.get(var.type_id)? {
            Type { kind: Kind::Var(type_id), name, .. } => Some((self.name(*name), *type_id)),
            _ => None,
        };
        vars.iter().map(variable).collect()
    }

    /// The variables in the data section `name`, in the order of the section; none where it is not described.
    pub(super) fn section_variables(&self, name: &str) -> Vec<Variable<'_>> {
        let section = self.data_section(name).and_then(|id| self.get(id));
        let Some(Kind::DataSec { vars, .. }) = section.map(|t| &t.kind) else { return Vec::new() };
        let variable = |var: &SecVar| match self.get(var.type_id)? {
            Type { kind: Kind::Var(type_id), name, .. } => Some(Variable {
                name: self.name(*name),
                type_id: *type_id,
                offset: var.offset,
                size: var.size,
            }),
            _ => None,
        };
        vars.iter().filter_map(variable).collect()
    }

    /// The data section that holds the variable `name`, whichever it is.
    pub fn section_of(&self, name: &str) -> Option<&str> {
        self.types.iter().find_map(|section| {
            let Kind::DataSec { vars, .. } = &section.kind else { return None };
            let is_it = |var: &SecVar| self.get(var.type_id).is_some_and(|var| self.name(var.name) == name);
            vars.iter().any(is_it).then(|| self.name(section.name))
        })
    }

    /// Whether the type `id` is read anew each time that a program asks for it; of an array, its elements.
    pub fn is_volatile(&self, mut id: u32) -> bool {
        for _ in 0..MAX_DEPTH {
            match self.get(id).map(|t| &t.kind) {
                Some(Kind::Alias { volatile: true, .. }) => return true,
                Some(Kind::Alias { target, .. } | Kind::Array { element: target, .. }) => id = *target,
                _ => break,
            }
        }
        false
    }

    /// Names and type ids of the members of the struct `id`.
    pub fn members(&self, id: u32) -> Option<Vec<(&str, u32)>> {
        match &self.get(self.resolve(id)?)?.kind {
            Kind::Struct { members, .. } => {
                Some(members.iter().map(|m| (self.name(m.name), m.type_id)).collect())
            }
            _ => None,
        }
    }

    /// The type id that the pointer `id` points to.
    pub fn pointee(&self, id: u32) -> Option<u32> {
        match self.get(self.resolve(id)?)?.kind {
            Kind::Ptr(target) => Some(target),
            _ => None,
        }
    }

    /// The number of elements of the array `id`.
    pub fn array_len(&self, id: u32) -> Option<u32> {
        match self.get(self.resolve(id)?)?.kind {
            Kind::Array { len, .. } => Some(len),
            _ => None,
        }
    }

    /// The size of the type `id` in bytes.
    pub fn size(&self, id: u32) -> Option<u32> {
        self.size_bits(id, MAX_DEPTH).map(|bits| bits / 8)
    }

    /// The type that `id` is another name of, or `id` itself.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            match self.get(id)?.kind {
                Kind::Alias { target, .. } => id = target,
                _ => return Some(id),
            }
        }
        None
    }

    /// The names of the type `id`: of each typedef on the way, then its own. A type without a name has none.
    pub fn names(&self, mut id: u32) -> Vec<&str> {
        let mut names = Vec::new();
        for _ in 0..MAX_DEPTH {
            let Some(found) = self.get(id) else { break };
            let name = self.name(found.name);
            if !name.is_empty() {
                names.push(name);
            }
            match found.kind {
                Kind::Alias { target, .. } => id = target,
                _ => break,
            }
        }
        names
    }

    fn size_bits(&self, id: u32, depth: usize) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        match &self.get(id)?.kind {
            Kind::Int { size, .. }
            | Kind::Enum { size, .. }
            | Kind::Float { size }
            | Kind::Struct { size, .. }
            | Kind::DataSec { size, .. } => size.checked_mul(8),
            Kind::Ptr(_) => Some(64),
            Kind::Alias { target, .. } => self.size_bits(*target, depth),
            Kind::Array { element, len } => self.size_bits(*element, depth)?.checked_mul(*len),
            Kind::Var(_) | Kind::Other => None,
        }
    }
}
