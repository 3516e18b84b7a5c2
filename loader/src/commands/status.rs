//! `xdpd status`: what is attached and pinned, as the kernel tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use xdpd_config::{Config, LoadError, Record, Selector, Value};
use xdpd_kernel::program::Program;
use xdpd_kernel::{MapId, ProgramId, clock};

use super::{Failure, Outcome, find, kernel_failure, load_failure};
use crate::cli::ConfigArg;
use crate::devices::Devices;
use crate::dispatcher::Dispatcher;
use crate::entries::{Content, entry_count};
use crate::exit::Exit;
use crate::globals::recorded_value;
use crate::mode;
use crate::observed::{self, LinkState, Observed, Pinned};
use crate::output::{self, Screen, json};
use crate::plan::{self, Drift, Note};

#[derive(Serialize)]
struct Status {
    format_version: &'static str,
    config: String,
    pin_root: String,
    interfaces: Vec<Interface>,
    foreign_programs: Vec<ForeignProgram>,
    foreign_pins: Vec<ForeignPin>,
    interrupted: Vec<String>,
    drift: Vec<Drift>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
}

#[derive(Serialize)]
struct Interface {
    #[serde(rename = "interface")]
    label: String,
    device: Option<String>,
    ifindex: Option<u32>,
    netns: Option<String>,
    mode: Option<String>,
    state: &'static str,
    owner: Option<String>,
    generation: Option<u64>,
    link_id: Option<u32>,
    program: Option<RunningProgram>,
    globals: BTreeMap<String, Option<Value>>,
    maps: Vec<PinnedMap>,
    retired: Vec<String>,
    error: Option<String>,
}

#[derive(Serialize)]
struct RunningProgram {
    id: u32,
    name: String,
    tag: String,
    function: Option<String>,
    digest: Option<String>,
    loaded_at: Option<String>,
}

#[derive(Serialize)]
struct PinnedMap {
    name: String,
    id: u32,
    /// How many, where the file says what it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<usize>,
}

#[derive(Serialize)]
struct ForeignProgram {
    device: String,
    netns: Option<String>,
    mode: String,
    program_id: u32,
    what: String,
    dispatcher: Option<Dispatcher>,
}

#[derive(Serialize)]
struct ForeignPin {
    path: String,
    what: String,
}

/// Reads and prints; changes nothing. What is attached can be told whatever is wrong with the file or its objects.
pub fn run(config: &ConfigArg, as_json: bool) -> Outcome {
    let path = find(config.config.as_deref())?;
    let (pin_root, entries, filled) = match Config::load(&path) {
        Ok(config) => {
            let maps = config.programs.into_values().flat_map(|program| program.maps);
            let filled = maps.filter(|(_, settings)| settings.entries.is_some()).map(|(name, _)| name);
            (config.pin_root, config.interfaces, filled.collect())
        }
        Err(LoadError::Invalid(_)) => {
            let pin_root = Config::load_pin_root(&path).map_err(load_failure)?;
            output::say("the file has errors, which `xdpd check` tells; this is what is pinned");
            (pin_root, Vec::new(), BTreeSet::new())
        }
        Err(other) => return Err(load_failure(other)),
    };
    let devices =
        Devices::observe(entries.iter().map(|entry| entry.netns.as_deref())).map_err(kernel_failure)?;
    let leftovers = observed::leftovers(&pin_root).map_err(kernel_failure)?;
    let mut observed = observed::observe(&pin_root, devices, leftovers).map_err(kernel_failure)?;
    // What lies in a pin root that is not used was not read: nobody knows what is pinned.
    if let Some(problem) = observed.root.problem(&pin_root) {
        return Err(Failure::refused(anyhow!(problem)));
    }
    observed.read_contents(&filled_maps(&path, &filled, &observed)).map_err(kernel_failure)?;
    let status = collect(&path, &pin_root, &observed, &entries).map_err(kernel_failure)?;
    if as_json {
        output::data(&json::line(&status)).map_err(Failure::refused)?;
    } else {
        output::show(&table(&status, output::stdout_width())).map_err(Failure::refused)?;
    }
    Ok(Exit::Done)
}

/// The pinned maps of this config that have one of these names.
fn filled_maps(config: &Path, names: &BTreeSet<String>, observed: &Observed) -> BTreeSet<MapId> {
    let ours = observed.interfaces.values().filter(|p| p.record.as_ref().is_ok_and(|r| r.config == config));
    let maps = ours.flat_map(|pinned| &pinned.maps).filter(|(name, _)| names.contains(*name));
    maps.map(|(_, map)| map.id).collect()
}

