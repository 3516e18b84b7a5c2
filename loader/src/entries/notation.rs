//! How the entries of one map are written: from the file's values to the bytes of the map, and back for people.

use std::fmt;
use std::net::Ipv4Addr;

use xdpd_config::entries::Cell;
use xdpd_config::{Entry, EntryValue, Located, Span, Value};
use xdpd_kernel::{MapDef, ValueLayout};

use super::{BPF_MAP_TYPE_LPM_TRIE, plain, prefix};
use crate::object::typed::{TypeProblem, decode, describe, encode};
use crate::object::{Btf, MapSpec, Shape};

/// The types of a map's key and value, and the way in which the file writes them.
pub struct Notation {
    btf: Btf,
    key: u32,
    value: u32,
    def: MapDef,
    /// Keys are prefixes of addresses.
    prefixes: bool,
    /// Keys of 4 bytes are written as addresses.
    addresses: bool,
}

impl Notation {
    /// The notation of a map whose types are in `btf`. Where an object describes none, or none of these sizes, keys and
    /// values are numbers of their size, or else bytes. `entries` tell whether numbers are meant as addresses.
    pub fn of(spec: &MapSpec, btf: Option<&[u8]>, entries: &[Entry]) -> Option<Self> {
        let def = spec.def;
        let described = btf.zip(spec.btf).and_then(|(raw, (key, value))| {
            let btf = Btf::parse(raw).ok()?;
            let fits = btf.size(key) == Some(def.key_size) && btf.size(value) == Some(def.value_size);
            fits.then_some((btf, key, value))
        });
        let is_described = described.is_some();
        let (btf, key, value) = described.or_else(|| plain::types(def.key_size, def.value_size))?;
        let of_address = |entry: &Entry| match &entry.key.value {
            Value::String(text) => text.parse::<Ipv4Addr>().is_ok(),
            _ => false,
        };
        let prefixes = def.map_type == BPF_MAP_TYPE_LPM_TRIE
            && prefix::is_address(def.key_size)
            && (!is_described || is_prefix(&btf, key));
        let addresses = def.key_size == 4 && entries.iter().any(of_address);
        Some(Self { btf, key, value, def, prefixes, addresses })
    }

    /// The bytes of a key.
    pub fn key(&self, key: &Located<Value>) -> Result<Vec<u8>, TypeProblem> {
        let bytes = match &key.value {
            Value::String(text) if self.prefixes => {
                prefix::parse(text, self.def.key_size).ok_or_else(|| self.no_prefix(key))?
            }
            Value::Integer(_) | Value::Boolean(_) if self.prefixes => return Err(self.no_prefix(key)),
            Value::String(text) => self.encode_text(self.key, text, &key.span)?,
            _ => encode(&self.btf, self.key, key)?,
        };
        if self.def.map_type == BPF_MAP_TYPE_LPM_TRIE {
            self.check_prefix(&bytes, &key.span)?;
        }
        Ok(bytes)
    }

    fn no_prefix(&self, key: &Located<Value>) -> TypeProblem {
        problem(&key.span, prefix::expected(self.def.key_size), key.value.to_string())
    }

    /// A prefix is not longer than its bits, and has none behind it.
    fn check_prefix(&self, key: &[u8], span: &Span) -> Result<(), TypeProblem> {
        let Some(masked) = prefix::masked(key) else {
            let bits = self.def.key_size.saturating_sub(4) * 8;
            return Err(problem(span, &format!("a prefix of at most {bits} bits"), "a longer one".into()));
        };
        if masked == key {
            return Ok(());
        }
        let help = Some(format!("the prefix is {}", Text(&self.show_key(&masked))));
        let found = format!("bits behind it: {}", Text(&self.show_key(key)));
        Err(TypeProblem { help, ..problem(span, "a prefix without bits behind its length", found) })
    }

    /// The bytes of one value; `default` are those of entries that have none of their own, which are at `span`.
    pub fn value(
        &self,
        value: &EntryValue,
        default: Option<&[u8]>,
        span: &Span,
    ) -> Result<Vec<u8>, TypeProblem> {
        match (value, default) {
            (EntryValue::Typed(value), _) => self.typed_value(value),
            (EntryValue::Default, Some(default)) => Ok(default.to_vec()),
            (EntryValue::Default, None) => self.presence(span),
            (EntryValue::Cells(cells), _) => self.cells(cells),
        }
    }

    /// The bytes of a value as TOML and JSON write it.
    pub fn typed_value(&self, value: &Located<Value>) -> Result<Vec<u8>, TypeProblem> {
        encode(&self.btf, self.value, value)
    }

