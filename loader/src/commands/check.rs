//! `xdpd check`: everything that can be known of a file and its objects offline and without privileges.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::anyhow;
use xdpd_config::{Config, ObjectRef, Program, Selector, trust};

use super::{Failure, Inputs, Outcome};
use crate::entries::Lists;
use crate::exit::Exit;
use crate::lints::lints;
use crate::object::explain::Explanation;
use crate::objects::{self, Loaded, Objects};
use crate::output::check::{
    ConfigFacts, FORMAT_VERSION, InterfaceFacts, ObjectFacts, ProgramUse, Report, RunBy, text,
};
use crate::output::{self, json};

/// Checks; prints what the file describes and what its objects hold. `file` may be an object itself.
pub fn run(file: Option<&Path>, json: bool) -> Outcome {
    if let Some(path) = file.filter(|path| is_elf(path)) {
        return run_object(path, json);
    }
    let inputs = Inputs::read(file)?;
    inputs.check()?;
    print(&report(&inputs.config, &inputs.objects, &inputs.lists), json)
}

/// Whether the file is an object. Anything else is a config, which says what is wrong with it.
fn is_elf(path: &Path) -> bool {
    let Ok(mut file) = trust::open(path) else { return false };
    let mut magic = [0; 4];
    file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF"
}

fn run_object(path: &Path, json: bool) -> Outcome {
    let loaded = objects::read(&ObjectRef::File(path.to_owned())).map_err(Failure::refused)?;
    if let Some(defect) = loaded.object.programs().iter().map(|p| &p.defect).min().and_then(Option::as_ref) {
        return Err(Failure::refused(anyhow!("{}: {defect}", path.display())));
    }
    print(&Report::of_object(path.display().to_string(), &loaded.object), json)
}

fn print(report: &Report<'_>, json: bool) -> Outcome {
    if json { output::data(&json::line(report)) } else { output::show(&text(report)) }
        .map_err(Failure::refused)?;
    Ok(Exit::Done)
}

fn report<'a>(config: &'a Config, objects: &'a Objects, lists: &Lists) -> Report<'a> {
    let default = Config::default_program();
    let uses_default = config.interfaces.iter().any(|i| i.program.is_none());
    let programs: Vec<(&Program, &Loaded, String)> = config
        .programs
        .values()
        .chain(uses_default.then_some(&default))
        .filter_map(|program| {
            let loaded = objects.get(&program.object.value)?;
            Some((program, loaded, loaded.function(program).ok()?))
        })
        .collect();
    let mut by_object: BTreeMap<String, (&Loaded, BTreeMap<String, Vec<String>>)> = BTreeMap::new();
    for (program, loaded, function) in &programs {
        let (_, run_by) =
            by_object.entry(program.object.value.to_string()).or_insert_with(|| (*loaded, BTreeMap::new()));
        let runs = config.interfaces.iter().filter(|i| config.program_of(i).name == program.name);
        run_by.entry(function.clone()).or_default().extend(runs.map(|i| key(&i.selector)));
    }
    Report {
        format_version: FORMAT_VERSION,
        config: Some(ConfigFacts { path: config.path.display().to_string(), sha256: &config.sha256 }),
        interfaces: config.interfaces.iter().map(|i| interface(config, i)).collect(),
        programs: programs
            .iter()
            .map(|(program, loaded, function)| ProgramUse {
                globals: program
                    .globals
                    .iter()
                    .map(|g| (g.name.value.clone(), g.value.value.to_string()))
                    .collect(),
                program: program.name.clone(),
                object: program.object.value.to_string(),
                function: function.clone(),
                entries: loaded
                    .object
                    .maps()
                    .keys()
                    .filter_map(|map| Some((map.clone(), lists.get(program, map)?.len())))
                    .collect(),
            })
            .collect(),
        objects: by_object
            .into_iter()
            .map(|(object, (loaded, run_by))| ObjectFacts {
                object,
                run_by: run_by
                    .into_iter()
                    .map(|(function, interfaces)| RunBy { function, interfaces })
                    .collect(),
                explanation: Explanation::of(&loaded.object),
            })
            .collect(),
        notes: lints(config),
    }
}

fn interface(config: &Config, interface: &xdpd_config::Interface) -> InterfaceFacts {
    InterfaceFacts {
        interface: key(&interface.selector),
        device: match &interface.selector {
            Selector::Device { device, .. } => Some(device.clone()),
            Selector::Glob { .. } => None,
        },
        netns: interface.netns.clone(),
        program: config.program_of(interface).name.clone(),
        modes: interface.modes.iter().map(ToString::to_string).collect(),
        optional: interface.optional,
        except: match &interface.selector {
            Selector::Device { .. } => Vec::new(),
            Selector::Glob { except, .. } => except.iter().map(ToString::to_string).collect(),
        },
    }
}

fn key(selector: &Selector) -> String {
    match selector {
        Selector::Device { label, .. } => label.to_string(),
        Selector::Glob { glob, .. } => glob.as_str().to_owned(),
    }
}
