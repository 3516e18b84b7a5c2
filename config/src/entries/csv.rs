//! Lists as CSV: a line per entry, its key first.
//!
//! A first line whose first cell is `key` names the columns. `#` begins a comment, and lines without a cell do not
//! count, so plain lists of prefixes are such lists too. A cell in double quotes may hold commas and `#`; a quote in it
//! is doubled. Space around cells does not count.

use super::{Cell, Entry, EntryValue};
use crate::diagnostic::quoted;
use crate::reader::Errors;
use crate::{Located, Span, Value};

pub(super) fn read(text: &str, errors: &mut Errors) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut header: Option<Vec<Located<String>>> = None;
    let mut columns = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        // Spreadsheets begin a file with a mark of the byte order.
        let mark = if start == 0 && line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let cells = match cells(line[mark..].trim_end_matches(['\n', '\r']), start + mark) {
            Ok(cells) => cells,
            Err((span, label)) => {
                errors.add(span, "not a line of CSV", label);
                continue;
            }
        };
        let Some((key, values)) = cells.split_first() else { continue };
        if header.is_none() && entries.is_empty() && key.value == "key" {
            header = Some(cells);
            continue;
        }
        if let Some(names) = &header
            && names.len() != cells.len()
        {
            let label = format!("found {}, the header has {}", count(cells.len()), count(names.len()));
            errors.add(line_span(&cells), "a line has another number of columns", label);
            continue;
        }
        if let Some(first) = columns.filter(|first| *first != cells.len()) {
            let label = format!("found {}, the first line has {}", count(cells.len()), count(first));
            errors.add(line_span(&cells), "a line has another number of columns", label);
            continue;
        }
        columns = Some(cells.len());
        let names = header.iter().flatten().skip(1);
        // A column called `value` is all of it.
        let mut names = names.map(|name| Some(name.value.clone()).filter(|name| name != "value"));
        let cell = |text: &Located<String>| Cell { name: names.next().flatten(), text: text.clone() };
        let values: Vec<_> = values.iter().map(cell).collect();
        entries.push(Entry {
            key: Located { value: Value::String(key.value.clone()), span: key.span.clone() },
            value: if values.is_empty() { EntryValue::Default } else { EntryValue::Cells(values) },
        });
    }
    header_problems(header.as_deref().unwrap_or_default(), errors);
    entries
}

fn header_problems(header: &[Located<String>], errors: &mut Errors) {
    for (n, name) in header.iter().enumerate() {
        if let Some(first) = header[..n].iter().find(|other| other.value == name.value) {
            let error = crate::Diagnostic::new(format!("two columns are called {}", quoted(&name.value)));
            let error = error.at(name.span.clone()).related(first.span.clone(), "the first of them");
            errors.found.push(error.label("the second one"));
        }
    }
    if header.len() > 2
        && let Some(value) = header.iter().find(|name| name.value == "value")
    {
        let label = "with several columns, each is called like the member that it is";
        errors.add(value.span.clone(), "the column `value` is not the only one", label);
    }
}

fn count(cells: usize) -> String {
    if cells == 1 { "1 column".to_owned() } else { format!("{cells} columns") }
}

fn line_span(cells: &[Located<String>]) -> Span {
    match (cells.first(), cells.last()) {
        (Some(first), Some(last)) => first.span.start..last.span.end,
        _ => 0..0,
    }
}

/// The cells of a line that begins at byte `start`; none where there is nothing but space and comment. Err: the place
/// and what is wrong there.
fn cells(line: &str, start: usize) -> Result<Vec<Located<String>>, (Span, &'static str)> {
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].len() - line[at..].trim_start().len();
        let (text, end) = if line[at..].starts_with('"') {
            quoted_cell(line, at).ok_or((start + at..start + line.len(), "a quote that does not end"))?
        } else {
            let end = line[at..].find([',', '#']).map_or(line.len(), |len| at + len);
            let text = line[at..end].trim_end();
            (text.to_owned(), at + text.len())
        };
        cells.push(Located { value: text, span: start + at..start + end });
        let rest = line[end..].trim_start();
        at = line.len() - rest.len();
        match rest.chars().next() {
            Some(',') => at += 1,
            None | Some('#') => break,
            Some(_) => return Err((start + at..start + line.len(), "expected a comma after the quote")),
        }
    }
    let is_blank = cells.len() == 1 && cells.iter().all(|cell| cell.value.is_empty() && cell.span.is_empty());
    Ok(if is_blank { Vec::new() } else { cells })
}

/// The text of the cell whose quote begins at `at`, and where it ends.
fn quoted_cell(line: &str, at: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut from = at + 1;
    loop {
        let end = from + line[from..].find('"')?;
        text.push_str(&line[from..end]);
        if !line[end + 1..].starts_with('"') {
            return Some((text, end + 1));
        }
        text.push('"');
        from = end + 2;
    }
}
