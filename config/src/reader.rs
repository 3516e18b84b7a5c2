//! Typed access to the tables of a file, with one way to say each kind of error.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::diagnostic::quoted;
use crate::{Diagnostic, Span, suggest};

pub(crate) type Key<'t> = Spanned<DeString<'t>>;
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// A kind of table, and the keys it may hold.
pub(crate) struct Shape {
    /// Where its keys are, as messages say it.
    pub(crate) place: &'static str,
    /// Their names.
    pub(crate) keys: &'static [&'static str],
}

/// What is wrong with a file, as it is found.
#[derive(Default)]
pub(crate) struct Errors {
    /// Errors about what is in the file.
    pub(crate) found: Vec<Diagnostic>,
    /// Errors about what is *not* in the file. They mean nothing when a part of it could not be read.
    pub(crate) missing: Vec<Diagnostic>,
}

impl Errors {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.missing.len()
    }

    /// An error at a place.
    pub(crate) fn add(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.found.push(Diagnostic::new(message).at(span).label(label));
    }

    /// The error of a value that has another type than its key wants.
    pub(crate) fn wrong_type(&mut self, key: &str, value: &Value<'_>, expected: &str) {
        let error = Diagnostic::new(format!("{} must be {expected}", quoted(key)));
        let error = error.at(value.span()).label(format!("found {}", type_name(value.get_ref())));
        self.found.push(match value.get_ref() {
            DeValue::Array(array) if array.iter().any(|value| value.get_ref().is_table()) => {
                error.help("the name of a table is in single brackets")
            }
            _ => error,
        });
    }

    /// The error of a word that is none of those its key knows; `what` says which kind of word it is, and
    /// `near` is the one that was probably meant.
    pub(crate) fn unknown(
        &mut self,
        span: Span,
        what: &str,
        word: &str,
        known: &[&str],
        near: Option<String>,
    ) {
        let error = Diagnostic::new(format!("unknown {what} {}", quoted(word))).at(span);
        self.found.push(did_you_mean(error.label(format!("expected {}", one_of(known))), near));
    }

    /// Every key of `table` that its shape does not know. `others` are the shapes that such a key might belong to
    /// instead.
    pub(crate) fn keys(&mut self, table: &DeTable<'_>, shape: &Shape, others: &[&Shape]) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            if !shape.keys.contains(&name) {
                let error =
                    Diagnostic::new(format!("unknown key {} {}", quoted(name), shape.place)).at(key.span());
                let error = error.label(format!("expected {}", one_of(shape.keys)));
                let homes = others.iter().filter(|other| other.keys.contains(&name));
                let homes: Vec<_> = homes.map(|other| other.place).collect();
                let near = suggest(name, shape.keys.iter().copied());
                self.found.push(match near {
                    None if !homes.is_empty() => {
                        error.help(format!("`{name}` belongs {}", homes.join(" or ")))
                    }
                    None if value.get_ref().is_table() => {
                        error.help("a name that holds a dot is put in quotes, like [interfaces.\"eth0.100\"]")
                    }
                    near => did_you_mean(error, near),
                });
            }
        }
    }

    /// A value that must be a table.
    pub(crate) fn table<'a, 't>(&mut self, key: &str, value: &'a Value<'t>) -> Option<&'a DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, "a table");
        }
        table
    }

    /// The tables in the table `key` of `parent`, which name things of the user's.
    pub(crate) fn tables<'a, 't>(
        &mut self,
        parent: &'a DeTable<'t>,
        key: &str,
    ) -> Vec<(&'a Key<'t>, &'a DeTable<'t>)> {
        let tables = parent.get(key).and_then(|value| self.table(key, value));
        let entries = tables.into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key, self.table(key.get_ref(), value)?))).collect()
    }

    /// A value that must be a string.
    pub(crate) fn string<'a>(&mut self, key: &str, value: &'a Value<'_>) -> Option<&'a str> {
        let string = value.get_ref().as_str();
        if string.is_none() {
            self.wrong_type(key, value, "a string");
        }
        string
    }

    /// A value that must be a string which `check` accepts; `check` gives the reason why it does not.
    pub(crate) fn name<'a>(
        &mut self,
        key: &str,
        value: &'a Value<'_>,
        expected: &str,
        check: impl FnOnce(&str) -> Result<(), &'static str>,
    ) -> Option<&'a str> {
        let name = self.string(key, value)?;
        match check(name) {
            Ok(()) => Some(name),
            Err(reason) => {
                self.add(value.span(), format!("`{key}` must be {expected}"), found(name, reason));
                None
            }
        }
    }
}

/// What a label says of a name that will not do, and why it will not.
pub(crate) fn found(name: &str, reason: &str) -> String {
    if name.is_empty() {
        "found an empty string".to_owned()
    } else {
        format!("found {}: {reason}", quoted(name))
    }
}

pub(crate) fn did_you_mean(error: Diagnostic, near: Option<String>) -> Diagnostic {
    match near {
        Some(near) => error.help(format!("did you mean {}?", quoted(&near))),
        None => error,
    }
}

/// A list of words as it is read out: "`a`, `b` or `c`".
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    match quoted.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        Some((only, _)) => only.clone(),
        None => "nothing".to_owned(),
    }
}

/// The type of a value in TOML's words.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
