//! From a value of the file to the bytes of a type.

use xdpd_config::{Located, Span, Value, suggest};

use super::super::btf::Btf;
use super::address::Family;
use super::{Integer, MAX_DEPTH, Member, Type, TypeProblem, describe};

/// The bytes that `value` is in the type `type_id`. Padding is zero.
///
/// # Errors
///
/// The first part of the value that is none of its part of the type, in the order of the file.
pub fn encode(btf: &Btf, type_id: u32, value: &Located<Value>) -> Result<Vec<u8>, TypeProblem> {
    // Asked before the size, since it knows why a type will not do.
    if let Err(what) = Type::of(btf, type_id) {
        return Err(refused(btf, type_id, &value.span, &what));
    }
    let size = btf.size(type_id).and_then(|size| usize::try_from(size).ok());
    let Some(size) = size else {
        return Err(refused(btf, type_id, &value.span, "a type of unknown size"));
    };
    let mut bytes = vec![0; size];
    put(btf, type_id, value, &mut bytes, MAX_DEPTH)?;
    Ok(bytes)
}

fn refused(btf: &Btf, type_id: u32, span: &Span, what: &str) -> TypeProblem {
    let found = format!("`{}`: {what}", describe(btf, type_id));
    TypeProblem::new(span, "a type that the file can set", found)
}

fn put(btf: &Btf, id: u32, value: &Located<Value>, out: &mut [u8], depth: usize) -> Result<(), TypeProblem> {
    let refuse = |what: &str| refused(btf, id, &value.span, what);
    let depth = depth.checked_sub(1).ok_or_else(|| refuse("it is too deep"))?;
    let wrong = |expected: &str| {
        let expected = format!("{expected} (`{}`)", describe(btf, id));
        TypeProblem::new(&value.span, expected, found(&value.value))
    };
    let store = |bytes: &[u8], out: &mut [u8]| {
        if out.len() == bytes.len() {
            out.copy_from_slice(bytes);
            Ok(())
        } else {
            Err(refuse("its BTF contradicts itself"))
        }
    };
    let kind = Type::of(btf, id).map_err(|what| refuse(&what))?;
    match (&kind, &value.value) {
        (Type::Boolean, Value::Boolean(truth)) => store(&[u8::from(*truth)], out),
        (Type::Enum { integer, values }, Value::String(name)) => {
            let Some((_, number)) = values.iter().find(|(known, _)| known == name) else {
                let near = suggest(name, values.iter().map(|(name, _)| name));
                let help = near.map(|near| format!("did you mean \"{near}\"?"));
                return Err(TypeProblem { help, ..wrong(&kind.expected()) });
            };
            store(&integer.cut(number.cast_unsigned().into()), out)
        }
        (Type::Integer(integer) | Type::Enum { integer, .. }, value) => {
            match (integer.read(value), value, integer.size) {
                (Some(bytes), ..) => store(&bytes, out),
                (None, Value::String(text), 4) if !integer.signed => match Family::V4.parse(text) {
                    Some(bytes) => store(&bytes, out),
                    None => Err(wrong(&kind.expected())),
                },
                (None, Value::Boolean(truth), _) => {
                    let help = Some(format!("write {} for {truth}", u8::from(*truth)));
                    Err(TypeProblem { help, ..wrong(&kind.expected()) })
                }
                _ => Err(wrong(&kind.expected())),
            }
        }
        (Type::Text { .. }, Value::String(text)) => {
            if text.contains('\0') {
                return Err(TypeProblem::new(&value.span, "a string without NUL", "one that holds NUL"));
            }
            // What is left stays zero: the NUL that ends it.
            match out.get_mut(..text.len()).filter(|head| head.len() < out_len(&kind)) {
                Some(head) => head.copy_from_slice(text.as_bytes()),
                None => return Err(wrong(&kind.expected())),
            }
            Ok(())
        }
        (Type::Address(family) | Type::Array { address: Some(family), .. }, Value::String(text)) => {
            match family.parse(text) {
                Some(bytes) => store(&bytes, out),
                None => Err(wrong(&kind.expected())),
            }
        }
        (Type::Text { len }, Value::Array(values)) => {
            let integer = Integer { size: 1, signed: true, big_endian: false, address: false };
            if values.len() != *len as usize || out.len() != values.len() {
                return Err(wrong(&kind.expected()));
            }
            for (n, (value, byte)) in values.iter().zip(out).enumerate() {
                let Some(&[read]) = integer.read(&value.value).as_deref() else {
                    let expected = Type::Integer(integer).expected();
                    return Err(TypeProblem::new(&value.span, expected, found(&value.value))
                        .within(&format!("[{n}]")));
                };
                *byte = read;
            }
            Ok(())
        }
        (Type::Array { element, len, .. }, Value::Array(values)) => {
            if values.len() != *len as usize {
                return Err(wrong(&kind.expected()));
            }
            let size = btf.size(*element).unwrap_or(0) as usize;
            if size.checked_mul(values.len()) != Some(out.len()) {
                return Err(refuse("its BTF contradicts itself"));
            }
            for (n, value) in values.iter().enumerate() {
                put(btf, *element, value, &mut out[n * size..(n + 1) * size], depth)
                    .map_err(|problem| problem.within(&format!("[{n}]")))?;
            }
            Ok(())
        }
        (Type::Struct(members), Value::Table(entries)) => {
            let parts = pair(members, entries, &value.span, || describe(btf, id))?;
            for (member, value) in parts {
                let size = btf.size(member.type_id).unwrap_or(0) as usize;
                let place = member.offset..member.offset + size;
                let out = out.get_mut(place).ok_or_else(|| refuse("its BTF contradicts itself"))?;
                put(btf, member.type_id, value, out, depth)
                    .map_err(|problem| problem.within(&format!(".{}", member.name)))?;
            }
            Ok(())
        }
        _ => Err(wrong(&kind.expected())),
    }
}

