//! Following a path part by part, as the kernel does, and judging whatever it leads through.
//!
//! Each part is looked up in the directory that was judged before it, which is held open meanwhile. So it does not matter
//! what is renamed or exchanged on the way.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, fstatfs, openat, readlinkat, statx,
};

use super::acl::Acl;
use super::mounts::{Mounts, Writing};
use super::rule::{Facts, Kind, Reason, Trusted};
use super::{Mounted, OpenError, Purpose, Refusal, Untrusted};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// `FUSE_SUPER_MAGIC` of fs/fuse/inode.c.
const FUSE_SUPER_MAGIC: u32 = 0x6573_5546;
/// `PROC_SUPER_MAGIC` of include/uapi/linux/magic.h.
const PROC_SUPER_MAGIC: u32 = 0x9fa0;
const GROUP_WRITES: u32 = 0o020;
const GROUP_SEARCHES: u32 = 0o010;

/// A path that was followed to its end.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    judge: Judge<'a>,
    /// The directories from `/` on, without links, and what the path leads to at the end.
    way: Vec<OwnedFd>,
    /// The path of the last of them.
    place: PathBuf,
    links: usize,
}

impl<'a> Walk<'a> {
    /// Follows a path. Fails where it leads through something that users who are not trusted can change, or to it.
    pub(super) fn to(path: &'a Path, purpose: Purpose, trusted: Trusted) -> Result<Self, OpenError> {
        let whole = std::path::absolute(path)?;
        let judge = Judge { path, purpose, trusted, mounts: OnceCell::new() };
        let root = look_at(CWD, OsStr::new("/"), OFlags::DIRECTORY)?;
        judge.judge(Path::new("/"), &root)?;
        let mut walk = Self { judge, way: vec![root], place: "/".into(), links: 0 };
        let mut rest = parts(&whole);
        while let Some(part) = rest.pop() {
            if part == ".." { walk.up()? } else { walk.enter(&part, &mut rest)? }
        }
        Ok(walk)
    }

    fn file_type(&self) -> Result<FileType, OpenError> {
        Ok(file_type(&self.judge.stat(&self.place, self.end())?))
    }

    pub(super) fn into_path(self) -> PathBuf {
        self.place
    }

    /// Opens what the path leads to, to read it.
    pub(super) fn open(&self) -> Result<File, OpenError> {
        // A device could act when it is opened.
        regular(self.file_type()?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match (&*self.way, self.place.file_name()) {
            ([.., directory, _], Some(name)) => {
                openat(directory, name, flags | OFlags::NOFOLLOW, Mode::empty())
            }
            // A link of /proc has led to it, and it may be in no directory.
            _ => openat(CWD, format!("/proc/self/fd/{}", self.end().as_raw_fd()), flags, Mode::empty()),
        };
        let file = file.map_err(io::Error::from)?;
        // Another may have taken its place in the directory.
        regular(file_type(&self.judge.stat(&self.place, &file)?))?;
        self.judge.judge(&self.place, &file)?;
        Ok(file.into())
    }

    fn end(&self) -> &OwnedFd {
        // There is always one: what leads up from the first is put in its place.
        &self.way[self.way.len() - 1]
    }

    /// To the directory that the last one lies in.
    fn up(&mut self) -> Result<(), OpenError> {
        // Fails, as it must, out of what is no directory.
        let parent = look_at(self.end(), OsStr::new(".."), OFlags::DIRECTORY)?;
        self.place.pop();
        if self.way.len() > 1 {
            // The one that was judged, wherever the directory has been moved meanwhile.
            self.way.pop();
            return Ok(());
        }
        // Out of `/` leads nothing, and out of where a link of /proc has led to, only the kernel knows the way.
        self.judge.judge(&self.place, &parent)?;
        self.way = vec![parent];
        Ok(())
    }

    /// To the entry `name` of the last directory; where that is a link, its parts become the next to be followed.
    fn enter(&mut self, name: &OsStr, rest: &mut Vec<OsString>) -> Result<(), OpenError> {
        let place = self.place.join(name);
        let mut found = look_at(self.end(), name, OFlags::NOFOLLOW)?;
        let is_link = match file_type(&self.judge.stat(&place, &found)?) {
            FileType::Directory => {
                // What is mounted on demand is mounted when its directory is opened as one.
                found = look_at(self.end(), name, OFlags::NOFOLLOW | OFlags::DIRECTORY)?;
                self.judge.judge(&place, &found)? == Kind::Link
            }
            FileType::RegularFile | FileType::Symlink => self.judge.judge(&place, &found)? == Kind::Link,
            // A device, a socket or a FIFO leads nowhere, and is not going to be read.
            _ => false,
        };
        if !is_link {
            self.way.push(found);
            self.place = place;
            return Ok(());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(io::Error::other("it leads through too many symbolic links").into());
        }
        let target = readlinkat(&found, "", Vec::new()).map_err(io::Error::from)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if self.judge.is_on(PROC_SUPER_MAGIC, &place, &found)? {
            // Links such as /proc/self/fd/0 and /proc/1/root lead to a thing, and not along the path that they name.
            let thing = look_at(self.end(), name, OFlags::empty())?;
            self.place = self.place.join(target);
            self.judge.judge(&self.place, &thing)?;
            self.way = vec![thing];
            return Ok(());
        }
        if target.is_absolute() {
            self.way = vec![look_at(CWD, OsStr::new("/"), OFlags::DIRECTORY)?];
            self.place = "/".into();
        }
        rest.extend(parts(&target));
        Ok(())
    }
}

/// Judges one thing after the other on the way of a path.
#[derive(Debug)]
struct Judge<'a> {
    path: &'a Path,
    purpose: Purpose,
    trusted: Trusted,
    /// Read only where they matter: there may be thousands.
    mounts: OnceCell<Mounts>,
}

