//! Why root does not follow a file, and what to do about it, in words.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::rule::{Kind, Reason};
use crate::shell;

/// Why root does not follow a file.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// Somebody else can change what it says.
    #[error("{0}")]
    Refused(Refusal),
    /// It cannot be told.
    #[error("cannot tell whether {} is to be trusted: {}: {source}", shell::word(path), shell::word(place))]
    Unknown {
        /// The file that was to be followed.
        path: PathBuf,
        /// What could not be examined.
        place: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What is wrong with what a path leads through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The path that was to be followed.
    pub path: PathBuf,
    /// For what.
    pub purpose: Purpose,
    /// What the reason is about: the file, a link on the way to it, or a directory.
    pub place: PathBuf,
    /// What that is.
    pub kind: Kind,
    /// Who can change it.
    pub reason: Reason,
    /// What the mount that it lies on means for it.
    pub mount: Mounted,
}

/// What a path is followed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read the file that it leads to.
    Read,
    /// To use the directory, or the absolute path, that it leads to.
    Use,
}

/// What a mount means for who can change a file, and for how that can be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mounted {
    /// Nothing.
    Writable,
    /// It is writable, and this directory is where it is mounted.
    Here,
    /// It is read-only, so nothing can be mended there.
    ReadOnly,
    /// It is read-only, but the same file or directory can be written by this name.
    WritableAs(PathBuf),
    /// It is read-only, but file systems of this type can be changed elsewhere.
    Elsewhere(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not trusted: ", shell::word(&self.path))?;
        if self.place != self.path {
            write!(f, "{}: ", shell::word(&self.place))?;
        }
        let write = match self.kind {
            Kind::File | Kind::Link => "may write it",
            Kind::Directory => "may replace the files in this directory",
            Kind::PinDirectory => "may make entries in this directory",
        };
        match self.reason {
            Reason::Everybody(mode) => write!(f, "everybody {write}, its mode is {mode:04o}")?,
            Reason::Group(gid, mode) => write!(f, "group {gid} {write}, its mode is {mode:04o}")?,
            Reason::AclUser(uid) => write!(f, "by its ACL, user {uid} {write}")?,
            Reason::AclGroup(gid) => write!(f, "by its ACL, group {gid} {write}")?,
            Reason::Owner(uid) => write!(f, "it belongs to user {uid}, and not to root or $SUDO_UID")?,
            Reason::Served(uid) => write!(f, "user {uid} serves its file system, and decides what it holds")?,
        }
        match &self.mount {
            Mounted::Writable | Mounted::Here | Mounted::ReadOnly => {}
            Mounted::WritableAs(name) => {
                write!(f, "; it is mounted read-only, but can be written as {}", shell::word(name))?;
            }
            Mounted::Elsewhere(kind) => {
                write!(f, "; it is mounted read-only, but {kind} file systems can be changed elsewhere")?;
            }
        }
        write!(f, " ({})", self.remedy())
    }
}

impl Refusal {
    fn remedy(&self) -> String {
        let place = match &self.mount {
            Mounted::WritableAs(name) => name,
            _ => &self.place,
        };
        let command = command(self.kind, self.reason, place);
        let elsewhere = match self.purpose {
            Purpose::Read => "put a copy where only root may write",
            Purpose::Use => "choose a path that only root can change",
        };
        match (&self.mount, self.reason) {
            (_, Reason::Served(_)) | (Mounted::ReadOnly, _) => elsewhere.to_owned(),
            (Mounted::Elsewhere(_), _) => format!("{elsewhere}, or change its mode where it can be written"),
            (_, Reason::Owner(_)) if self.kind != Kind::File && self.kind != Kind::Link => {
                format!("{elsewhere}, or {command}")
            }
            (Mounted::Here, _) => format!("{command}, or mount it read-only"),
            _ => command,
        }
    }
}