/// The room for text, with its NUL.
fn out_len(kind: &Type<'_>) -> usize {
    match kind {
        Type::Text { len } => *len as usize,
        _ => 0,
    }
}

/// Each entry of a table with the member that it sets; all members, and nothing else.
fn pair<'t>(
    members: &'t [Member<'t>],
    entries: &'t [(Located<String>, Located<Value>)],
    span: &Span,
    describe: impl Fn() -> String,
) -> Result<Vec<(&'t Member<'t>, &'t Located<Value>)>, TypeProblem> {
    let mut parts: Vec<(&Member<'_>, &Located<Value>)> = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let Some(member) = members.iter().find(|member| member.name == name.value) else {
            let near = suggest(&name.value, members.iter().map(|member| member.name));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            let expected = format!("a member of `{}`", describe());
            return Err(TypeProblem {
                help,
                ..TypeProblem::new(&name.span, expected, format!("`{}`", name.value))
            });
        };
        if parts.iter().any(|(other, _)| std::ptr::eq(*other, member)) {
            let found = format!("`{}` twice", name.value);
            return Err(TypeProblem::new(&name.span, "every member once", found));
        }
        parts.push((member, value));
    }
    let missing: Vec<String> = members
        .iter()
        .filter(|member| !parts.iter().any(|(other, _)| std::ptr::eq(*other, *member)))
        .map(|member| format!("`{}`", member.name))
        .collect();
    if missing.is_empty() {
        return Ok(parts);
    }
    let expected = format!("every member of `{}`", describe());
    Err(TypeProblem::new(span, expected, format!("a table without {}", missing.join(", "))))
}

/// A value as a message says what is there.
fn found(value: &Value) -> String {
    match value {
        Value::Integer(_) | Value::Boolean(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= 40 => value.to_string(),
        Value::String(text) => format!("a string of {} bytes", text.len()),
        Value::Array(elements) => format!("an array of {}", count(elements.len(), "element")),
        Value::Table(_) => "a table".to_owned(),
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

impl Type<'_> {
    /// What it takes, for people.
    fn expected(&self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Integer(integer) => integer.expected(),
            Self::Enum { integer, values } if values.iter().len() <= 8 => {
                let mut names: Vec<String> = values.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                names.push(integer.expected());
                format!("one of {}", names.join(", "))
            }
            Self::Enum { integer, .. } => format!("the name of one of its values, or {}", integer.expected()),
            Self::Text { len } => {
                let most = len.saturating_sub(1) as usize;
                format!("a string of at most {}, which leaves room for its NUL", count(most, "byte"))
            }
            Self::Address(family) => family.expected().to_owned(),
            Self::Array { len, address, .. } => {
                let array = format!("an array of {}", count(*len as usize, "element"));
                match address {
                    Some(family) => format!("{} or {array}", family.expected()),
                    None => array,
                }
            }
            Self::Struct(_) => "a table".to_owned(),
        }
    }
}

impl Integer {
    /// The bytes of a number of this type; `None` for one out of its range, or what is no number.
    fn read(self, value: &Value) -> Option<Vec<u8>> {
        let (negative, magnitude) = match value {
            Value::Integer(number) => (*number < 0, u128::from(number.unsigned_abs())),
            Value::String(text) if self.size >= 8 => parse(text)?,
            _ => return None,
        };
        let bits = self.size * 8;
        let half = 1u128 << (bits - 1);
        let fits = match (self.signed, negative) {
            (true, true) => magnitude <= half,
            (true, false) => magnitude < half,
            (false, true) => magnitude == 0,
            (false, false) => bits == 128 || magnitude >> bits == 0,
        };
        let number = if negative { magnitude.wrapping_neg() } else { magnitude };
        fits.then(|| self.cut(number))
    }

    /// The low bytes of a number, in the order of this type.
    fn cut(self, number: u128) -> Vec<u8> {
        let mut bytes = number.to_le_bytes()[..self.size as usize].to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    fn expected(self) -> String {
        let bits = self.size * 8;
        let numbers = match (self.signed, bits) {
            (true, 128) => "an integer of 128 bits, in quotes where it is large".to_owned(),
            (false, 128) => "an integer of 128 bits from 0, in quotes where it is large".to_owned(),
            (false, 64) => format!("an integer from 0 to {}, in quotes where it is large", u64::MAX),
            (true, _) => {
                format!("an integer from {} to {}", -(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
            }
            (false, _) => format!("an integer from 0 to {}", (1u128 << bits) - 1),
        };
        let address = Family::V4.expected();
        if self.address { format!("{address} or {numbers}") } else { numbers }
    }
}

/// A number in TOML's spelling: whether it is negative, and how large.
fn parse(text: &str) -> Option<(bool, u128)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, digits),
    };
    let digits = digits.replace('_', "");
    let sound = digits.chars().all(|c| c.is_digit(radix));
    sound.then(|| u128::from_str_radix(&digits, radix).ok()).flatten().map(|number| (negative, number))
}
