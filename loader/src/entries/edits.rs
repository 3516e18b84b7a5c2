//! From one content of a map to another, entry by entry. Pure.

use std::collections::BTreeMap;

/// What a map holds: all that is under each key, as the kernel copies it.
pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// What becomes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its key.
    pub key: Vec<u8>,
    /// What is there; `None`: nothing.
    pub before: Option<Vec<u8>>,
    /// What shall be there.
    pub after: Option<Vec<u8>>,
}

/// How many entries come, change and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Entries that come.
    pub added: usize,
    /// Entries that get another value.
    pub changed: usize,
    /// Entries that go.
    pub removed: usize,
}

/// What makes `wanted` of `now`, in an order in which a map with room for `max_entries` takes it.
///
/// An entry that both have is there at every instant. New entries come before old ones go, as far as there is room for
/// both; then they take each other's place one by one.
pub fn edits(now: &Content, wanted: &Content, max_entries: usize) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut added = Vec::new();
    for (key, value) in wanted {
        let edit = Edit { key: key.clone(), before: now.get(key).cloned(), after: Some(value.clone()) };
        match &edit.before {
            None => added.push(edit),
            Some(before) if before != value => edits.push(edit),
            Some(_) => {}
        }
    }
    let removed = now.iter().filter(|(key, _)| !wanted.contains_key(*key));
    let mut removed =
        removed.map(|(key, value)| Edit { key: key.clone(), before: Some(value.clone()), after: None });
    let room = max_entries.saturating_sub(now.len());
    let without_room = added.split_off(room.min(added.len()));
    edits.extend(added);
    for edit in without_room {
        edits.extend(removed.next());
        edits.push(edit);
    }
    edits.extend(removed);
    edits
}

/// What takes edits back, however many of them were made, the first ones first: those that were not are made good for
/// nothing, and at no instant there are more entries than there were.
pub fn reversed(edits: &[Edit]) -> Vec<Edit> {
    let back =
        |edit: &Edit| Edit { key: edit.key.clone(), before: edit.after.clone(), after: edit.before.clone() };
    edits.iter().rev().map(back).collect()
}

impl Tally {
    /// Counts edits.
    pub fn of(edits: &[Edit]) -> Self {
        let mut tally = Self::default();
        for edit in edits {
            match (&edit.before, &edit.after) {
                (None, _) => tally.added += 1,
                (_, None) => tally.removed += 1,
                _ => tally.changed += 1,
            }
        }
        tally
    }
}

/// `3 entries added, 1 changed, 2 removed`; what is 0 is left out.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [(self.added, "added"), (self.changed, "changed"), (self.removed, "removed")];
        let mut noun = Some(());
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            match noun.take() {
                Some(()) if count == 1 => write!(f, "1 entry {what}")?,
                Some(()) => write!(f, "{} entries {what}", grouped(count))?,
                None => write!(f, ", {} {what}", grouped(count))?,
            }
        }
        Ok(())
    }
}

/// A number as people read it: `100,000`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many entries, in words.
pub fn entry_count(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{} entries", grouped(count)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hash map of the kernel's, as far as it matters here.
    struct Model {
        content: Content,
        max_entries: usize,
    }

    impl Model {
        fn make(&mut self, edit: &Edit) {
            match &edit.after {
                Some(value) => {
                    let is_new = !self.content.contains_key(&edit.key);
                    assert!(!is_new || self.content.len() < self.max_entries, "the map is full");
                    self.content.insert(edit.key.clone(), value.clone());
                }
                None => drop(self.content.remove(&edit.key)),
            }
        }
    }

    fn content() -> impl Strategy<Value = Content> {
        let bytes = |most: u8| (0..most).prop_map(|byte| vec![byte]);
        prop::collection::btree_map(bytes(12), bytes(3), 0..10)
    }

    proptest! {
        #[test]
        fn edits_lead_to_the_wanted_content_and_back_from_wherever_they_stop(
            old in content(),
            new in content(),
            spare in 0..12_usize,
            stop in any::<prop::sample::Index>(),
        ) {
            let max_entries = old.len().max(new.len()).max(1) + spare;
            let made = edits(&old, &new, max_entries);
            let mut model = Model { content: old.clone(), max_entries };
            for edit in &made {
                prop_assert_ne!(&edit.before, &edit.after);
                prop_assert_eq!(model.content.get(&edit.key), edit.before.as_ref());
                model.make(edit);
                for key in old.keys().filter(|key| new.contains_key(*key)) {
                    prop_assert!(model.content.contains_key(key), "one that both have is missing");
                }
            }
            prop_assert_eq!(&model.content, &new);

            let mut model = Model { content: old.clone(), max_entries };
            let stop = stop.index(made.len() + 1);
            let back = reversed(&made);
            for edit in made[..stop].iter().chain(&back) {
                model.make(edit);
            }
            prop_assert_eq!(&model.content, &old);
        }

        #[test]
        fn additions_come_before_removals_where_there_is_room(old in content(), new in content()) {
            let made = edits(&old, &new, 24);
            let first_removal = made.iter().position(|edit| edit.after.is_none()).unwrap_or(made.len());
            prop_assert!(made[first_removal..].iter().all(|edit| edit.after.is_none()));
        }
    }

    #[test]
    fn counts_are_told_in_words() {
        let tally = |added, changed, removed| Tally { added, changed, removed }.to_string();
        assert_eq!(tally(3, 1, 2), "3 entries added, 1 changed, 2 removed");
        assert_eq!(tally(1, 0, 2), "1 entry added, 2 removed");
        assert_eq!(tally(0, 0, 100_000), "100,000 entries removed");
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
