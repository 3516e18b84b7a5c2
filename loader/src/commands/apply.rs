//! `xdpd apply`: makes the kernel match the file, or leaves it as it was.

use std::time::Duration;

use anyhow::anyhow;

use super::{
    Failure, Inputs, Outcome, Survey, diff, kernel_failure, read_maps, recovery_failure, root_failure,
};
use crate::cli::ConfigArg;
use crate::desired::Desired;
use crate::devices::Devices;
use crate::engine::Engines;
use crate::execute::{self, Done, Executor, StepError};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::observed::{self, Leftovers, LinkState, Observed, Root};
use crate::output::{self, Listed, Screen, Told, human, json};
use crate::permissions;
use crate::plan::{self, Allow, Plan};
use crate::privileges;
use crate::root::PinRoot;
use crate::trial::Trial;

/// The options of an apply.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Print JSON.
    pub json: bool,
    /// Only plan.
    pub dry_run: bool,
    /// What the operator allowed.
    pub allow: Allow,
    /// How long to wait for the lock.
    pub lock_timeout: Duration,
    /// How long to wait for a confirmation, where one is wanted.
    pub confirm_timeout: Option<Duration>,
}

/// Plans, and carries the plan out.
pub fn run(config: &ConfigArg, options: Options) -> Outcome {
    let inputs = Inputs::read(config.config.as_deref())?;
    converge(&inputs, options, &mut Told::default(), None)
}

/// Makes the kernel match what was read. Signals are noted by `interrupt`; where there is none, from the first change on.
pub(super) fn converge(
    inputs: &Inputs,
    options: Options,
    told: &mut Told,
    interrupt: Option<&Interrupt>,
) -> Outcome {
    // A first look without the lock: where there is nothing to do, not even the lock is made.
    let survey = Survey::take(inputs, options.allow, Leftovers::FoldIn)?;
    if options.dry_run {
        return diff::show(inputs, &survey, options.json);
    }
    // Another run may take back what this look has found.
    let holder = observed::lock_holder(&survey.desired.pin_root).map_err(kernel_failure)?;
    if survey.plan.is_empty() && holder.is_none() {
        return Ok(unchanged(inputs, &survey.plan, options, told));
    }
    // Where there is no pin root yet, or none can be, no other run can be at work: a blocked plan is final.
    if survey.plan.is_blocked() && survey.observed.root != Root::Present {
        return refused(inputs, &survey.plan, options, told);
    }
    // Told before anything is begun, and not by whichever call fails first.
    if let Some(lacking) = privileges::lacking() {
        return failed(
            inputs,
            options,
            &survey.plan,
            Exit::Refused,
            anyhow!("{lacking}; nothing was changed"),
        );
    }
    privileges::work_is_known(&inputs.config, &survey.observed);
    let interrupt = interrupt.map_or_else(Interrupt::install, |i| Ok(i.clone())).map_err(Failure::refused)?;
    let permissions = permissions::of_directories(survey.desired.readers.as_ref());
    let root = match PinRoot::lock(&survey.desired.pin_root, permissions, options.lock_timeout, &interrupt) {
        Ok(root) => root,
        Err(e) => {
            let Failure { exit, error } = root_failure(e);
            return failed(inputs, options, &survey.plan, exit, error);
        }
    };
    // Under the lock nothing is on its way any more: what is seen now is what there is.
    let mount = survey.plan.mount;
    let (mut survey, settled) = settle(inputs, options, &root)?;
    // The lock lies on the bpffs that the plan was to mount.
    survey.plan.mount = mount;
    if survey.plan.is_blocked() {
        return refused(inputs, &survey.plan, options, told);
    }
    if survey.plan.is_empty() && !settled {
        return Ok(unchanged(inputs, &survey.plan, options, told));
    }
    execute(inputs, options, &root, &survey, told, &interrupt)
}

