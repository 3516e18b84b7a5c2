//! Errors of TOML itself, and which parts of the text they leave in doubt.

use std::collections::HashMap;

use toml::de::DeTable;

use crate::diagnostic::{Source, quoted};
use crate::reader::Errors;
use crate::{Diagnostic, Span};

/// A file's text as TOML, as far as it can be read.
pub(crate) struct Document<'t> {
    pub(crate) root: DeTable<'t>,
    source: &'t Source,
    /// Errors of TOML.
    pub(crate) errors: Vec<Diagnostic>,
    /// The numbers of the lines with errors after which it is unclear what the rest of their table means;
    /// ascending.
    broken: Vec<usize>,
}

impl<'t> Document<'t> {
    pub(crate) fn parse(source: &'t Source) -> Self {
        let (root, toml_errors) = DeTable::parse_recoverable(source.text());
        let mut errors = Vec::with_capacity(toml_errors.len());
        let mut broken = Vec::new();
        let mut first_definitions = None;
        for error in toml_errors {
            let end = source.text().len();
            let span = error.span().map_or(0..end, |span| span.start.min(end)..span.end.min(end));
            if error.message() == "duplicate key" {
                let first_definitions =
                    first_definitions.get_or_insert_with(|| FirstDefinitions::find(source));
                errors.push(duplicate_key(source, span, first_definitions));
            } else {
                broken.push(source.line_index(span.start));
                errors.push(not_toml(source, error.message(), span));
            }
        }
        broken.sort_unstable();
        Self { root: root.into_inner(), source, errors, broken }
    }

    /// The errors of TOML and those that were found in what it says, except such as may only follow from the
    /// former: from a broken line to the next table, and about what is not there.
    pub(crate) fn all_errors(self, errors: Errors) -> Vec<Diagnostic> {
        let mut all = errors.found;
        if self.errors.is_empty() {
            all.extend(errors.missing);
            return all;
        }
        let lines = 0..self.source.line_count();
        let headers: Vec<_> = lines.filter(|line| is_header(self.source.line_text(*line))).collect();
        let up_to =
            |lines: &[usize], line| lines[..lines.partition_point(|other| *other <= line)].last().copied();
        all.retain(|error| {
            let line = error.span.as_ref().map_or(0, |span| self.source.line_index(span.start));
            up_to(&self.broken, line).is_none_or(|broken| up_to(&headers, line) > Some(broken))
        });
        all.extend(self.errors);
        all
    }
}

/// An error of TOML in words that also help somebody who does not know its grammar.
fn not_toml(source: &Source, message: &str, span: Span) -> Diagnostic {
    let text = source.text().get(span.clone()).unwrap_or_default();
    let next = source.text()[source.text().floor_char_boundary(span.start)..].chars().next();
    let found = match next {
        _ if !text.is_empty() => quoted(text),
        None => "the end of the file".to_owned(),
        Some('\r' | '\n') => "the end of the line".to_owned(),
        Some(c) => quoted(c.encode_utf8(&mut [0; 4])),
    };
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    // The parser takes a bare word for the start of the number or boolean that begins like it.
    let bare_word =
        text.starts_with(char::is_alphabetic) && (what.starts_with("invalid ") || what.contains("quoted"));
    let (what, expected, help) = match what {
        "string values must be quoted" if text.is_empty() => ("missing value", "a value", None),
        _ if bare_word => ("text must be in quotes", "quotes", None),
        "invalid unquoted key" => (what, expected, Some(QUOTE_NAMES.to_owned())),
        _ => (what, expected, None),
    };
    let expected = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
    let error =
        Diagnostic::new(format!("not valid TOML: {what}")).at(span).label(format!("found {found}{expected}"));
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

const QUOTE_NAMES: &str = "a name with other characters than letters, digits, `_` and `-` is put in quotes, \
    like [interfaces.\"veth*\"]";

fn duplicate_key(source: &Source, span: Span, first_definitions: &FirstDefinitions<'_>) -> Diagnostic {
    let index = source.line_index(span.start);
    let whole =
        definition_span(source, index).filter(|whole| whole.start <= span.start && span.end <= whole.end);
    let first = whole.as_ref().and_then(|_| first_definitions.of(source, index));
    let span = whole.unwrap_or(span);
    let message = format!("{} is defined twice", quoted(&source.text()[span.clone()]));
    let error = Diagnostic::new(message).at(span).label("the second definition");
    match first {
        Some(first) => error.related(first, "the first definition"),
        None => error,
    }
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The first line of the file that begins each table, and the first of each table that sets each key.
///
/// The parser says of a duplicate where it is, not what it duplicates. Lines are compared as they are
/// written, so that a key spelled in two ways is not found: the error then names one place only.
struct FirstDefinitions<'t> {
    /// By the line's table and what it defines: the number of the line.
    lines: HashMap<(usize, &'t str), usize>,
    /// By line: its table, as the number of the line that begins it.
    tables: Vec<usize>,
}

impl<'t> FirstDefinitions<'t> {
    fn find(source: &'t Source) -> Self {
        let mut lines = HashMap::new();
        let mut tables = Vec::with_capacity(source.line_count());
        let mut table = usize::MAX;
        for index in 0..source.line_count() {
            let Some((is_header, definition)) = definition(source.line_text(index)) else {
                tables.push(table);
                continue;
            };
            if is_header {
                table = index;
            }
            tables.push(table);
            lines.entry((if is_header { usize::MAX } else { table }, definition)).or_insert(index);
        }
        Self { lines, tables }
    }

    /// The place that first defined what the line with the number `index` defines.
    fn of(&self, source: &Source, index: usize) -> Option<Span> {
        let (is_header, definition) = definition(source.line_text(index))?;
        let table = if is_header { usize::MAX } else { *self.tables.get(index)? };
        let first = *self.lines.get(&(table, definition)).filter(|first| **first != index)?;
        definition_span(source, first)
    }
}

/// The place of what a line defines.
fn definition_span(source: &Source, index: usize) -> Option<Span> {
    let line = source.line_text(index);
    let (_, definition) = definition(line)?;
    let start = source.line(index).start + line.find(definition)?;
    Some(start..start + definition.len())
}

/// What a line defines, and whether that is a table.
fn definition(line: &str) -> Option<(bool, &str)> {
    let line = line.trim();
    match line.strip_prefix('[') {
        Some(header) => header.split_once(']').map(|(name, _)| (true, name.trim())),
        None => line.split_once('=').map(|(key, _)| (false, key.trim())),
    }
}
