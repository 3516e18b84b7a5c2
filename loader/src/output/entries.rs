//! Changed entries of a map, as people read them.

use super::Screen;
use crate::entries::{Text, grouped};
use crate::plan::{Change, EntryFacts, Facts};

/// As many lines are written for each kind of change.
const LINES: usize = 10;
const INDENT: &str = "        ";

/// Writes some of the entries that come, change and go, and how many more there are.
pub(super) fn write(out: &mut Screen, change: &Change) {
    let (Some(Facts::Entries(before)), Some(Facts::Entries(after))) = (&change.before, &change.after) else {
        return;
    };
    let other = |entry: &EntryFacts, side: &[EntryFacts]| -> Option<String> {
        let found = side.iter().find(|other| other.key == entry.key)?;
        Some(Text(&found.value).to_string())
    };
    let kinds = [
        ('+', after.added.unwrap_or(0), &after.listed, &before.listed, false),
        ('~', after.changed, &before.listed, &after.listed, true),
        ('-', before.removed.unwrap_or(0), &before.listed, &after.listed, false),
    ];
    for (mark, count, side, across, on_both) in kinds {
        let mut written = 0;
        for entry in side {
            let to = other(entry, across);
            if written == LINES || to.is_some() != on_both {
                continue;
            }
            written += 1;
            let to = to.map_or_else(String::new, |to| format!(" -> {to}"));
            out.marked(INDENT, mark, format_args!("{} = {}{to}", Text(&entry.key), Text(&entry.value)));
        }
        if count > written {
            out.marked(INDENT, mark, format_args!("… and {} more", grouped(count - written)));
        }
    }
}