fn collect(
    config: &Path,
    root: &Path,
    observed: &Observed,
    entries: &[xdpd_config::Interface],
) -> Result<Status, xdpd_kernel::Error> {
    let interfaces = observed.interfaces.iter();
    let interfaces = interfaces.map(|(label, pinned)| interface(label.as_str(), pinned, observed));
    Ok(Status {
        format_version: "1.0",
        config: config.display().to_string(),
        pin_root: root.display().to_string(),
        interfaces: interfaces.collect::<Result<_, _>>()?,
        foreign_programs: foreign_programs(observed),
        foreign_pins: observed
            .foreign
            .iter()
            .map(|f| ForeignPin { path: root.join(&f.name).display().to_string(), what: in_words(f) })
            .collect(),
        interrupted: observed.interrupted.iter().map(|i| i.directory().to_owned()).collect(),
        drift: observed
            .interfaces
            .iter()
            .flat_map(|(label, pinned)| plan::drift(label, pinned, &observed.devices))
            .collect(),
        notes: entries.iter().filter_map(|entry| absent(entry, &observed.devices)).collect(),
    })
}

/// What a foreign entry is, and whose, where that matters.
fn in_words(foreign: &observed::ForeignPin) -> String {
    match foreign.untrusted {
        Some(permissions) => format!("{}: {permissions}", foreign.what),
        None => foreign.what.to_owned(),
    }
}

/// The device of an entry is not there. Of a pattern, none need be.
fn absent(entry: &xdpd_config::Interface, devices: &Devices) -> Option<Note> {
    let Selector::Device { label, device } = &entry.selector else { return None };
    let netns = entry.netns.as_deref();
    let optional = if entry.optional { " (optional)" } else { "" };
    devices
        .device(netns, device)
        .is_none()
        .then(|| Note::of(label, format!("{}{optional}", devices.absence(netns, device))))
}

fn interface(label: &str, pinned: &Pinned, observed: &Observed) -> Result<Interface, xdpd_kernel::Error> {
    let record = pinned.record.as_ref().ok();
    let (state, link_id) = match &pinned.link {
        LinkState::Live { id, .. } => ("attached", Some(id.0)),
        LinkState::Defunct { id, .. } if record.is_some_and(|r| plan::is_in_place(r, &observed.devices)) => {
            ("detached", Some(id.0))
        }
        LinkState::Defunct { id, .. } => ("device gone", Some(id.0)),
        LinkState::Missing => ("not attached", None),
        LinkState::NotALink(_) => ("no link", None),
    };
    let device = observed.devices.iter().find(|(_, d)| pinned.runs_on(d));
    let running =
        device.and_then(|(_, d)| d.xdp.iter().find(|a| Some(a.program_id) == pinned.link.program()));
    let mode = running.map(|a| mode::of_kernel(a.mode)).or(record.map(|r| r.mode));
    let program = pinned.link.program().map(|id| running_program(id, pinned)).transpose()?.flatten();
    Ok(Interface {
        label: label.to_owned(),
        device: device.map(|(_, d)| d.name.clone()).or_else(|| record.map(|r| r.device.clone())),
        ifindex: match pinned.link {
            LinkState::Live { ifindex, .. } => Some(ifindex.0),
            _ => None,
        },
        netns: record.and_then(|r| r.netns_name.clone()),
        mode: mode.map(|m| m.to_string()),
        state,
        owner: record.map(|r| r.config.display().to_string()),
        generation: record.map(|r| r.generation),
        link_id,
        program,
        globals: record.map(globals).unwrap_or_default(),
        maps: pinned.maps.iter().map(|(name, map)| pinned_map(name, map.id, observed)).collect(),
        retired: pinned.retired.iter().map(|r| r.pin.clone()).collect(),
        error: pinned.record.as_ref().err().cloned(),
    })
}

/// The values that were set, as far as the record has them.
fn globals(record: &Record) -> BTreeMap<String, Option<Value>> {
    record.values.iter().map(|(name, text)| (name.clone(), recorded_value(text))).collect()
}

fn pinned_map(name: &str, id: MapId, observed: &Observed) -> PinnedMap {
    PinnedMap { name: name.to_owned(), id: id.0, entries: observed.contents.get(&id).map(Content::len) }
}

/// What a program is; `None` where it went away meanwhile.
fn running_program(id: ProgramId, pinned: &Pinned) -> Result<Option<RunningProgram>, xdpd_kernel::Error> {
    let Some(program) = Program::find_by_id(id)? else { return Ok(None) };
    let info = program.info()?;
    let record = pinned.record.as_ref().ok().filter(|r| r.program == id.0);
    Ok(Some(RunningProgram {
        id: id.0,
        tag: info.tag_hex(),
        name: info.name,
        function: record.map(|r| r.function.clone()),
        digest: record.map(|r| r.object.clone()),
        loaded_at: wall_clock(info.load_time),
    }))
}

