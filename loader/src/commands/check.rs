//! `xdpd check`: everything that can be known of a file offline and without privileges.

use std::fmt::Write;

use xdpd_config::{Config, ObjectRef, Program, Selector};
use xdpd_kernel::map::map_type_name;

use super::{Failure, Inputs, Outcome, diagnosed};
use crate::cli::ConfigArg;
use crate::entries::{Lists, grouped};
use crate::exit::Exit;
use crate::object::MapOrigin;
use crate::objects::{Loaded, Objects};
use crate::output::{self, human::printable};

/// Checks; prints what the file describes.
pub fn run(config: &ConfigArg) -> Outcome {
    let Inputs { config, objects, lists } = Inputs::read(config.config.as_deref())?;
    let problems = objects.problems(&config);
    if !problems.is_empty() {
        return Err(diagnosed(&config.diagnostics(problems)));
    }
    output::data(&describe(&config, &objects, &lists)).map_err(Failure::refused)?;
    Ok(Exit::Done)
}

fn describe(config: &Config, objects: &Objects, lists: &Lists) -> String {
    let mut out = format!("{}: ok\n", config.path.display());
    for interface in &config.interfaces {
        let program = config.program_of(interface);
        let modes: Vec<String> = interface.modes.iter().map(ToString::to_string).collect();
        let (what, name) = match &interface.selector {
            Selector::Device { label, device } if label.as_str() == device => ("interface", device.clone()),
            Selector::Device { label, device } => ("interface", format!("{label} (device {device})")),
            Selector::Glob(glob) => ("interfaces", glob.as_str().to_owned()),
        };
        let place =
            interface.netns.as_ref().map_or_else(String::new, |n| format!(" in netns {}", printable(n)));
        let _ = writeln!(
            out,
            "{what} {}{place}: program {}, {}",
            printable(&name),
            printable(&program.name),
            modes.join(" or ")
        );
    }
    let default = Config::default_program();
    let uses_default = config.interfaces.iter().any(|i| i.program.is_none());
    for program in config.programs.values().chain(uses_default.then_some(&default)) {
        if let Some(loaded) = objects.get(&program.object.value) {
            describe_program(&mut out, program, loaded, lists);
        }
    }
    out
}

fn describe_program(out: &mut String, program: &Program, loaded: &Loaded, lists: &Lists) {
    let Ok(function) = loaded.object.program(program.function()) else { return };
    let object = match &program.object.value {
        ObjectRef::Builtin => "the builtin object".to_owned(),
        ObjectRef::File(path) => path.display().to_string(),
    };
    let dialect = loaded.object.dialect();
    let license = match loaded.object.license() {
        "" => "no license".to_owned(),
        license => format!("license {license}"),
    };
    let btf = if loaded.object.btf().is_some() { "BTF" } else { "no BTF" };
    let frags = if function.frags { ", frags" } else { "" };
    let core = if function.needs_kernel_types { ", CO-RE" } else { "" };
    let _ = writeln!(
        out,
        "program {}: {} of {} ({dialect}, {btf}, {license}{frags}{core})",
        printable(&program.name),
        function.name,
        printable(&object)
    );
    for (name, map) in loaded.object.maps() {
        if map.origin == MapOrigin::ReadOnlyData {
            continue;
        }
        let def = &map.def;
        let holds = match lists.get(program, name) {
            Some(declared) => format!(", of which the file fills {}", grouped(declared.len())),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "  map {name}: {}, key {} B, value {} B, {} entries{holds}",
            map_type_name(def.map_type),
            def.key_size,
            def.value_size,
            def.max_entries
        );
    }
}
