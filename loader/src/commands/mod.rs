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
use xdpd_config::{Config, Diagnostic, Diagnostics, LoadError, Rejected};

use crate::desired::{self, Desired};
use crate::devices::Devices;
use crate::entries::{self, Lists};
use crate::execute::CarryError;
use crate::exit::Exit;
use crate::lints::lints;
use crate::objects::Objects;
use crate::observed::{self, Leftovers, Observed};
use crate::output::{self, Screen};
use crate::permissions;
use crate::plan::{self, Allow, Plan};
use crate::privileges;
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
    /// What is wrong with that.
    entries: entries::Problems,
}

impl Inputs {
    /// Reads the file that `path` names, or the one found by search, which is told on stderr.
    pub fn read(path: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self::of(load(&find(path)?)?))
    }

    /// What is wrong with a file, and with the objects and lists of what is right in it.
    fn all_wrong(diagnostics: Diagnostics, rest: Option<Config>) -> Failure {
        let Some(rest) = rest.map(Self::of) else {
            return diagnosed(Some(&diagnostics), &[]);
        };
        let more = [rest.objects.problems(&rest.config), rest.entries.in_config].concat();
        diagnosed(Some(&diagnostics.and(more)), &rest.entries.in_lists)
    }

    /// Reads what a file names. Problems of that are left to whoever uses it.
    fn of(config: Config) -> Self {
        let objects = Objects::read(&config);
        let (lists, entries) = Lists::read(&config, &objects);
        Self { config, objects, lists, entries }
    }

    /// Fails where an object or a list has a problem.
    fn check(&self) -> Result<(), Failure> {
        let found = self.objects.problems(&self.config);
        if found.is_empty() && self.entries.is_empty() { Ok(()) } else { Err(self.refusal(found)) }
    }

    /// What was found, with what is wrong with entries, all in the order of the file.
    fn refusal(&self, found: Vec<Diagnostic>) -> Failure {
        let in_config = [found, self.entries.in_config.clone()].concat();
        let in_config = (!in_config.is_empty()).then(|| self.config.diagnostics(in_config));
        diagnosed(in_config.as_ref(), &self.entries.in_lists)
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

/// Reads the file; where it is wrong, everything about it and about what it names is told at once.
fn load(path: &Path) -> Result<Config, Failure> {
    Config::load_or_rest(path).map_err(|Rejected { error, rest }| match error {
        LoadError::Invalid(diagnostics) => Inputs::all_wrong(diagnostics, rest.map(|rest| *rest)),
        other => load_failure(other),
    })
}

fn load_failure(error: LoadError) -> Failure {
    match error {
        LoadError::Invalid(diagnostics) => diagnosed(Some(&diagnostics), &[]),
        other => Failure::refused(other),
    }
}

/// Errors that point into the file and into its lists.
fn diagnosed(in_config: Option<&Diagnostics>, in_lists: &[Diagnostics]) -> Failure {
    let colour = output::stderr_colour();
    Failure::refused(Screen::diagnosed(in_config.into_iter().chain(in_lists), colour))
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
        let Inputs { config, objects, lists, .. } = inputs;
        let desired = desired::resolve(config, &devices, objects, lists, permissions::resolve(config))
            .map_err(|found| inputs.refusal(found))?;
        inputs.check()?;
        let mut observed =
            observed::observe(&desired.pin_root, devices, leftovers).map_err(kernel_failure)?;
        read_maps(&desired, &mut observed).map_err(kernel_failure)?;
        let mut plan = plan::plan(&desired, &observed, allow);
        plan.notes.extend(lints(config));
        Ok(Self { desired, observed, plan })
    }
}

/// Reads of the pinned maps what a plan for this desired state depends on.
fn read_maps(desired: &Desired, observed: &mut Observed) -> Result<(), xdpd_kernel::Error> {
    observed.read_cpus()?;
    // First: a program that has lost those that it jumps to is loaded anew, and then the others matter.
    observed.read_programs(&plan::filled_arrays(desired, observed))?;
    observed.read_layouts(&plan::reloads(desired, observed))?;
    observed.read_inner_maps(&plan::maps_of_maps(desired, observed))?;
    observed.read_excess(&plan::shrinking(desired, observed))?;
    observed.read_contents(&plan::declared_maps(desired, observed))
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
