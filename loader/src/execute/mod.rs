//! Carries out a plan: everything that can fail is done beside the running state, then a short commit that can be
//! undone step by step.
//!
//! Prepare: a staged directory `%next-<label>` per interface, with its maps pinned, its program loaded, its record
//! written and entries carried over. Commit: entries of maps that stay, then the links (create or update), one RCU grace
//! period, carried entries are settled, then one exchange of directories per interface. Clean up: the old directories
//! go, and with the last reference to a link its program is detached.

mod attach;
mod carry;
mod clean_up;
mod commit;
mod directories;
mod entries;
mod error;
mod filling;
mod globals;
mod permissions;
mod prepare;
mod recover;
mod slots;
mod takeover;
mod undo;

use xdpd_config::Label;
use xdpd_config::record::Record;
use xdpd_kernel::{Dir, Program, XdpLink};

use crate::desired::Desired;
use crate::engine::Engine;
use crate::interrupt::Interrupt;
use crate::objects::Objects;
use crate::observed::{Observed, Taken};
use crate::plan::{Choices, Install, Plan};
use crate::trial::Trial;
use attach::Place;
use carry::Carried;
use permissions::Grant;
use undo::Undo;

pub(crate) use carry::CarryError;
pub(crate) use error::StepError;
pub(crate) use recover::recover;

/// Of directories under the pin root while an apply works on them.
const DIR_MODE: u32 = 0o700;

/// Begins the name of a map that will be a retired one once the program is gone that counts in it.
const RAN: &str = "%ran-";

/// A record that is about to take the place of another.
const RECORD_BESIDE: &str = "%record";

/// How far a failed run got.
#[derive(Debug)]
pub struct Failure {
    /// The cause.
    pub error: Box<StepError>,
    /// A commit step had been made.
    pub committed: bool,
    /// What could not be undone, in words.
    pub not_restored: Vec<String>,
}

/// What a run did that its plan does not say.
#[derive(Debug)]
pub(crate) struct Done<'p> {
    /// What could not be removed of what was replaced, in words.
    pub leftovers: Vec<String>,
    /// The modes that were taken.
    pub choices: Choices<'p>,
}

/// Everything that a run works with.
pub(crate) struct Executor<'a, E> {
    /// The locked pin root.
    pub root: &'a Dir,
    /// The desired state.
    pub desired: &'a Desired,
    /// The state that the plan was made from.
    pub observed: &'a Observed,
    /// The objects of the file.
    pub objects: &'a Objects,
    /// What loads programs.
    pub engine: &'a mut E,
    /// Asks between steps whether to stop.
    pub interrupt: &'a Interrupt,
    /// What is done stays only if it is confirmed.
    pub trial: Option<Trial<'a>>,
}

/// An interface that is put together beside the running one.
struct Staged<'a> {
    label: &'a Label,
    install: &'a Install,
    name: String,
    dir: Dir,
    program: Program,
    record: Record,
    /// Where the interface is pinned now.
    old: Option<Old>,
    /// Who may read the pins that stay, from now on.
    grants: Vec<Grant>,
    /// Someone else's program that runs now.
    taken: Option<Taken>,
    /// The maps whose entries are carried over.
    carried: Option<Carried>,
}

impl Staged<'_> {
    /// Where its program is attached.
    fn place(&self) -> Place<'_> {
        let Install { netns, ifindex, modes, .. } = self.install;
        Place { netns: netns.as_deref(), ifindex: *ifindex, modes }
    }
}

/// The pins that a staged interface replaces.
struct Old {
    dir: Dir,
    /// The link as pinned, unless there is none.
    link: Option<XdpLink>,
    /// The program that it runs.
    program: Option<Program>,
}

/// An interface that goes.
struct Leaving<'a> {
    label: &'a Label,
    directory: &'a str,
    /// What it runs, where that ends before the clean-up.
    held: Option<Held>,
}

/// A program that is detached on trial.
struct Held {
    old: Old,
    link: XdpLink,
    record: Record,
}

impl<'a, E: Engine> Executor<'a, E> {
    /// Runs the plan. `verify` looks at the result before anything old is removed.
    pub(crate) fn run(
        &mut self,
        plan: &'a Plan,
        verify: impl FnOnce() -> Result<(), StepError>,
    ) -> Result<Done<'a>, Failure> {
        let mut staged = Vec::new();
        let mut leaving = Vec::new();
        let prepared = self.prepare_all(plan, &mut staged, &mut leaving).and_then(|()| filling::open(plan));
        let fillings = match prepared {
            Ok(fillings) => fillings,
            Err(error) => {
                let not_restored = self.drop_stages(plan);
                return Err(Failure { error: Box::new(error), committed: false, not_restored });
            }
        };
        let (mut undo, mut choices) = (Vec::new(), Choices::new());
        let committed = self
            .fill(&fillings, &mut undo)
            .and_then(|()| self.commit(plan, &staged, &leaving, &mut undo, &mut choices))
            .and_then(|()| verify())
            .and_then(|()| self.try_out(&leaving, &mut undo));
        if let Err(error) = committed {
            let committed = !undo.is_empty();
            let mut not_restored = Vec::new();
            let mut held = Vec::new();
            for staged in undo.iter().filter_map(Undo::ran) {
                match self.hold_counts(staged) {
                    Ok(counts) => held.extend(counts),
                    Err(problem) => not_restored.push(problem),
                }
            }
            not_restored.extend(self.undo(undo));
            not_restored.extend(held.iter().filter_map(|counts| self.keep_counts(counts).err()));
            drop(held);
            drop((staged, leaving));
            not_restored.extend(self.drop_stages(plan));
            return Err(Failure { error: Box::new(error), committed, not_restored });
        }
        drop(undo);
        Ok(Done { leftovers: self.clean_up(staged, leaving), choices })
    }
}
