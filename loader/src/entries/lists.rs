//! The entries of all maps of a file, with those of its lists, which are read here.

use std::collections::BTreeMap;
use std::sync::Arc;

use xdpd_config::{Config, Diagnostic, Diagnostics, Entries, EntriesSource, List, LoadError, Program};

use super::declared::{Declared, is_supported};
use super::notation::Notation;
use crate::object::MapSpec;
use crate::objects::{Loaded, Objects};

/// What maps are to hold, by program and map.
#[derive(Debug, Default)]
pub struct Lists {
    declared: BTreeMap<(String, String), Arc<Declared>>,
}

/// What is wrong with entries.
#[derive(Debug, Default)]
pub struct Problems {
    /// Where the file says it.
    pub in_config: Vec<Diagnostic>,
    /// In each of the lists.
    pub in_lists: Vec<Diagnostics>,
}

impl Problems {
    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.in_config.is_empty() && self.in_lists.is_empty()
    }
}

impl Lists {
    /// Reads the lists that a file names, and checks all entries against the types of their maps.
    ///
    /// Maps of objects that have a problem, and those that an object does not have, are left out: that is told where
    /// objects are ([`Objects::problems`]).
    pub fn read(config: &Config, objects: &Objects) -> (Self, Problems) {
        let mut lists = Self::default();
        let mut problems = Problems::default();
        for program in config.programs.values() {
            let Some(loaded) = objects.get(&program.object.value) else { continue };
            for (name, settings) in &program.maps {
                let (Some(entries), Some(spec)) = (&settings.entries, loaded.object.maps().get(name)) else {
                    continue;
                };
                if let Some(declared) = read(program, name, entries, loaded, spec, &mut problems) {
                    lists.declared.insert((program.name.clone(), name.clone()), Arc::new(declared));
                }
            }
        }
        (lists, problems)
    }

    /// What a map of a program is to hold; `None` where that is not the file's business.
    pub fn get(&self, program: &Program, map: &str) -> Option<&Arc<Declared>> {
        self.declared.get(&(program.name.clone(), map.to_owned()))
    }
}

fn read(
    program: &Program,
    map: &str,
    entries: &Entries,
    loaded: &Loaded,
    spec: &MapSpec,
    problems: &mut Problems,
) -> Option<Declared> {
    let what = format!("program `{}`, map `{map}`", program.name);
    let mut refuse = |message: String, span| problems.in_config.push(Diagnostic::new(message).at(span));
    if let Err(why) = is_supported(spec) {
        refuse(format!("{what} cannot have `entries`: {why}"), entries.span.clone());
        return None;
    }
    let list;
    let (wanted, list) = match &entries.source {
        EntriesSource::Inline(inline) => (inline, None),
        EntriesSource::File(path) => match List::load(&path.value) {
            Ok(loaded) => {
                list = loaded;
                (&list.entries, Some(&list))
            }
            Err(LoadError::Invalid(found)) => {
                problems.in_lists.push(found);
                return None;
            }
            Err(other) => {
                refuse(format!("entries of {what}: {other}"), path.span.clone());
                return None;
            }
        },
    };
    let Some(notation) = Notation::of(spec, loaded.object.btf(), wanted) else {
        refuse(format!("{what} cannot have `entries`: its types cannot be told"), entries.span.clone());
        return None;
    };
    let default = match entries.value.as_ref().map(|value| notation.typed_value(value)).transpose() {
        Ok(default) => default,
        Err(problem) => {
            problems.in_config.push(problem.diagnostic(&format!("{what}: `value`")));
            return None;
        }
    };
    match (Declared::new(&what, spec.def, notation, wanted, default.as_deref()), list) {
        (Ok(declared), _) => Some(declared),
        (Err(found), Some(list)) => {
            problems.in_lists.push(list.diagnostics(found));
            None
        }
        (Err(found), None) => {
            let place = |problem: Diagnostic| Diagnostic {
                span: Some(problem.span.clone().unwrap_or_else(|| entries.span.clone())),
                ..problem
            };
            problems.in_config.extend(found.into_iter().map(place));
            None
        }
    }
}