/// The command that mends it.
fn command(kind: Kind, reason: Reason, place: &Path) -> String {
    let place = shell::word(place);
    match reason {
        Reason::Everybody(_) => format!("chmod o-w {place}"),
        Reason::Group(..) => format!("chmod g-w {place}, or chgrp root {place}"),
        Reason::AclUser(uid) => format!("setfacl -x u:{uid} {place}"),
        Reason::AclGroup(gid) => format!("setfacl -x g:{gid} {place}"),
        Reason::Owner(_) | Reason::Served(_) if kind == Kind::Link => format!("chown -h root {place}"),
        Reason::Owner(_) | Reason::Served(_) => format!("chown root {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        use Kind::{Directory, File, Link};
        const CONFIG: &str = "/etc/xdpd/config.toml";
        const DIR: &str = "/etc/xdpd";
        let behind = || Mounted::WritableAs("/srv/a b".into());
        for (place, kind, reason, mount, expected) in [
            (
                CONFIG,
                File,
                Reason::Everybody(0o666),
                Mounted::Writable,
                "everybody may write it, its mode is 0666 (chmod o-w /etc/xdpd/config.toml)",
            ),
            (
                DIR,
                Directory,
                Reason::Everybody(0o777),
                Mounted::Writable,
                "/etc/xdpd: everybody may replace the files in this directory, its mode is 0777 (chmod o-w /etc/xdpd)",
            ),
            (
                DIR,
                Directory,
                Reason::Everybody(0o777),
                Mounted::Here,
                "/etc/xdpd: everybody may replace the files in this directory, its mode is 0777 (chmod o-w /etc/xdpd, or \
                 mount it read-only)",
            ),
            (
                DIR,
                Directory,
                Reason::Everybody(0o777),
                behind(),
                "/etc/xdpd: everybody may replace the files in this directory, its mode is 0777; it is mounted \
                 read-only, but can be written as '/srv/a b' (chmod o-w '/srv/a b')",
            ),
            (
                DIR,
                Directory,
                Reason::Everybody(0o777),
                Mounted::Elsewhere("nfs4".into()),
                "/etc/xdpd: everybody may replace the files in this directory, its mode is 0777; it is mounted \
                 read-only, but nfs4 file systems can be changed elsewhere (put a copy where only root may write, or \
                 change its mode where it can be written)",
            ),
            (
                CONFIG,
                File,
                Reason::Group(1001, 0o664),
                Mounted::Writable,
                "group 1001 may write it, its mode is 0664 (chmod g-w /etc/xdpd/config.toml, or chgrp root \
                 /etc/xdpd/config.toml)",
            ),
            (
                CONFIG,
                File,
                Reason::AclUser(1001),
                Mounted::Writable,
                "by its ACL, user 1001 may write it (setfacl -x u:1001 /etc/xdpd/config.toml)",
            ),
            (
                DIR,
                Directory,
                Reason::AclGroup(1001),
                Mounted::Writable,
                "/etc/xdpd: by its ACL, group 1001 may replace the files in this directory (setfacl -x g:1001 /etc/xdpd)",
            ),
            (
                CONFIG,
                File,
                Reason::Owner(1001),
                Mounted::Writable,
                "it belongs to user 1001, and not to root or $SUDO_UID (chown root /etc/xdpd/config.toml)",
            ),
            (
                CONFIG,
                Link,
                Reason::Owner(1001),
                Mounted::Writable,
                "it belongs to user 1001, and not to root or $SUDO_UID (chown -h root /etc/xdpd/config.toml)",
            ),
            (
                "/home/bob",
                Directory,
                Reason::Owner(1001),
                Mounted::Writable,
                "/home/bob: it belongs to user 1001, and not to root or $SUDO_UID (put a copy where only root may \
                 write, or chown root /home/bob)",
            ),
            (
                CONFIG,
                File,
                Reason::Owner(1001),
                Mounted::ReadOnly,
                "it belongs to user 1001, and not to root or $SUDO_UID (put a copy where only root may write)",
            ),
            (
                CONFIG,
                File,
                Reason::Served(1001),
                Mounted::Writable,
                "user 1001 serves its file system, and decides what it holds (put a copy where only root may write)",
            ),
        ] {
            let (path, purpose) = (CONFIG.into(), Purpose::Read);
            let refusal = Refusal { path, purpose, place: place.into(), kind, reason, mount };
            let expected = format!("/etc/xdpd/config.toml is not trusted: {expected}");
            assert_eq!(Untrusted::Refused(refusal).to_string(), expected);
        }
        let (path, place, purpose) = ("/home/bob/bpf".into(), "/home/bob".into(), Purpose::Use);
        let (reason, mount) = (Reason::Owner(1001), Mounted::Writable);
        let refusal = Refusal { path, purpose, place, kind: Directory, reason, mount };
        let expected = "/home/bob/bpf is not trusted: /home/bob: it belongs to user 1001, and not to root or $SUDO_UID \
                        (choose a path that only root can change, or chown root /home/bob)";
        assert_eq!(Untrusted::Refused(refusal).to_string(), expected);
    }
}
