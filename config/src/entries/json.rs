//! Lists as JSON, with the place of each value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Entry;
use crate::reader::Errors;
use crate::{Diagnostic, Located, Span, Value};

/// Values deeper than this are refused: each level is read anew.
const MAX_DEPTH: usize = 16;

pub(super) fn read(text: &str, errors: &mut Errors) -> Vec<Entry> {
    let reader = Reader { text };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => reader.entries(raw, errors).unwrap_or_default(),
        Err(error) => {
            let at = offset(text, &error);
            errors.found.push(not_json(&error).at(at..at));
            Vec::new()
        }
    }
}

fn not_json(error: &serde_json::Error) -> Diagnostic {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Diagnostic::new(format!("not valid JSON: {message}"))
}

/// Where an error was found.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let line_start =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    text.floor_char_boundary((line_start + error.column().saturating_sub(1)).min(text.len()))
}

struct Reader<'t> {
    text: &'t str,
}

impl<'t> Reader<'t> {
    /// The bytes of a part of the text.
    fn span(&self, part: &str) -> Span {
        let start = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        start..start + part.len()
    }

    /// What `entries` can be: an array or an object. Those that are wrong do not hide errors of others.
    fn entries(&self, raw: &'t RawValue, errors: &mut Errors) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        match raw.get().as_bytes().first() {
            Some(b'[') => {
                for raw in self.parse::<Vec<&'t RawValue>>(raw, errors)? {
                    let element = self.value(raw, MAX_DEPTH, errors);
                    entries.extend(element.and_then(|element| super::element_of(element, errors)));
                }
            }
            Some(b'{') => {
                for member in self.parse::<Members<'t>>(raw, errors)?.0 {
                    entries.extend(self.member(member, MAX_DEPTH, errors).map(super::pair_of));
                }
            }
            _ => super::no_entries(self.span(raw.get()), "neither array nor object", errors),
        }
        Some(entries)
    }

    fn member(
        &self,
        (key, value): (&'t RawValue, &'t RawValue),
        depth: usize,
        errors: &mut Errors,
    ) -> Option<(Located<String>, Located<Value>)> {
        let name = Located { value: self.parse(key, errors)?, span: self.span(key.get()) };
        Some((name, self.value(value, depth, errors)?))
    }

    fn value(&self, raw: &'t RawValue, depth: usize, errors: &mut Errors) -> Option<Located<Value>> {
        let span = self.span(raw.get());
        let Some(depth) = depth.checked_sub(1) else {
            errors.add(span, "a value of too many levels", format!("expected at most {MAX_DEPTH}"));
            return None;
        };
        let value = match raw.get().as_bytes().first() {
            Some(b'[') => {
                let elements: Vec<&'t RawValue> = self.parse(raw, errors)?;
                let elements = elements.into_iter().map(|raw| self.value(raw, depth, errors));
                // All of them, so that the errors of all are found.
                Value::Array(elements.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?)
            }
            Some(b'{') => {
                let members: Members<'t> = self.parse(raw, errors)?;
                let members = members.0.into_iter().map(|member| self.member(member, depth, errors));
                let members: Vec<_> = members.collect();
                Value::Table(members.into_iter().collect::<Option<_>>()?)
            }
            Some(b'"') => Value::String(self.parse(raw, errors)?),
            Some(b't') => Value::Boolean(true),
            Some(b'f') => Value::Boolean(false),
            Some(b'n') => {
                errors.add(span, "null has no place here", "leave it out");
                return None;
            }
            _ => self.number(raw.get(), errors)?,
        };
        Some(Located { value, span })
    }

    fn number(&self, digits: &str, errors: &mut Errors) -> Option<Value> {
        if digits.contains(['.', 'e', 'E']) {
            errors.add(self.span(digits), "a float has no place here", "the kernel knows no floats");
            return None;
        }
        // Those that are larger are told as a string, whose type decides whether it fits.
        Some(digits.parse().map_or_else(|_| Value::String(digits.to_owned()), Value::Integer))
    }

    /// What is inside is wrong only where it is no text: its form was checked with the whole.
    fn parse<T: Deserialize<'t>>(&self, raw: &'t RawValue, errors: &mut Errors) -> Option<T> {
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(error) => {
                errors.found.push(not_json(&error).at(self.span(raw.get())));
                None
            }
        }
    }
}

/// The members of an object in their order, also those that it names twice.
struct Members<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
