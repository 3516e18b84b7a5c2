//! One file per command, and what they share: reading the inputs and looking at the kernel.

pub mod apply;
pub mod check;
pub mod completions;
pub mod confirm;
pub mod detach;
pub mod diff;
pub mod man;
pub mod schema;
pub mod status;
pub mod watch;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use xdpd_config::{Config, Diagnostics, LoadError};

use crate::desired::{self, Desired};
use crate::devices::Devices;
use crate::entries::Lists;
use crate::execute::CarryError;
use crate::exit::Exit;
use crate::objects::Objects;
use crate::observed::{self, Leftovers, Observed};
use crate::output;
use crate::plan::{self, Allow, Plan};
use crate::privileges;
use crate::readers;
use crate::root::RootError;

/// A command that ends with an error: what to say, and how to exit.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to say on stderr; already rendered where it spans lines.
    pub error: anyhow::Error,
}

/// The result of a command.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Trouble before anything was changed.
    pub fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Refused, error: error.into() }
    }
}

/// The file, its objects and its lists.
pub struct Inputs {
    /// The file.
    pub config: Config,
    /// The objects that it names.
    pub objects: Objects,
    /// What its maps are to hold.
    pub lists: Lists,
}

impl Inputs {
    /// Reads the file that `path` names, or the one found by search, which is told on stderr.
    pub fn read(path: Option<&Path>) -> Result<Self, Failure> {
        Self::of(Config::load(&find(path)?).map_err(load_failure)?)
    }

    /// Reads what a file names. Problems of objects are left to whoever uses them, unless lists have some, too.
    fn of(config: Config) -> Result<Self, Failure> {
        let objects = Objects::read(&config);
        let (lists, problems) = Lists::read(&config, &objects);
        if problems.is_empty() {
            return Ok(Self { config, objects, lists });
        }
        let in_config = [objects.problems(&config), problems.in_config].concat();
        let in_config = (!in_config.is_empty()).then(|| config.diagnostics(in_config));
        let texts = in_config.iter().chain(&problems.in_lists).map(rendered);
        Err(Failure::refused(anyhow!("{}", texts.collect::<Vec<_>>().join("\n\n"))))
    }
}

/// The file that `path` names, or the one found by search, which is told on stderr.
fn find(path: Option<&Path>) -> Result<PathBuf, Failure> {
    let found = xdpd_config::find(path).map_err(load_failure)?;
    if found.searched {
        output::say(format_args!("using {}", found.path.display()));
    }
    Ok(found.path)
}

/// Finds a file of which only its path and its pin root matter: it may be broken otherwise.
fn locate(path: Option<&Path>) -> Result<(PathBuf, PathBuf), Failure> {
    let path = find(path)?;
    let pin_root = Config::load_pin_root(&path).map_err(load_failure)?;
    Ok((path, pin_root))
}

fn load_failure(error: LoadError) -> Failure {
    match error {
        LoadError::Invalid(diagnostics) => diagnosed(&diagnostics),
        other => Failure::refused(other),
    }
}

/// Errors that point into the file.
pub fn diagnosed(diagnostics: &Diagnostics) -> Failure {
    Failure::refused(anyhow!("{}", rendered(diagnostics)))
}

fn rendered(diagnostics: &Diagnostics) -> String {
    diagnostics.render(output::stderr_colour()).trim_end().to_owned()
}

/// Everything that a plan is made of, and the plan.
pub struct Survey {
    /// What the file asks for.
    pub desired: Desired,
    /// What there is.
    pub observed: Observed,
    /// The difference.
    pub plan: Plan,
}

impl Survey {
    /// Looks at devices, pins and links, and plans.
    pub fn take(inputs: &Inputs, allow: Allow, leftovers: Leftovers) -> Result<Self, Failure> {
        let devices = Devices::observe(inputs.config.interfaces.iter().map(|i| i.netns.as_deref()))
            .map_err(kernel_failure)?;
        let mut desired = desired::resolve(&inputs.config, &devices, &inputs.objects, &inputs.lists)
            .map_err(|d| diagnosed(&d))?;
        desired.readers = readers::resolve(&inputs.config).map_err(|d| diagnosed(&d))?;
        let mut observed =
            observed::observe(&desired.pin_root, devices, leftovers).map_err(kernel_failure)?;
        observed.read_layouts(&plan::reloads(&desired, &observed)).map_err(kernel_failure)?;
        observed.read_excess(&plan::shrinking(&desired, &observed)).map_err(kernel_failure)?;
        observed.read_contents(&plan::declared_maps(&desired, &observed)).map_err(kernel_failure)?;
        let plan = plan::plan(&desired, &observed, allow);
        Ok(Self { desired, observed, plan })
    }
}

/// A call that failed before anything was changed; where rights are missing, which.
pub fn kernel_failure(error: xdpd_kernel::Error) -> Failure {
    match privileges::explain(&error) {
        Some(why) => Failure::refused(anyhow!("{error}; {why}")),
        None => Failure::refused(error),
    }
}

/// The pin root cannot be used, or not now.
pub fn root_failure(error: RootError) -> Failure {
    match error {
        RootError::Kernel(error) => kernel_failure(error),
        other => Failure::refused(other),
    }
}

/// What an interrupted run had left could not be settled.
pub fn recovery_failure(error: CarryError) -> Failure {
    match error {
        CarryError::Kernel(error) => kernel_failure(error),
        other => Failure::refused(anyhow!("cannot settle what an interrupted run has left: {other}")),
    }
}
