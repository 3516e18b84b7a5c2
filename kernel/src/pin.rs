//! Directories on bpffs, and the pins, directories and symbolic links in them.
//!
//! A [`Dir`] is a descriptor: all that is done with it happens in the directory that was opened, whatever becomes of its
//! path meanwhile. Names in it are single file names, and no symbolic link is followed.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, Uid};
use rustix::io::Errno;

use crate::bpffs;
use crate::error::{Error, OptionalExt, PinError, Result};
use crate::link::XdpLink;
use crate::map::Map;
use crate::object::{self, ObjectKind};
use crate::program::Program;
use crate::stat::{EntryKind, Stat};
use crate::sys;
use crate::uapi::{BPF_F_RDONLY, BPF_OBJ_GET, BPF_OBJ_PIN};

/// What a pin is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read: needs read permission on the pin and no capability. The kernel opens no link this way.
    ReadOnly,
    /// To read and write.
    ReadWrite,
}

/// What a pin holds.
#[derive(Debug)]
pub enum PinnedObject {
    /// A map.
    Map(Map),
    /// A program.
    Program(Program),
    /// A link.
    Link(XdpLink),
}

impl PinnedObject {
    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Map(_) => ObjectKind::Map,
            Self::Program(_) => ObjectKind::Program,
            Self::Link(_) => ObjectKind::Link,
        }
    }
}

