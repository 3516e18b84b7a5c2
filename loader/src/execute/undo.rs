//! Takes commit steps back, last first.

use xdpd_config::{LINK_PIN, Label, retired};
use xdpd_kernel::{Dir, XdpLink};

use super::attach::{self, AttachFailure, Place, unless_vanished};
use super::directories::read_record;
use super::filling::Filling;
use super::globals::Written;
use super::takeover::{give_back, taken_name};
use super::{Executor, Old, RAN, Staged};
use crate::engine::Engine;
use crate::observed::{Pinned, map_pin};
use crate::permissions::{self, Permissions};
use crate::plan::MapWork;

/// How one commit step is taken back.
pub(super) enum Undo<'s, 'a> {
    /// Global variables get back what they held.
    Globals { staged: &'s Staged<'a>, values: Written },
    /// A map gets the entries back that it had.
    Fill { filling: &'s Filling<'a> },
    /// The old program comes back, if ours still runs.
    Update { staged: &'s Staged<'a>, link: XdpLink },
    /// The link that was made goes.
    Create { staged: &'s Staged<'a>, link: XdpLink },
    /// The link that was detached is made anew, in the mode it had.
    Detach { label: &'a Label, old: &'s Old, place: Place<'s> },
    /// Someone else's program gets its place back.
    Takeover { staged: &'s Staged<'a> },
    /// A pin, or the directory itself, gets its old permissions back.
    Permissions { dir: &'s Dir, entry: Option<&'s str>, to: Permissions },
    /// Two directories change places once more.
    Exchange { a: String, b: String },
    /// A directory gets its name back.
    Rename { from: String, to: String },
}

impl<'s, 'a> Undo<'s, 'a> {
    /// The stage whose program ran in the place of the old one.
    pub(super) fn ran(&self) -> Option<&'s Staged<'a>> {
        match self {
            Self::Update { staged, .. } | Self::Create { staged, .. } => Some(staged),
            _ => None,
        }
    }

    /// It is about what readers find, and who may read it.
    fn is_of_names(&self) -> bool {
        matches!(self, Self::Exchange { .. } | Self::Rename { .. } | Self::Permissions { .. })
    }
}

impl<E: Engine> Executor<'_, E> {
    /// Takes the commit back, last step first. Goes on after an error, and tells all of them.
    ///
    /// As in the commit, what runs comes first and the names of directories last: who reads the maps finds those of the
    /// new program until nothing counts in them any more, and then the old ones with all that the new program counted.
    pub(super) fn undo(&self, undo: Vec<Undo<'_, '_>>) -> Vec<String> {
        let ran: Vec<_> = undo.iter().filter_map(Undo::ran).collect();
        let (names, links): (Vec<_>, Vec<_>) = undo.into_iter().partition(Undo::is_of_names);
        let mut problems = self.undo_steps(links);
        if !ran.is_empty() {
            let waited = xdpd_kernel::rcu::wait_grace_period();
            problems.extend(waited.err().map(|e| format!("wait for running programs: {e}")));
        }
        for carried in ran.iter().filter_map(|staged| staged.carried.as_ref()) {
            problems.extend(carried.settle_back());
        }
        problems.extend(self.undo_steps(names));
        problems
    }

    fn undo_steps(&self, undo: Vec<Undo<'_, '_>>) -> Vec<String> {
        let mut problems = Vec::new();
        for step in undo.into_iter().rev() {
            let (what, result): (_, Result<(), AttachFailure>) = match step {
                Undo::Fill { filling } => {
                    let what = format!("{}: restore map {}", filling.label, filling.name);
                    problems.extend(filling.take_back().err().map(|e| format!("{what}: {e}")));
                    continue;
                }
                Undo::Exchange { a, b } => {
                    (format!("swap {a} and {b} back"), self.root.exchange(&a, &b).map_err(Into::into))
                }
                Undo::Rename { from, to } => {
                    let renamed = self.root.rename_noreplace(&to, &from);
                    (format!("rename {to} back to {from}"), renamed.map_err(Into::into))
                }
                Undo::Globals { staged, values } => {
                    let restored = values.take_back(self.root);
                    (format!("{}: restore global variables", staged.label), restored.map_err(Into::into))
                }
                Undo::Permissions { dir, entry, to } => {
                    let path = entry.map_or_else(|| dir.path().to_owned(), |entry| dir.path_of(entry));
                    let set = permissions::set(dir, entry, to);
                    (format!("give {} back {to}", path.display()), set.map_err(Into::into))
                }
                Undo::Update { staged, link } => {
                    let old = staged.old.as_ref().and_then(|o| o.program.as_ref());
                    let result = old.map_or(Ok(()), |old| {
                        attach::replace(&link, old, &staged.program, staged.place(), self.mtu(staged))
                    });
                    (format!("{}: put the old program back", staged.label), unless_vanished(result))
                }
                Undo::Create { staged, link } => {
                    let unpinned = staged.dir.remove(LINK_PIN);
                    let detached = link.detach();
                    let undone = unpinned.and(detached).map_err(Into::into);
                    (format!("{}: detach the new program", staged.label), undone)
                }
                Undo::Takeover { staged } => (
                    format!("{}: attach the other's program again", staged.label),
                    give_back(self.root, &taken_name(staged.label)).map_err(Into::into),
                ),
                Undo::Detach { label, old, place } => {
                    (format!("{label}: attach the old program again"), unless_vanished(reattach(old, place)))
                }
            };
            if let Err(e) = result {
                problems.push(format!("{what}: {e}"));
            }
        }
        problems
    }

