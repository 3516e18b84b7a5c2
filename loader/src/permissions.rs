//! Who may read the pins besides root: the group that the file names, and what follows for owners and permission bits.

use std::fmt;

use serde::{Serialize, Serializer};
use xdpd_config::{Config, Diagnostic, Group, suggest, trust};
use xdpd_kernel::{Dir, Stat, group};

/// Owner, group and permission bits of a pin or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// The user who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// The permission bits.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
}

/// The group that may read, as it is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// Its number.
    pub gid: u32,
    /// As the file names it.
    pub name: String,
}

/// What pins of maps are to have.
pub fn of_maps(readers: Option<&Readers>) -> Permissions {
    permissions(readers, 0o600, 0o640)
}

/// What the pin root and the directories of interfaces are to have.
pub fn of_directories(readers: Option<&Readers>) -> Permissions {
    permissions(readers, 0o700, 0o750)
}

/// What pins of maps are to have in a directory with these permissions, which differ by the right to search it.
pub fn of_maps_in(directory: Permissions) -> Permissions {
    Permissions { mode: directory.mode & 0o666, ..directory }
}

fn permissions(readers: Option<&Readers>, alone: u32, shared: u32) -> Permissions {
    match readers {
        None => Permissions { uid: 0, gid: 0, mode: alone },
        Some(Readers { gid, .. }) => Permissions { uid: 0, gid: *gid, mode: shared },
    }
}

impl Permissions {
    /// Members of a group who are not the owner have these rights, `rwx` as in the last digit of a mode.
    pub fn admits(self, gid: u32, bits: u32) -> bool {
        let shift = if self.gid == gid { 3 } else { 0 };
        self.mode >> shift & bits == bits
    }

    /// Fails if users other than root can change what is in a directory of pins.
    pub fn judge(self) -> Result<(), trust::Reason> {
        let Self { uid, gid, mode } = self;
        // A bpffs has no ACLs.
        trust::Facts { kind: trust::Kind::PinDirectory, uid, gid, mode, acl: None }
            .judge(trust::Trusted::ROOT)
    }

    /// Users other than root can change what is in a directory of pins.
    pub fn is_others_to_change(self) -> bool {
        self.judge().is_err()
    }

    /// What becomes what.
    pub fn difference(self, to: Self) -> String {
        let number = |what: &str, from: u32, to: u32| (from != to).then(|| format!("{what} {from} -> {to}"));
        let mode = (self.mode != to.mode).then(|| format!("mode {:04o} -> {:04o}", self.mode, to.mode));
        let parts = [mode, number("owner", self.uid, to.uid), number("group", self.gid, to.gid)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Root may open it for reading and writing without a right to the files of others.
    pub fn is_open_to_root(self) -> bool {
        self.uid == 0 && self.mode & 0o600 == 0o600
    }

    /// The calls that turn these permissions into `to`, in an order that lets nobody in who is neither before nor after, and
    /// that root may make: only an owner changes permission bits, so root is the owner first and last.
    pub fn steps(self, to: Self) -> Vec<Step> {
        let both = self.mode & to.mode;
        let owner = if self.uid == 0 || to.uid == 0 { 0 } else { to.uid };
        let take = (self.uid != owner).then_some(Step::Chown(owner, self.gid));
        let narrow = (both != self.mode).then_some(Step::Chmod(both));
        let group = (self.gid != to.gid).then_some(Step::Chown(owner, to.gid));
        let widen = (both != to.mode).then_some(Step::Chmod(to.mode));
        let give = (owner != to.uid).then_some(Step::Chown(to.uid, to.gid));
        [take, narrow, group, widen, give].into_iter().flatten().collect()
    }
}

impl From<Stat> for Permissions {
    fn from(stat: Stat) -> Self {
        // The sticky bit, which the root of a bpffs always has, admits nobody.
        Self { uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o777 }
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, gid, mode } = self;
        write!(f, "mode {mode:04o}, owner {uid}, group {gid}")
    }
}

/// `0640` is what people read and type.
#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Of the permission bits.
    Chmod(u32),
    /// Of owner and group.
    Chown(u32, u32),
}

impl Step {
    /// Makes it, on an entry of a directory or on the directory itself.
    pub fn make(self, dir: &Dir, entry: Option<&str>) -> Result<(), xdpd_kernel::Error> {
        match (self, entry) {
            (Self::Chmod(mode), Some(entry)) => dir.chmod(entry, mode),
            (Self::Chmod(mode), None) => dir.chmod_self(mode),
            (Self::Chown(uid, gid), Some(entry)) => dir.chown(entry, Some(uid), Some(gid)),
            (Self::Chown(uid, gid), None) => dir.chown_self(Some(uid), Some(gid)),
        }
    }
}

