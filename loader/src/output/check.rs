//! What `check` found, as people read it. Tools get the same as one line of JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::Screen;
use crate::entries::entry_count;
use crate::object::Object;
use crate::object::explain::{
    DefFacts, Explanation, InnerFacts, MapFacts, OLDEST_KERNEL, ProgramFacts, SlotFacts, VariableFacts,
};
use crate::plan::Note;

/// Version of the report's JSON.
pub const FORMAT_VERSION: &str = "1.0";

/// Everything that `check` tells.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Of this document.
    pub format_version: &'static str,
    /// The file; none where an object was given instead.
    pub config: Option<ConfigFacts<'a>>,
    /// Its interfaces, in the order of the file.
    pub interfaces: Vec<InterfaceFacts>,
    /// Its programs, by name.
    pub programs: Vec<ProgramUse>,
    /// The objects of those programs.
    pub objects: Vec<ObjectFacts<'a>>,
    /// What the file says without effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

impl<'a> Report<'a> {
    /// Of an object alone.
    pub fn of_object(name: String, object: &'a Object) -> Self {
        let facts = ObjectFacts { object: name, run_by: Vec::new(), explanation: Explanation::of(object) };
        Self {
            format_version: FORMAT_VERSION,
            config: None,
            interfaces: Vec::new(),
            programs: Vec::new(),
            objects: vec![facts],
            notes: Vec::new(),
        }
    }
}

/// Which file.
#[derive(Debug, Serialize)]
pub struct ConfigFacts<'a> {
    /// Its path.
    pub path: String,
    /// SHA-256.
    pub sha256: &'a str,
}

/// An entry of `interfaces`.
#[derive(Debug, Serialize)]
pub struct InterfaceFacts {
    /// Its key: a label or a glob.
    pub interface: String,
    /// The device's name; none for a glob.
    pub device: Option<String>,
    /// The network namespace, as the file has it.
    pub netns: Option<String>,
    /// The program it runs.
    pub program: String,
    /// Modes, in the order in which they are tried.
    pub modes: Vec<String>,
    /// The device may be absent.
    pub optional: bool,
    /// Of a glob: the patterns of devices that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// An entry of `programs`, or the default program where it is used.
#[derive(Debug, Serialize)]
pub struct ProgramUse {
    /// Its name.
    pub program: String,
    /// The path of its object, or `builtin`.
    pub object: String,
    /// The function of it.
    pub function: String,
    /// The global variables that the file sets, with the values in the words of the file.
    pub globals: BTreeMap<String, String>,
    /// The maps that the file fills, and with how many entries.
    pub entries: BTreeMap<String, usize>,
}

/// An object, and who runs what of it.
#[derive(Debug, Serialize)]
pub struct ObjectFacts<'a> {
    /// Its path, or `builtin`.
    pub object: String,
    /// For each of its programs that a program of the file is: the interfaces that run it.
    pub run_by: Vec<RunBy>,
    /// What it holds.
    #[serde(flatten)]
    pub explanation: Explanation<'a>,
}

/// The interfaces that run a function.
#[derive(Debug, Serialize)]
pub struct RunBy {
    /// The function.
    pub function: String,
    /// Keys of `interfaces`.
    pub interfaces: Vec<String>,
}

/// The report as text.
pub fn text(report: &Report<'_>) -> Screen {
    let mut out = Screen::default();
    if let Some(config) = &report.config {
        out.line(format_args!("{}: ok", config.path));
    }
    for interface in &report.interfaces {
        write_interface(&mut out, interface);
    }
    for program in &report.programs {
        let ProgramUse { program: name, object, function, .. } = program;
        out.line(format_args!("program {name}: {function} of {object}"));
        for (variable, value) in &program.globals {
            out.line(format_args!("  sets {variable} = {value}"));
        }
        for (map, count) in &program.entries {
            out.line(format_args!("  fills map {map} with {}", entry_count(*count)));
        }
    }
    for note in &report.notes {
        out.wrapped("note: ", "  ", &note.to_string());
    }
    for object in &report.objects {
        if !out.is_empty() {
            out.blank();
        }
        write_object(&mut out, object);
    }
    out
}

fn write_interface(out: &mut Screen, interface: &InterfaceFacts) {
    let InterfaceFacts { interface: name, device, netns, program, .. } = interface;
    let what = match device {
        None => format!("interfaces {name}"),
        Some(device) if device == name => format!("interface {name}"),
        Some(device) => format!("interface {name} (device {device})"),
    };
    let netns = netns.as_ref().map_or_else(String::new, |netns| format!(" in netns {netns}"));
    let except = if interface.except.is_empty() {
        String::new()
    } else {
        format!(" except {}", interface.except.join(", "))
    };
    let optional = if interface.optional { ", optional" } else { "" };
    let modes = interface.modes.join(" or ");
    out.line(format_args!("{what}{netns}{except}: program {program}, {modes}{optional}"));
}