    /// The stats map of a stage whose program ran has counted packets. Before the program goes, the map is pinned beside
    /// the old ones, under a name that tells the next run what it is; from [`Self::keep_counts`] on it is a retired map.
    /// So readers find it once it is final, and a kill in between loses nothing.
    pub(super) fn hold_counts<'s, 'a>(
        &self,
        staged: &'s Staged<'a>,
    ) -> Result<Option<Counts<'s, 'a>>, String> {
        let map = &self.desired.stats_map;
        let (Some(MapWork::Create), Some(old), Some(id)) =
            (staged.install.maps.get(map), &staged.old, staged.record.maps.get(map))
        else {
            return Ok(None);
        };
        let pin = retired::name(map, staged.install.generation, *id);
        let hold = || {
            // Who could read the map of before is to read this one, too, and nobody else.
            let before = self.replaced(staged).and_then(|p| p.permissions.pins.get(&map_pin(map)));
            before.map_or(Ok(()), |before| permissions::set(&staged.dir, Some(&map_pin(map)), *before))?;
            old.dir.link(&staged.dir, map_pin(map), format!("{RAN}{pin}"))
        };
        hold().map_err(|e| not_kept(staged.label, &e))?;
        Ok(Some(Counts { staged, old, pin }))
    }

    /// What was held becomes a retired map.
    pub(super) fn keep_counts(&self, counts: &Counts<'_, '_>) -> Result<(), String> {
        let Counts { staged, old, pin } = counts;
        let retired = self.replaced(staged).map(|p| &*p.retired).unwrap_or_default();
        let mut too_many = retired.iter().rev().skip(retired::MAX - 1);
        let made_room = too_many.try_for_each(|oldest| old.dir.unlink(&oldest.pin));
        made_room
            .and_then(|()| old.dir.rename(format!("{RAN}{pin}"), pin))
            .map_err(|e| not_kept(staged.label, &e))
    }

    /// What a stage replaces, as it was before.
    pub(super) fn replaced(&self, staged: &Staged<'_>) -> Option<&Pinned> {
        let mut interfaces = self.observed.interfaces.values();
        interfaces.find(|p| staged.install.replaces.as_ref() == Some(&p.directory))
    }
}

/// A stats map that is held until the program that counted in it is gone.
pub(super) struct Counts<'s, 'a> {
    staged: &'s Staged<'a>,
    old: &'s Old,
    /// Its name as a retired map.
    pin: String,
}

fn not_kept(label: &Label, error: &xdpd_kernel::Error) -> String {
    format!("{label}: keep the counts of the program that was rolled back: {error}")
}

/// Makes the link anew that was detached, and puts it where its pin was. In the mode that the record tells, where it
/// does.
fn reattach(old: &Old, place: Place<'_>) -> Result<(), AttachFailure> {
    let Old { dir, program: Some(program), .. } = old else { return Ok(()) };
    let mode = read_record(dir)?.map(|record| [record.mode]);
    let modes = mode.as_ref().map_or(place.modes, |mode| mode.as_slice());
    let link = attach::attach(Place { modes, ..place }, program)?.link;
    // The pin that is there holds a link that is detached. A crash between the two calls leaves the device without a
    // program, and not with a link that has a pin under a name that nobody looks for.
    dir.remove(LINK_PIN)?;
    Ok(dir.pin(LINK_PIN, &link)?)
}
