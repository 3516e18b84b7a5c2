//! Lists: files beside the config that hold the entries of a map.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::{Entry, csv, json};
use crate::diagnostic::{Source, quoted};
use crate::file::{self, LoadError};
use crate::reader::Errors;
use crate::syntax::Document;
use crate::{Diagnostic, Diagnostics};

/// The largest list that is read, in bytes: room for more than a million entries.
pub const MAX_LIST_SIZE: u64 = 64 << 20;

/// A list that was read.
#[derive(Debug)]
pub struct List {
    /// Its entries, in its order.
    pub entries: Vec<Entry>,
    source: Arc<Source>,
}

/// The formats, by the endings of the names of their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Json,
    Csv,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// Whether a list can have this name.
pub(crate) fn name(path: &str) -> Result<(), &'static str> {
    crate::names::word(path)?;
    Format::of(Path::new(path)).map(drop).ok_or("it does not end in `.toml`, `.json` or `.csv`")
}

impl List {
    /// Reads the list at `path`. As root, one that others can change is refused, see [`trust`](crate::trust).
    ///
    /// A file of more than [`MAX_LIST_SIZE`] bytes is not read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Ok(Self::parse(path, file::read(path, MAX_LIST_SIZE, "a list")?)?)
    }

    /// Reads a list's text; the ending of `path` tells its format. Everything that is wrong with it is in the one error.
    pub fn parse(path: &Path, text: String) -> Result<Self, Diagnostics> {
        let source = Arc::new(Source::new(path, text));
        let mut errors = Errors::default();
        let entries = match Format::of(path) {
            Some(Format::Toml) => {
                let document = Document::parse(&source);
                let entries = read_toml(&document.root, &mut errors);
                errors.found = document.all_errors(std::mem::take(&mut errors));
                entries
            }
            Some(Format::Json) => json::read(source.text(), &mut errors),
            Some(Format::Csv) => csv::read(source.text(), &mut errors),
            None => {
                let error = Diagnostic::new("the name of a list ends in `.toml`, `.json` or `.csv`");
                errors.found.push(error);
                Vec::new()
            }
        };
        if errors.found.is_empty() {
            Ok(Self { entries, source })
        } else {
            Err(Diagnostics::new(source, errors.found))
        }
    }

    /// Errors that were found later, at least one, as errors that point into this list.
    pub fn diagnostics(&self, diagnostics: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics::new(Arc::clone(&self.source), diagnostics)
    }
}

/// A list in TOML holds what stands in the config otherwise: the key `entries`.
fn read_toml(root: &DeTable<'_>, errors: &mut Errors) -> Vec<Entry> {
    for key in root.keys().filter(|key| *key.get_ref() != "entries") {
        let message = format!("unknown key {} in a list", quoted(key.get_ref()));
        errors.add(key.span(), message, "expected `entries`");
    }
    let Some(entries) = root.get("entries") else {
        let error = Diagnostic::new("the list has no `entries`");
        errors.missing.push(error.help("`entries = []` empties the map"));
        return Vec::new();
    };
    super::read(entries, errors)
}
