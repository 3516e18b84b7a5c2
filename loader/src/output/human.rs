//! The plan as people read it.

use std::fmt::Write;

use xdpd_config::listed;

use super::{entries, write_wrapped};
use crate::entries::entry_count;
use crate::plan::{Action, Address, Change, Choice, Choices, Drift, Facts, Plan, RefusedMode, Verdict};

/// In front of text below a change.
const DETAIL: &str = "        ";
const LEGEND: &str = "+ apply adds   ~ changes   - removes   ! blocked";

/// Paints the marks.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn mark(self, mark: char) -> String {
        let colour = match mark {
            '+' => "32",
            '~' => "33",
            '-' | '!' => "31",
            _ => return mark.to_string(),
        };
        if self.0 { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_string() }
    }
}

/// The whole plan; empty where there is nothing to do.
pub fn plan(plan: &Plan, colour: bool) -> String {
    if plan.is_empty() { String::new() } else { format!("{LEGEND}\n{}", changes(plan, colour)) }
}

/// The same without the legend.
pub fn changes(plan: &Plan, colour: bool) -> String {
    let mut out = String::new();
    if plan.is_empty() {
        return out;
    }
    let paint = Paint(colour);
    if plan.mount {
        let _ = writeln!(out, "\n{} a bpffs is mounted at /sys/fs/bpf", paint.mark('+'));
    }
    if let Some(root) = &plan.root {
        let path = printable(&root.path.display().to_string());
        let _ = writeln!(out, "\n{} {path}: {}", paint.mark('~'), root.from.difference(root.to));
    }
    for leftover in &plan.interrupted {
        let _ = writeln!(out, "\n{} {}: {}", paint.mark('~'), leftover.directory(), leftover.settlement());
    }
    for (label, interface) in &plan.interfaces {
        let mark = match interface.verdict {
            Verdict::Add => '+',
            Verdict::Change => '~',
            Verdict::Remove => '-',
            Verdict::Blocked => '!',
        };
        let _ = writeln!(out, "\n{} {}", paint.mark(mark), printable(label.as_str()));
        for change in &interface.changes {
            write_change(&mut out, change, paint);
        }
    }
    for drift in plan.drift.iter().filter(|drift| !is_told_elsewhere(plan, drift)) {
        let _ = writeln!(out, "\n  drift of {}: {}", printable(&drift.interface), printable(&drift.what));
    }
    let _ = writeln!(
        out,
        "\nPlan: {} to add, {} to change, {} to remove, {} blocked.",
        plan.count(Verdict::Add),
        plan.count(Verdict::Change),
        plan.count(Verdict::Remove),
        plan.count(Verdict::Blocked)
    );
    out
}

/// The reason for a block has it, or the note of a device that is absent.
fn is_told_elsewhere(plan: &Plan, drift: &Drift) -> bool {
    let is_noted = || plan.notes.iter().any(|note| note.interface.as_deref() == Some(&*drift.interface));
    plan.blocks().any(|why| why.contains(&drift.what)) || (drift.device_gone && is_noted())
}

fn write_change(out: &mut String, change: &Change, paint: Paint) {
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
        Address::Map(name) => format!("map {}", printable(name)),
        Address::Global(name) => format!("global {}", printable(name)),
    };
    let (headline, detail) = words(change);
    let mut lines = String::new();
    write_wrapped(&mut lines, &format!("    {mark} {what}: "), DETAIL, &headline);
    // Painted afterwards: a colour takes no room.
    out.push_str(&lines.replacen(mark, &paint.mark(mark), 1));
    entries::write(out, change, |mark| paint.mark(mark));
    let blocked = change.blocked_by.as_ref().map(|why| format!("blocked: {why}"));
    // What differs is often all of the reason for not doing it.
    let detail = detail.filter(|detail| blocked.as_ref().is_none_or(|blocked| !blocked.contains(detail)));
    for detail in detail.into_iter().chain(blocked) {
        write_wrapped(out, DETAIL, DETAIL, &printable(&detail));
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
        ) => (format!("owner {} -> {}", printable(before), printable(after)), change.reason.clone()),
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
            let mut text = format!("{} on {}", modes.join(" or "), printable(device));
            if let Some(ifindex) = ifindex {
                let _ = write!(text, " (ifindex {ifindex})");
            }
            if let Some(netns) = netns {
                let _ = write!(text, " in netns {}", printable(netns));
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
        let label = printable(label.as_str());
        match groups.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, labels)) => labels.push(label),
            None => groups.push((choice, vec![label])),
        }
    }
    let mut out = String::new();
    for (Choice { mode, refused }, labels) in groups {
        let _ = write!(out, "; {} attached in {mode} mode", listed(labels, NAMED));
        let reasons = refused
            .iter()
            .map(|RefusedMode { mode, reason }| format!("{mode} refused: {}", printable(reason)));
        let reasons: Vec<String> = reasons.collect();
        if !reasons.is_empty() {
            let _ = write!(out, " ({})", reasons.join("; "));
        }
    }
    out
}

/// Names come from files and from other people's programs: nothing of them may steer a terminal.
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

/// The same for text of several lines.
pub fn printable_lines(text: &str) -> String {
    let lines = text.trim_end().lines().map(|line| {
        // The verifier's log quotes the source, which is indented with tabs.
        if line.contains(|c: char| c.is_control() && c != '\t') {
            line.escape_debug().to_string()
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use xdpd_config::{Label, Mode};

    use super::*;

    #[test]
    fn modes_that_were_taken_are_told_with_the_reasons_and_equal_ones_together() {
        let labels = ["a", "b", "c"].map(|label| Label::try_new(label).unwrap());
        let refused = RefusedMode { mode: Mode::Native, reason: "too\x1blarge".into() };
        let native = Choice { mode: Mode::Native, refused: Vec::new() };
        let generic = Choice { mode: Mode::Generic, refused: vec![refused] };
        let taken = [&generic, &native, &generic].map(Clone::clone);
        assert_eq!(
            choices(&labels.iter().zip(taken).collect()),
            "; a, c attached in generic mode (native refused: too\\u{1b}large); b attached in native mode"
        );
        assert_eq!(choices(&Choices::new()), "");
    }
}
