//! What people and tools read of a plan: the changes of each interface, with what was and what will be.

use std::collections::BTreeMap;

use serde::Serialize;
use xdpd_config::record::Record;
use xdpd_config::{Label, Mode, Value};
use xdpd_kernel::map::{MapDef, map_type_name};
use xdpd_kernel::{MapId, ProgramId};

use super::{MapEdits, Work};
use crate::desired::DesiredMap;
use crate::observed::PinnedMap;
use crate::permissions::Permissions;

/// The changes of one interface.
#[derive(Debug, Clone, PartialEq)]
pub struct InterfacePlan {
    /// What happens to the interface as a whole.
    pub verdict: Verdict,
    /// What people and tools read, in order of execution.
    pub changes: Vec<Change>,
    /// What the executor does; `None` where the interface is blocked.
    pub work: Option<Work>,
    /// What changes in maps that stay.
    pub entries: Vec<MapEdits>,
}

/// What happens to an interface as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is new.
    Add,
    /// It is there and changes.
    Change,
    /// It left the file.
    Remove,
    /// It cannot be done; so nothing is done.
    Blocked,
}

/// One change of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What of the interface.
    pub address: Address,
    /// What happens to it.
    pub action: Action,
    /// Why, in words, with what is lost.
    pub reason: Option<String>,
    /// As it is.
    pub before: Option<Facts>,
    /// As it will be.
    pub after: Option<Facts>,
    /// Why it cannot be done, and what to do.
    pub blocked_by: Option<String>,
}

/// The part of an interface that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// The program.
    Program,
    /// The mode it is attached in.
    Mode,
    /// The link that attaches it.
    Link,
    /// A map.
    Map(String),
    /// A global variable.
    Global(String),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// It changes in place.
    Update,
    /// It goes.
    Delete,
    /// It goes, and another comes in its place.
    Replace,
}

/// What is known of a thing before or after a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Facts {
    /// Of a program.
    Program {
        /// `builtin` or the path of the object.
        #[serde(skip_serializing_if = "Option::is_none")]
        object: Option<String>,
        /// Digest of the object.
        digest: String,
        /// The function that runs.
        function: String,
        /// Program id; unknown before it is loaded.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
    },
    /// Of a mode.
    Mode {
        /// The mode.
        mode: Mode,
    },
    /// Of a link.
    Link {
        /// Name of the device.
        device: String,
        /// Its index.
        #[serde(skip_serializing_if = "Option::is_none")]
        ifindex: Option<u32>,
        /// Its namespace as the file names it.
        netns: Option<String>,
        /// Modes that are tried in order, or the one it has.
        modes: Vec<Mode>,
        /// Modes that were tried before that one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        refused: Vec<RefusedMode>,
        /// Path of the config that owns the interface, where that is what changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<String>,
    },
    /// Of a global variable.
    Global {
        /// What the file says.
        value: Value,
    },
    /// Of a pin that stays, or of the directory of pins.
    Permissions(Permissions),
    /// Of a map.
    Map {
        /// Name of the type, as bpftool spells it.
        #[serde(rename = "type")]
        kind: &'static str,
        /// Bytes.
        key_size: u32,
        /// Bytes.
        value_size: u32,
        /// Number of entries.
        max_entries: u32,
        /// Flags of creation.
        flags: u32,
        /// Map id; unknown before it is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// How many it is filled with, where the file says what it holds.
        #[serde(skip_serializing_if = "Option::is_none")]
        entries: Option<usize>,
    },
    /// Of what a map holds.
    Entries(EntriesFacts),
}

/// What a map holds, before or after a change of its entries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntriesFacts {
    /// Map id.
    pub id: u32,
    /// How many entries it has.
    pub entries: usize,
    /// How many of them have another value on the other side.
    pub changed: usize,
    /// How many of them are not there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<usize>,
    /// How many of them are not there afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<usize>,
    /// Some of those that differ: the first ones that change, and the first ones that come or go.
    pub listed: Vec<EntryFacts>,
}

/// An entry in the notation of the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryFacts {
    /// Its key.
    pub key: Value,
    /// Its value.
    pub value: Value,
}

/// The modes that were taken where the plan left them open, by interface.
pub type Choices<'p> = BTreeMap<&'p Label, Choice>;

/// A mode that was taken from a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The mode.
    pub mode: Mode,
    /// Those before it in the list.
    pub refused: Vec<RefusedMode>,
}

/// A mode in which a device did not run a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedMode {
    /// The mode.
    pub mode: Mode,
    /// Why, in words.
    pub reason: String,
}

impl Facts {
    /// What was left open is as it was chosen.
    pub(super) fn choose(&mut self, choice: &Choice) {
        match self {
            Self::Mode { mode } => *mode = choice.mode,
            Self::Link { modes, refused, config: None, .. } => {
                *modes = vec![choice.mode];
                refused.clone_from(&choice.refused);
            }
            _ => {}
        }
    }
}

impl InterfacePlan {
    /// Nothing is done, since some change cannot be.
    pub(super) fn blocked(changes: Vec<Change>) -> Self {
        Self { verdict: Verdict::Blocked, changes, work: None, entries: Vec::new() }
    }
}

impl Change {
    pub(super) fn new(address: Address, action: Action) -> Self {
        Self { address, action, reason: None, before: None, after: None, blocked_by: None }
    }
}

pub(super) fn program_facts(record: &Record, running: Option<ProgramId>) -> Facts {
    Facts::Program {
        object: None,
        digest: record.object.clone(),
        function: record.function.clone(),
        id: running.map(|id| id.0),
    }
}

pub(super) fn map_facts(def: &MapDef, id: Option<MapId>) -> Facts {
    Facts::Map {
        kind: map_type_name(def.map_type),
        key_size: def.key_size,
        value_size: def.value_size,
        max_entries: def.max_entries,
        flags: def.flags,
        id: id.map(|id| id.0),
        entries: None,
    }
}

/// Another map takes the place of one that is pinned.
pub(super) fn replaced(map: &DesiredMap, now: &PinnedMap, reason: String) -> Change {
    Change {
        reason: Some(reason),
        before: Some(map_facts(&now.def, Some(now.id))),
        after: Some(map_facts(&map.spec.def, None)),
        ..Change::new(Address::Map(String::new()), Action::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_form_in_json_whether_it_is_of_an_entry_or_of_a_global_variable() {
        let value = Value::parse("{ b = 1, a = [{ d = true, c = \"x\" }] }").unwrap();
        let json = r#"{"b":1,"a":[{"d":true,"c":"x"}]}"#;
        let global = serde_json::to_string(&Facts::Global { value: value.clone() }).unwrap();
        assert_eq!(global, format!(r#"{{"value":{json}}}"#));
        let entry = serde_json::to_string(&EntryFacts { key: value.clone(), value }).unwrap();
        assert_eq!(entry, format!(r#"{{"key":{json},"value":{json}}}"#));
    }
}