/// Gives an entry of a directory, or the directory itself, the permissions `to`.
pub fn set(dir: &Dir, entry: Option<&str>, to: Permissions) -> Result<(), xdpd_kernel::Error> {
    let now = match entry {
        Some(entry) => dir.stat(entry)?,
        None => dir.stat_self()?,
    };
    Permissions::from(now).steps(to).into_iter().try_for_each(|step| step.make(dir, entry))
}

/// The group that the file names, as this machine knows it.
pub fn resolve(config: &Config) -> Result<Option<Readers>, Diagnostic> {
    let Some(group) = &config.stats.group else { return Ok(None) };
    let readers = |gid| Some(Readers { gid, name: group.value.to_string() });
    let name = match &group.value {
        Group::Id(gid) => return Ok(readers(*gid)),
        Group::Name(name) => name,
    };
    let error = match group::id_of(name) {
        Ok(Some(gid)) => return Ok(readers(gid)),
        Ok(None) => Diagnostic::new(format!("no group `{name}` on this machine")),
        Err(e) => Diagnostic::new(format!("cannot look up group `{name}`: {e}")),
    };
    let known = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let names = known.lines().filter_map(|line| line.split(':').next());
    let help = match suggest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`groupadd --system {name}` makes it; a number needs no group of that name"),
    };
    Err(error.at(group.span.clone()).label("who may read the pins").help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(uid: u32, gid: u32, mode: u32) -> Permissions {
        Permissions { uid, gid, mode }
    }

    /// Who may read a file: the owner, the group, everybody else.
    fn may_read(p: Permissions, uid: u32, gid: u32) -> bool {
        let shift = if p.uid == uid {
            6
        } else if p.gid == gid {
            3
        } else {
            0
        };
        p.mode >> shift & 4 != 0
    }

    #[test]
    fn a_directory_tells_what_its_maps_are_to_have() {
        for readers in [None, Some(Readers { gid: 5, name: "readers".into() })] {
            let directory = of_directories(readers.as_ref());
            assert_eq!(of_maps_in(directory), of_maps(readers.as_ref()));
        }
    }

    #[test]
    fn on_the_way_nobody_reads_who_reads_neither_before_nor_after() {
        let all: Vec<_> = [0, 7]
            .into_iter()
            .flat_map(|uid| [0, 5, 6].map(|gid| (uid, gid)))
            .flat_map(|(uid, gid)| [0o600, 0o640, 0o644, 0o604].map(|mode| permissions(uid, gid, mode)))
            .collect();
        for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))) {
            let mut now = from;
            for step in from.steps(to) {
                match step {
                    Step::Chmod(mode) => now.mode = mode,
                    Step::Chown(uid, gid) => (now.uid, now.gid) = (uid, gid),
                }
                for (uid, gid) in [(0, 0), (7, 9), (8, 5), (8, 6), (8, 9)] {
                    let before_or_after = may_read(from, uid, gid) || may_read(to, uid, gid);
                    assert!(
                        !may_read(now, uid, gid) || before_or_after,
                        "{from} to {to}: {uid}:{gid} by {now}"
                    );
                }
            }
            assert_eq!(now, to);
            // A step that changes the bits is one of the owner, who is root before or after.
            let mut owner = from.uid;
            for step in from.steps(to) {
                match step {
                    Step::Chmod(_) => {
                        assert!(owner == 0 || ![from.uid, to.uid].contains(&0), "{from} to {to}");
                    }
                    Step::Chown(uid, _) => owner = uid,
                }
            }
            assert_eq!(from.steps(to).is_empty(), from == to);
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let from = permissions(0, 0, 0o600);
        assert_eq!(from.difference(permissions(0, 995, 0o640)), "mode 0600 -> 0640, group 0 -> 995");
        assert_eq!(from.difference(permissions(1000, 0, 0o600)), "owner 0 -> 1000");
        assert_eq!(from.difference(from), "");
    }

    #[test]
    fn a_group_has_its_own_bits_and_everybody_else_the_last() {
        let admits = |gid, mode| permissions(0, gid, mode).admits(995, 1);
        assert!(admits(995, 0o710) && admits(0, 0o701));
        assert!(!admits(0, 0o710) && !admits(995, 0o701));
    }

    #[test]
    fn directories_that_others_can_write_are_others_to_change() {
        for (uid, gid, mode) in [(0, 0, 0o700), (0, 995, 0o750), (0, 0, 0o770), (0, 0, 0o711)] {
            assert!(!permissions(uid, gid, mode).is_others_to_change(), "{uid}:{gid} {mode:o}");
        }
        for (uid, gid, mode) in [(1000, 0, 0o700), (0, 995, 0o770), (0, 0, 0o702)] {
            assert!(permissions(uid, gid, mode).is_others_to_change(), "{uid}:{gid} {mode:o}");
        }
    }
}
