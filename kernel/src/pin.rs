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
use crate::error::{Error, PinError, Result};
use xdpd_types::ObjectKind;

use crate::kind::EntryKind;
use crate::link::XdpLink;
use crate::look::{ATTEMPTS, Look, Other};
use crate::map::Map;
use crate::object;
use crate::privilege::is_root;
use crate::program::Program;
use crate::stat::Stat;
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
    /// Opens a directory that must exist; a last component that is a symbolic link is an error, those before it are
    /// followed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = without_trailing_slash(path.as_ref());
        let fd = open_dir_at(rustix::fs::CWD, &path)
            .map_err(|errno| Error::new("open", path.to_string_lossy(), errno))?;
        Ok(Self { fd, path })
    }

    /// Looks for a directory, as [`open`](Self::open) does.
    pub fn find(path: impl AsRef<Path>) -> Result<Look<Self>> {
        let path = without_trailing_slash(path.as_ref());
        let error = |call, errno| Error::new(call, path.to_string_lossy(), errno);
        let open = || open_dir_at(rustix::fs::CWD, &path);
        let found = agree("open", &[EntryKind::Dir], open, || Stat::named(&path), error)?;
        Ok(found.map(|fd| Self { fd, path: path.clone() }))
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

    /// Opens a directory in this one, which must exist.
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = self.name("openat", name.as_ref())?;
        let fd = open_dir_at(&self.fd, &name).map_err(|errno| self.error("openat", &name, errno))?;
        Ok(Self { fd, path: self.path.join(os(&name)) })
    }

    /// Looks for a directory in this one.
    pub fn find_dir(&self, name: impl AsRef<OsStr>) -> Result<Look<Self>> {
        let name = self.name("openat", name.as_ref())?;
        let open = || open_dir_at(&self.fd, &name);
        let found = self.agree("openat", &name, &[EntryKind::Dir], open)?;
        Ok(found.map(|fd| Self { fd, path: self.path.join(os(&name)) }))
    }

    /// Makes a directory in this one; `mode` is as given, whatever the umask. A name that is taken is an error.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = self.name("mkdirat", name.as_ref())?;
        rustix::fs::mkdirat(&self.fd, &name, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error("mkdirat", &name, errno))?;
        // The umask may have taken something away.
        self.chmod(os(&name), mode).inspect_err(|_| _ = self.rmdir(os(&name)))
    }

    /// Makes a directory in this one, as [`mkdir`](Self::mkdir) does, unless something has this name; tells whether it was
    /// made.
    pub fn mkdir_if_gone(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            match self.mkdir(&name, mode) {
                Ok(()) => return Ok(true),
                Err(error) if error.is(libc::EEXIST) => {}
                Err(error) => return Err(error),
            }
            if self.find_stat(&name)?.is_some() {
                return Ok(false);
            }
        }
        self.mkdir(name, mode).map(|()| true)
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

    /// The entries of the directory but `.` and `..`, sorted by name. One that was removed has none.
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
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT) if self.stat_self()?.is_removed() => break,
                Err(errno) => return Err(error("getdents64", errno)),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.find_stat(os(name))? {
                    Some(stat) => stat.kind,
                    None => continue,
                },
                known => known.into(),
            };
            entries.push(Entry { name: os(name).to_owned(), kind, ino: entry.ino() });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Whether the directory was removed since it was opened.
    pub fn is_removed(&self) -> Result<bool> {
        Ok(self.stat_self()?.is_removed())
    }

    /// What is known about the directory itself.
    pub fn stat_self(&self) -> Result<Stat> {
        Stat::at(&self.fd, c"").map_err(|errno| Error::new("statx", self.path.to_string_lossy(), errno))
    }

    /// What is known about an entry, which must exist; of a symbolic link itself.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Stat> {
        let name = self.name("statx", name.as_ref())?;
        Stat::at(&self.fd, &name).map_err(|errno| self.error("statx", &name, errno))
    }

    /// What is known about an entry, of a symbolic link itself; `None` when there is none.
    pub fn find_stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
        let name = self.name("statx", name.as_ref())?;
        for _ in 0..ATTEMPTS {
            match Stat::at(&self.fd, &name) {
                Ok(stat) => return Ok(Some(stat)),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.error("statx", &name, errno)),
            }
            match self.place(&name) {
                Ok(_) => {}
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(self.error("openat", &name, errno)),
            }
        }
        Err(self.error("statx", &name, Errno::NOENT))
    }

    /// Sets the permission bits of an entry that is no symbolic link.
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = self.name("chmod", name.as_ref())?;
        let entry = self.place(&name).map_err(|errno| self.error("openat", &name, errno))?;
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

    /// Pins a BPF object. It is an error when the name is taken or holds a dot (bpffs reserves it), or when this is no bpffs.
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

    /// Looks at a pin, whatever it holds.
    ///
    /// The kernel opens links for writing only; a link pin that was asked for [`Access::ReadOnly`] is opened so if the
    /// caller may.
    pub fn find_pin(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Look<PinnedObject>> {
        let name = self.name(BPF_OBJ_GET.name, name.as_ref())?;
        let fd = match self.obj_get(&name, access)? {
            Look::Other(Other::Object(ObjectKind::Link)) => self.obj_get(&name, Access::ReadWrite)?,
            look => look,
        };
        let origin = self.path_of(os(&name)).to_string_lossy().into_owned();
        Ok(match fd {
            Look::Found(fd) => match object::kind_of(&fd)? {
                Some(ObjectKind::Map) => Look::Found(PinnedObject::Map(Map::known(fd, origin)?)),
                Some(ObjectKind::Program) => Look::Found(PinnedObject::Program(Program::known(fd, origin))),
                Some(ObjectKind::Link) => Look::Found(PinnedObject::Link(XdpLink::known(fd, origin))),
                None => Look::Other(Other::UnknownObject),
            },
            Look::Gone => Look::Gone,
            Look::Other(other) => Look::Other(other),
        })
    }

    /// Looks for a pinned map.
    pub fn find_map(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Look<Map>> {
        self.find_kind(name.as_ref(), access, ObjectKind::Map, Map::known)
    }

    /// Looks for a pinned program.
    pub fn find_program(&self, name: impl AsRef<OsStr>) -> Result<Look<Program>> {
        // A program's descriptor can do the same whatever it was opened for; this asks for less permission.
        let known = |fd, origin| Ok(Program::known(fd, origin));
        self.find_kind(name.as_ref(), Access::ReadOnly, ObjectKind::Program, known)
    }

    /// Looks for a pinned link.
    pub fn find_link(&self, name: impl AsRef<OsStr>) -> Result<Look<XdpLink>> {
        let known = |fd, origin| Ok(XdpLink::known(fd, origin));
        self.find_kind(name.as_ref(), Access::ReadWrite, ObjectKind::Link, known)
    }

    /// Opens a pin that must hold a map.
    pub fn open_map(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Map, PinError> {
        require(self.find_map(&name, access)?, self.path_of(name), ObjectKind::Map)
    }

    /// Opens a pin that must hold a program.
    pub fn open_program(&self, name: impl AsRef<OsStr>) -> Result<Program, PinError> {
        require(self.find_program(&name)?, self.path_of(name), ObjectKind::Program)
    }

    /// Opens a pin that must hold a link.
    pub fn open_link(&self, name: impl AsRef<OsStr>) -> Result<XdpLink, PinError> {
        require(self.find_link(&name)?, self.path_of(name), ObjectKind::Link)
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

    /// The text of a symbolic link, which must exist.
    pub fn readlink(&self, name: impl AsRef<OsStr>) -> Result<OsString> {
        let name = self.name("readlinkat", name.as_ref())?;
        self.read_symlink(&name).map_err(|errno| self.error("readlinkat", &name, errno))
    }

    /// Looks for a symbolic link, and reads its text.
    pub fn find_symlink(&self, name: impl AsRef<OsStr>) -> Result<Look<OsString>> {
        let name = self.name("readlinkat", name.as_ref())?;
        self.agree("readlinkat", &name, &[EntryKind::Symlink], || self.read_symlink(&name))
    }

    fn read_symlink(&self, name: &CStr) -> rustix::io::Result<OsString> {
        let text = rustix::fs::readlinkat(&self.fd, name, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()))
    }

    /// Removes an entry, which must exist and is no directory.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = self.name("unlinkat", name.as_ref())?;
        rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty())
            .map_err(|errno| self.error("unlinkat", &name, errno))
    }

    /// Removes an entry that is no directory; false when there was none.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<bool> {
        self.unless_gone(name.as_ref(), || self.unlink(&name))
    }

    /// Makes a change to an entry; false when there is no such entry.
    fn unless_gone(&self, name: &OsStr, change: impl Fn() -> Result<()>) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            match change() {
                Ok(()) => return Ok(true),
                Err(error) if error.is(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
            if self.find_stat(name)?.is_none() {
                return Ok(false);
            }
        }
        change().map(|()| true)
    }

    /// Removes a directory, which must be empty.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = self.name("unlinkat", name.as_ref())?;
        rustix::fs::unlinkat(&self.fd, &name, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error("unlinkat", &name, errno))
    }

    /// Removes a directory and the entries in it, none of which may be a directory: then nothing is removed.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        let dir = self.open_dir(name)?;
        let entries = dir.list()?;
        if let Some(nested) = entries.iter().find(|entry| entry.kind == EntryKind::Dir) {
            return Err(Error::new("rmdir", dir.path_of(&nested.name).to_string_lossy(), Errno::NOTEMPTY));
        }
        for entry in entries {
            dir.remove(&entry.name)?;
        }
        self.rmdir(name)
    }

    /// Renames an entry; what has the new name already, and is no directory with entries, is replaced.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), RenameFlags::empty())
    }

    /// Renames an entry, as [`rename`](Self::rename) does; false when there was none.
    pub fn rename_if_there(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<bool> {
        self.unless_gone(from.as_ref(), || self.rename(&from, &to))
    }

    /// Renames an entry. A new name that is taken is an error.
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

    fn find_kind<T>(
        &self,
        name: &OsStr,
        access: Access,
        expected: ObjectKind,
        known: impl FnOnce(OwnedFd, String) -> Result<T>,
    ) -> Result<Look<T>> {
        let name = self.name(BPF_OBJ_GET.name, name)?;
        Ok(match self.obj_get(&name, access)? {
            Look::Gone => Look::Gone,
            Look::Other(other) => Look::Other(other),
            Look::Found(fd) => match object::kind_of(&fd)? {
                Some(found) if found == expected => {
                    Look::Found(known(fd, self.path_of(os(&name)).to_string_lossy().into_owned())?)
                }
                Some(found) => Look::Other(Other::Object(found)),
                None => Look::Other(Other::UnknownObject),
            },
        })
    }

    /// `BPF_OBJ_GET` of an entry, with no way for a symbolic link to lead elsewhere. Of what is open already, the kernel is
    /// asked what it is when it opens no object there.
    fn obj_get(&self, name: &CStr, access: Access) -> Result<Look<OwnedFd>> {
        const CALL: &str = BPF_OBJ_GET.name;
        let all = [EntryKind::File, EntryKind::Dir, EntryKind::Symlink, EntryKind::Other];
        let entry = match self.agree("openat", name, &all, || self.place(name))? {
            Look::Found(entry) => entry,
            Look::Gone => return Ok(Look::Gone),
            Look::Other(other) => return Ok(Look::Other(other)),
        };
        let flags = match access {
            Access::ReadOnly => BPF_F_RDONLY,
            Access::ReadWrite => 0,
        };
        let get = || sys::obj_get(&proc_path(&entry), flags);
        let is_invalid = |source: &std::io::Error| source.raw_os_error() == Some(libc::EINVAL);
        let source = match get() {
            Ok(fd) => return Ok(Look::Found(fd)),
            // The kernel opens no link for reading alone (kernel/bpf/inode.c, `bpf_obj_get_user`), and has no other reason
            // for this answer to such a call. It is asked twice.
            Err(source) if is_invalid(&source) && access == Access::ReadOnly => match get() {
                Ok(fd) => return Ok(Look::Found(fd)),
                Err(source) if is_invalid(&source) => {
                    return Ok(Look::Other(Other::Object(ObjectKind::Link)));
                }
                Err(source) => source,
            },
            Err(source) => source,
        };
        let stat = Stat::at(&entry, c"").map_err(|errno| self.error("statx", name, errno))?;
        if stat.kind != EntryKind::File {
            return Ok(Look::Other(Other::Entry(stat.kind)));
        }
        let fs = rustix::fs::fstatfs(&entry).map_err(|errno| self.error("fstatfs", name, errno))?;
        if !bpffs::has_magic(&fs) {
            return Ok(Look::Other(Other::NotOnBpffs));
        }
        if !object::proc_is_mounted() {
            return Err(self.refusal(CALL, name, object::NO_PROC));
        }
        let error = Error::new(CALL, self.path_of(os(name)).to_string_lossy(), source);
        // Root is denied what belongs to others, once it has given up the right to all files.
        Err(if error.is_denied_by_mode() && is_root() { error.of_entry(stat.uid, stat.mode) } else { error })
    }

    /// A descriptor that stands for an entry itself, of whatever kind, and needs no permission on it.
    fn place(&self, name: &CStr) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
    }

    /// See [`agree`], of an entry of this directory.
    pub(crate) fn agree<T>(
        &self,
        call: &'static str,
        name: &CStr,
        wanted: &[EntryKind],
        open: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<Look<T>> {
        let error = |call, errno| self.error(call, name, errno);
        agree(call, wanted, open, || Stat::at(&self.fd, name), error)
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

/// What `open` finds, which is for entries of the `wanted` kinds. That there is none, or another, has to be confirmed by
/// `stat`, a call of another kind.
fn agree<T>(
    call: &'static str,
    wanted: &[EntryKind],
    open: impl Fn() -> rustix::io::Result<T>,
    stat: impl Fn() -> rustix::io::Result<Stat>,
    error: impl Fn(&'static str, Errno) -> Error,
) -> Result<Look<T>> {
    let mut last = Errno::NOENT;
    for _ in 0..ATTEMPTS {
        let is_absent = match open() {
            Ok(found) => return Ok(Look::Found(found)),
            Err(errno @ Errno::NOENT) => {
                last = errno;
                true
            }
            Err(errno @ (Errno::NOTDIR | Errno::LOOP | Errno::INVAL)) => {
                last = errno;
                false
            }
            Err(errno) => return Err(error(call, errno)),
        };
        match stat() {
            Ok(stat) if !is_absent && !wanted.contains(&stat.kind) => {
                return Ok(Look::Other(Other::Entry(stat.kind)));
            }
            Err(Errno::NOENT) if is_absent => return Ok(Look::Gone),
            // The path leads through something that is no directory.
            Err(Errno::NOTDIR) if !is_absent => return Ok(Look::Other(Other::Entry(EntryKind::Other))),
            // It has come or gone meanwhile, or one of the two is wrong.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(error("statx", errno)),
        }
    }
    Err(error(call, last))
}

/// What must be there; the error says what is there instead.
fn require<T>(look: Look<T>, path: PathBuf, expected: ObjectKind) -> Result<T, PinError> {
    match look {
        Look::Found(found) => Ok(found),
        Look::Gone => Err(PinError::Gone { path }),
        Look::Other(found) => Err(PinError::WrongType { path, found, expected }),
    }
}

/// Opens a directory itself, and not what a symbolic link leads to.
fn open_dir_at(dir: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, path, DIR_FLAGS, Mode::empty())
}

/// Behind a trailing slash, the kernel would follow a symbolic link.
fn without_trailing_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// The path that leads to what a descriptor refers to.
pub(crate) fn proc_path(fd: &OwnedFd) -> CString {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    CString::new(path).unwrap_or_default()
}
