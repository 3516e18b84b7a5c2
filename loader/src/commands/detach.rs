//! `xdpd detach`: takes away what is ours under a pin root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use xdpd_config::{Label, join_some};

use super::apply::taken_back;
use super::{Failure, Outcome, kernel_failure, locate, recovery_failure, root_failure};
use crate::cli::Detach;
use crate::desired::Desired;
use crate::devices::Devices;
use crate::engine::Engines;
use crate::execute::{self, Executor, StepError};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::objects::Objects;
use crate::observed::{self, Leftovers, Observed, Pinned};
use crate::output;
use crate::plan::{self, Plan};
use crate::root::PinRoot;

/// Detaches; that there is nothing to detach is as wished.
pub fn run(args: &Detach) -> Outcome {
    let (owner, pin_root) = target(args)?;
    let interrupt = Interrupt::install().map_err(Failure::refused)?;
    let Some(root) =
        PinRoot::lock_existing(&pin_root, args.lock_timeout, &interrupt).map_err(root_failure)?
    else {
        output::say(format_args!("nothing to detach: {} does not exist", pin_root.display()));
        return Ok(Exit::Done);
    };
    let observe = |leftovers| observed::observe(&pin_root, Devices::default(), leftovers);
    let mut observed = observe(Leftovers::FoldIn).map_err(kernel_failure)?;
    if !observed.interrupted.is_empty() {
        execute::recover(root.dir(), &observed).map_err(recovery_failure)?;
        observed = observe(Leftovers::FoldIn).map_err(kernel_failure)?;
    }
    // What lies in a pin root that is not used was not read.
    if let Some(problem) = observed.root.problem(&pin_root) {
        return Err(Failure::refused(anyhow!("{problem}; nothing was changed")));
    }
    let chosen = choose(&observed, &pin_root, owner.as_deref(), &args.interfaces)?;
    let plan = Plan { interfaces: chosen, ..Plan::default() };
    let desired = Desired {
        config: owner.unwrap_or_default(),
        pin_root: pin_root.clone(),
        readers: None,
        stats_map: String::new(),
        instances: BTreeMap::new(),
        attachments: BTreeMap::new(),
        left_out: Vec::new(),
    };
    let mut engines = Engines::default();
    let objects = Objects::none();
    let mut executor = Executor {
        root: root.dir(),
        desired: &desired,
        observed: &observed,
        objects: &objects,
        engine: &mut engines,
        interrupt: &interrupt,
        trial: None,
    };
    let result = executor.run(&plan, || {
        let after = observe(Leftovers::Ignore)
            .map_err(|e| StepError::Verification(format!("cannot verify the result: {e}")))?;
        if let Some(problem) = after.root.problem(&pin_root) {
            return Err(StepError::Verification(format!("cannot verify the result: {problem}")));
        }
        match plan.interfaces.keys().find(|label| after.interfaces.contains_key(*label)) {
            Some(label) => Err(StepError::Verification(format!("{label} is still pinned"))),
            None => Ok(()),
        }
    });
    report(&plan, result, &observed, &desired)
}

/// Whose interfaces (`None`: anyone's), and where.
fn target(args: &Detach) -> Result<(Option<PathBuf>, PathBuf), Failure> {
    if let Some(pin_root) = &args.pin_root {
        let absolute = std::path::absolute(pin_root).map_err(Failure::refused)?;
        return Ok((None, absolute));
    }
    let (path, pin_root) = locate(args.config.as_deref())?;
    Ok((Some(path), pin_root))
}

