//! Values of the user's own data in the file: of global variables, and of what maps hold.
//!
//! What such a value may be is for the type that it is meant for, which is in an object. The file knows only TOML's
//! types, less those that no type takes: floats and date-times.

use std::fmt::{self, Write as _};

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use toml::de::DeValue;

use crate::reader::{self, Errors};
use crate::{Diagnostic, Located};

/// A value as the file writes it.
///
/// `Display` writes it in one line of TOML, the same for every spelling of the same value: what records keep and
/// people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `1000`, `-1`, `0xff`.
    Integer(i64),
    /// `true`.
    Boolean(bool),
    /// `"text"`; also integers beyond `i64`, addresses, and names of enumerators.
    String(String),
    /// `[1, 2]`.
    Array(Vec<Located<Value>>),
    /// `{ min = 1, max = 2 }`, in the order of the file.
    Table(Vec<(Located<String>, Located<Value>)>),
}

impl Value {
    /// What kind of value it is, with its article, as messages say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }

    /// Reads what `Display` has written. Any other TOML value will do as well; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut errors = Errors::default();
        let value = read(&DeValue::parse(text).ok()?, &mut errors)?;
        errors.found.is_empty().then_some(value.value)
    }

    /// The value at no place: one that is not from the file.
    pub fn unplaced(self) -> Located<Self> {
        Located { value: self, span: 0..0 }
    }
}

/// Takes a value out of the file. Whatever no type can take is an error at its place.
pub(crate) fn read(value: &reader::Value<'_>, errors: &mut Errors) -> Option<Located<Value>> {
    let read = match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Integer(number) => {
            let Ok(read) = i64::from_str_radix(number.as_str(), number.radix()) else {
                let error =
                    Diagnostic::new("an integer of TOML goes from -2^63 to 2^63 - 1").at(value.span());
                let help = format!("put it in quotes: \"{number}\"");
                errors.found.push(error.label("this one is beyond").help(help));
                return None;
            };
            Value::Integer(read)
        }
        DeValue::Array(elements) => {
            let read_all: Vec<_> = elements.iter().map(|element| read(element, errors)).collect();
            Value::Array(read_all.into_iter().collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let members = table.iter().map(|(key, value)| {
                Some((Located { value: key.get_ref().to_string(), span: key.span() }, read(value, errors)?))
            });
            let members: Vec<_> = members.collect();
            let mut members = members.into_iter().collect::<Option<Vec<_>>>()?;
            members.sort_by_key(|(key, _)| key.span.start);
            Value::Table(members)
        }
        DeValue::Float(_) => {
            errors.add(value.span(), "a float has no place here", "programs in the kernel have no floats");
            return None;
        }
        DeValue::Datetime(_) => {
            errors.add(
                value.span(),
                "a date-time has no place here",
                "put it in quotes if a string is meant",
            );
            return None;
        }
    };
    Some(Located { value: read, span: value.span() })
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
            Self::String(text) => quote(f, text),
            Self::Array(elements) => {
                f.write_char('[')?;
                for (n, element) in elements.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { ", " })?;
                    element.value.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Table(members) if members.is_empty() => f.write_str("{}"),
            Self::Table(members) => {
                f.write_str("{ ")?;
                for (n, (name, member)) in members.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { ", " })?;
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !name.value.is_empty() && name.value.chars().all(bare) {
                        f.write_str(&name.value)?;
                    } else {
                        quote(f, &name.value)?;
                    }
                    write!(f, " = {}", member.value)?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// The same value in another format, such as JSON. Members of a table stay in their order: that of the file, and of what is
/// read from a map that of the type in the object.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Boolean(truth) => serializer.serialize_bool(*truth),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => serializer.collect_seq(elements.iter().map(|element| &element.value)),
            Self::Table(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, member) in members {
                    map.serialize_entry(&name.value, &member.value)?;
                }
                map.end()
            }
        }
    }
}

/// A basic string of TOML. Control characters and those that reorder text are escaped as well. The spelling is for ever:
/// records keep it, and digests of it, and another one would make a difference of an unchanged value. What a terminal must
/// not get beyond that is for [`crate::terminal`].
fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() || reorders(c) => write!(f, "\\u{:04X}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<bool>().prop_map(Value::Boolean),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let array = prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|values| Value::Array(values.into_iter().map(Value::unplaced).collect()));
            let table = prop::collection::btree_map("[a-z .é]{0,4}", inner, 0..4).prop_map(|members| {
                let members = members.into_iter().enumerate();
                let place = |(n, (name, value)): (usize, (String, Value))| {
                    (Located { value: name, span: n..n }, value.unplaced())
                };
                Value::Table(members.map(place).collect())
            });
            prop_oneof![array, table]
        })
    }

    proptest! {
        #[test]
        fn the_text_of_a_value_is_one_line_that_says_the_same(value in value()) {
            let text = value.to_string();
            prop_assert!(!text.contains(char::is_control), "{text:?}");
            let read = Value::parse(&text).map(|value| value.to_string());
            prop_assert_eq!(read, Some(text));
        }
    }

    #[test]
    fn every_spelling_of_a_value_has_one_text() {
        for (spelling, text) in [
            ("1_000", "1000"),
            ("0xff", "255"),
            ("'it'", "\"it\""),
            ("\"\"\"\na\tb\u{e9}\"\"\"", "\"a\\tb\u{e9}\""),
            ("[ 1,\n 2, ]", "[1, 2]"),
            ("{ b = 1, \"a.c\" = { }, a.d = [{}] }", "{ b = 1, \"a.c\" = {}, a = { d = [{}] } }"),
            ("\"\\u202e\\u001b\"", "\"\\u202E\\u001B\""),
        ] {
            let read = Value::parse(spelling).map_or_else(|| "?".to_owned(), |value| value.to_string());
            assert_eq!(read, text, "{spelling}");
        }
    }

    #[test]
    fn json_says_the_same() {
        let value = Value::parse("{ b = [1, true, 'x'], a = {} }").map(|value| serde_json::to_string(&value));
        assert_eq!(value.and_then(Result::ok).as_deref(), Some(r#"{"b":[1,true,"x"],"a":{}}"#));
    }

    #[test]
    fn what_no_type_takes_is_no_value() {
        for text in
            ["1.5", "nan", "1979-05-27", "9223372036854775808", "[1, [2.0]]", "{ a = 1.0 }", "", "word"]
        {
            assert_eq!(Value::parse(text), None, "{text}");
        }
    }
}
