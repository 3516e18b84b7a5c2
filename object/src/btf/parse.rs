//! From bytes to types.

use std::ops::Range;

use super::{Btf, BtfError, Kind, Member, SecVar, Type, kind};

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// `BTF_INT_SIGNED` and `BTF_INT_BOOL` of linux/btf.h.
const INT_SIGNED: u8 = 1;
const INT_BOOL: u8 = 1 << 2;

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
pub(super) fn sections(raw: &[u8]) -> Result<(Range<usize>, Range<usize>), BtfError> {
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
        kind::INT => {
            // `BTF_INT_BITS`, `BTF_INT_OFFSET` and `BTF_INT_ENCODING` of linux/btf.h.
            let [bits, _, offset, flags] = words.next()?.to_le_bytes();
            let (signed, boolean) = (flags & INT_SIGNED != 0, flags & INT_BOOL != 0);
            Kind::Int { size: size_or_type, bits, offset, signed, boolean }
        }
        kind::PTR => Kind::Ptr(size_or_type),
        kind::ARRAY => {
            let element = words.next()?;
            words.skip(1)?;
            Kind::Array { element, len: words.next()? }
        }
        kind::STRUCT | kind::UNION => {
            let mut members = Vec::new();
            for _ in 0..vlen {
                members.push(Member { name: words.next()?, type_id: words.next()?, offset: words.next()? });
            }
            Kind::Struct { size: size_or_type, members, bitfields: flag, union: number == kind::UNION }
        }
        kind::ENUM => {
            let mut values = Vec::new();
            for _ in 0..vlen {
                let (name, value) = (words.next()?, words.next()?);
                let value = if flag { i64::from(value.cast_signed()) } else { i64::from(value) };
                values.push((name, value));
            }
            Kind::Enum { size: size_or_type, signed: flag, values }
        }
        kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
            Kind::Alias { target: size_or_type, volatile: number == kind::VOLATILE }
        }
        kind::FUNC_PROTO => {
            words.skip(vlen * 2)?;
            Kind::Other
        }
        kind::VAR => {
            linkage = words.next()?;
            Kind::Var(size_or_type)
        }
        kind::DATASEC => {
            let mut vars = Vec::new();
            for _ in 0..vlen {
                let at = words.at;
                vars.push(SecVar { type_id: words.next()?, offset: words.next()?, size: words.next()?, at });
            }
            Kind::DataSec { size: size_or_type, vars }
        }
        kind::FLOAT => Kind::Float { size: size_or_type },
        kind::FWD | kind::FUNC => Kind::Other,
        kind::DECL_TAG => {
            words.skip(1)?;
            Kind::Other
        }
        kind::ENUM64 => {
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
    let name = if number == kind::TYPE_TAG { 0 } else { name };
    Ok(Type { name, at, number, linkage, kind })
}
