//! Whether root may follow a file: what it says decides which code runs in the kernel.
//!
//! Only root is careful here, since only root's runs change anything. A file is refused when it is
//! world-writable, when it lies in a world-writable directory that is not sticky, or when it belongs to
//! somebody other than root and the user who called `sudo` (`$SUDO_UID`). The same holds for every directory
//! that its path leads through, and for the owner of every symbolic link on the way.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

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

/// The same as [`check`], and for `file`, which was opened by this path, even if another file has taken the
/// path since.
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
            Kind::File if writable => Err(Reason::WorldWritable(self.mode)),
            // A link has the mode 0777 and cannot be written, but its owner decides where it leads.
            Kind::File | Kind::Link if !owned => Err(Reason::Owner(self.uid)),
            Kind::Directory | Kind::File | Kind::Link => Ok(()),
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

    /// Follows `path` part by part as the kernel does, judging each link, the directory that each part lies in, and
    /// the file at the end; `open` is that file, when the caller has it already.
    fn check(&self, path: &Path, open: Option<&File>) -> Result<(), Untrusted> {
        if let Some(open) = open {
            self.judge(path, path, open.metadata())?;
        }
        let whole = std::path::absolute(path).map_err(|source| unknown(path, path, source))?;
        let mut rest = parts(&whole);
        // Without links: its parent is the directory that it lies in.
        let mut place = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            self.judge(path, &place, fs::symlink_metadata(&place))?;
            let next = place.join(&part);
            if self.judge(path, &next, fs::symlink_metadata(&next))? != Kind::Link {
                place = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(unknown(path, &next, rustix::io::Errno::LOOP.into()));
            }
            let target = fs::read_link(&next).map_err(|source| unknown(path, &next, source))?;
            if target.is_absolute() {
                place = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        }
        Ok(())
    }

    fn judge(&self, path: &Path, place: &Path, metadata: io::Result<Metadata>) -> Result<Kind, Untrusted> {
        let facts = Facts::of(&metadata.map_err(|source| unknown(path, place, source))?);
        let refused = |reason| Untrusted::Refused { path: path.to_owned(), place: place.to_owned(), reason };
        facts.judge(self.sudo_uid).map(|()| facts.kind).map_err(refused)
    }
}

/// The parts of a path that lead on, the last of them first.
fn parts(path: &Path) -> Vec<OsString> {
    let leads_on = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(leads_on).map(|part| part.as_os_str().to_owned()).collect()
}

