//! The plan as people read it.

use std::fmt::{Display, Write};

use xdpd_config::join_some;

use super::{Screen, entries};
use crate::entries::entry_count;
use crate::plan::{Action, Address, Change, Choice, Choices, Drift, Facts, Plan, RefusedMode, Verdict};

/// In front of text below a change.
const DETAIL: &str = "        ";
const LEGEND: &str = "+ apply adds   ~ changes   - removes   ! blocked";

/// The whole plan; empty where there is nothing to do.
pub fn plan(plan: &Plan, colour: bool) -> Screen {
    let mut out = Screen::new(colour);
    if !plan.is_empty() {
        out.line(LEGEND);
        out.append(&changes(plan, colour));
    }
    out
}

/// The same without the legend.
pub fn changes(plan: &Plan, colour: bool) -> Screen {
    let mut out = Screen::new(colour);
    if plan.is_empty() {
        return out;
    }
    let block = |out: &mut Screen, mark, title: &dyn Display| {
        out.blank();
        out.marked("", mark, title);
    };
    if plan.mount {
        block(&mut out, '+', &"a bpffs is mounted at /sys/fs/bpf");
    }
    if let Some(root) = &plan.root {
        let difference = root.from.difference(root.to);
        block(&mut out, '~', &format_args!("{}: {difference}", root.path.display()));
    }
    for leftover in &plan.interrupted {
        block(&mut out, '~', &format_args!("{}: {}", leftover.directory(), leftover.settlement()));
    }
    for (label, interface) in &plan.interfaces {
        let mark = match interface.verdict {
            Verdict::Add => '+',
            Verdict::Change => '~',
            Verdict::Remove => '-',
            Verdict::Blocked => '!',
        };
        block(&mut out, mark, label);
        for change in &interface.changes {
            write_change(&mut out, change);
        }
    }
    for drift in plan.drift.iter().filter(|drift| !is_told_elsewhere(plan, drift)) {
        out.blank();
        out.line(format_args!("  drift of {}: {}", drift.interface, drift.what));
    }
    out.blank();
    out.line(format_args!(
        "Plan: {} to add, {} to change, {} to remove, {} blocked.",
        plan.count(Verdict::Add),
        plan.count(Verdict::Change),
        plan.count(Verdict::Remove),
        plan.count(Verdict::Blocked)
    ));
    out
}

/// The reason for a block has it, or the note of a device that is absent.
fn is_told_elsewhere(plan: &Plan, drift: &Drift) -> bool {
    let is_noted = || plan.notes.iter().any(|note| note.interface.as_deref() == Some(&*drift.interface));
    plan.blocks().any(|why| why.contains(&drift.what)) || (drift.device_gone && is_noted())
}

fn write_change(out: &mut Screen, change: &Change) {
    let mark = match (change.blocked_by.is_some(), change.action) {
        (true, _) => '!',
        (_, Action::Create) => '+',
        (_, Action::Update | Action::Replace) => '~',
        (_, Action::Delete) => '-',
    };
    let what = match &change.address {
        Address::Program => "program".to_owned(),
        Address::Mode => "mode".to_owned(),
        Address::Link => "link".to_owned(),
        Address::Map(name) => format!("map {name}"),
        Address::Global(name) => format!("global {name}"),
    };
    let (headline, detail) = words(change);
    out.marked_wrapped("    ", mark, &format!("{what}: "), DETAIL, &headline);
    entries::write(out, change);
    let blocked = change.blocked_by.as_ref().map(|why| format!("blocked: {why}"));
    // What differs is often all of the reason for not doing it.
    let detail = detail.filter(|detail| blocked.as_ref().is_none_or(|blocked| !blocked.contains(detail)));
    for detail in detail.into_iter().chain(blocked) {
        out.wrapped(DETAIL, DETAIL, &detail);
    }
}

