//! The objects that a file names: read once each, checked, and asked for their functions.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use xdpd_config::trust::{self, OpenError};
use xdpd_config::{Config, Diagnostic, ObjectRef, Program, suggest};
use xdpd_kernel::cpu;

use crate::builtin;
use crate::globals::Globals;
use crate::migrate::check_rule;
use crate::object::{MAX_OBJECT_SIZE, Machine, Object, ObjectError};

/// The objects of one file.
#[derive(Debug)]
pub struct Objects {
    by_reference: HashMap<ObjectRef, Result<Loaded, ObjectProblem>>,
}

/// An object that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it holds.
    pub object: Object,
    /// `builtin:HEX` or `sha256:HEX`.
    pub digest: String,
}

/// Why an object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectProblem {
    /// It cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others control it.
    #[error(transparent)]
    Untrusted(#[from] trust::Untrusted),
    /// It is not an object that can be loaded.
    #[error("{path}: {source}", path = .path.display())]
    Invalid {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: ObjectError,
    },
}

impl Objects {
    /// Reads and checks the objects of all programs that interfaces of the file run, and of those that none runs.
    pub fn read(config: &Config) -> Self {
        let default = Config::default_program();
        let mut by_reference = HashMap::new();
        for program in config.programs.values().chain([&default]) {
            let reference = &program.object.value;
            if !by_reference.contains_key(reference) {
                by_reference.insert(reference.clone(), read(reference));
            }
        }
        Self { by_reference }
    }

    /// No objects: for a run that loads nothing.
    pub fn none() -> Self {
        Self { by_reference: HashMap::new() }
    }

    /// The object, unless it has a problem.
    pub fn get(&self, reference: &ObjectRef) -> Option<&Loaded> {
        self.by_reference.get(reference)?.as_ref().ok()
    }

    /// The object with this digest.
    pub fn by_digest(&self, digest: &str) -> Option<&Object> {
        self.by_reference.values().flatten().find(|l| l.digest == digest).map(|l| &l.object)
    }

    /// Everything about objects that is wrong in the file, each where the file says it.
    pub fn problems(&self, config: &Config) -> Vec<Diagnostic> {
        config.programs.values().flat_map(|program| self.problems_of(program)).collect()
    }

    fn problems_of(&self, program: &Program) -> Vec<Diagnostic> {
        let loaded = match self.by_reference.get(&program.object.value) {
            Some(Ok(loaded)) => loaded,
            Some(Err(problem)) => {
                let message = format!("object of program `{}`: {problem}", program.name);
                return vec![Diagnostic {
                    help: problem.help(),
                    ..Diagnostic::new(message).at(program.object.span.clone())
                }];
            }
            None => return Vec::new(),
        };
        let mut problems = Vec::new();
        if let Err(error) = loaded.function(program) {
            let names = loaded.object.programs().iter().map(|p| &*p.name);
            // One that is there and cannot be used is no slip of the pen.
            let wanted = match &error {
                ObjectError::NoSuchFunction { wanted, .. } => Some(&**wanted),
                _ => None,
            };
            let span = program.function.as_ref().map_or(&program.object.span, |f| &f.span).clone();
            problems.push(Diagnostic {
                help: wanted
                    .and_then(|wanted| suggest(wanted, names))
                    .map(|name| format!("did you mean `{name}`?")),
                ..Diagnostic::new(format!("program `{}`: {error}", program.name)).at(span)
            });
        }
        for (name, settings) in &program.maps {
            if !loaded.object.maps().contains_key(name) {
                let have: Vec<&str> = loaded.object.maps().keys().map(|n| &**n).collect();
                let known = if have.is_empty() {
                    "it has none".into()
                } else {
                    format!("it has {}", have.join(", "))
                };
                let message = format!("program `{}`: no map `{name}` in its object; {known}", program.name);
                problems.push(Diagnostic {
                    help: suggest(name, have.iter().copied()).map(|name| format!("did you mean `{name}`?")),
                    ..Diagnostic::new(message).at(settings.span.clone())
                });
                continue;
            }
            let layout = loaded.object.maps().get(name).and_then(|map| map.layout.as_ref());
            for (field, rule) in &settings.merge {
                let checked = check_rule(layout.map(|layout| &layout.value), field, rule.value);
                problems.extend(checked.err().map(|(why, near)| {
                    Diagnostic {
                        help: near.map(|name| format!("did you mean `{name}`?")),
                        ..Diagnostic::new(format!("program `{}`, map `{name}`: {why}", program.name))
                            .at(rule.span.clone())
                    }
                }));
            }
        }
        problems.extend(Globals::resolve(&loaded.object, program).err().into_iter().flatten());
        problems
    }
}

impl ObjectProblem {
    fn help(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("a relative path starts at the directory of this file".into())
            }
            Self::Read { .. } | Self::Untrusted(_) | Self::Invalid { .. } => None,
        }
    }
}

impl Loaded {
    /// The function that `program` runs.
    pub fn function(&self, program: &Program) -> Result<String, ObjectError> {
        self.object.program(program.function()).map(|p| p.name.clone())
    }
}

/// Reads and checks one object.
pub fn read(reference: &ObjectRef) -> Result<Loaded, ObjectProblem> {
    let (bytes, kind, path) = match reference {
        ObjectRef::Builtin => (builtin::OBJECT.to_vec(), "builtin", Path::new("builtin")),
        ObjectRef::File(path) => (read_file(path)?, "sha256", &**path),
    };
    let object = Object::inspect_for(bytes, machine())
        .map_err(|source| ObjectProblem::Invalid { path: path.to_owned(), source })?;
    Ok(Loaded { digest: format!("{kind}:{}", object.digest()), object })
}

/// The machine that this process runs on.
fn machine() -> Machine<'static> {
    let possible_cpus = &|| {
        let cpus = match cpu::possible() {
            // To check a file takes no rights.
            Err(e) if e.is_denied() => cpu::possible_by_sysfs(),
            measured => measured,
        };
        cpus.map(|cpus| u32::try_from(cpus).unwrap_or(u32::MAX)).map_err(|e| e.to_string())
    };
    Machine { page_size: u32::try_from(rustix::param::page_size()).unwrap_or(4096), possible_cpus }
}

/// Reads a regular file of sensible size: a device or a fifo would block or never end.
fn read_file(path: &Path) -> Result<Vec<u8>, ObjectProblem> {
    let failed = |source| ObjectProblem::Read { path: path.to_owned(), source };
    let file = trust::open(path).map_err(|error| match error {
        OpenError::Failed(source) => failed(source),
        OpenError::Untrusted(untrusted) => untrusted.into(),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.len() > MAX_OBJECT_SIZE {
        return Err(failed(io::Error::other(format!("it is larger than {} MiB", MAX_OBJECT_SIZE >> 20))));
    }
    let mut bytes = Vec::new();
    file.take(MAX_OBJECT_SIZE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