fn write_object(out: &mut Screen, object: &ObjectFacts<'_>) {
    let explanation = &object.explanation;
    let btf = if explanation.btf { "BTF" } else { "no BTF" };
    let license = match (explanation.license, explanation.gpl_compatible) {
        ("", _) => "no license".to_owned(),
        (license, true) => format!("license {license}"),
        (license, false) => format!("license {license} (for the kernel not the GPL)"),
    };
    out.line(format_args!("object {}: {}, {btf}, {license}", object.object, explanation.dialect));
    // The builtin object is the same for everybody: who uses one function of it wants to read of that one.
    let is_builtin = object.object == "builtin" && !object.run_by.is_empty();
    let mut others = Vec::new();
    for program in &explanation.programs {
        let run_by = object.run_by.iter().find(|run_by| run_by.function == program.name);
        if is_builtin && run_by.is_none() {
            others.push(program.name);
        } else {
            write_program(out, program, run_by);
        }
    }
    if !others.is_empty() {
        out.line(format_args!("  and {}, which the file does not use", others.join(", ")));
    }
    for map in &explanation.maps {
        write_map(out, map);
    }
}

fn write_program(out: &mut Screen, program: &ProgramFacts<'_>, run_by: Option<&RunBy>) {
    let count = program.instructions;
    let instructions = if count == 1 { "instruction" } else { "instructions" };
    out.line(format_args!(
        "  program {}: {count} {instructions} in section {}",
        program.name, program.section
    ));
    match run_by.map(|run_by| &*run_by.interfaces) {
        None => {}
        Some([]) => detail(out, "run by", "no interface"),
        Some(interfaces) => {
            detail(out, "run by", &interfaces.join(", "));
        }
    }
    if let Some(defect) = program.defect {
        detail(out, "defect", defect);
    }
    if !program.maps.is_empty() {
        detail(out, "maps", &program.maps.join(", "));
    }
    if !program.helpers.is_empty() {
        detail(out, "helpers", &program.helpers.join(", "));
    }
    if !program.features.is_empty() {
        let features: Vec<&str> = program.features.iter().map(|feature| feature.words()).collect();
        detail(out, "uses", &features.join(", "));
    }
    detail(out, "kernel", &kernel(program));
    for note in &program.notes {
        detail(out, "note", note);
    }
}

fn kernel(program: &ProgramFacts<'_>) -> String {
    if program.kernel == OLDEST_KERNEL {
        return format!("{OLDEST_KERNEL} or newer, as xdpd itself");
    }
    format!("{} or newer, for {}", program.kernel, program.kernel_reasons.join(", "))
}

fn write_map(out: &mut Screen, map: &MapFacts<'_>) {
    out.line(format_args!(
        "  map {}: {}{}",
        map.name,
        shape(&map.def),
        if map.pinned { "" } else { ", not pinned" }
    ));
    if !map.def.flags.is_empty() {
        detail(out, "flags", &map.def.flags.join(", "));
    }
    if map.def.map_extra != 0 {
        detail(out, "extra", &map.def.map_extra.to_string());
    }
    if let Some(node) = map.numa_node {
        detail(out, "node", &node.to_string());
    }
    for (what, side) in [("key", &map.key), ("value", &map.value)] {
        if let Some(side) = side {
            detail(out, what, &side.spelling);
        }
    }
    if let Some(inner) = &map.inner {
        write_inner(out, inner);
    }
    if !map.values.is_empty() {
        let value = |SlotFacts { index, name }: &SlotFacts<'_>| format!("[{index}] = {name}");
        let mut values: Vec<String> = map.values.iter().map(value).collect();
        if map.values_left_out > 0 {
            values.push(format!("and {} more", map.values_left_out));
        }
        detail(out, "values", &values.join(", "));
    }
    for variable in &map.variables {
        write_variable(out, variable);
    }
    if map.variables_left_out > 0 {
        out.line(format_args!("    and {} more variables", map.variables_left_out));
    }
}

/// The pattern of inner maps in a line.
fn write_inner(out: &mut Screen, inner: &InnerFacts) {
    let mut text = shape(&inner.def);
    if !inner.def.flags.is_empty() {
        let _ = write!(text, "; flags {}", inner.def.flags.join(", "));
    }
    if inner.def.map_extra != 0 {
        let _ = write!(text, "; extra {}", inner.def.map_extra);
    }
    for (what, side) in [("key", &inner.key), ("value", &inner.value)] {
        if let Some(side) = side {
            let _ = write!(text, "; {what} {}", side.spelling);
        }
    }
    detail(out, "inner", &text);
}

/// A definition in a line.
fn shape(DefFacts { kind, key_size, value_size, max_entries, .. }: &DefFacts) -> String {
    let entries = if *max_entries == 1 { "entry" } else { "entries" };
    format!("{kind}, key {key_size} B, value {value_size} B, {max_entries} {entries}")
}

fn write_variable(out: &mut Screen, variable: &VariableFacts) {
    let bytes = if variable.size == 1 { "byte" } else { "bytes" };
    let initial = variable.initial.as_ref().map_or_else(String::new, |value| format!(" = {value}"));
    let text = format!("{}: {}, {} {bytes}{}", variable.name, variable.spelling, variable.size, initial);
    out.wrapped("    ", "      ", &text);
}

/// A line below a program or map: what it is about, and the text.
fn detail(out: &mut Screen, what: &str, text: &str) {
    const REST: &str = "             ";
    out.wrapped(&format!("    {what:<9}"), REST, text);
}
