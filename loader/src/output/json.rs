//! The JSON forms of plan and outcome.

use std::borrow::Cow;

use serde::Serialize;
use xdpd_config::Config;
use xdpd_config::terminal::printable_json;

use crate::plan::{Action, Address, Change, Facts, Note, Plan, RootChange, Verdict};

/// Version of the plan's JSON.
const FORMAT_VERSION: &str = "1.0";

/// How an apply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The changes were made.
    Applied,
    /// There was nothing to do.
    Unchanged,
    /// It could not be done, and nothing was.
    Refused,
    /// It failed, and the previous state is back.
    Restored,
    /// It failed, and something could not be restored.
    Incomplete,
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: &'static str,
    config: ConfigId<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    applyable: bool,
    changes: Vec<ChangeDocument<'a>>,
    drift: Vec<DriftDocument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
    summary: Summary,
}

#[derive(Serialize)]
struct ConfigId<'a> {
    path: String,
    sha256: &'a str,
}

#[derive(Serialize)]
struct ChangeDocument<'a> {
    interface: &'a str,
    address: String,
    actions: &'static [&'static str],
    reason: Option<&'a str>,
    before: Option<&'a Facts>,
    after: Option<&'a Facts>,
    blocked_by: Option<&'a str>,
}

#[derive(Serialize)]
struct DriftDocument<'a> {
    interface: Cow<'a, str>,
    what: Cow<'a, str>,
}

#[derive(Serialize)]
struct Summary {
    add: usize,
    change: usize,
    remove: usize,
    blocked: usize,
    unchanged: usize,
}

/// The plan as one line; with the outcome of an apply and the error that it ended with.
pub fn plan(config: &Config, plan: &Plan, outcome: Option<Outcome>, error: Option<&str>) -> String {
    let changes = plan.interfaces.iter().flat_map(|(label, interface)| {
        interface.changes.iter().map(move |change| change_document(label.as_str(), change))
    });
    let document = Document {
        format_version: FORMAT_VERSION,
        config: ConfigId { path: config.path.display().to_string(), sha256: &config.sha256 },
        outcome,
        error,
        applyable: !plan.is_blocked(),
        changes: changes.collect(),
        drift: drift(plan),
        notes: plan.root.iter().map(root_change).chain(plan.notes.iter().cloned()).collect(),
        summary: Summary {
            add: plan.count(Verdict::Add),
            change: plan.count(Verdict::Change),
            remove: plan.count(Verdict::Remove),
            blocked: plan.count(Verdict::Blocked),
            unchanged: plan.unchanged,
        },
    };
    line(&document)
}

/// Drift, and with it what an interrupted run left, which is settled like it.
fn drift(plan: &Plan) -> Vec<DriftDocument<'_>> {
    let drift = plan
        .drift
        .iter()
        .map(|d| DriftDocument { interface: Cow::from(&d.interface), what: Cow::from(&d.what) });
    let leftovers = plan.interrupted.iter().map(|leftover| {
        let what = format!("{}: {}", leftover.directory(), leftover.settlement());
        DriftDocument { interface: leftover.label(), what: what.into() }
    });
    drift.chain(leftovers).collect()
}

/// The pin root is no interface's, so a change of it has no address.
fn root_change(root: &RootChange) -> Note {
    Note {
        interface: None,
        what: format!("apply changes {}: {}", root.path.display(), root.from.difference(root.to)),
    }
}

/// Any document as one line. A terminal may be where it goes: names in it are [escaped](printable_json).
pub fn line(document: &impl Serialize) -> String {
    // Plain data with string keys: serialising cannot fail.
    let mut text = serde_json::to_string(document).unwrap_or_default();
    text.push('\n');
    printable_json(&text).into_owned()
}

fn change_document<'a>(label: &'a str, change: &'a Change) -> ChangeDocument<'a> {
    ChangeDocument {
        interface: label,
        address: match &change.address {
            Address::Program => format!("{label}.program"),
            Address::Mode => format!("{label}.mode"),
            Address::Link => format!("{label}.link"),
            Address::Map(map) => format!("{label}.map.{map}"),
            Address::Global(name) => format!("{label}.globals.{name}"),
        },
        actions: match change.action {
            Action::Create => &["create"],
            Action::Update => &["update"],
            Action::Delete => &["delete"],
            Action::Replace => &["delete", "create"],
        },
        reason: change.reason.as_deref(),
        before: change.before.as_ref(),
        after: change.after.as_ref(),
        blocked_by: change.blocked_by.as_deref(),
    }
}
