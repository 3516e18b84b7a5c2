//! Reads BTF: enough of the format to compare the layout of map keys and values.
//!
//! The format is described in the kernel's Documentation/bpf/btf.rst. The bytes come either from an object's
//! `.BTF` section or from the kernel; both are treated as hostile, so every access is checked.

use std::collections::BTreeSet;

const MAGIC: u16 = 0xeb9f;
/// Flags of numbers in linux/btf.h.
const BTF_INT_SIGNED: u32 = 1;
const BTF_INT_BOOL: u32 = 1 << 2;
const HEADER_LEN: usize = 24;
/// Numbers of kinds.
const STRUCT: u32 = 4;
const TYPEDEF: u32 = 8;
const FUNC: u8 = 12;
const FUNC_PROTO: u8 = 13;
const TYPE_TAG: u8 = 18;
/// Types deeper than this are cut off: real keys and values are a few levels deep, mangled BTF may be a cycle.
const MAX_DEPTH: usize = 16;
/// Visits of types while one layout is told: bounds the work that mangled BTF can cause.
const MAX_VISITS: usize = 16 * 1024;
/// Bytes of the paths of one layout: likewise.
const MAX_PATHS: usize = 1 << 20;
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
    Int {
        size: u32,
        encoding: u32,
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

/// One leaf of a key or value: a number, a pointer or an array of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field {
    /// Path from the outermost struct, `a.b[3].c`; empty where the type itself is a number.
    pub path: String,
    /// Bits from the start.
    pub offset: u32,
    /// Bits.
    pub size: u32,
    /// What it is, of an array what each element is.
    pub kind: FieldKind,
    /// Bits of each element; of what is no array its size.
    pub element: u32,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldKind {
    /// A number that is never negative.
    Unsigned,
    /// A number that may be.
    Signed,
    /// One of a few values.
    Enum,
    /// `bool`.
    Bool,
    /// A floating-point number.
    Float,
    /// An address.
    Pointer,
    /// A number in an order of bytes that its type names, such as `__be32`: an address or a port, nothing to count with.
    Ordered,
    /// Something that the kernel keeps in a value: a lock, a timer, the head of a list.
    Kernel,
}

/// Structs that the kernel knows in values (`btf_parse_fields` in kernel/bpf/btf.c): user space neither reads nor writes
/// them.
const KERNEL_STRUCTS: [&str; 11] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_timer",
    "bpf_wq",
    "bpf_task_work",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_root",
    "bpf_rb_node",
    "bpf_refcount",
    "bpf_dynptr",
];

/// The fields of a key or value in order of their offset: what "the same layout" compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Layout(pub Vec<Field>);

/// What a type is, behind its other names.
#[derive(Debug, Clone)]
pub enum Shape<'a> {
    /// A whole number.
    Int {
        /// Bytes.
        size: u32,
        /// It may be negative.
        signed: bool,
        /// `bool`.
        boolean: bool,
    },
    /// An enumeration.
    Enum {
        /// Bytes.
        size: u32,
        /// It may be negative.
        signed: bool,
        /// Its names.
        values: Enumerators<'a>,
    },
    /// So many of one type.
    Array {
        /// The type id of each.
        element: u32,
        /// How many.
        len: u32,
    },
    /// A struct.
    Struct(Vec<StructMember<'a>>),
    /// A union.
    Union,
    /// An address of the type with this id.
    Pointer(u32),
    /// A floating-point number.
    Float,
    /// Part of a word, as old compilers describe bitfields; a function; a data section; `void`.
    Other,
}

/// The names of an enumeration's values.
#[derive(Debug, Clone, Copy)]
pub struct Enumerators<'a> {
    btf: &'a Btf,
    values: &'a [(u32, i64)],
}

impl<'a> Enumerators<'a> {
    /// Names and values, in the order of their declaration; the values of an unsigned enumeration as its bits.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, i64)> {
        self.values.iter().map(move |(name, value)| (self.btf.name(*name), *value))
    }
}

/// A member of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructMember<'a> {
    /// Its name; empty for an anonymous struct or union.
    pub name: &'a str,
    /// Its type.
    pub type_id: u32,
    /// Bits from the start.
    pub offset: u32,
    /// It is a bitfield: its size is not that of its type.
    pub bitfield: bool,
}

