//! What a type is, one level deep: for reading and writing values piece by piece.

use super::{Btf, Kind, Member};

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

impl Btf {
    /// What the type `id` is; `None` for an id that is dangling, `void`, or on a circle of other names.
    pub fn shape(&self, id: u32) -> Option<Shape<'_>> {
        Some(match &self.get(self.resolve(id)?)?.kind {
            Kind::Int { size, bits, offset: 0, signed, boolean }
                if size.checked_mul(8) == Some(u32::from(*bits)) =>
            {
                Shape::Int { size: *size, signed: *signed, boolean: *boolean }
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
            Kind::Int { .. } | Kind::Alias { .. } | Kind::Var(_) | Kind::DataSec { .. } | Kind::Other => {
                Shape::Other
            }
        })
    }
}