/// What happens, on the line of the thing; and why, below it, unless that says it all.
fn words(change: &Change) -> (String, Option<String>) {
    let reason = || change.reason.clone().unwrap_or_default();
    match (&change.address, change.action, &change.before, &change.after) {
        (Address::Program, Action::Update, ..) | (_, _, _, Some(Facts::Permissions(_))) => (reason(), None),
        (Address::Map(_), Action::Replace, ..) => ("replaced".to_owned(), change.reason.clone()),
        (
            _,
            _,
            Some(Facts::Link { config: Some(before), .. }),
            Some(Facts::Link { config: Some(after), .. }),
        ) => (format!("owner {before} -> {after}"), change.reason.clone()),
        (Address::Link, Action::Replace, _, Some(after)) => {
            (format!("attached anew, {}", facts(after)), change.reason.clone())
        }
        (Address::Global(_), _, Some(before), Some(after)) => {
            (format!("{} -> {}", facts(before), facts(after)), change.reason.clone())
        }
        (Address::Mode, _, Some(before), Some(after)) => {
            (format!("{} -> {}", facts(before), facts(after)), None)
        }
        (_, _, _, Some(Facts::Entries(_))) => (reason(), None),
        (_, Action::Delete, Some(facts_before), _) => (facts(facts_before), change.reason.clone()),
        (_, _, _, Some(facts_after)) => (facts(facts_after), change.reason.clone()),
        _ => (reason(), None),
    }
}

fn facts(facts: &Facts) -> String {
    match facts {
        Facts::Program { digest, function, .. } => {
            let object = digest.split_once(':').map_or(&**digest, |(kind, _)| kind);
            match facts {
                Facts::Program { object: Some(path), .. } => format!("{function} of {path}"),
                _ if object == "builtin" => format!("{function} of builtin"),
                _ => function.clone(),
            }
        }
        Facts::Mode { mode } => mode.to_string(),
        Facts::Global { value } => value.to_string(),
        Facts::Entries(facts) => entry_count(facts.entries),
        Facts::Permissions(permissions) => permissions.to_string(),
        Facts::Link { device, ifindex, netns, modes, .. } => {
            let modes: Vec<String> = modes.iter().map(ToString::to_string).collect();
            let mut text = format!("{} on {device}", modes.join(" or "));
            if let Some(ifindex) = ifindex {
                let _ = write!(text, " (ifindex {ifindex})");
            }
            if let Some(netns) = netns {
                let _ = write!(text, " in netns {netns}");
            }
            text
        }
        Facts::Map { kind, key_size, value_size, max_entries, id, .. } => {
            let entries = if *max_entries == 1 { "entry" } else { "entries" };
            let mut text = format!("{kind}, key {key_size} B, value {value_size} B, {max_entries} {entries}");
            if let Some(id) = id {
                let _ = write!(text, ", id {id}");
            }
            text
        }
    }
}

/// The modes that an apply took from lists, equal ones together: `; eth0, eth1 attached in generic mode (native refused:
/// WHY)`. Nothing where there was no choice.
pub fn choices(choices: &Choices<'_>) -> String {
    const NAMED: usize = 10;
    let mut groups: Vec<(&Choice, Vec<String>)> = Vec::new();
    for (label, choice) in choices {
        let label = label.to_string();
        match groups.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, labels)) => labels.push(label),
            None => groups.push((choice, vec![label])),
        }
    }
    let mut out = String::new();
    for (Choice { mode, refused }, labels) in groups {
        let _ = write!(out, "; {} attached in {mode} mode", join_some(labels, NAMED));
        let reasons = refused.iter().map(|RefusedMode { mode, reason }| format!("{mode} refused: {reason}"));
        let reasons: Vec<String> = reasons.collect();
        if !reasons.is_empty() {
            let _ = write!(out, " ({})", reasons.join("; "));
        }
    }
    out
}

/// Why a plan cannot be carried out, in one line.
pub fn blocked(plan: &Plan) -> String {
    const SHOWN: usize = 3;
    let reasons: Vec<String> = plan.blocks().collect();
    let more = reasons.len().saturating_sub(SHOWN);
    let shown = reasons[..reasons.len() - more].join("; ");
    if more > 0 { format!("blocked: {shown}; and {more} more") } else { format!("blocked: {shown}") }
}

#[cfg(test)]
mod tests {
    use xdpd_config::{Label, Mode};

    use super::*;

    #[test]
    fn modes_that_were_taken_are_told_with_the_reasons_and_equal_ones_together() {
        let labels = ["a", "b", "c"].map(|label| Label::try_new(label).unwrap());
        let refused = RefusedMode { mode: Mode::Native, reason: "too large".into() };
        let native = Choice { mode: Mode::Native, refused: Vec::new() };
        let generic = Choice { mode: Mode::Generic, refused: vec![refused] };
        let taken = [&generic, &native, &generic].map(Clone::clone);
        assert_eq!(
            choices(&labels.iter().zip(taken).collect()),
            "; a, c attached in generic mode (native refused: too large); b attached in native mode"
        );
        assert_eq!(choices(&Choices::new()), "");
    }
}