/// Under the lock: settles what an interrupted run left, and plans again from what is there now. Tells whether there was
/// anything to settle.
fn settle(inputs: &Inputs, options: Options, root: &PinRoot) -> Result<(Survey, bool), Failure> {
    let survey = Survey::take(inputs, options.allow, Leftovers::FoldIn)?;
    if survey.plan.interrupted.is_empty() {
        return Ok((survey, false));
    }
    execute::recover(root.dir(), &survey.observed).map_err(recovery_failure)?;
    output::say("settled what an interrupted run had left");
    Ok((Survey::take(inputs, options.allow, Leftovers::FoldIn)?, true))
}

fn execute(
    inputs: &Inputs,
    options: Options,
    root: &PinRoot,
    survey: &Survey,
    told: &mut Told,
    interrupt: &Interrupt,
) -> Outcome {
    let plan = &survey.plan;
    told.notes(&plan.notes);
    if !options.json {
        told.plan(plan).map_err(Failure::refused)?;
    }
    let mut engines = Engines::default();
    let mut executor = Executor {
        root: root.dir(),
        desired: &survey.desired,
        observed: &survey.observed,
        objects: &inputs.objects,
        engine: &mut engines,
        interrupt,
        trial: options.confirm_timeout.map(|timeout| Trial { config: &inputs.config.path, timeout }),
    };
    let result = executor.run(plan, || verify(inputs, survey, options.allow));
    match result {
        Ok(Done { leftovers, choices }) => {
            let (plan, chosen) = (plan.carried_out(&choices), human::choices(&choices));
            if leftovers.is_empty() {
                if options.json {
                    print_json(inputs, &plan, json::Outcome::Applied, None);
                } else {
                    output::say(format_args!("applied{chosen}"));
                }
                return Ok(Exit::Done);
            }
            let leftovers = leftovers.join("; ");
            let error = anyhow!("applied, but not everything old could be removed: {leftovers}{chosen}");
            failed(inputs, options, &plan, Exit::Incomplete, error)
        }
        Err(failure) => {
            if let Some(log) = failure.error.verifier_log() {
                let mut refusal = Screen::default();
                refusal.line(&failure.error);
                refusal.line("the verifier's log:");
                refusal.lines(log);
                output::say_screen(&refusal);
            }
            let Failure { exit, error } = taken_back(failure, &survey.observed, &survey.desired);
            failed(inputs, options, plan, exit, error)
        }
    }
}

/// How a run ends that failed: by what it had done, and whether that could be taken back.
pub fn taken_back(failure: execute::Failure, before: &Observed, desired: &Desired) -> Failure {
    let mut not_restored = failure.not_restored;
    if failure.committed {
        not_restored.extend(not_as_before(before, desired));
    }
    let (exit, what) = match (failure.committed, not_restored.is_empty()) {
        (_, false) => (Exit::Incomplete, "not restored:"),
        (true, true) => (Exit::Restored, "the previous state is restored"),
        (false, true) => (Exit::Refused, "nothing was changed"),
    };
    let error = Listed { error: format!("{}; {what}", failure.error), items: not_restored };
    Failure { exit, error: error.into() }
}

/// After the commit the kernel is asked again: of what was desired, nothing may be left to do.
///
/// What was desired stays as it was resolved: a device that appears meanwhile is for the next run. One that is optional
/// may have vanished, or have been made anew.
fn verify(inputs: &Inputs, before: &Survey, allow: Allow) -> Result<(), StepError> {
    let unreadable = |e| StepError::Verification(format!("cannot verify the result: {e}"));
    let devices =
        Devices::observe(inputs.config.interfaces.iter().map(|i| i.netns.as_deref())).map_err(unreadable)?;
    let desired = &before.desired;
    let mut observed =
        observed::observe(&desired.pin_root, devices, Leftovers::Ignore).map_err(unreadable)?;
    read_maps(desired, &mut observed).map_err(unreadable)?;
    let mut plan = plan::plan(desired, &observed, allow);
    plan.interfaces.retain(|label, _| {
        desired.attachments.get(label).is_none_or(|a| {
            !a.optional || observed.devices.agrees(&before.observed.devices, a.netns.as_deref(), &a.device)
        })
    });
    if plan.is_empty() {
        return Ok(());
    }
    let mut difference = Screen::default();
    difference.line("the result is not as planned; still to do:");
    difference.append(&human::plan(&plan, false));
    output::say_screen(&difference);
    Err(StepError::Verification("the result is not as planned".to_owned()))
}

