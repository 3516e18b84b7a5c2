//! `xdpd watch`: keeps the kernel as the file says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use super::apply::{self, Options};
use super::{Failure, Inputs, Outcome, Survey, find, load};
use crate::cli::ConfigArg;
use crate::events::{Events, Woken};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::observed::Leftovers;
use crate::output::{self, Told, human};
use crate::plan::Allow;
use crate::privileges;
use crate::sd_notify::Service;

/// How often the kernel is compared with the file: it announces nothing about links and pins.
const POLL: Duration = Duration::from_secs(2);
/// The longest time between two tries of something that fails.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A run of the command.
struct Watch {
    path: PathBuf,
    inputs: Inputs,
    options: Options,
    events: Events,
    interrupt: Interrupt,
    service: Service,
    /// What is wrong with the file as it is now: `inputs` are what it was before.
    rejected: Option<String>,
    /// What was said last, with what it means: the same is not said twice.
    said: Option<(String, Option<&'static str>)>,
    /// What of plans and their notes was told, likewise.
    told: Told,
    /// How often in a row the file could not be made so.
    failures: u32,
}

/// Applies, and stays until a signal ends it; what is attached then stays.
pub fn run(config: &ConfigArg, json: bool) -> Outcome {
    let path = find(config.config.as_deref())?;
    let options = Options {
        json,
        dry_run: false,
        allow: Allow::default(),
        lock_timeout: Duration::ZERO,
        confirm_timeout: None,
    };
    let mut events = Events::new().map_err(Failure::refused)?;
    let interrupt = Interrupt::install_stop().map_err(Failure::refused)?;
    events.follow([path.clone()], []);
    // Without a file to start from there is nothing to keep up.
    let inputs = read(&path, &mut events)?;
    // And rights that are missing never come.
    if let Some(lacking) = privileges::lacking() {
        return Err(Failure::refused(anyhow!("{lacking}")));
    }
    let mut watch = Watch {
        path,
        inputs,
        options,
        events,
        interrupt,
        service: Service::from_env(),
        rejected: None,
        said: None,
        told: Told::default(),
        failures: 0,
    };
    output::say(format_args!(
        "watching {}: SIGHUP reads it again, SIGTERM and SIGINT end this and leave attached what is attached",
        watch.path.display()
    ));
    watch.keep()
}

impl Watch {
    fn keep(&mut self) -> Outcome {
        loop {
            let pause = match self.converge() {
                Ok(()) => POLL,
                // An apply that was interrupted has put back what was.
                Err(failure) if self.interrupt.check_stop().is_err() && failure.exit != Exit::Refused => {
                    return Err(failure);
                }
                Err(failure) => {
                    self.complain(&failure.error);
                    LONGEST_PAUSE.min(POLL.saturating_mul(1 << self.failures.min(8)))
                }
            };
            match self.events.wait(pause).map_err(Failure::refused)? {
                Woken::Signal if self.interrupt.check_stop().is_err() => {
                    self.service.stopping();
                    return Ok(Exit::Done);
                }
                Woken::Signal => {
                    self.service.reloading();
                    self.reread();
                    self.said = None;
                    self.told.forget_notes();
                }
                Woken::Files => self.reread(),
                Woken::Devices | Woken::Time => {}
            }
        }
    }

    /// Makes the kernel match what was read last.
    fn converge(&mut self) -> Result<(), Failure> {
        let survey = Survey::take(&self.inputs, self.options.allow, Leftovers::FoldIn)?;
        if survey.plan.is_blocked() {
            return Err(Failure::refused(anyhow!("{}", human::blocked(&survey.plan))));
        }
        if survey.plan.is_empty() {
            self.told.notes(&survey.plan.notes);
        } else {
            for drift in &survey.plan.drift {
                output::say(format_args!("{}: {}", drift.interface, drift.what));
            }
            apply::converge(&self.inputs, self.options, &mut self.told, Some(&self.interrupt))?;
        }
        self.failures = 0;
        if let Some(error) = &self.rejected {
            self.service.ready(&first_line(error));
        } else {
            self.said = None;
            let interfaces = match survey.desired.attachments.len() {
                1 => "1 interface".to_owned(),
                n => format!("{n} interfaces"),
            };
            self.service.ready(&format!("{interfaces} as {} says", self.path.display()));
        }
        Ok(())
    }

    /// Reads the file, its objects and its lists again. Where they are wrong, what was read before stays in force.
    fn reread(&mut self) {
        self.failures = 0;
        match read(&self.path, &mut self.events) {
            Ok(inputs) => {
                self.inputs = inputs;
                if self.rejected.take().is_some() {
                    output::say(format_args!("{} is valid again", self.path.display()));
                }
            }
            Err(failure) => {
                self.rejected = Some(failure.error.to_string());
                self.say_once(&failure.error, Some("the state of before stays in force"));
            }
        }
    }

    fn complain(&mut self, error: &anyhow::Error) {
        self.failures += 1;
        // It is up all the same: what fails is tried again.
        self.service.ready(&first_line(&error.to_string()));
        self.say_once(error, None);
    }

    fn say_once(&mut self, error: &anyhow::Error, consequence: Option<&'static str>) {
        let said = Some((error.to_string(), consequence));
        if self.said != said {
            output::say_error(error);
            consequence.into_iter().for_each(output::say);
            self.said = said;
        }
    }
}

/// The file with all that it names, none of which may have a problem. What it names is followed before it is read, so
/// that no later change is missed.
fn read(path: &Path, events: &mut Events) -> Result<Inputs, Failure> {
    let config = load(path)?;
    let namespaces: BTreeSet<_> =
        config.interfaces.iter().map(|i| i.netns.as_deref()).chain([None]).collect();
    events.follow(config.files().chain([path]).map(Path::to_owned), namespaces);
    let inputs = Inputs::of(config);
    inputs.check()?;
    Ok(inputs)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