/// What a walk over a type has found, how many types it may still visit, and how long their paths may still be.
struct Collected {
    fields: Vec<Field>,
    visits: usize,
    paths: usize,
}

/// Reads little-endian words out of a byte slice, never past its end.
struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Result<u32, BtfError> {
        let word = self
            .bytes
            .get(self.at..self.at + 4)
            .and_then(|w| w.try_into().ok())
            .ok_or(BtfError("a type is cut off"))?;
        self.at += 4;
        Ok(u32::from_le_bytes(word))
    }

    fn skip(&mut self, words: usize) -> Result<(), BtfError> {
        let end = self.at + words * 4;
        if end > self.bytes.len() {
            return Err(BtfError("a type is cut off"));
        }
        self.at = end;
        Ok(())
    }
}

/// The type and string sections of raw BTF, as ranges.
fn sections(raw: &[u8]) -> Result<(std::ops::Range<usize>, std::ops::Range<usize>), BtfError> {
    let word = |at: usize| {
        raw.get(at..at + 4)
            .and_then(|w| w.try_into().ok())
            .map(|w| u32::from_le_bytes(w) as usize)
            .ok_or(BtfError("the header is cut off"))
    };
    let first = word(0)?;
    if first & 0xffff != usize::from(MAGIC) {
        return Err(BtfError("wrong magic"));
    }
    if (first >> 16) & 0xff != 1 {
        return Err(BtfError("unknown version"));
    }
    let header = word(4)?;
    if header < HEADER_LEN {
        return Err(BtfError("the header is too short"));
    }
    let range = |offset: usize, len: usize| {
        let start = header + offset;
        let end = start + len;
        (end <= raw.len()).then_some(start..end).ok_or(BtfError("a section lies outside of the data"))
    };
    Ok((range(word(8)?, word(12)?)?, range(word(16)?, word(20)?)?))
}

impl Btf {
    /// Parses raw BTF. Kinds that this reader does not know end it with an error, since their length is unknown.
    pub fn parse(raw: &[u8]) -> Result<Self, BtfError> {
        let (type_range, string_range) = sections(raw)?;
        let (types_at, strings_at) = (type_range.start, string_range.start);
        let strings = raw[string_range].to_vec();
        if strings.last().is_some_and(|last| *last != 0) {
            return Err(BtfError("its strings do not end with NUL"));
        }
        let mut words = Words { bytes: &raw[type_range], at: 0 };
        let mut types = Vec::new();
        while words.at < words.bytes.len() {
            types.push(parse_type(&mut words)?);
        }
        Ok(Self { types, strings, types_at, strings_at })
    }

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
        self.resolve(id).and_then(|id| self.get(id)).is_some_and(|t| t.number == FUNC_PROTO)
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

    /// What the type `id` is; `None` for an id that is dangling, `void`, or on a circle of other names.
    pub fn shape(&self, id: u32) -> Option<Shape<'_>> {
        Some(match &self.get(self.resolve(id)?)?.kind {
            Kind::Int { size, encoding } => {
                // Bits, their offset in the word, and flags: `BTF_INT_BITS`, `_OFFSET`, `_ENCODING` of linux/btf.h.
                let [bits, _, offset, flags] = encoding.to_le_bytes();
                if size.checked_mul(8) == Some(bits.into()) && offset == 0 {
                    Shape::Int { size: *size, signed: flags & 1 != 0, boolean: flags & 4 != 0 }
                } else {
                    Shape::Other
                }
            }
            Kind::Enum { size, signed, values } => {
                Shape::Enum { size: *size, signed: *signed, values: Enumerators { btf: self, values } }
            }
            Kind::Array { element, len } => Shape::Array { element: *element, len: *len },
            Kind::Struct { union: true, .. } => Shape::Union,
            Kind::Struct { members, bitfields, .. } => {
                let member = |m: &Member| {
                    let (width, offset) =
                        if *bitfields { (m.offset >> 24, m.offset & 0x00ff_ffff) } else { (0, m.offset) };
                    StructMember {
                        name: self.name(m.name),
                        type_id: m.type_id,
                        offset,
                        bitfield: width != 0 || !offset.is_multiple_of(8),
                    }
                };
                Shape::Struct(members.iter().map(member).collect())
            }
            Kind::Ptr(target) => Shape::Pointer(*target),
            Kind::Float { .. } => Shape::Float,
            Kind::Alias { .. } | Kind::Var(_) | Kind::DataSec { .. } | Kind::Other => Shape::Other,
        })
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

