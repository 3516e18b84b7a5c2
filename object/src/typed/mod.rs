//! Values of the file as bytes of the type that BTF describes, and back.
//!
//! | type | value |
//! |---|---|
//! | integer | an integer in its range; of 8 bytes or more, also a string with one: `"0xffffffffffffffff"` |
//! | `__be16`, `__be32`, `__be64` | an integer, stored with its highest byte first |
//! | `bool` | a boolean |
//! | enumeration | the name of one of its values, or an integer |
//! | array of `char` (of Rust: of `i8`) | a string, which is filled up with NUL and leaves room for one; or an array |
//! | array | an array of as many elements |
//! | struct | a table with all its members |
//! | `__be32`, other unsigned integers of 4 bytes, `in_addr`, 4 bytes | also an IPv4 address |
//! | `in6_addr`, 16 bytes | also an IPv6 address |
//! | 6 bytes | also a MAC address |
//!
//! Addresses are stored as they are sent: in network byte order, whatever the type says. Bytes are arrays of unsigned
//! integers of one byte. Everything else is refused by its name: unions, pointers, bitfields, floats.

mod address;
mod decode;
mod describe;
mod encode;
#[cfg(test)]
mod tests;

use std::fmt;

use xdpd_config::{Diagnostic, Span};

use super::btf::{Btf, Enumerators, Shape};
use address::Family;

pub use decode::decode;
pub use describe::describe;
pub use encode::encode;

/// Types deeper than this are refused: real ones are a few levels deep, mangled BTF may be a cycle.
const MAX_DEPTH: usize = 16;
/// Types larger than this are refused, in bytes: nothing that a file sets comes close.
const MAX_SIZE: u32 = 16 << 20;
/// Structs with more members are refused, those of structs without a name counted in.
const MAX_MEMBERS: usize = 1024;

/// Why a value is none of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeProblem {
    /// The part of the value.
    pub span: Span,
    /// Where that part is in the value, `.addr[3]`; empty for the value itself.
    pub path: String,
    /// What would do, with the name of the type.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl TypeProblem {
    fn new(span: &Span, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self { span: span.clone(), path: String::new(), expected, found, help: None }
    }

    /// The same problem, of a part of a larger value.
    fn within(mut self, part: &str) -> Self {
        self.path.insert_str(0, part);
        self
    }

    /// The problem as an error in the file; `what` names the whole value.
    pub fn diagnostic(&self, what: &str) -> Diagnostic {
        let message = format!("{what}{}: expected {}", self.path, self.expected);
        let diagnostic =
            Diagnostic::new(message).at(self.span.clone()).label(format!("found {}", self.found));
        match &self.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}

impl fmt::Display for TypeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

/// A type by the values that it takes.
#[derive(Debug)]
enum Type<'a> {
    Integer(Integer),
    Boolean,
    Enum {
        integer: Integer,
        values: Enumerators<'a>,
    },
    /// An array of characters.
    Text {
        len: u32,
    },
    /// A struct that is an address as a whole.
    Address(Family),
    Array {
        element: u32,
        len: u32,
        address: Option<Family>,
    },
    Struct(Vec<Member<'a>>),
}

#[derive(Debug, Clone, Copy)]
struct Integer {
    /// Bytes.
    size: u32,
    signed: bool,
    big_endian: bool,
    /// Its values are addresses in the first place.
    address: bool,
}

#[derive(Debug)]
struct Member<'a> {
    name: &'a str,
    type_id: u32,
    /// Bytes from the start.
    offset: usize,
}

impl<'a> Type<'a> {
    /// Err: what it is that takes no value.
    fn of(btf: &'a Btf, id: u32) -> Result<Self, String> {
        let shape = btf.shape(id).ok_or("a type that its BTF does not describe")?;
        let size = btf.size(id);
        if size.is_some_and(|size| size > MAX_SIZE) {
            return Err(format!("a type of more than {} MiB", MAX_SIZE >> 20));
        }
        let names = btf.names(id);
        match shape {
            Shape::Int { size: 1, boolean: true, .. } => Ok(Self::Boolean),
            Shape::Int { size: size @ (1 | 2 | 4 | 8 | 16), signed, .. } => {
                let big_endian = names.iter().any(|name| ["__be16", "__be32", "__be64"].contains(name));
                let address = names.contains(&"__be32");
                Ok(Self::Integer(Integer { size, signed, big_endian, address }))
            }
            Shape::Enum { size: size @ (1 | 2 | 4 | 8), signed, values } => {
                let integer = Integer { size, signed, big_endian: false, address: false };
                Ok(Self::Enum { integer, values })
            }
            Shape::Array { element, len } => {
                let bytes = match btf.shape(element) {
                    Some(Shape::Int { size: 1, boolean: false, signed }) => Some(signed),
                    _ => None,
                };
                let is_text = btf.names(element).last().is_some_and(|name| ["char", "i8"].contains(name));
                match bytes {
                    Some(_) if is_text => Ok(Self::Text { len }),
                    Some(false) => Ok(Self::Array { element, len, address: Family::of_bytes(len) }),
                    _ => Ok(Self::Array { element, len, address: None }),
                }
            }
            Shape::Struct(_) => {
                if let Some(family) = Family::of_struct(&names).filter(|f| size == Some(f.len())) {
                    return Ok(Self::Address(family));
                }
                let mut members = Vec::new();
                let mut left = MAX_MEMBERS;
                flatten(btf, id, 0, MAX_DEPTH, &mut left, &mut members)?;
                Ok(Self::Struct(members))
            }
            Shape::Union => Err("a union, which the file cannot set".into()),
            Shape::Pointer(_) => Err("a pointer, which the file cannot set".into()),
            Shape::Float => Err("a floating-point number, which the file cannot set".into()),
            Shape::Int { .. } | Shape::Enum { .. } | Shape::Other => {
                Err("a type that the file cannot set".into())
            }
        }
    }
}

/// The members of a struct, those of anonymous structs in it among them.
fn flatten<'a>(
    btf: &'a Btf,
    id: u32,
    base: usize,
    depth: usize,
    left: &mut usize,
    members: &mut Vec<Member<'a>>,
) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("a struct that is too deep")?;
    let Some(Shape::Struct(found)) = btf.shape(id) else {
        return Err("a struct with an anonymous union, which the file cannot set".into());
    };
    for member in found {
        *left = left.checked_sub(1).ok_or("a struct with too many members")?;
        if member.bitfield {
            return Err(format!("a struct with the bitfield `{}`, which the file cannot set", member.name));
        }
        let offset = base + (member.offset / 8) as usize;
        if member.name.is_empty() {
            flatten(btf, member.type_id, offset, depth, left, members)?;
        } else {
            members.push(Member { name: member.name, type_id: member.type_id, offset });
        }
    }
    Ok(())
}