/// The wall-clock time of something that the kernel dates since boot.
fn wall_clock(since_boot: Duration) -> Option<String> {
    let ago = SignedDuration::try_from(clock::boottime().checked_sub(since_boot)?).ok()?;
    let then = Timestamp::now().checked_sub(ago).ok()?;
    Some(then.round(jiff::Unit::Second).ok()?.to_string())
}

fn foreign_programs(observed: &Observed) -> Vec<ForeignProgram> {
    let attached = observed.devices.iter().flat_map(|(netns, d)| d.xdp.iter().map(move |a| (netns, d, a)));
    attached
        .filter_map(|(netns, device, attached)| {
            let foreign = observed.foreign_programs.get(&(attached.program_id, device.ifindex))?;
            Some(ForeignProgram {
                device: device.name.clone(),
                netns: netns.map(str::to_owned),
                mode: mode::of_kernel(attached.mode).to_string(),
                program_id: attached.program_id.0,
                what: foreign.to_string(),
                dispatcher: foreign.dispatcher,
            })
        })
        .collect()
}

/// A table of this width, and notes below it.
fn table(status: &Status, width: usize) -> Screen {
    let mut out = Screen::default();
    if status.interfaces.is_empty() {
        out.line(format_args!("Nothing of xdpd's is pinned under {}.", status.pin_root));
    } else {
        let rows: Vec<[String; 6]> = status.interfaces.iter().map(row).collect();
        // Names are whole in the notes below, and in the JSON.
        let head = ["INTERFACE", "DEVICE", "MODE", "PROGRAM", "ID", "SINCE"];
        out.append(&output::table(head, &rows, width, &[&[0, 1], &[3]]));
    }
    for interface in &status.interfaces {
        if !interface.globals.is_empty() {
            let values = interface.globals.iter().map(|(name, value)| match value {
                Some(value) => format!("{name} = {value}"),
                None => format!("{name} (a long value)"),
            });
            let values: Vec<String> = values.collect();
            out.line(format_args!("{}: {}", interface.label, values.join(", ")));
        }
        if let Some(error) = &interface.error {
            out.line(format_args!("{}: its record cannot be read: {error}", interface.label));
        }
        if let Some(owner) = interface.owner.as_ref().filter(|owner| **owner != status.config) {
            out.line(format_args!("{}: belongs to {owner}", interface.label));
        }
    }
    for interface in &status.interfaces {
        for PinnedMap { name, entries, .. } in &interface.maps {
            let Some(count) = entries else { continue };
            let label = &interface.label;
            out.line(format_args!("{label}: map {name} holds {}", entry_count(*count)));
        }
    }
    // The note of an absent device tells the same, and more.
    let noted = |label: &str| status.notes.iter().any(|note| note.interface.as_deref() == Some(label));
    for drift in status.drift.iter().filter(|drift| !(drift.device_gone && noted(&drift.interface))) {
        out.line(format_args!("drift of {}: {}", drift.interface, drift.what));
    }
    for note in &status.notes {
        out.line(note);
    }
    for foreign in &status.foreign_programs {
        let place = foreign.netns.as_ref().map_or_else(String::new, |n| format!(" in netns {n}"));
        out.line(format_args!(
            "foreign: {}{place} runs {}, id {}, in {} mode",
            foreign.device, foreign.what, foreign.program_id, foreign.mode
        ));
    }
    for pin in &status.foreign_pins {
        out.line(format_args!("foreign: {} is {}", pin.path, pin.what));
    }
    for leftover in &status.interrupted {
        out.line(format_args!("interrupted run: {leftover} is settled by the next apply or detach"));
    }
    out
}

fn row(interface: &Interface) -> [String; 6] {
    let dash = || "-".to_owned();
    let program = interface.program.as_ref();
    [
        interface.label.clone(),
        interface.device.as_deref().map_or_else(dash, |device| match &interface.netns {
            Some(netns) => format!("{netns}:{device}"),
            None => device.to_owned(),
        }),
        // What does not run has no mode.
        if interface.state == "attached" {
            interface.mode.clone().unwrap_or_else(dash)
        } else {
            interface.state.to_owned()
        },
        program.map_or_else(dash, |p| p.function.as_ref().unwrap_or(&p.name).clone()),
        program.map_or_else(dash, |p| p.id.to_string()),
        program.and_then(|p| p.loaded_at.clone()).unwrap_or_else(dash),
    ]
}
