//! Whether root may follow a file: what it says decides which code runs in the kernel.
//!
//! Only root is careful here, since only root's runs change anything. A file is refused when it is world-writable, when it
//! lies in a world-writable directory that is not sticky, or when it belongs to somebody other than root and the user who
//! called `sudo` (`$SUDO_UID`). Behind a symbolic link the same holds for every link on the way, for the file at its end, and
//! for the directories they lie in.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Why root does not follow a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// Somebody else can change what it says.
    #[error("{} is not trusted: {}{reason} ({})", path.display(), about(path, place), reason.remedy(place))]
    Refused {
        /// The file that was to be followed.
        path: PathBuf,
        /// What the reason is about: the file, a link on the way to it, or a directory.
        place: PathBuf,
        /// What is wrong with it.
        reason: Reason,
    },
    /// It cannot be told.
    #[error("cannot tell whether {} is to be trusted: {}: {source}", path.display(), place.display())]
    Unknown {
        /// The file that was to be followed.
        path: PathBuf,
        /// What could not be examined.
        place: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What is wrong with a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Everybody may write the file. Holds its permission bits.
    WorldWritable(u32),
    /// Everybody may replace what is in the directory. Holds its permission bits.
    WorldWritableDirectory(u32),
    /// It belongs to this user, neither root nor the one who called `sudo`.
    Owner(u32),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WorldWritable(mode) => write!(f, "everybody may write it, its mode is {mode:04o}"),
            Self::WorldWritableDirectory(mode) => {
                write!(f, "everybody may replace the files in this directory, its mode is {mode:04o}")
            }
            Self::Owner(uid) => write!(f, "it belongs to user {uid}, and not to root or $SUDO_UID"),
        }
    }
}

impl Reason {
    fn remedy(self, place: &Path) -> String {
        let place = place.display();
        match self {
            Self::WorldWritable(_) | Self::WorldWritableDirectory(_) => format!("chmod o-w {place}"),
            Self::Owner(_) => format!("chown -h root {place}"),
        }
    }
}

/// Says which file or directory a reason is about, when it is not the file that was asked for.
fn about(path: &Path, place: &Path) -> String {
    if path == place { String::new() } else { format!("{}: ", place.display()) }
}

/// Whether the caller may follow the file at `path`. Always, for a caller who is not root.
///
/// What is checked is what the path names now: of a file that is already open, [`check_open`] makes sure.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    match Caller::current() {
        Some(caller) => caller.check(path, None),
        None => Ok(()),
    }
}

/// The same as [`check`], and for `file`, which was opened by this path, even if another file has taken the path since.
pub fn check_open(file: &File, path: &Path) -> Result<(), Untrusted> {
    match Caller::current() {
        Some(caller) => caller.check(path, Some(file)),
        None => Ok(()),
    }
}

/// What a reason to refuse depends on: the facts of one file, link or directory.
#[derive(Debug, Clone, Copy)]
struct Facts {
    kind: Kind,
    uid: u32,
    /// Permission bits with set-id and sticky bit: `st_mode & 07777`.
    mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Link,
    Directory,
}

impl Facts {
    fn of(metadata: &Metadata) -> Self {
        let file_type = metadata.file_type();
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            Kind::Link
        } else {
            Kind::File
        };
        Self { kind, uid: metadata.uid(), mode: metadata.mode() & 0o7777 }
    }

    /// The rule itself.
    fn judge(self, sudo_uid: Option<u32>) -> Result<(), Reason> {
        const WORLD_WRITABLE: u32 = 0o002;
        const STICKY: u32 = 0o1000;
        let owned = self.uid == 0 || Some(self.uid) == sudo_uid;
        let writable = self.mode & WORLD_WRITABLE != 0;
        match self.kind {
            Kind::Directory if writable && self.mode & STICKY == 0 => {
                Err(Reason::WorldWritableDirectory(self.mode))
            }
            Kind::Directory => Ok(()),
            Kind::File if writable => Err(Reason::WorldWritable(self.mode)),
            // A link has the mode 0777 and cannot be written, but its owner decides where it leads.
            Kind::File | Kind::Link if !owned => Err(Reason::Owner(self.uid)),
            Kind::File | Kind::Link => Ok(()),
        }
    }
}

/// Root, and on whose behalf.
struct Caller {
    sudo_uid: Option<u32>,
}

impl Caller {
    /// `None` when the caller is not root.
    fn current() -> Option<Self> {
        let sudo_uid = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        rustix::process::geteuid().is_root().then_some(Self { sudo_uid })
    }

    /// Follows `path` link by link, judging each and the directory that it lies in; `open` is the file at its end, when the
    /// caller has it already.
    fn check(&self, path: &Path, open: Option<&File>) -> Result<(), Untrusted> {
        if let Some(open) = open {
            self.judge(path, path, open.metadata())?;
        }
        let mut place = path.to_owned();
        for _ in 0..MAX_LINKS {
            // Through the parent, links included, to the directory itself.
            let directory = match place.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
                _ => PathBuf::from("."),
            };
            self.judge(path, &directory, fs::metadata(&directory))?;
            let kind = self.judge(path, &place, fs::symlink_metadata(&place))?;
            if kind != Kind::Link {
                return Ok(());
            }
            let target = fs::read_link(&place).map_err(|source| unknown(path, &place, source))?;
            place = directory.join(target);
        }
        Err(unknown(path, &place, rustix::io::Errno::LOOP.into()))
    }

    fn judge(&self, path: &Path, place: &Path, metadata: io::Result<Metadata>) -> Result<Kind, Untrusted> {
        let facts = Facts::of(&metadata.map_err(|source| unknown(path, place, source))?);
        let refused = |reason| Untrusted::Refused { path: path.to_owned(), place: place.to_owned(), reason };
        facts.judge(self.sudo_uid).map(|()| facts.kind).map_err(refused)
    }
}

fn unknown(path: &Path, place: &Path, source: io::Error) -> Untrusted {
    Untrusted::Unknown { path: path.to_owned(), place: place.to_owned(), source }
}