    /// The layout of the type `id`; `None` where it cannot be told (a dangling id, a cycle, too many fields).
    pub fn layout(&self, id: u32) -> Option<Layout> {
        let mut out = Collected { fields: Vec::new(), visits: MAX_VISITS, paths: MAX_PATHS };
        self.collect(id, "", 0, None, MAX_DEPTH, &mut out)?;
        Some(Layout(out.fields))
    }

    fn collect(
        &self,
        id: u32,
        path: &str,
        offset: u32,
        width: Option<u32>,
        depth: usize,
        out: &mut Collected,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        out.visits = out.visits.checked_sub(1)?;
        out.paths = out.paths.checked_sub(path.len())?;
        let mut leaf = |bits: u32, kind: FieldKind| {
            let size = width.unwrap_or(bits);
            out.fields.push(Field { path: path.to_owned(), offset, size, kind, element: size });
            Some(())
        };
        let found = self.get(id)?;
        match &found.kind {
            Kind::Int { .. } | Kind::Enum { .. } | Kind::Float { .. } | Kind::Ptr(_) => {
                let (bits, kind) = self.scalar(id, MAX_DEPTH)?;
                leaf(bits, kind)
            }
            Kind::Alias { .. } if is_ordered(self.name(found.name)) => {
                leaf(self.size_bits(id, MAX_DEPTH)?, FieldKind::Ordered)
            }
            Kind::Alias { target, .. } => self.collect(*target, path, offset, width, depth, out),
            Kind::Array { element, len } => {
                let size = self.size_bits(*element, MAX_DEPTH)?;
                if let Some((_, kind)) = self.scalar(*element, MAX_DEPTH) {
                    let total = size.checked_mul(*len)?;
                    let path = format!("{path}[{len}]");
                    out.fields.push(Field { path, offset, size: total, kind, element: size });
                    return Some(());
                }
                for n in 0..*len {
                    let at = offset.checked_add(size.checked_mul(n)?)?;
                    self.collect(*element, &format!("{path}[{n}]"), at, None, depth, out)?;
                }
                Some(())
            }
            Kind::Struct { size, .. } if KERNEL_STRUCTS.contains(&self.name(found.name)) => {
                leaf(size.checked_mul(8)?, FieldKind::Kernel)
            }
            Kind::Struct { members, bitfields, .. } => {
                for member in members {
                    let (at, width) = if *bitfields {
                        let width = member.offset >> 24;
                        (member.offset & 0x00ff_ffff, (width > 0).then_some(width))
                    } else {
                        (member.offset, None)
                    };
                    let name = self.name(member.name);
                    let inner = match (path.is_empty(), name.is_empty()) {
                        (true, _) => name.to_owned(),
                        (false, true) => path.to_owned(),
                        (false, false) => format!("{path}.{name}"),
                    };
                    self.collect(member.type_id, &inner, offset.checked_add(at)?, width, depth, out)?;
                }
                Some(())
            }
            Kind::Var(target) => self.collect(*target, path, offset, None, depth, out),
            Kind::DataSec { vars, .. } => {
                for var in vars {
                    let name = self.name(self.get(var.type_id)?.name);
                    let at = offset.checked_add(var.offset.checked_mul(8)?)?;
                    self.collect(var.type_id, name, at, None, depth, out)?;
                }
                Some(())
            }
            Kind::Other => None,
        }
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

    /// Bits and kind of a type that is no struct and no array; `None` for one that is.
    fn scalar(&self, id: u32, depth: usize) -> Option<(u32, FieldKind)> {
        let depth = depth.checked_sub(1)?;
        let found = self.get(id)?;
        Some(match &found.kind {
            Kind::Int { size, encoding } => {
                // The lowest byte is the width in bits; C bitfields of old compilers make it smaller than the size.
                let bits = encoding & 0xff;
                let kind = match (encoding >> 24) & 0xf {
                    flags if flags & BTF_INT_BOOL != 0 => FieldKind::Bool,
                    flags if flags & BTF_INT_SIGNED != 0 => FieldKind::Signed,
                    _ => FieldKind::Unsigned,
                };
                (if bits == 0 { size.checked_mul(8)? } else { bits }, kind)
            }
            Kind::Enum { size, .. } => (size.checked_mul(8)?, FieldKind::Enum),
            Kind::Float { size } => (size.checked_mul(8)?, FieldKind::Float),
            Kind::Ptr(_) => (64, FieldKind::Pointer),
            Kind::Alias { target, .. } => match self.scalar(*target, depth)? {
                (bits, _) if is_ordered(self.name(found.name)) => (bits, FieldKind::Ordered),
                scalar => scalar,
            },
            Kind::Struct { .. } | Kind::Array { .. } | Kind::Var(_) | Kind::DataSec { .. } | Kind::Other => {
                return None;
            }
        })
    }
}

/// linux/types.h has names for numbers in network order, and for checksums.
fn is_ordered(name: &str) -> bool {
    ["__be16", "__be32", "__be64", "__sum16", "__wsum"].contains(&name)
}

fn parse_type(words: &mut Words<'_>) -> Result<Type, BtfError> {
    let at = words.at;
    let name = words.next()?;
    let info = words.next()?;
    let size_or_type = words.next()?;
    let vlen = (info & 0xffff) as usize;
    let number = (info >> 24) as u8 & 0x1f;
    let mut linkage = info & 0xffff;
    let flag = info >> 31 == 1;
    let kind = match number {
        1 => Kind::Int { size: size_or_type, encoding: words.next()? },
        2 => Kind::Ptr(size_or_type),
        3 => {
            let element = words.next()?;
            words.skip(1)?;
            Kind::Array { element, len: words.next()? }
        }
        kind @ (4 | 5) => {
            let mut members = Vec::new();
            for _ in 0..vlen {
                members.push(Member { name: words.next()?, type_id: words.next()?, offset: words.next()? });
            }
            Kind::Struct { size: size_or_type, members, bitfields: flag, union: kind == 5 }
        }
        6 => {
            let mut values = Vec::new();
            for _ in 0..vlen {
                let (name, value) = (words.next()?, words.next()?);
                let value = if flag { i64::from(value.cast_signed()) } else { i64::from(value) };
                values.push((name, value));
            }
            Kind::Enum { size: size_or_type, signed: flag, values }
        }
        kind @ (8..=11 | TYPE_TAG) => Kind::Alias { target: size_or_type, volatile: kind == 9 },
        13 => {
            words.skip(vlen * 2)?;
            Kind::Other
        }
        14 => {
            linkage = words.next()?;
            Kind::Var(size_or_type)
        }
        15 => {
            let mut vars = Vec::new();
            for _ in 0..vlen {
                let at = words.at;
                vars.push(SecVar { type_id: words.next()?, offset: words.next()?, size: words.next()?, at });
            }
            Kind::DataSec { size: size_or_type, vars }
        }
        16 => Kind::Float { size: size_or_type },
        7 | 12 => Kind::Other,
        17 => {
            words.skip(1)?;
            Kind::Other
        }
        19 => {
            let mut values = Vec::new();
            for _ in 0..vlen {
                let (name, low, high) = (words.next()?, words.next()?, words.next()?);
                values.push((name, (u64::from(high) << 32 | u64::from(low)).cast_signed()));
            }
            Kind::Enum { size: size_or_type, signed: flag, values }
        }
        _ => return Err(BtfError("unknown kind of type")),
    };
    // A tag is no name of its type.
    let name = if number == TYPE_TAG { 0 } else { name };
    Ok(Type { name, at, number, linkage, kind })
}

/// Rewrites what tells of things outside of the object, `.kconfig`, `.ksyms` and what is in them: the kernel refuses
/// BTF with such. What refers to those things cannot be loaded anyway, but other programs of the object can.
///
/// Their sections become structs of so many numbers, which take the same space; functions become other names of their
/// types.
fn hide_externs(
    btf: &Btf,
    types: &mut [u8],
    section_size: impl Fn(&str) -> Option<u32>,
) -> Result<(), BtfError> {
    /// `BTF_VAR_GLOBAL_EXTERN` and `BTF_FUNC_EXTERN`.
    const EXTERN: u32 = 2;
    let mut put = |at: usize, value: u32| {
        if let Some(word) = types.get_mut(at..at + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    };
    let number = btf.types.iter().zip(1..).find_map(|(t, id)| match t.kind {
        Kind::Int { size, .. } => Some((id, size)),
        _ => None,
    });
    for t in &btf.types {
        match (&t.kind, t.number) {
            (Kind::Var(_), _) if t.linkage == EXTERN => put(t.at + 12, 1),
            (_, FUNC) if t.linkage == EXTERN => put(t.at + 4, TYPEDEF << 24),
            (Kind::DataSec { size: 0, vars }, _) if section_size(btf.name(t.name)).is_none() => {
                let (id, size) = number.ok_or(BtfError("a data section has no section"))?;
                put(t.at, 0);
                put(t.at + 4, STRUCT << 24 | u32::try_from(vars.len()).unwrap_or(0));
                put(t.at + 8, size);
                for var in vars {
                    put(var.at, 0);
                    put(var.at + 4, id);
                    put(var.at + 8, 0);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes an object's BTF acceptable to the kernel.
///
/// Compilers leave the size of a data section and the offsets of its variables at zero, since only the linker or loader
/// knows them: `section_size` and `symbol_offset` look them up by name. And the kernel takes identifiers as names
/// (`btf_name_valid_identifier` in kernel/bpf/btf.c), while Rust's generic types and redbpf's sections have others:
/// every other character becomes `_`, except in the names of numbers, which may be any.
pub(super) fn make_loadable(
    raw: &mut [u8],
    section_size: impl Fn(&str) -> Option<u32>,
    symbol_offset: impl Fn(&str) -> Option<u32>,
) -> Result<(), BtfError> {
    let btf = Btf::parse(raw)?;
    let (type_range, string_range) = sections(raw)?;
    hide_externs(&btf, &mut raw[type_range.clone()], &section_size)?;
    let btf = Btf::parse(raw)?;
    let mut put = |at: usize, value: u32| {
        if let Some(word) = raw.get_mut(type_range.start + at..type_range.start + at + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    };
    for t in &btf.types {
        let Kind::DataSec { size, vars } = &t.kind else { continue };
        if *size == 0 {
            let size = section_size(btf.name(t.name)).ok_or(BtfError("a data section has no section"))?;
            put(t.at + 8, size);
        }
        let mut placed: Vec<(u32, u32, u32)> = vars
            .iter()
            .map(|var| {
                let name = btf.get(var.type_id).map(|v| btf.name(v.name)).unwrap_or_default();
                (symbol_offset(name).unwrap_or(var.offset), var.type_id, var.size)
            })
            .collect();
        // The kernel takes them in the order of their offsets only.
        placed.sort_unstable();
        for (var, (offset, type_id, size)) in vars.iter().zip(placed) {
            put(var.at, type_id);
            put(var.at + 4, offset);
            put(var.at + 8, size);
        }
    }
    // Names may share their ends, and each byte is looked at once.
    let names: BTreeSet<u32> = btf.types.iter().filter(|t| !t.is_number()).flat_map(Type::names).collect();
    let strings = &mut raw[string_range];
    let mut done = 0;
    for name in names {
        let name = name as usize;
        if name < done {
            continue;
        }
        done = name;
        for byte in strings.iter_mut().skip(name).take_while(|b| **b != 0) {
            if !byte.is_ascii_alphanumeric() && *byte != b'.' {
                *byte = b'_';
            }
            done += 1;
        }
    }
    Ok(())
}

impl Type {
    /// Names of numbers may hold spaces: `unsigned int`.
    fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Int { .. } | Kind::Float { .. })
    }

    /// The offsets of its own name and of its members' names.
    fn names(&self) -> impl Iterator<Item = u32> {
        let members = match &self.kind {
            Kind::Struct { members, .. } => &**members,
            _ => &[],
        };
        std::iter::once(self.name).chain(members.iter().map(|m| m.name))
    }
}
