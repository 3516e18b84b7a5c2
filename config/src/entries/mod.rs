//! What a map is to hold, as the file or a list beside it writes it.
//!
//! The bytes of keys and values are for who knows the types of the map. Here entries are told apart: forms, formats, and
//! where each of them is written.

mod csv;
mod json;
mod list;

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use crate::diagnostic::quoted;
use crate::reader::{self, Errors};
use crate::{Diagnostic, Located, Span, Value, value};

pub(crate) use list::name as list_name;
pub use list::{List, MAX_LIST_SIZE};

/// `entries` of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Where they are.
    pub source: EntriesSource,
    /// `value` of the map: that of entries that have none of their own.
    pub value: Option<Located<Value>>,
    /// The key `entries`.
    pub span: Span,
}

impl Entries {
    /// The path of the list that holds them.
    pub fn list(&self) -> Option<&Path> {
        match &self.source {
            EntriesSource::Inline(_) => None,
            EntriesSource::File(path) => Some(&path.value),
        }
    }
}

/// Where the entries of a map are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntriesSource {
    /// In the file itself.
    Inline(Vec<Entry>),
    /// In a list of their own, by its absolute path: see [`List`].
    File(Located<PathBuf>),
}

/// An entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key. Where it is a string, that may be the text of a number: the keys of tables are strings.
    pub key: Located<Value>,
    /// Its value.
    pub value: EntryValue,
}

/// The value of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryValue {
    /// It has none of its own.
    Default,
    /// As TOML and JSON write it.
    Typed(Located<Value>),
    /// Cells of CSV: never empty. Several, or one with a name, are the members of a struct.
    Cells(Vec<Cell>),
}

/// A cell of CSV: text, whatever it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The member that the header names.
    pub name: Option<String>,
    /// What is in it.
    pub text: Located<String>,
}

/// Tells entries apart, in any of their forms:
///
/// - an array of tables with `key` and `value`, in which keys alone are entries without a value,
/// - a table of values by their keys.
pub(crate) fn read(written: &reader::Value<'_>, errors: &mut Errors) -> Vec<Entry> {
    match written.get_ref() {
        DeValue::Array(elements) => {
            let elements = elements.iter().map(|element| element_of(value::read(element, errors)?, errors));
            elements.collect::<Vec<_>>().into_iter().flatten().collect()
        }
        DeValue::Table(_) => match value::read(written, errors) {
            Some(Located { value: Value::Table(entries), .. }) => entries.into_iter().map(pair_of).collect(),
            _ => Vec::new(),
        },
        other => {
            no_entries(written.span(), reader::type_name(other), errors);
            Vec::new()
        }
    }
}

fn no_entries(span: Span, found: &str, errors: &mut Errors) {
    let message = "`entries` must be an array, a table, or the path of a list";
    errors.add(span, message, format!("found {found}"));
}

/// An entry in the form `KEY = VALUE`.
fn pair_of((key, value): (Located<String>, Located<Value>)) -> Entry {
    let key = Located { value: Value::String(key.value), span: key.span };
    Entry { key, value: EntryValue::Typed(value) }
}

/// An entry in the form `{ key = KEY, value = VALUE }`, or a key alone.
fn element_of(element: Located<Value>, errors: &mut Errors) -> Option<Entry> {
    let Value::Table(members) = element.value else {
        return Some(Entry { key: element, value: EntryValue::Default });
    };
    let (mut key, mut value) = (None, EntryValue::Default);
    for (name, member) in members {
        match &*name.value {
            "key" => key = Some(member),
            "value" => value = EntryValue::Typed(member),
            other => {
                let error = Diagnostic::new(format!("unknown key {} of an entry", quoted(other)));
                let error = error.at(name.span).label("expected `key` or `value`");
                errors.found.push(error.help("a key of several members is { key = { … }, value = … }"));
                return None;
            }
        }
    }
    if key.is_none() {
        errors.add(element.span, "an entry has no `key`", "expected { key = …, value = … }");
    }
    Some(Entry { key: key?, value })
}