impl Judge<'_> {
    /// Fails if users who are not trusted can change it; says what it is.
    fn judge(&self, place: &Path, fd: &OwnedFd) -> Result<Kind, Untrusted> {
        let stat = self.stat(place, fd)?;
        let facts = self.facts(place, fd, &stat, GROUP_WRITES)?;
        let refuse = |reason, mount| {
            let (path, purpose, place) = (self.path.to_owned(), self.purpose, place.to_owned());
            Err(Untrusted::Refused(Refusal { path, purpose, place, kind: facts.kind, reason, mount }))
        };
        if self.is_on(FUSE_SUPER_MAGIC, place, fd)? {
            let unknown = || self.unknown(place, io::Error::other("who serves its file system is not known"));
            let server = self.mounts(place)?.server(stat.stx_mnt_id).map_err(|()| unknown())?;
            if let Some(uid) = server.filter(|uid| !self.trusted.user(*uid)) {
                return refuse(Reason::Served(uid), Mounted::Writable);
            }
        }
        if let Err(reason) = facts.by_permissions(self.trusted) {
            match self.mounts(place)?.writing(stat.stx_mnt_id, place) {
                Writing::Allowed if self.mounts(place)?.is_mount_point(place) => {
                    return refuse(reason, Mounted::Here);
                }
                Writing::Allowed => return refuse(reason, Mounted::Writable),
                Writing::Impossible => {}
                Writing::OnlyAs(names) => {
                    for (mount, name) in names {
                        if self.is_within_reach(mount, &name)? {
                            return refuse(reason, Mounted::WritableAs(name));
                        }
                    }
                }
                Writing::Elsewhere(kind) => return refuse(reason, Mounted::Elsewhere(kind)),
            }
        }
        if let Err(reason) = facts.by_owner(self.trusted) {
            let writing = self.mounts(place)?.writing(stat.stx_mnt_id, place);
            let mount = if writing == Writing::Allowed { Mounted::Writable } else { Mounted::ReadOnly };
            return refuse(reason, mount);
        }
        Ok(facts.kind)
    }

    /// Whether a name leads to what lies on this mount, through directories that users who are not trusted may search.
    fn is_within_reach(&self, mount: u64, name: &Path) -> Result<bool, Untrusted> {
        let unknown = |source| self.unknown(name, source);
        let mut found = look_at(CWD, OsStr::new("/"), OFlags::DIRECTORY).map_err(unknown)?;
        for part in parts(name).iter().rev() {
            let facts = self.facts(name, &found, &self.stat(name, &found)?, GROUP_SEARCHES)?;
            if !facts.lets_others_through(self.trusted) {
                return Ok(false);
            }
            found = match look_at(&found, part, OFlags::NOFOLLOW) {
                Ok(found) => found,
                // Nothing of that name is there, since something else is mounted over it.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                        && self.mounts(name)?.may_hide(mount, name) =>
                {
                    return Ok(false);
                }
                Err(e) => return Err(unknown(e)),
            };
        }
        Ok(self.stat(name, &found)?.stx_mnt_id == mount)
    }

    fn facts(&self, place: &Path, fd: &OwnedFd, stat: &Statx, by_group: u32) -> Result<Facts, Untrusted> {
        let kind = match file_type(stat) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::File,
        };
        let mode = u32::from(stat.stx_mode) & 0o7777;
        // Without this bit of the group, no entry of an ACL gives that right either.
        let acl = if kind != Kind::Link && mode & by_group != 0 {
            Acl::of(fd).map_err(|source| self.unknown(place, source))?
        } else {
            None
        };
        Ok(Facts { kind, uid: stat.stx_uid, gid: stat.stx_gid, mode, acl })
    }

    fn stat(&self, place: &Path, fd: &OwnedFd) -> Result<Statx, Untrusted> {
        statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
            .map_err(|errno| self.unknown(place, errno.into()))
    }

    fn is_on(&self, magic: u32, place: &Path, fd: &OwnedFd) -> Result<bool, Untrusted> {
        let found = fstatfs(fd).map_err(|errno| self.unknown(place, errno.into()))?;
        // The field's type differs between architectures; the number is a 32-bit one everywhere.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
        Ok(found.f_type as u32 == magic)
    }

    fn mounts(&self, place: &Path) -> Result<&Mounts, Untrusted> {
        if self.mounts.get().is_none() {
            let read = Mounts::read().map_err(|source| self.unknown(place, source))?;
            let _ = self.mounts.set(read);
        }
        self.mounts.get().ok_or_else(|| self.unknown(place, io::Error::other("its mounts are not known")))
    }

    fn unknown(&self, place: &Path, source: io::Error) -> Untrusted {
        Untrusted::Unknown { path: self.path.to_owned(), place: place.to_owned(), source }
    }
}

/// Fails if it is not a regular file.
pub(super) fn regular(found: FileType) -> io::Result<()> {
    match found {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(io::Error::other("it is a directory")),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

/// Opens an entry of a directory as a place, which needs no right to read it and does nothing to it.
fn look_at(directory: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty())?)
}

fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// The parts of a path that lead on, the last of them first.
fn parts(path: &Path) -> Vec<OsString> {
    let leads_on = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(leads_on).map(|part| part.as_os_str().to_owned()).collect()
}