    /// What stands for "it is in the list" where only that matters.
    fn presence(&self, span: &Span) -> Result<Vec<u8>, TypeProblem> {
        let one = match self.btf.shape(self.value) {
            Some(Shape::Int { boolean: true, .. }) => Value::Boolean(true),
            Some(Shape::Int { .. }) => Value::Integer(1),
            _ => {
                let expected = format!("a value (`{}`)", describe(&self.btf, self.value));
                let help = Some("`value = …` beside `entries` is that of all entries without one".to_owned());
                return Err(TypeProblem { help, ..problem(span, &expected, "a key alone".to_owned()) });
            }
        };
        encode(&self.btf, self.value, &Located { value: one, span: span.clone() })
    }

    /// Cells are the members of a struct, or one is the value itself.
    fn cells(&self, cells: &[Cell]) -> Result<Vec<u8>, TypeProblem> {
        let span = match (cells.first(), cells.last()) {
            (Some(first), Some(last)) => first.text.span.start..last.text.span.end,
            _ => 0..0,
        };
        let members = match self.btf.shape(self.value) {
            Some(Shape::Struct(members)) => members,
            _ => Vec::new(),
        };
        match cells {
            [Cell { name: None, text }] => {
                let whole = self.encode_text(self.value, &text.value, &text.span);
                if members.len() != 1 || whole.is_ok() {
                    return whole;
                }
            }
            _ if members.is_empty() => {
                let expected = format!("one column for the value (`{}`)", describe(&self.btf, self.value));
                return Err(problem(&span, &expected, format!("{} columns of members", cells.len())));
            }
            _ => {}
        }
        let mut table = Vec::with_capacity(cells.len());
        for (n, cell) in cells.iter().enumerate() {
            let Some(name) = cell.name.as_deref().or(members.get(n).map(|member| member.name)) else {
                let expected =
                    format!("{} columns of members (`{}`)", members.len(), describe(&self.btf, self.value));
                return Err(problem(&span, &expected, cells.len().to_string()));
            };
            let written = &cell.text;
            let kind = members.iter().find(|member| member.name == name).map(|member| member.type_id);
            let value = kind
                .and_then(|kind| {
                    readings(&written.value)
                        .find(|value| encode(&self.btf, kind, &value.clone().unplaced()).is_ok())
                })
                .unwrap_or_else(|| Value::String(written.value.clone()));
            table.push((
                Located { value: name.to_owned(), span: written.span.clone() },
                Located { value, span: written.span.clone() },
            ));
        }
        encode(&self.btf, self.value, &Located { value: Value::Table(table), span })
    }

