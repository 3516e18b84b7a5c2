//! Whether root may follow a file: what it says decides which code runs in the kernel.
//!
//! Only root is careful here, since only root's runs change anything. One rule, [`Facts::judge`], is asked about the file,
//! every directory that its path leads through and every symbolic link on the way: nobody but root and the user who called
//! `sudo` may own it, nobody but they and root's or that user's group may write it. The pin root and the directories in
//! it are judged by the same rule.
//!
//! [`open`] is the door: it hands out a file that was reached through nothing but what was judged. So nothing can be
//! exchanged between the look and the reading.
//!
//! # Read-only mounts
//!
//! Where a mount is read-only, permissions to write are void, but owners remain what they are. If the file system itself
//! is read-only, nobody writes it. If only this mount is, the file can be written through another mount of the same file
//! system: it is refused if this mount namespace has one that somebody other than root gets to. What other mount
//! namespaces have, such as those of the host of a container or of other containers of a pod, cannot be known.

mod acl;
mod mounts;
mod refusal;
mod rule;
mod walk;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

pub use acl::{Acl, Subject};
pub use refusal::{Mounted, Purpose, Refusal, Untrusted};
pub use rule::{Facts, Kind, Reason, Trusted};
use walk::{Walk, regular};

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be, whoever may change it.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// Root does not follow it.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
}

impl Trusted {
    /// Whom the caller of this process trusts; `None` where the caller is not root, and so is not careful.
    ///
    /// `$SUDO_UID` and `$SUDO_GID` are heard only where root runs this process on its own account: `sudo` sets them, and
    /// root may. With set-id bits, they would be said by whoever starts it.
    fn by_caller() -> Option<Self> {
        use rustix::process::{geteuid, getuid};
        let variable = |name| std::env::var(name).ok().and_then(|id| id.parse().ok());
        let by_sudo = || Self { uid: variable("SUDO_UID"), gid: variable("SUDO_GID") };
        geteuid().is_root().then(|| if getuid().is_root() { by_sudo() } else { Self::ROOT })
    }
}

/// Opens a regular file to read it. As root, only if nobody else can change it.
pub fn open(path: &Path) -> Result<File, OpenError> {
    if let Some(trusted) = Trusted::by_caller() {
        return Walk::to(path, Purpose::Read, trusted)?.open();
    }
    // Not to be held up by a FIFO of that name.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    regular(FileType::from_raw_mode(file.metadata()?.mode()))?;
    Ok(file)
}

/// Whether root may make use of an existing directory, or file, by this path. Always, for a caller who is not root.
pub fn check(path: &Path) -> Result<(), OpenError> {
    resolve(path).map(drop)
}