fn choose(
    observed: &Observed,
    pin_root: &Path,
    owner: Option<&Path>,
    wanted: &[String],
) -> Result<BTreeMap<Label, plan::InterfacePlan>, Failure> {
    let is_ours = |pinned: &Pinned| match (owner, &pinned.record) {
        (None, _) => true,
        (Some(owner), Ok(record)) => record.config == owner,
        (Some(_), Err(_)) => false,
    };
    let (ours, others): (Vec<_>, Vec<_>) = observed.interfaces.iter().partition(|(_, p)| is_ours(p));
    // Whether they are ours cannot be told, so that nothing can be called detached.
    let untrusted = observed.foreign.iter().filter(|foreign| foreign.untrusted.is_some());
    let is_meant = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if let Some(foreign) = untrusted.into_iter().find(|foreign| is_meant(&unescaped(&foreign.name))) {
        let path = pin_root.join(&foreign.name).display().to_string();
        return Err(Failure::refused(anyhow!("{}; nothing was changed", foreign.obstacle(&path))));
    }
    for name in wanted {
        if let Some((_, pinned)) = others.iter().find(|(label, _)| label.as_str() == name) {
            return Err(Failure::refused(anyhow!(
                "`{name}` {}; --pin-root takes it all the same",
                not_ours(pinned)
            )));
        }
        if !ours.iter().any(|(label, _)| label.as_str() == name) {
            let hint = xdpd_config::suggest(name, ours.iter().map(|(label, _)| label.as_str()))
                .map_or_else(|| "`xdpd status` lists them".to_owned(), |n| format!("did you mean `{n}`?"));
            return Err(Failure::refused(anyhow!("no interface `{name}` is pinned here; {hint}")));
        }
    }
    if wanted.is_empty() {
        // Whether it is this config's cannot be told, so that nothing can be called detached.
        if let Some((label, pinned)) = others.iter().find(|(_, pinned)| pinned.record.is_err()) {
            return Err(Failure::refused(anyhow!(
                "`{label}` {}; nothing was changed: --interface takes the others, --pin-root takes all",
                not_ours(pinned)
            )));
        }
        for (label, pinned) in &others {
            output::say(format_args!(
                "left alone: `{label}` {}; --pin-root takes it all the same",
                not_ours(pinned)
            ));
        }
    }
    let chosen =
        ours.into_iter().filter(|(label, _)| wanted.is_empty() || wanted.iter().any(|w| w == label.as_str()));
    Ok(chosen.map(|(label, pinned)| (label.clone(), plan::removal(pinned))).collect())
}

/// The label of a directory, else its name.
fn unescaped(name: &str) -> String {
    Label::from_file_name(name).map_or_else(|| name.to_owned(), |label| label.to_string())
}

/// So many interfaces are named at the end.
const NAMED: usize = 10;

/// Why an interface is not this config's.
fn not_ours(pinned: &Pinned) -> String {
    match &pinned.record {
        Ok(record) => format!("belongs to another config, {}", record.config.display()),
        Err(why) => format!("has a record that cannot be read: {why}"),
    }
}

/// What stays of an interface, since others have put it there.
fn left(pinned: &Pinned, pin_root: &Path) -> Option<String> {
    let others = pinned.others.iter().map(|other| format!("`{}`", other.name.display()));
    let others = Some(join_some(others, NAMED)).filter(|others| !others.is_empty())?;
    let path = pin_root.join(&pinned.directory);
    Some(format!("{} is left in place, since it holds {others}, which is not xdpd's", path.display()))
}

fn report(
    plan: &Plan,
    result: Result<execute::Done<'_>, execute::Failure>,
    observed: &Observed,
    desired: &Desired,
) -> Outcome {
    match result.map(|done| done.leftovers) {
        Ok(leftovers) if leftovers.is_empty() => {
            let labels: Vec<&str> = plan.interfaces.keys().map(Label::as_str).collect();
            if labels.is_empty() {
                output::say("nothing to detach");
            } else {
                output::say(format_args!("detached {}", join_some(labels, NAMED)));
            }
            for pinned in plan.interfaces.keys().filter_map(|label| observed.interfaces.get(label)) {
                if let Some(left) = left(pinned, &desired.pin_root) {
                    output::say(left);
                }
            }
            Ok(Exit::Done)
        }
        Ok(leftovers) => {
            Err(Failure { exit: Exit::Incomplete, error: anyhow!("not removed: {}", leftovers.join("; ")) })
        }
        Err(failure) => Err(taken_back(failure, observed, desired)),
    }
}
