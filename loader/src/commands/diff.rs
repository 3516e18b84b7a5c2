//! `xdpd diff`: what `apply` would change.

use super::{Failure, Inputs, Outcome, Survey, kernel_failure};
use crate::cli::ConfigArg;
use crate::exit::Exit;
use crate::observed;
use crate::output::{self, Delivery, human, json};
use crate::plan::Allow;

/// Plans and prints; changes nothing.
pub fn run(config: &ConfigArg, as_json: bool, allow: Allow) -> Outcome {
    let inputs = Inputs::read(config.config.as_deref())?;
    let leftovers = observed::leftovers(&inputs.config.pin_root).map_err(kernel_failure)?;
    let survey = Survey::take(&inputs, allow, leftovers)?;
    show(&inputs, &survey, as_json)
}

/// Prints a plan and tells the exit code for having found it.
pub fn show(inputs: &Inputs, survey: &Survey, as_json: bool) -> Outcome {
    if !survey.plan.is_empty()
        && let Some(holder) = observed::lock_holder(&survey.desired.pin_root).map_err(kernel_failure)?
    {
        output::say(format_args!("{holder} is changing things right now: this is how far it has come"));
    }
    output::say_all(&survey.plan.notes);
    let delivery = if as_json {
        output::data(&json::plan(&inputs.config, &survey.plan, None, None))
    } else {
        output::show(&human::plan(&survey.plan, output::stdout_colour()))
    };
    let delivery = delivery.map_err(Failure::refused)?;
    Ok(if delivery == Delivery::Unwanted {
        Exit::Done
    } else if survey.plan.is_blocked() {
        output::say(human::blocked(&survey.plan));
        Exit::Refused
    } else if survey.plan.is_empty() {
        Exit::Done
    } else {
        Exit::Differences
    })
}
