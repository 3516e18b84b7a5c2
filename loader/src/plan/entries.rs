//! What happens to the entries of maps of which the file says what they hold.

use std::collections::BTreeMap;

use xdpd_kernel::MapId;

use super::change::{EntriesFacts, EntryFacts};
use super::interface::Planner;
use super::{Action, Address, Change, Facts, MapEdits, MapWork};
use crate::entries::{Content, Declared, Edit, Notation, Tally, edits, entry_count};

/// As many entries of each kind are listed, for people and for tools.
const LISTED: usize = 20;

impl Planner<'_> {
    /// Edits of the maps that stay; notes of those that are made and filled.
    pub(super) fn entries(
        &self,
        maps: &BTreeMap<String, MapWork>,
        changes: &mut Vec<Change>,
    ) -> Vec<MapEdits> {
        let nothing = Content::new();
        let mut all = Vec::new();
        for (name, map) in &self.instance.maps {
            let (Some(declared), Some(work)) = (&map.entries, maps.get(name)) else { continue };
            let address = Address::Map(name.clone());
            let id = match work {
                MapWork::Create | MapWork::Migrate(_) => {
                    if let Some(change) = changes.iter_mut().find(|c| c.address == address) {
                        note(change, &filled(declared));
                        if let Some(Facts::Map { entries, .. }) = &mut change.after {
                            *entries = Some(declared.len());
                        }
                    }
                    continue;
                }
                MapWork::Keep(id) | MapWork::Repin(id) => *id,
            };
            let now = self.observed.contents.get(&id).unwrap_or(&nothing);
            let edits = edits(now, &declared.content(self.observed.possible_cpus), declared.room());
            if edits.is_empty() {
                continue;
            }
            let tally = Tally::of(&edits);
            match changes.iter_mut().find(|c| c.address == address) {
                Some(change) => note(change, &tally.to_string()),
                None => changes.push(edited(address, id, declared, &edits, now.len())),
            }
            all.push(MapEdits { map: name.clone(), id, edits });
        }
        all
    }
}

fn filled(declared: &Declared) -> String {
    format!("filled with {}", entry_count(declared.len()))
}

fn note(change: &mut Change, what: &str) {
    change.reason = Some(match change.reason.take() {
        Some(reason) => format!("{reason}; {what}"),
        None => what.to_owned(),
    });
}

fn edited(address: Address, id: MapId, declared: &Declared, edits: &[Edit], now: usize) -> Change {
    let tally = Tally::of(edits);
    let notation = declared.notation();
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_cached_key(|edit| notation.order(&edit.key));
    let before = EntriesFacts {
        id: id.0,
        entries: now,
        changed: tally.changed,
        added: None,
        removed: Some(tally.removed),
        listed: listed(notation, &sorted, |edit| edit.before.as_ref(), |edit| edit.after.is_some()),
    };
    let after = EntriesFacts {
        id: id.0,
        entries: now + tally.added - tally.removed,
        changed: tally.changed,
        added: Some(tally.added),
        removed: None,
        listed: listed(notation, &sorted, |edit| edit.after.as_ref(), |edit| edit.before.is_some()),
    };
    Change {
        reason: Some(tally.to_string()),
        before: Some(Facts::Entries(before)),
        after: Some(Facts::Entries(after)),
        ..Change::new(address, Action::Update)
    }
}

/// The first entries that are on one side: of those that are on the other as well, and of those that are not.
fn listed<'e>(
    notation: &Notation,
    edits: &[&'e Edit],
    side: impl Fn(&'e Edit) -> Option<&'e Vec<u8>>,
    on_both: impl Fn(&Edit) -> bool,
) -> Vec<EntryFacts> {
    let mut room = [LISTED; 2];
    let mut listed = Vec::new();
    for edit in edits {
        let (Some(value), room) = (side(edit), &mut room[usize::from(on_both(edit))]) else { continue };
        if *room > 0 {
            *room -= 1;
            listed.push(EntryFacts { key: notation.show_key(&edit.key), value: notation.show_value(value) });
        }
    }
    listed
}
