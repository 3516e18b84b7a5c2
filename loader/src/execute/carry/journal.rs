//! What is on bpffs while entries are carried over, and how the next run settles what was interrupted.

use std::collections::BTreeMap;

use xdpd_config::escape::{escape, unescape};
use xdpd_kernel::{Access, Dir, EntryKind, MapId, rcu};

use super::CarryError;
use super::trio::Trio;
use crate::migrate::Settings;
use crate::observed::Observed;
use crate::output;

/// The part of the symlink among the pins of a map.
pub(super) const RULES: &str = "rules";
/// The key of the only rule that is not a field's: no field is called so.
const LOSSY: &str = "=lossy";

/// The name of a map's pin in the directory.
pub(super) fn pin(map: &str, what: &str) -> String {
    format!("{}-{what}", escape(map))
}

/// The rules as the text of a symlink.
pub(super) fn format(settings: &Settings) -> String {
    let lossy = settings.lossy.then(|| LOSSY.to_owned());
    let rules = settings.merge.iter().map(|(field, rule)| format!("{field}={rule}"));
    // An empty text is none for a symlink.
    std::iter::once("rules:".to_owned()).chain(lossy).chain(rules).collect::<Vec<_>>().join(" ")
}

fn parse(text: &str) -> Option<Settings> {
    let mut settings = Settings { merge: BTreeMap::new(), lossy: false };
    for word in text.strip_prefix("rules:")?.split_whitespace() {
        if word == LOSSY {
            settings.lossy = true;
        } else {
            let (field, rule) = word.split_once('=')?;
            settings.merge.insert(field.to_owned(), rule.parse().ok()?);
        }
    }
    Some(settings)
}

/// Settles what an interrupted run left under way, towards the program that runs, and forgets it. Without its rules a map
/// was never complete, so no program has run with it.
pub(in crate::execute) fn settle_interrupted(
    root: &Dir,
    observed: &Observed,
    directory: &str,
) -> Result<(), CarryError> {
    let Some(dir) = root.find_dir(directory)?.found() else { return Ok(()) };
    let mut waited = false;
    for entry in dir.list()? {
        let name = entry.name.to_str().and_then(|name| name.strip_suffix(RULES)?.strip_suffix('-'));
        let Some(name) = name.and_then(unescape).filter(|_| entry.kind == EntryKind::Symlink) else {
            continue;
        };
        let Some(settings) = dir.readlink(&entry.name)?.to_str().and_then(parse) else { continue };
        let open = |what| dir.open_map(pin(&name, what), Access::ReadWrite);
        let (old, base, new) = (open("old")?, open("base")?, open("new")?);
        let is_pinned = |id: MapId| {
            observed.interfaces.values().any(|pinned| pinned.maps.get(&name).is_some_and(|map| map.id == id))
        };
        let (forward, back) = (is_pinned(new.id()), is_pinned(old.id()));
        if !forward && !back {
            continue;
        }
        if !std::mem::replace(&mut waited, true) {
            rcu::wait_grace_period()?;
        }
        let trio = Trio::new(&name, old, base, new, settings)?;
        let settled = if forward { trio.settle(&mut |_| Ok(())) } else { trio.settle_back().map(drop) };
        match settled {
            // What has no room now will have none later on: nothing is gained by trying again at every run.
            Err(CarryError::Impossible(why)) => output::say(format_args!("{directory}: {why}")),
            other => other?,
        }
    }
    Ok(remove(root, directory)?)
}

/// Removes the directory. The rules go first: without them the rest means nothing.
pub(in crate::execute) fn remove(root: &Dir, directory: &str) -> Result<(), xdpd_kernel::Error> {
    let Some(dir) = root.find_dir(directory)?.found() else { return Ok(()) };
    let (rules, pins): (Vec<_>, Vec<_>) =
        dir.list()?.into_iter().partition(|entry| entry.kind == EntryKind::Symlink);
    for entry in rules.iter().chain(&pins) {
        dir.unlink(&entry.name)?;
    }
    root.rmdir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xdpd_config::Merge;

    #[test]
    fn rules_are_read_as_they_were_written() {
        let merge = [("flow.seen".to_owned(), Merge::Max), ("a/b".to_owned(), Merge::Old)].into();
        for settings in [Settings { merge, lossy: true }, Settings::default()] {
            assert_eq!(parse(&format(&settings)), Some(settings));
        }
        assert_eq!(parse("something else"), None);
        assert_eq!(parse("rules: seen=latest"), None);
    }
}
