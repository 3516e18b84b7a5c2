//! Gives the group of readers its rights, and takes them away.
//!
//! What is made anew has its permissions before anybody can find it. A pin that is carried over is the same inode under
//! both names, so its permissions change with the commit, and each change has its undo.

use xdpd_config::{Label, retired};
use xdpd_kernel::Dir;

use super::error::at;
use super::undo::Undo;
use super::{Executor, Staged, StepError};
use crate::engine::Engine;
use crate::observed::map_pin;
use crate::permissions::{self, Permissions};
use crate::plan::{Install, MapWork, RootChange};

/// A pin that stays and whose permissions change.
pub(super) struct Grant {
    pub(super) pin: String,
    pub(super) from: Permissions,
    pub(super) to: Permissions,
}

impl<'a, E: Engine> Executor<'a, E> {
    /// Sets the permissions of the stage and of the pins that were made for it; tells those of the others.
    pub(super) fn stage_permissions(
        &self,
        label: &Label,
        install: &Install,
        dir: &Dir,
    ) -> Result<Vec<Grant>, StepError> {
        let failed = || at(label, "set who may read its pins");
        let readers = self.desired.readers.as_ref();
        let to = permissions::of_maps(readers);
        let is_kept = |work: &MapWork| matches!(work, MapWork::Keep(_));
        let mut grants = Vec::new();
        for (name, _) in install.maps.iter().filter(|(_, work)| !is_kept(work)) {
            permissions::set(dir, Some(&map_pin(name)), to).map_err(failed())?;
        }
        let kept = install.maps.iter().filter(|(_, work)| is_kept(work)).map(|(name, _)| map_pin(name));
        let entries = dir.list().map_err(failed())?;
        let names = entries.into_iter().filter_map(|entry| entry.name.into_string().ok());
        for pin in kept.chain(names.filter(|name| retired::parse(name).is_some())) {
            let from = Permissions::from(dir.stat(&pin).map_err(failed())?);
            if from != to {
                grants.push(Grant { pin, from, to });
            }
        }
        permissions::set(dir, None, permissions::of_directories(readers)).map_err(failed())?;
        Ok(grants)
    }

    /// Changes the permissions of the pins that stay.
    pub(super) fn commit_permissions<'s>(
        staged: &'s Staged<'a>,
        undo: &mut Vec<Undo<'s, 'a>>,
    ) -> Result<(), StepError> {
        for grant in &staged.grants {
            let failed = || at(staged.label, "change who may read its pins");
            let undo_it = || Undo::Permissions { dir: &staged.dir, entry: Some(&grant.pin), to: grant.from };
            commit_steps(&staged.dir, Some(&grant.pin), grant.from, grant.to, undo, undo_it)
                .map_err(failed())?;
        }
        Ok(())
    }

    /// Changes the permissions of the pin root.
    pub(super) fn commit_root<'s>(
        &self,
        root: Option<&RootChange>,
        undo: &mut Vec<Undo<'s, 'a>>,
    ) -> Result<(), StepError>
    where
        'a: 's,
    {
        let Some(RootChange { path, from, to }) = root else { return Ok(()) };
        let dir = self.root;
        commit_steps(dir, None, *from, *to, undo, || Undo::Permissions { dir, entry: None, to: *from })
            .map_err(|source| StepError::Kernel {
                what: format!("cannot change who may read {}", path.display()),
                source,
            })
    }
}

/// Makes the calls one by one. The undo of all of them is noted with the first that was made.
fn commit_steps<'s, 'a>(
    dir: &Dir,
    entry: Option<&str>,
    from: Permissions,
    to: Permissions,
    undo: &mut Vec<Undo<'s, 'a>>,
    undo_it: impl Fn() -> Undo<'s, 'a>,
) -> Result<(), xdpd_kernel::Error> {
    for (made, step) in from.steps(to).into_iter().enumerate() {
        step.make(dir, entry)?;
        if made == 0 {
            undo.push(undo_it());
        }
    }
    Ok(())
}