impl AsFd for PinnedObject {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Map(map) => map.as_fd(),
            Self::Program(program) => program.as_fd(),
            Self::Link(link) => link.as_fd(),
        }
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; that of a foreign entry need not be UTF-8.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
    /// Its inode number.
    pub ino: u64,
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory. `ENOENT` when there is none, `ENOTDIR` when the last component of `path` is anything else, a
    /// symbolic link included; those before it are followed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        // Behind a trailing slash, the kernel would follow a symbolic link.
        let path: PathBuf = path.as_ref().components().collect();
        let fd = rustix::fs::open(&path, DIR_FLAGS, Mode::empty())
            .map_err(|errno| Error::new("open", path.to_string_lossy(), errno))?;
        Ok(Self { fd, path })
    }

    /// A directory that is open already, handed over by another process; `path` is for people. `ENOTDIR` when it is
    /// anything else.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let error = |errno| Error::new("statx", path.to_string_lossy(), errno);
        if Stat::at(&fd, c"").map_err(error)?.kind != EntryKind::Dir {
            return Err(error(Errno::NOTDIR));
        }
        Ok(Self { fd, path })
    }

    /// Opens a directory in this one.
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = self.name("openat", name.as_ref())?;
        let fd = rustix::fs::openat(&self.fd, &name, DIR_FLAGS, Mode::empty())
            .map_err(|errno| self.error("openat", &name, errno))?;
        Ok(Self { fd, path: self.path.join(os(&name)) })
    }

    /// Makes a directory in this one; `mode` is as given, whatever the umask. `EEXIST` when the name is taken.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = self.name("mkdirat", name.as_ref())?;
        rustix::fs::mkdirat(&self.fd, &name, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error("mkdirat", &name, errno))?;
        // The umask may have taken something away.
        self.chmod(os(&name), mode).inspect_err(|_| _ = self.rmdir(os(&name)))
    }

    /// The path under which the directory was opened. For people: it may have been renamed since.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for people.
    pub fn path_of(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// Whether the directory is on a bpffs, where alone objects can be pinned.
    pub fn is_bpffs(&self) -> Result<bool> {
        let fs = rustix::fs::fstatfs(&self.fd)
            .map_err(|errno| Error::new("fstatfs", self.path.to_string_lossy(), errno))?;
        Ok(bpffs::has_magic(&fs))
    }

    /// The entries of the directory but `.` and `..`, sorted by name.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let error = |call, errno| Error::new(call, self.path.to_string_lossy(), errno);
        // The descriptor that we have stands for the place and cannot be read from.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
            .map_err(|errno| error("openat", errno))?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut dir = RawDir::new(fd, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = dir.next() {
            let entry = entry.map_err(|errno| error("getdents64", errno))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.stat(os(name)) {
                    Ok(stat) => stat.kind,
                    Err(error) if error.errno() == libc::ENOENT => continue,
                    Err(error) => return Err(error),
                },
                known => known.into(),
            };
            entries.push(Entry { name: os(name).to_owned(), kind, ino: entry.ino() });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// What is known about the directory itself.
    pub fn stat_self(&self) -> Result<Stat> {
        Stat::at(&self.fd, c"").map_err(|errno| Error::new("statx", self.path.to_string_lossy(), errno))
    }

    /// What is known about an entry; of a symbolic link itself. `ENOENT` when there is none.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Stat> {
        let name = self.name("statx", name.as_ref())?;
        Stat::at(&self.fd, &name).map_err(|errno| self.error("statx", &name, errno))
    }

    /// Sets the permission bits of an entry that is no symbolic link.
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = self.name("chmod", name.as_ref())?;
        let entry = self.place(&name)?;
        let stat = Stat::at(&entry, c"").map_err(|errno| self.error("statx", &name, errno))?;
        if stat.kind == EntryKind::Symlink {
            return Err(self.refusal("chmod", &name, "a symbolic link"));
        }
        // There is no fchmodat before Linux 6.6 that leaves symbolic links alone; the entry that is open, by its number,
        // is no longer subject to any name.
        rustix::fs::chmod(proc_path(&entry), Mode::from_raw_mode(mode))
            .map_err(|errno| self.error("chmod", &name, errno))
    }

    /// Sets the permission bits of the directory itself.
    pub fn chmod_self(&self, mode: u32) -> Result<()> {
        rustix::fs::chmod(proc_path(&self.fd), Mode::from_raw_mode(mode))
            .map_err(|errno| Error::new("chmod", self.path.to_string_lossy(), errno))
    }

    /// Sets owner and group of the directory itself; `None` leaves one as it is.
    pub fn chown_self(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(&self.fd, c"", uid, gid, AtFlags::EMPTY_PATH)
            .map_err(|errno| Error::new("fchownat", self.path.to_string_lossy(), errno))
    }

    /// Sets owner and group of an entry, of a symbolic link itself; `None` leaves one as it is.
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let name = self.name("fchownat", name.as_ref())?;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(&self.fd, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("fchownat", &name, errno))
    }

    /// Pins a BPF object. `EEXIST` when the name is taken, `EPERM` when it holds a dot (bpffs reserves it) or this is no
    /// bpffs.
    pub fn pin(&self, name: impl AsRef<OsStr>, object: &impl AsFd) -> Result<()> {
        let name = self.name(BPF_OBJ_PIN.name, name.as_ref())?;
        // By the descriptor's number, since the command takes a directory's descriptor only from Linux 6.5 on.
        let mut path = proc_path(&self.fd).into_bytes();
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        let path = CString::new(path).map_err(|_| self.refusal(BPF_OBJ_PIN.name, &name, NOT_A_NAME))?;
        sys::obj_pin(&path, object.as_fd())
            .map_err(|source| Error::new(BPF_OBJ_PIN.name, self.path_of(os(&name)).to_string_lossy(), source))
    }

    /// Opens a pin, whatever it holds. `ENOENT` when there is none.
    ///
    /// The kernel opens links for writing only; a link pin that was asked for [`Access::ReadOnly`] is opened so if the
    /// caller may.
    pub fn open_pin(&self, name: impl AsRef<OsStr>, access: Access) -> Result<PinnedObject> {
        let name = self.name(BPF_OBJ_GET.name, name.as_ref())?;
        let fd = match self.obj_get(&name, access)? {
            Opened::Object(fd) => fd,
            Opened::ReadOnlyLink => match self.obj_get(&name, Access::ReadWrite)? {
                Opened::Object(fd) => fd,
                Opened::ReadOnlyLink => return Err(self.error(BPF_OBJ_GET.name, &name, Errno::INVAL)),
            },
        };
        let origin = self.path_of(os(&name)).to_string_lossy().into_owned();
        Ok(match object::kind_of(&fd)? {
            Some(ObjectKind::Map) => PinnedObject::Map(Map::known(fd, origin)?),
            Some(ObjectKind::Program) => PinnedObject::Program(Program::known(fd, origin)),
            Some(ObjectKind::Link) => PinnedObject::Link(XdpLink::known(fd, origin)),
            None => return Err(self.refusal(BPF_OBJ_GET.name, &name, "a BPF object of an unknown kind")),
        })
    }

    /// Opens a pin that must hold a map.
    pub fn open_map(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Map, PinError> {
        let (fd, origin) = self.open_kind(name.as_ref(), access, ObjectKind::Map)?;
        Ok(Map::known(fd, origin)?)
    }

    /// Opens a pin that must hold a program.
    pub fn open_program(&self, name: impl AsRef<OsStr>) -> Result<Program, PinError> {
        // A program's descriptor can do the same whatever it was opened for; this asks for less permission.
        let (fd, origin) = self.open_kind(name.as_ref(), Access::ReadOnly, ObjectKind::Program)?;
        Ok(Program::known(fd, origin))
    }

    /// Opens a pin that must hold a link.
    pub fn open_link(&self, name: impl AsRef<OsStr>) -> Result<XdpLink, PinError> {
        let (fd, origin) = self.open_kind(name.as_ref(), Access::ReadWrite, ObjectKind::Link)?;
        Ok(XdpLink::known(fd, origin))
    }

    /// Gives what is `name` in the directory `from` another name in this one: the same inode with the same permissions.
    pub fn link(&self, from: &Self, name: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        let name = from.name("linkat", name.as_ref())?;
        let to = self.name("linkat", to.as_ref())?;
        rustix::fs::linkat(&from.fd, &name, &self.fd, &to, AtFlags::empty()).map_err(|errno| {
            let object =
                format!("{} as {}", from.path_of(os(&name)).display(), self.path_of(os(&to)).display());
            Error::new("linkat", object, errno)
        })
    }

    /// Makes a symbolic link with any text, of 4095 bytes at most and without NUL.
    pub fn symlink(&self, text: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> Result<()> {
        let name = self.name("symlinkat", name.as_ref())?;
        rustix::fs::symlinkat(text.as_ref(), &self.fd, &name)
            .map_err(|errno| self.error("symlinkat", &name, errno))
    }

    /// The text of a symbolic link. `EINVAL` when the entry is none.
    pub fn readlink(&self, name: impl AsRef<OsStr>) -> Result<OsString> {
        let name = self.name("readlinkat", name.as_ref())?;
        let text = rustix::fs::readlinkat(&self.fd, &name, Vec::new())
            .map_err(|errno| self.error("readlinkat", &name, errno))?;
        Ok(OsString::from_vec(text.into_bytes()))
    }

    /// Removes an entry that is no directory. `EISDIR` when it is one.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = self.name("unlinkat", name.as_ref())?;
        rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty())
            .map_err(|errno| self.error("unlinkat", &name, errno))
    }

    /// Removes an empty directory. `ENOTEMPTY` when it is not.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = self.name("unlinkat", name.as_ref())?;
        rustix::fs::unlinkat(&self.fd, &name, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error("unlinkat", &name, errno))
    }

    /// Removes a directory and the entries in it, none of which may be a directory: then nothing is removed, and the
    /// error is `ENOTEMPTY`.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        let dir = self.open_dir(name)?;
        let entries = dir.list()?;
        if let Some(nested) = entries.iter().find(|entry| entry.kind == EntryKind::Dir) {
            return Err(Error::new("rmdir", dir.path_of(&nested.name).to_string_lossy(), Errno::NOTEMPTY));
        }
        for entry in entries {
            dir.unlink(&entry.name).optional()?;
        }
        self.rmdir(name)
    }

    /// Renames an entry; what has the new name already, and is no directory with entries, is replaced.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), RenameFlags::empty())
    }

    /// Renames an entry. `EEXIST` when the new name is taken.
    pub fn rename_noreplace(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), RenameFlags::NOREPLACE)
    }

    /// Exchanges two entries in one step: whoever opens either name finds what it named before or what it names after.
    pub fn exchange(&self, a: impl AsRef<OsStr>, b: impl AsRef<OsStr>) -> Result<()> {
        self.rename_with(a.as_ref(), b.as_ref(), RenameFlags::EXCHANGE)
    }

    fn rename_with(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<()> {
        let from = self.name("renameat2", from)?;
        let to = self.name("renameat2", to)?;
        rustix::fs::renameat_with(&self.fd, &from, &self.fd, &to, flags).map_err(|errno| {
            let object = format!("{} to {}", self.path_of(os(&from)).display(), os(&to).display());
            Error::new("renameat2", object, errno)
        })
    }

    fn open_kind(
        &self,
        name: &OsStr,
        access: Access,
        expected: ObjectKind,
    ) -> Result<(OwnedFd, String), PinError> {
        let name = self.name(BPF_OBJ_GET.name, name)?;
        let path = self.path_of(os(&name));
        let fd = match self.obj_get(&name, access)? {
            Opened::Object(fd) => fd,
            Opened::ReadOnlyLink => {
                return Err(PinError::WrongType { path, found: ObjectKind::Link, expected });
            }
        };
        match object::kind_of(&fd)? {
            Some(found) if found == expected => Ok((fd, path.to_string_lossy().into_owned())),
            Some(found) => Err(PinError::WrongType { path, found, expected }),
            None => Err(self.refusal(BPF_OBJ_GET.name, &name, "a BPF object of an unknown kind").into()),
        }
    }

    /// `BPF_OBJ_GET` of an entry, with no way for a symbolic link to lead elsewhere.
    fn obj_get(&self, name: &CStr, access: Access) -> Result<Opened> {
        let entry = self.place(name)?;
        let flags = match access {
            Access::ReadOnly => BPF_F_RDONLY,
            Access::ReadWrite => 0,
        };
        let source = match sys::obj_get(&proc_path(&entry), flags) {
            Ok(fd) => return Ok(Opened::Object(fd)),
            Err(source) => source,
        };
        match source.raw_os_error() {
            // The only reason for it here: all else about the call is right.
            Some(libc::EINVAL) if access == Access::ReadOnly => Ok(Opened::ReadOnlyLink),
            // The entry exists, since it is open.
            Some(libc::ENOENT) => Err(self.refusal(BPF_OBJ_GET.name, name, "/proc is not mounted here")),
            // This is also the answer for what is no pin at all.
            Some(libc::EACCES) => {
                let reason = match Stat::at(&entry, c"").map(|stat| stat.kind) {
                    Ok(EntryKind::Symlink) => Some("a symbolic link, not a pin"),
                    Ok(EntryKind::Dir) => Some("a directory, not a pin"),
                    _ => match rustix::fs::fstatfs(&entry) {
                        Ok(fs) if !bpffs::has_magic(&fs) => Some("not on a bpffs, so not a pin"),
                        _ => None,
                    },
                };
                Err(match reason {
                    Some(reason) => self.refusal(BPF_OBJ_GET.name, name, reason),
                    None => Error::new(BPF_OBJ_GET.name, self.path_of(os(name)).to_string_lossy(), source),
                })
            }
            _ => Err(Error::new(BPF_OBJ_GET.name, self.path_of(os(name)).to_string_lossy(), source)),
        }
    }

    /// A descriptor that stands for an entry itself, of whatever kind, and needs no permission on it.
    fn place(&self, name: &CStr) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| self.error("openat", name, errno))
    }

    /// Checks that a name is one component, and no special one.
    fn name(&self, call: &'static str, name: &OsStr) -> Result<CString> {
        let bytes = name.as_bytes();
        let refusal =
            || Error::invalid(call, format!("{} in {}", name.display(), self.path.display()), NOT_A_NAME);
        if bytes.is_empty() || bytes.contains(&b'/') || matches!(bytes, b"." | b"..") {
            return Err(refusal());
        }
        CString::new(bytes).map_err(|_| refusal())
    }

    pub(crate) fn checked_name(&self, call: &'static str, name: &OsStr) -> Result<CString> {
        self.name(call, name)
    }

    pub(crate) fn error(&self, call: &'static str, name: &CStr, errno: Errno) -> Error {
        Error::new(call, self.path_of(os(name)).to_string_lossy(), errno)
    }

    fn refusal(&self, call: &'static str, name: &CStr, reason: &str) -> Error {
        Error::invalid(call, self.path_of(os(name)).to_string_lossy(), reason)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const DIR_FLAGS: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NOT_A_NAME: &str = "not the name of a directory entry";

enum Opened {
    Object(OwnedFd),
    /// It is a link, and the kernel refused to open it read-only.
    ReadOnlyLink,
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// The path that leads to what a descriptor refers to.
pub(crate) fn proc_path(fd: &OwnedFd) -> CString {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    CString::new(path).unwrap_or_default()
}
