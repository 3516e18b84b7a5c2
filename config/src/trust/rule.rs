//! The rule itself, on plain data: which other users may change a file, a link or a directory.

use super::acl::{Acl, Subject};

/// Permission to write, in the digit of a mode.
const WRITE: u32 = 0o2;
/// Permission to search a directory, in the digit of a mode.
const SEARCH: u32 = 0o1;
const STICKY: u32 = 0o1000;

/// The users and groups, besides root and its group, that may change what root follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trusted {
    /// A user.
    pub uid: Option<u32>,
    /// A group.
    pub gid: Option<u32>,
}

impl Trusted {
    /// Root and its group alone.
    pub const ROOT: Self = Self { uid: None, gid: None };

    pub(super) fn user(self, uid: u32) -> bool {
        uid == 0 || self.uid == Some(uid)
    }

    fn group(self, gid: u32) -> bool {
        gid == 0 || self.gid == Some(gid)
    }
}

/// The kinds of things, by what it means that somebody may write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file: who writes it, changes what it says.
    File,
    /// A symbolic link: its owner decides where it leads. Its mode means nothing.
    Link,
    /// A directory that a path leads through: who writes it, replaces entries. Where the sticky bit is set, those that
    /// belong to root or the directory's owner stay.
    Directory,
    /// A directory in which every entry counts, such as one of pins: who writes it, adds entries. The sticky bit does not
    /// matter.
    PinDirectory,
}

/// The facts of one file, link or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its kind.
    pub kind: Kind,
    /// The user who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// Permission bits with set-id and sticky bit: `st_mode & 07777`.
    pub mode: u32,
    /// Its POSIX ACL, if it has one that the mode does not tell in full.
    pub acl: Option<Acl>,
}

/// What lets others change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Everybody may write it. Holds the permission bits.
    Everybody(u32),
    /// This group owns it and may write it. Holds the permission bits, too.
    Group(u32, u32),
    /// An ACL lets this user write it.
    AclUser(u32),
    /// An ACL lets this group write it.
    AclGroup(u32),
    /// This user owns it.
    Owner(u32),
    /// It lies on a FUSE file system that this user serves, whose word all other facts are.
    Served(u32),
}

impl Facts {
    /// Fails if users who are not trusted can change it: by its permissions, or else as its owner.
    pub fn judge(&self, trusted: Trusted) -> Result<(), Reason> {
        self.by_permissions(trusted).and_then(|()| self.by_owner(trusted))
    }

    /// Fails if its permissions let users write it who are neither trusted nor its owner.
    pub(super) fn by_permissions(&self, trusted: Trusted) -> Result<(), Reason> {
        let protected = match self.kind {
            Kind::Link => true,
            Kind::Directory => self.mode & STICKY != 0,
            Kind::File | Kind::PinDirectory => false,
        };
        if protected { Ok(()) } else { self.withheld(WRITE, trusted) }
    }

    /// Fails if its owner, who can change its permissions, is not trusted.
    pub(super) fn by_owner(&self, trusted: Trusted) -> Result<(), Reason> {
        if trusted.user(self.uid) { Ok(()) } else { Err(Reason::Owner(self.uid)) }
    }

    /// Whether users who are not trusted may search the directory, so that its entries can be reached through it.
    pub(super) fn lets_others_through(&self, trusted: Trusted) -> bool {
        self.by_owner(trusted).and_then(|()| self.withheld(SEARCH, trusted)).is_err()
    }