    /// The bytes of what a text stands for: a number, where the type takes it.
    fn encode_text(&self, type_id: u32, text: &str, span: &Span) -> Result<Vec<u8>, TypeProblem> {
        let mut first = None;
        for value in readings(text) {
            match encode(&self.btf, type_id, &Located { value, span: span.clone() }) {
                Ok(bytes) => return Ok(bytes),
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        Err(first.unwrap_or_else(|| problem(span, "a value", "none".to_owned())))
    }

    /// A key as the file would write it.
    pub fn show_key(&self, key: &[u8]) -> Value {
        let address = || {
            let bytes = <[u8; 4]>::try_from(key).ok().filter(|_| self.addresses)?;
            Some(Ipv4Addr::from(bytes).to_string())
        };
        let text = if self.prefixes { prefix::format(key) } else { address() };
        text.map_or_else(|| decode(&self.btf, self.key, key), Value::String)
    }

    /// A value as the file would write it: of a per-CPU map an array, where CPUs differ.
    pub fn show_value(&self, value: &[u8]) -> Value {
        let values = ValueLayout::of_len(&self.def, value.len()).bare_values(value);
        let first = values.clone().next().unwrap_or(value);
        if values.clone().all(|value| value == first) {
            return decode(&self.btf, self.value, first);
        }
        Value::Array(values.map(|value| decode(&self.btf, self.value, value).unplaced()).collect())
    }

    /// What keys are sorted by where people read them.
    pub fn order(&self, key: &[u8]) -> Vec<u8> {
        if self.prefixes {
            return prefix::order(key);
        }
        match self.btf.shape(self.key) {
            // The lowest byte of a number comes first, but not that of an address.
            Some(Shape::Int { .. }) if !self.addresses => key.iter().rev().copied().collect(),
            _ => key.to_vec(),
        }
    }
}

/// The length of a prefix, and the bits as one member.
fn is_prefix(btf: &Btf, key: u32) -> bool {
    match btf.shape(key) {
        Some(Shape::Struct(members)) => {
            matches!(&*members, [len, bits] if btf.size(len.type_id) == Some(4) && bits.offset == 32)
        }
        _ => false,
    }
}

/// What a text may stand for: a number or a truth where it is the text of one, and else itself.
fn readings(text: &str) -> impl Iterator<Item = Value> {
    let plain = Value::parse(text).filter(|value| matches!(value, Value::Integer(_) | Value::Boolean(_)));
    plain.into_iter().chain([Value::String(text.to_owned())])
}

fn problem(span: &Span, expected: &str, found: String) -> TypeProblem {
    TypeProblem { span: span.clone(), path: String::new(), expected: expected.to_owned(), found, help: None }
}

/// A value as people read it: strings without quotes.
pub struct Text<'a>(pub &'a Value);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => f.write_str(text),
            other => other.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH};
    use super::*;
    use crate::object::MapOrigin;

    /// A map whose object does not describe its types.
    fn plain(map_type: u32, key_size: u32, value_size: u32, entries: &[Entry]) -> Notation {
        let def = MapDef { map_type, key_size, value_size, max_entries: 8, flags: 0, map_extra: 0 };
        let spec = MapSpec::plain(def, MapOrigin::Declared);
        Notation::of(&spec, None, entries).unwrap()
    }

    fn text(text: &str) -> Located<Value> {
        Value::String(text.to_owned()).unplaced()
    }

    fn key_alone(key: Located<Value>) -> Entry {
        Entry { key, value: EntryValue::Default }
    }

    #[test]
    fn keys_are_shown_as_they_are_written() {
        for (map_type, size, written) in [
            (BPF_MAP_TYPE_LPM_TRIE, 8, "192.0.2.0/24"),
            (BPF_MAP_TYPE_LPM_TRIE, 20, "2001:db8::/32"),
            (BPF_MAP_TYPE_HASH, 4, "192.0.2.1"),
            (BPF_MAP_TYPE_HASH, 6, "02:00:00:00:00:01"),
            (BPF_MAP_TYPE_HASH, 16, "2001:db8::1"),
            (BPF_MAP_TYPE_HASH, 2, "443"),
            (BPF_MAP_TYPE_ARRAY, 4, "7"),
        ] {
            let notation = plain(map_type, size, 1, &[key_alone(text(written))]);
            let bytes = notation.key(&text(written)).unwrap();
            assert_eq!(bytes.len(), size as usize, "{written}");
            assert_eq!(Text(&notation.show_key(&bytes)).to_string(), written);
        }
    }

    #[test]
    fn numbers_are_addresses_only_where_the_file_writes_some() {
        let key = [192, 0, 2, 1];
        let shown = |entries: &[Entry]| {
            let notation = plain(BPF_MAP_TYPE_HASH, 4, 4, entries);
            Text(&notation.show_key(&key)).to_string()
        };
        assert_eq!(shown(&[]), "16908480");
        assert_eq!(shown(&[key_alone(Value::Integer(1).unplaced())]), "16908480");
        assert_eq!(shown(&[key_alone(text("198.51.100.1"))]), "192.0.2.1");
    }

    #[test]
    fn keys_are_in_the_order_in_which_people_look_for_them() {
        let sorted = |map_type, size, keys: &[&str]| {
            let entries: Vec<Entry> = keys.iter().map(|key| key_alone(text(key))).collect();
            let notation = plain(map_type, size, 1, &entries);
            let mut bytes: Vec<_> = keys.iter().map(|key| notation.key(&text(key)).unwrap()).collect();
            bytes.sort_by_key(|key| notation.order(key));
            bytes.iter().map(|key| Text(&notation.show_key(key)).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(BPF_MAP_TYPE_HASH, 4, &["256", "1", "65536", "2"]), ["1", "2", "256", "65536"]);
        assert_eq!(
            sorted(BPF_MAP_TYPE_HASH, 4, &["192.0.2.1", "10.0.0.2", "10.0.0.1"]),
            ["10.0.0.1", "10.0.0.2", "192.0.2.1"]
        );
        assert_eq!(
            sorted(BPF_MAP_TYPE_LPM_TRIE, 8, &["192.0.2.0/24", "10.0.0.0/16", "10.0.0.0/8"]),
            ["10.0.0.0/8", "10.0.0.0/16", "192.0.2.0/24"]
        );
    }

    #[test]
    fn a_key_alone_has_the_default_value_or_one() {
        let notation = plain(BPF_MAP_TYPE_PERCPU_HASH, 4, 2, &[]);
        assert_eq!(notation.value(&EntryValue::Default, None, &(0..0)).unwrap(), [1, 0]);
        assert_eq!(notation.value(&EntryValue::Default, Some(&[7, 7]), &(0..0)).unwrap(), [7, 7]);
        // Bytes have no such value of their own.
        let bytes = plain(BPF_MAP_TYPE_PERCPU_HASH, 4, 3, &[]);
        assert!(bytes.value(&EntryValue::Default, None, &(0..0)).is_err());
    }

    #[test]
    fn values_that_differ_from_cpu_to_cpu_are_all_shown() {
        let notation = plain(BPF_MAP_TYPE_PERCPU_HASH, 4, 2, &[]);
        let shown = |value: &[u8]| Text(&notation.show_value(value)).to_string();
        assert_eq!(shown(&[5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]), "5");
        assert_eq!(shown(&[5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]), "[5, 6]");
    }
}
