//! Why a program is loaded anew.

use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::join_some;
use xdpd_config::record::Record;

use crate::desired::Instance;
use crate::globals::Global;
use crate::observed::{LinkState, Pinned};

/// As many global variables are named.
const GLOBALS_SHOWN: usize = 3;
/// As many of the programs in a map are named.
const PROGRAMS_SHOWN: usize = 8;

/// Why the program of an interface is loaded anew; empty where it is kept.
pub(super) fn reload_reasons(instance: &Instance, pinned: &Pinned) -> Vec<String> {
    let Ok(record) = &pinned.record else { return Vec::new() };
    let mut reasons = Vec::new();
    if record.object != instance.digest {
        reasons.push(format!("object {} -> {}", short(&record.object), short(&instance.digest)));
    }
    if record.function != instance.function {
        reasons.push(format!("function {} -> {}", record.function, instance.function));
    }
    reasons.extend(other_globals(instance, pinned));
    match &pinned.link {
        LinkState::Missing | LinkState::NotALink(_) => reasons.push("the program no longer runs".into()),
        LinkState::Defunct { program, .. } | LinkState::Live { program, .. }
            if program.0 != record.program =>
        {
            reasons.push(format!("program {program} runs, which xdpd has not loaded"));
        }
        LinkState::Defunct { .. } | LinkState::Live { .. } => {}
    }
    if reasons.is_empty() {
        reasons.extend(lost_programs(instance, pinned, record));
    }
    if !instance.maps.keys().eq(record.maps.keys()) && reasons.is_empty() {
        reasons.push("its maps are not those of the object".into());
    }
    reasons
}

/// `sha256:0123456789ab…` is enough for people.
fn short(digest: &str) -> String {
    digest.split_once(':').map_or_else(
        || digest.to_owned(),
        |(kind, hex)| format!("{kind}:{}", hex.chars().take(12).collect::<String>()),
    )
}

/// Why the program is loaded anew on account of its variables.
fn other_globals(instance: &Instance, pinned: &Pinned) -> Option<String> {
    let record = pinned.record.as_ref().ok()?;
    if record.globals == instance.globals.digest() {
        return None;
    }
    let names: Vec<&str> = differences(instance, Some(pinned)).map(|difference| difference.name).collect();
    Some(match &names[..] {
        [] => "globals".to_owned(),
        [name] => format!("global {name}"),
        _ => format!("globals {}", join_some(names, GLOBALS_SHOWN)),
    })
}

/// A variable whose value is not the recorded one.
pub(super) struct Difference<'a> {
    pub(super) name: &'a str,
    pub(super) recorded: Option<&'a str>,
    pub(super) set: Option<&'a Global>,
}

pub(super) fn differences<'a>(
    instance: &'a Instance,
    pinned: Option<&'a Pinned>,
) -> impl Iterator<Item = Difference<'a>> {
    let recorded = pinned.and_then(|pinned| Some(&pinned.record.as_ref().ok()?.values));
    let set = instance.globals.set();
    let names: BTreeSet<&String> = recorded.into_iter().flat_map(BTreeMap::keys).chain(set.keys()).collect();
    names.into_iter().filter_map(move |name| {
        let recorded = recorded.and_then(|recorded| recorded.get(name)).map(String::as_str);
        let set = set.get(name);
        match (set, recorded) {
            (Some(global), Some(recorded)) if global.is_recorded_as(recorded) => None,
            _ => Some(Difference { name, recorded, set }),
        }
    })
}

/// Why the program is loaded anew on account of programs that it jumps to: an array has lost them. The kernel empties one
/// as soon as nothing but programs refers to it (`prog_array_map_clear` in kernel/bpf/arraymap.c), and a pin that was
/// removed and made again does not bring them back.
fn lost_programs(instance: &Instance, pinned: &Pinned, record: &Record) -> Option<String> {
    instance.maps.iter().find_map(|(name, map)| {
        let (programs, recorded) = (map.spec.programs()?, record.maps.get(name)?);
        let Some(now) = pinned.maps.get(name).filter(|now| now.id.0 == *recorded) else {
            return Some(format!("map {name} has lost its pin, and its programs with it"));
        };
        let slots = now.slots.as_ref()?;
        let lost = programs.iter().filter(|(index, _)| !slots.contains_key(&index.to_ne_bytes()[..]));
        let lost: BTreeSet<&str> = lost.map(|(_, name)| &**name).collect();
        (!lost.is_empty()).then(|| format!("map {name} has lost {}", join_some(lost, PROGRAMS_SHOWN)))
    })
}
