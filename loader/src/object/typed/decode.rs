//! From the bytes of a type to a value, for showing what is in the kernel.

use xdpd_config::{Located, Value, hex};

use super::super::btf::Btf;
use super::address::Family;
use super::{Integer, MAX_DEPTH, Type};

/// The value that `bytes` are in the type `type_id`, in the form that is the same for all values that [`encode`] makes
/// these bytes of.
///
/// What no value is made into is shown as a string of hexadecimal digits: bytes of unions, pointers, and so on.
///
/// [`encode`]: super::encode
pub fn decode(btf: &Btf, type_id: u32, bytes: &[u8]) -> Value {
    // Mangled BTF may hold types of no size in any number, and any number of names for one byte.
    let mut work = bytes.len() * 64 + (64 << 10);
    show(btf, type_id, bytes, MAX_DEPTH, &mut work).unwrap_or_else(|| digits(bytes))
}

fn digits(bytes: &[u8]) -> Value {
    Value::String(format!("0x{}", hex(bytes)))
}

/// `None`: it cannot be told, or has cost too much work.
fn show(btf: &Btf, id: u32, bytes: &[u8], depth: usize, work: &mut usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let kind = Type::of(btf, id).ok()?;
    let cost = match &kind {
        Type::Enum { values, .. } => 1 + values.iter().len(),
        Type::Struct(members) => 1 + members.len(),
        _ => 1,
    };
    let Some(left) = work.checked_sub(cost) else {
        *work = 0;
        return None;
    };
    *work = left;
    let mut part = |id: u32, bytes: &[u8]| {
        let shown = show(btf, id, bytes, depth, work);
        // When it is used up, all of the value is shown as bytes.
        if *work == 0 { None } else { Some(shown.unwrap_or_else(|| digits(bytes)).unplaced()) }
    };
    match kind {
        Type::Boolean => match bytes {
            [0] => Some(Value::Boolean(false)),
            [1] => Some(Value::Boolean(true)),
            _ => None,
        },
        Type::Integer(integer) => integer.show(bytes),
        Type::Enum { integer, values } => {
            let name = values.iter().find(|(_, value)| integer.holds(bytes, *value));
            name.map_or_else(|| integer.show(bytes), |(name, _)| Some(Value::String(name.to_owned())))
        }
        Type::Address(family) | Type::Array { address: Some(family), .. } => {
            family.format(bytes).map(Value::String)
        }
        Type::Text { .. } => {
            let end = bytes.iter().position(|byte| *byte == 0);
            let text = end.filter(|end| bytes[*end..].iter().all(|byte| *byte == 0));
            if let Some(text) = text.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()) {
                return Some(Value::String(text.to_owned()));
            }
            let byte = |byte: &u8| Value::Integer(byte.cast_signed().into()).unplaced();
            Some(Value::Array(bytes.iter().map(byte).collect()))
        }
        Type::Array { element, len, .. } => {
            let size = btf.size(element).filter(|size| *size > 0)? as usize;
            if size.checked_mul(len as usize) != Some(bytes.len()) {
                return None;
            }
            Some(Value::Array(bytes.chunks(size).map(|bytes| part(element, bytes)).collect::<Option<_>>()?))
        }
        Type::Struct(members) => {
            let mut shown = Vec::with_capacity(members.len());
            for member in members {
                let size = btf.size(member.type_id)? as usize;
                let value = part(member.type_id, bytes.get(member.offset..member.offset + size)?)?;
                shown.push((Located { value: member.name.to_owned(), span: 0..0 }, value));
            }
            Some(Value::Table(shown))
        }
    }
}

impl Integer {
    fn show(self, bytes: &[u8]) -> Option<Value> {
        if self.address {
            return Family::V4.format(bytes).map(Value::String);
        }
        let number = self.number(bytes)?;
        let negative = self.signed && number >> (self.size * 8 - 1) & 1 == 1;
        let (text, small) = if negative {
            let unused = 128 - self.size * 8;
            let number = (number << unused).cast_signed() >> unused;
            (number.to_string(), i64::try_from(number))
        } else {
            (number.to_string(), i64::try_from(number))
        };
        Some(small.map_or(Value::String(text), Value::Integer))
    }

    /// Whether the bytes are this value of an enumeration.
    fn holds(self, bytes: &[u8], value: i64) -> bool {
        let unused = 128 - self.size * 8;
        self.number(bytes).is_some_and(|n| n == u128::from(value.cast_unsigned()) << unused >> unused)
    }

    fn number(self, bytes: &[u8]) -> Option<u128> {
        let mut bytes = bytes.get(..self.size as usize)?.to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        bytes.resize(16, 0);
        Some(u128::from_le_bytes(bytes.try_into().ok()?))
    }
}