    /// Fails if a permission is given to users who are neither trusted nor the owner.
    fn withheld(&self, permission: u32, trusted: Trusted) -> Result<(), Reason> {
        let gives = |rights: u32| rights & permission != 0;
        if gives(self.mode) {
            return Err(Reason::Everybody(self.mode));
        }
        // With an ACL, the bits of the group are the most that it may give to the group and to those that it names.
        let group = self.acl.as_ref().map_or(self.mode >> 3, |acl| acl.owning_group & self.mode >> 3);
        if gives(group) && !trusted.group(self.gid) {
            return Err(Reason::Group(self.gid, self.mode));
        }
        for (subject, rights) in self.acl.iter().flat_map(|acl| &acl.named) {
            match *subject {
                _ if !gives(rights & self.mode >> 3) => {}
                Subject::User(uid) if !trusted.user(uid) => return Err(Reason::AclUser(uid)),
                Subject::Group(gid) if !trusted.group(gid) => return Err(Reason::AclGroup(gid)),
                Subject::User(_) | Subject::Group(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u32 = 0;
    const CALLER: u32 = 1000;
    const STRANGER: u32 = 1001;
    const TRUSTED: Trusted = Trusted { uid: Some(CALLER), gid: Some(CALLER) };
    const KINDS: [Kind; 4] = [Kind::File, Kind::Link, Kind::Directory, Kind::PinDirectory];

    fn judge(kind: Kind, uid: u32, gid: u32, mode: u32) -> Result<(), Reason> {
        Facts { kind, uid, gid, mode, acl: None }.judge(TRUSTED)
    }

    #[test]
    fn what_root_or_who_called_sudo_owns_is_trusted_and_nothing_else() {
        for kind in KINDS {
            for mode in [0o400, 0o600, 0o644, 0o755, 0o1755] {
                assert_eq!(judge(kind, ROOT, ROOT, mode), Ok(()));
                assert_eq!(judge(kind, CALLER, STRANGER, mode), Ok(()));
                assert_eq!(judge(kind, STRANGER, ROOT, mode), Err(Reason::Owner(STRANGER)));
            }
            let facts = Facts { kind, uid: CALLER, gid: ROOT, mode: 0o644, acl: None };
            assert_eq!(facts.judge(Trusted::ROOT), Err(Reason::Owner(CALLER)));
        }
    }

    /// Every kind with every mode that matters, by a rule written in another way: as a list of who gets what.
    #[test]
    fn everybody_and_foreign_groups_must_not_write() {
        for (kind, mode, gid) in KINDS.into_iter().flat_map(|kind| {
            let modes = [0o644, 0o664, 0o646, 0o666, 0o755, 0o775, 0o757, 0o777, 0o1775, 0o1757, 0o1777];
            modes.into_iter().flat_map(move |mode| [ROOT, CALLER, STRANGER].map(|gid| (kind, mode, gid)))
        }) {
            let [everybody, group, sticky] = [0o2, 0o20, 0o1000].map(|bit| mode & bit != 0);
            let expected = match kind {
                Kind::Link => Ok(()),
                Kind::Directory if sticky => Ok(()),
                _ if everybody => Err(Reason::Everybody(mode)),
                _ if group && gid == STRANGER => Err(Reason::Group(STRANGER, mode)),
                _ => Ok(()),
            };
            assert_eq!(judge(kind, ROOT, gid, mode), expected, "{kind:?} {mode:o} {gid}");
            // The owner comes after it.
            let expected = expected.and(Err(Reason::Owner(STRANGER)));
            assert_eq!(judge(kind, STRANGER, gid, mode), expected, "{kind:?} {mode:o} {gid}");
        }
    }

    #[test]
    fn an_acl_is_read_with_its_mask() {
        use Subject::{Group, User};
        type Case<'a> = (&'a [(Subject, u32)], u32, u32, Result<(), Reason>);
        let cases: [Case<'_>; 9] = [
            (&[(User(STRANGER), 0o7)], 0o5, 0o775, Err(Reason::AclUser(STRANGER))),
            (&[(Group(STRANGER), 0o6)], 0o5, 0o775, Err(Reason::AclGroup(STRANGER))),
            (&[(User(STRANGER), 0o5), (User(CALLER), 0o7), (User(ROOT), 0o7)], 0o5, 0o775, Ok(())),
            (&[(Group(STRANGER), 0o5), (Group(CALLER), 0o7), (Group(ROOT), 0o7)], 0o5, 0o775, Ok(())),
            (&[(User(CALLER), 0o7), (User(STRANGER), 0o2)], 0o5, 0o775, Err(Reason::AclUser(STRANGER))),
            // The mask takes it away.
            (&[(User(STRANGER), 0o7)], 0o7, 0o755, Ok(())),
            // The owning group has rights of its own.
            (&[(User(STRANGER), 0o5)], 0o7, 0o775, Err(Reason::Group(STRANGER, 0o775))),
            (&[], 0o5, 0o775, Ok(())),
            (&[], 0o5, 0o777, Err(Reason::Everybody(0o777))),
        ];
        for (named, owning_group, mode, expected) in cases {
            let acl = Some(Acl { owning_group, named: named.to_vec() });
            let facts = Facts { kind: Kind::Directory, uid: ROOT, gid: STRANGER, mode, acl };
            assert_eq!(facts.judge(TRUSTED), expected, "{facts:?}");
        }
    }

    #[test]
    fn only_strangers_who_may_search_a_directory_get_through() {
        for (uid, gid, mode, expected) in [
            (ROOT, ROOT, 0o700, false),
            (ROOT, STRANGER, 0o700, false),
            (ROOT, STRANGER, 0o760, false),
            (ROOT, ROOT, 0o770, false),
            (ROOT, CALLER, 0o750, false),
            (CALLER, ROOT, 0o700, false),
            (ROOT, ROOT, 0o701, true),
            (ROOT, STRANGER, 0o710, true),
            // Who owns it, opens it.
            (STRANGER, ROOT, 0o000, true),
        ] {
            let facts = Facts { kind: Kind::Directory, uid, gid, mode, acl: None };
            assert_eq!(facts.lets_others_through(TRUSTED), expected, "{facts:?}");
        }
    }
}