/// What differs from the state before a run that was taken back. That a device is gone is no difference where it is
/// optional.
fn not_as_before(before: &Observed, desired: &Desired) -> Vec<String> {
    let pin_root = &desired.pin_root;
    let after = match observed::observe(pin_root, before.devices.clone(), Leftovers::Ignore) {
        Ok(after) => after,
        Err(e) => return vec![format!("cannot read the state back: {e}")],
    };
    let mut problems = Vec::new();
    for (label, old) in &before.interfaces {
        match after.interfaces.get(label) {
            None => problems.push(format!("{label}: its pins are gone")),
            Some(new) => {
                let is_optional = desired.attachments.get(label).is_some_and(|a| a.optional);
                match new.link {
                    _ if new.link == old.link => {}
                    LinkState::Defunct { .. } if is_optional => {}
                    LinkState::Defunct { .. } => problems.push(format!("{label}: its device is gone")),
                    _ if new.link.program() == old.link.program() => {}
                    _ => problems.push(format!("{label}: another program runs")),
                }
                if new.maps.iter().map(|(n, m)| (n, m.id)).ne(old.maps.iter().map(|(n, m)| (n, m.id))) {
                    problems.push(format!("{label}: other maps are pinned"));
                } else if new.permissions.of(&new.maps) != old.permissions.of(&old.maps) {
                    problems.push(format!("{label}: others may read its pins"));
                }
            }
        }
    }
    if after.place.root != before.place.root {
        problems.push(format!("{}: others may read it", pin_root.display()));
    }
    let added = after.interfaces.keys().filter(|label| !before.interfaces.contains_key(*label));
    problems.extend(added.map(|label| format!("{label}: its pins are still there")));
    problems
}

fn unchanged(inputs: &Inputs, plan: &Plan, options: Options, told: &mut Told) -> Exit {
    told.notes(&plan.notes);
    if options.json {
        print_json(inputs, plan, json::Outcome::Unchanged, None);
    } else {
        let interfaces = if plan.unchanged == 1 { "interface is" } else { "interfaces are" };
        output::say(format_args!("nothing to change: {} {interfaces} as the file says", plan.unchanged));
    }
    Exit::Done
}

fn refused(inputs: &Inputs, plan: &Plan, options: Options, told: &mut Told) -> Outcome {
    told.notes(&plan.notes);
    if !options.json {
        told.plan(plan).map_err(Failure::refused)?;
    }
    let error = anyhow!("{}; nothing was changed", human::blocked(plan));
    failed(inputs, options, plan, Exit::Refused, error)
}

/// Ends with an error; the JSON says it too.
fn failed(inputs: &Inputs, options: Options, plan: &Plan, exit: Exit, error: anyhow::Error) -> Outcome {
    if options.json {
        let outcome = match exit {
            Exit::Restored => json::Outcome::Restored,
            Exit::Incomplete => json::Outcome::Incomplete,
            Exit::Done | Exit::Differences | Exit::Refused => json::Outcome::Refused,
        };
        print_json(inputs, plan, outcome, Some(&error.to_string()));
    }
    Err(Failure { exit, error })
}

/// Prints the outcome. That it cannot be written changes nothing of what was done, nor of the exit code.
fn print_json(inputs: &Inputs, plan: &Plan, outcome: json::Outcome, error: Option<&str>) {
    if let Err(e) = output::data(&json::plan(&inputs.config, plan, Some(outcome), error)) {
        output::say(format_args!("cannot write the outcome to stdout: {e}"));
    }
}