/// The absolute path without symbolic links that this path leads to, as [`std::fs::canonicalize`]. As root, only if
/// nobody else can change where it leads.
pub fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    match Trusted::by_caller() {
        Some(trusted) => Ok(Walk::to(path, Purpose::Use, trusted)?.into_path()),
        None => Ok(path.canonicalize()?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const STRANGER: u32 = 4242;

    /// Root's view, with whoever runs the test in the place of who called `sudo`.
    fn trusted() -> Trusted {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Trusted { uid: Some(uid), gid: Some(gid) }
    }

    fn check(path: &Path) -> Result<File, OpenError> {
        Walk::to(path, Purpose::Read, trusted())?.open()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The place that is refused in `result`, and why.
    fn refused(result: Result<File, OpenError>) -> (PathBuf, Reason) {
        match result {
            Err(OpenError::Untrusted(Untrusted::Refused(refusal))) => (refusal.place, refusal.reason),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn the_file_and_its_directory_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "").unwrap();
        check(&file).unwrap();

        chmod(&file, 0o666);
        assert_eq!(refused(check(&file)), (file.clone(), Reason::Everybody(0o666)));
        chmod(&file, 0o644);
        chmod(dir.path(), 0o777);
        assert_eq!(refused(check(&file)), (dir.path().to_owned(), Reason::Everybody(0o777)));
        chmod(dir.path(), 0o1777);
        check(&file).unwrap();
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
        check(&link).unwrap();

        chmod(&target, 0o646);
        assert_eq!(refused(check(&link)).1, Reason::Everybody(0o646));
        chmod(&target, 0o644);
        for directory in [&first, &second, &third] {
            chmod(directory, 0o777);
            let (place, reason) = refused(check(&link));
            assert_eq!(reason, Reason::Everybody(0o777));
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
        let check = |path: &str| check(&base.join(path));
        for path in paths {
            check(path).unwrap();
        }
        // Who may write `shared` puts another `etc` into it.
        chmod(&base.join("shared"), 0o777);
        for path in paths {
            assert_eq!(refused(check(path)), (base.join("shared"), Reason::Everybody(0o777)), "{path}");
        }
        chmod(&base.join("shared"), 0o755);
        // Only root can give something away.
        if rustix::process::geteuid().is_root() {
            let give = |path: &str, uid| std::os::unix::fs::lchown(base.join(path), Some(uid), None).unwrap();
            for (given, reached) in
                [("link", &paths[1..]), ("shared/etc/xdpd", &paths[..]), ("shared", &paths[..])]
            {
                give(given, STRANGER);
                for path in paths {
                    if reached.contains(&path) {
                        let expected = (base.join(given), Reason::Owner(STRANGER));
                        assert_eq!(refused(check(path)), expected, "{path}");
                    } else {
                        check(path).unwrap();
                    }
                }
                give(given, 0);
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, 0o600.into(), 0).unwrap();
        for (path, expected) in [
            (dir.path(), "it is a directory"),
            (&fifo, "it is not a regular file"),
            (Path::new("/dev/null"), "it is not a regular file"),
            (&dir.path().join("none"), "No such file or directory (os error 2)"),
            (&fifo.join("below"), "Not a directory (os error 20)"),
            (&fifo.join("../fifo"), "Not a directory (os error 20)"),
        ] {
            for result in [open(path), check(path)] {
                match result {
                    Err(OpenError::Failed(error)) => assert_eq!(error.to_string(), expected),
                    other => panic!("{}: {other:?}", path.display()),
                }
            }
        }
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("config.toml");
        symlink("config.toml", &link).unwrap();
        let error = check(&link).unwrap_err();
        assert!(error.to_string().contains("too many symbolic links"), "{error}");
    }

    #[test]
    fn a_link_of_proc_leads_to_the_thing_itself() {
        use std::os::fd::AsRawFd as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "right").unwrap();
        let (file, directory) = (File::open(&path).unwrap(), File::open(dir.path()).unwrap());
        let fd = |of: &File| PathBuf::from(format!("/proc/self/fd/{}", of.as_raw_fd()));
        let read = |path: &Path| {
            let mut text = String::new();
            check(path).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        // The names that these links give lead to something else by now.
        let moved = dir.path().with_extension("moved");
        fs::rename(dir.path(), &moved).unwrap();
        fs::create_dir(dir.path()).unwrap();
        fs::write(&path, "wrong").unwrap();
        assert_eq!(read(&fd(&file)), "right");
        assert_eq!(read(&fd(&directory).join("config.toml")), "right");
        let name = moved.file_name().unwrap();
        assert_eq!(read(&fd(&directory).join("..").join(name).join("config.toml")), "right");
        // What it leads to is judged, too.
        chmod(&moved.join("config.toml"), 0o666);
        assert_eq!(refused(check(&fd(&file))).1, Reason::Everybody(0o666));
        fs::remove_dir_all(&moved).unwrap();
    }

    #[test]
    fn nothing_is_read_that_was_reached_through_a_directory_of_others_however_it_is_exchanged() {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let dir = tempfile::tempdir().unwrap();
        let [right, wrong] = ["right", "wrong"].map(|name| dir.path().join(name));
        for (place, mode) in [(&right, 0o755), (&wrong, 0o777)] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("config.toml"), format!("{mode:o}")).unwrap();
            chmod(place, mode);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &right, CWD, &wrong, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let [mut followed, mut refusals] = [0, 0];
            while followed < 500 || refusals < 500 {
                match check(&right.join("config.toml")) {
                    Ok(mut file) => {
                        let mut text = String::new();
                        file.read_to_string(&mut text).unwrap();
                        assert_eq!(text, "755");
                        followed += 1;
                    }
                    Err(OpenError::Untrusted(_)) => refusals += 1,
                    Err(OpenError::Failed(error)) => panic!("{error}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_resolved_path_is_that_of_the_kernel() {
        let resolved = |path: &Path| Walk::to(path, Purpose::Use, trusted()).unwrap().into_path();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("a/b", dir.path().join("link")).unwrap();
        for path in ["", "link", "link/..", "link/../b/.", "a/../link"] {
            let path = dir.path().join(path);
            assert_eq!(resolved(&path), path.canonicalize().unwrap());
        }
        assert_eq!(resolved(Path::new("/..")), Path::new("/"));
    }
}