fn unknown(path: &Path, place: &Path, source: io::Error) -> Untrusted {
    Untrusted::Unknown { path: path.to_owned(), place: place.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const ROOT: u32 = 0;
    const CALLER: u32 = 1000;
    const STRANGER: u32 = 1001;

    fn judge(kind: Kind, uid: u32, mode: u32) -> Result<(), Reason> {
        Facts { kind, uid, mode }.judge(Some(CALLER))
    }

    #[test]
    fn files_of_root_and_of_who_called_sudo_are_trusted() {
        for mode in [0o400, 0o644, 0o664, 0o600] {
            assert_eq!(judge(Kind::File, ROOT, mode), Ok(()));
            assert_eq!(judge(Kind::File, CALLER, mode), Ok(()));
            assert_eq!(judge(Kind::File, STRANGER, mode), Err(Reason::Owner(STRANGER)));
        }
    }

    #[test]
    fn without_sudo_only_roots_files_are_trusted() {
        let facts = Facts { kind: Kind::File, uid: CALLER, mode: 0o644 };
        assert_eq!(facts.judge(None), Err(Reason::Owner(CALLER)));
        assert_eq!(Facts { uid: ROOT, ..facts }.judge(None), Ok(()));
    }

    #[test]
    fn a_world_writable_file_is_refused_whoever_owns_it() {
        for uid in [ROOT, CALLER, STRANGER] {
            assert_eq!(judge(Kind::File, uid, 0o666), Err(Reason::WorldWritable(0o666)));
        }
        // The sticky bit says nothing about a file.
        assert_eq!(judge(Kind::File, ROOT, 0o1646), Err(Reason::WorldWritable(0o1646)));
    }

    #[test]
    fn a_world_writable_directory_is_refused_unless_it_is_sticky() {
        for uid in [ROOT, CALLER, STRANGER] {
            assert_eq!(judge(Kind::Directory, uid, 0o777), Err(Reason::WorldWritableDirectory(0o777)));
            assert_eq!(judge(Kind::Directory, uid, 0o1777), Ok(()));
            assert_eq!(judge(Kind::Directory, uid, 0o755), Ok(()));
        }
    }

    #[test]
    fn a_link_is_judged_by_its_owner_alone() {
        assert_eq!(judge(Kind::Link, ROOT, 0o777), Ok(()));
        assert_eq!(judge(Kind::Link, CALLER, 0o777), Ok(()));
        assert_eq!(judge(Kind::Link, STRANGER, 0o777), Err(Reason::Owner(STRANGER)));
    }

    /// Root's view, with whoever runs the test in the place of who called `sudo`.
    fn caller() -> Caller {
        Caller { sudo_uid: Some(rustix::process::geteuid().as_raw()) }
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The path that is refused in `result`, and why.
    fn refused(result: Result<(), Untrusted>) -> (PathBuf, Reason) {
        match result {
            Err(Untrusted::Refused { place, reason, .. }) => (place, reason),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn the_file_and_its_directory_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "").unwrap();
        caller().check(&file, None).unwrap();

        chmod(&file, 0o666);
        assert_eq!(refused(caller().check(&file, None)), (file.clone(), Reason::WorldWritable(0o666)));
        chmod(&file, 0o644);
        chmod(dir.path(), 0o777);
        let expected = (dir.path().to_owned(), Reason::WorldWritableDirectory(0o777));
        assert_eq!(refused(caller().check(&file, None)), expected);
        chmod(dir.path(), 0o1777);
        caller().check(&file, None).unwrap();
    }

    #[test]
    fn behind_a_link_the_target_and_every_directory_on_the_way_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, third] = ["first", "second", "third"].map(|name| dir.path().join(name));
        for directory in [&first, &second, &third] {
            fs::create_dir(directory).unwrap();
        }
        let link = first.join("config.toml");
        let target = third.join("config.toml");
        symlink("../second/config.toml", &link).unwrap();
        symlink(&target, second.join("config.toml")).unwrap();
        fs::write(&target, "").unwrap();
        caller().check(&link, None).unwrap();

        chmod(&target, 0o646);
        assert_eq!(refused(caller().check(&link, None)).1, Reason::WorldWritable(0o646));
        chmod(&target, 0o644);
        for directory in [&first, &second, &third] {
            chmod(directory, 0o777);
            let (place, reason) = refused(caller().check(&link, None));
            assert_eq!(reason, Reason::WorldWritableDirectory(0o777));
            assert_eq!(place.canonicalize().unwrap(), directory.canonicalize().unwrap());
            chmod(directory, 0o755);
        }
    }

    #[test]
    fn every_directory_and_link_that_the_path_leads_through_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("shared/etc/xdpd")).unwrap();
        fs::write(base.join("shared/etc/xdpd/config.toml"), "").unwrap();
        symlink("shared/etc", base.join("link")).unwrap();
        let paths = ["shared/etc/xdpd/config.toml", "link/xdpd/config.toml", "link/../etc/xdpd/config.toml"];
        let check = |path: &str| caller().check(&base.join(path), None);
        for path in paths {
            check(path).unwrap();
        }
        // Who may write `shared` puts another `etc` into it.
        chmod(&base.join("shared"), 0o777);
        for path in paths {
            let expected = (base.join("shared"), Reason::WorldWritableDirectory(0o777));
            assert_eq!(refused(check(path)), expected, "{path}");
        }
        chmod(&base.join("shared"), 0o755);
        // A link in the middle of the path is its owner's, too. Only root can give one away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(base.join("link"), Some(STRANGER), None).unwrap();
            check(paths[0]).unwrap();
            for path in &paths[1..] {
                assert_eq!(refused(check(path)), (base.join("link"), Reason::Owner(STRANGER)), "{path}");
            }
        }
    }

    #[test]
    fn an_open_file_is_checked_even_when_another_took_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "").unwrap();
        chmod(&path, 0o666);
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        caller().check(&path, None).unwrap();
        assert_eq!(refused(caller().check(&path, Some(&file))).1, Reason::WorldWritable(0o666));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("config.toml");
        symlink("config.toml", &link).unwrap();
        let error = caller().check(&link, None).unwrap_err();
        assert!(matches!(error, Untrusted::Unknown { .. }), "{error:?}");
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        let refused = |place: &str, reason| {
            Untrusted::Refused { path: "/etc/xdpd/config.toml".into(), place: place.into(), reason }
                .to_string()
        };
        assert_eq!(
            refused("/etc/xdpd/config.toml", Reason::WorldWritable(0o666)),
            "/etc/xdpd/config.toml is not trusted: everybody may write it, its mode is 0666 \
             (chmod o-w /etc/xdpd/config.toml)"
        );
        assert_eq!(
            refused("/etc/xdpd", Reason::WorldWritableDirectory(0o777)),
            "/etc/xdpd/config.toml is not trusted: /etc/xdpd: everybody may replace the files in this \
             directory, its mode is 0777 (chmod o-w /etc/xdpd)"
        );
        assert_eq!(
            refused("/etc/xdpd/config.toml", Reason::Owner(1001)),
            "/etc/xdpd/config.toml is not trusted: it belongs to user 1001, and not to root or $SUDO_UID \
             (chown -h root /etc/xdpd/config.toml)"
        );
    }
}
