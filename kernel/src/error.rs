//! Errors: which call failed, on what, and why.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use crate::look::Other;
use xdpd_types::ObjectKind;

/// The result of asking the kernel for something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that failed, the object it was made on, and the reason.
///
/// One line says it all: `BPF_LINK_UPDATE of /sys/fs/bpf/xdpd/eth0/xdp-link: Operation not permitted (EPERM)`.
/// The reason is part of that line and therefore not repeated as [`source`](std::error::Error::source).
#[derive(Debug)]
pub struct Error(Box<Details>);

#[derive(Debug)]
struct Details {
    call: &'static str,
    object: String,
    cause: Cause,
    /// Whose the entry is that it is about, where that is the reason.
    owner: Option<Owner>,
    /// What else is known of the reason, each part behind a semicolon.
    notes: String,
}

/// Who owns an entry that could not be opened.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    mode: u32,
}

/// Why a call failed.
#[derive(Debug)]
enum Cause {
    /// The kernel or the C library said so.
    Os(io::Error),
    /// The call was not made, or its answer made no sense; in words.
    Refusal(String),
}

impl Error {
    pub(crate) fn new(call: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::with(call, object.into(), Cause::Os(source.into()))
    }

    /// A refusal of our own: the call was not made, or its answer made no sense.
    pub(crate) fn invalid(call: &'static str, object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::with(call, object.into(), Cause::Refusal(reason.into()))
    }

    /// A look at a directory or file that another library has made, and that failed.
    pub fn of_look(object: impl Into<String>, source: io::Error) -> Self {
        Self::new("a look", object, source)
    }

    fn with(call: &'static str, object: String, cause: Cause) -> Self {
        Self(Box::new(Details { call, object, cause, owner: None, notes: String::new() }))
    }

    /// Tells beside the error whose the entry is that it is about.
    pub(crate) fn of_entry(mut self, uid: u32, mode: u32) -> Self {
        self.0.owner = Some(Owner { uid, mode });
        self
    }

    /// Tells beside the error how the kernel explains it: text of its own, as drivers and modules write it.
    pub(crate) fn explained(mut self, words: Option<String>) -> Self {
        if let Some(words) = words {
            let _ = write!(self.0.notes, "; the kernel says: {words}");
        }
        self
    }

    /// Tells beside the error why its reason could not be looked for.
    pub(crate) fn unseen(mut self, why: &str) -> Self {
        let _ = write!(self.0.notes, "; why cannot be looked for: {why}");
        self
    }

    /// The error number of the kernel; `None` for a refusal that did not come from the kernel (a file name with a slash, a
    /// buffer of the wrong length).
    ///
    /// For logs and tests. A decision takes the type that a look answers with, or one of the questions below.
    pub fn errno(&self) -> Option<i32> {
        match &self.0.cause {
            Cause::Os(source) => source.raw_os_error(),
            Cause::Refusal(_) => None,
        }
    }

    pub(crate) fn is(&self, errno: i32) -> bool {
        self.errno() == Some(errno)
    }

    /// The kernel denied it, so that a missing right may be the reason: for advice.
    pub fn is_denied(&self) -> bool {
        self.is(libc::EACCES) || self.is(libc::EPERM)
    }

    /// The permission bits of a file or of a directory on its path denied it, and not a missing capability: for advice.
    pub fn is_denied_by_mode(&self) -> bool {
        self.is(libc::EACCES)
    }

    /// The entry belongs to another user than root, which is why root may not open it: for advice.
    pub fn is_of_another_user(&self) -> bool {
        self.0.owner.is_some_and(|owner| owner.uid != 0)
    }

    /// This process has as many open files as it may: for advice.
    pub fn is_out_of_files(&self) -> bool {
        self.is(libc::EMFILE)
    }

    /// The file system is mounted read-only: for advice.
    pub fn is_read_only(&self) -> bool {
        self.is(libc::EROFS)
    }

    /// The call that failed: a command of bpf(2) such as `BPF_LINK_CREATE`, or the name of a system call.
    pub fn call(&self) -> &'static str {
        self.0.call
    }

    /// What the call was made on: mostly a path, a device or an id.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// The reason alone, without call and object: `Operation not permitted (EPERM)`.
    pub fn reason(&self) -> String {
        let mut reason = self.0.cause.to_string();
        if let Some(Owner { uid, mode }) = self.0.owner {
            let _ = write!(reason, ", it belongs to user {uid} and has mode {mode:04o}");
        }
        reason.push_str(&self.0.notes);
        reason
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(source) => Reason(source).fmt(f),
            Self::Refusal(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.0.call, self.0.object, self.reason())
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.0.cause {
            Cause::Os(source) => source.kind(),
            Cause::Refusal(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Why a pin could not be opened as the type that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no such pin.
    #[error("{} does not exist", path.display())]
    Gone {
        /// The pin.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is {found}, not a {expected}", path.display())]
    WrongType {
        /// The pin.
        path: PathBuf,
        /// What is there.
        found: Other,
        /// What was asked for.
        expected: ObjectKind,
    },
    /// The kernel did not open it.
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl PinError {
    /// The error number, as [`Error::errno`].
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Gone { .. } | Self::WrongType { .. } => None,
            Self::Kernel(error) => error.errno(),
        }
    }
}

/// The words for an error, followed by the name of its number.
struct Reason<'a>(&'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(errno) = self.0.raw_os_error() else { return write!(f, "{}", self.0) };
        // Not an errno of the C library, yet bpf(2) lets it through to user space.
        if errno == ENOTSUPP {
            return f.write_str("Operation not supported by this kernel (ENOTSUPP)");
        }
        let text = self.0.to_string();
        let words = text.strip_suffix(&format!(" (os error {errno})")).unwrap_or(&text);
        match errno_name(errno) {
            Some(name) => write!(f, "{words} ({name})"),
            None => write!(f, "{words} (errno {errno})"),
        }
    }
}

/// `ENOTSUPP` of the kernel's include/linux/errno.h.
const ENOTSUPP: i32 = 524;

/// The symbolic name of an error number, for those that the calls made here can return.
fn errno_name(errno: i32) -> Option<&'static str> {
    macro_rules! names {
        ($($name:ident)*) => {
            match errno {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        };
    }
    names! {
        EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
        EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK
        EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG ENODATA ETIME ENOLINK EPROTO
        EBADMSG EOVERFLOW EBADFD EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
        EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET
        ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY
        EINPROGRESS ESTALE EDQUOT ECANCELED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "words are the C library's")]
    fn an_error_names_call_object_words_and_number() {
        let error = Error::new("BPF_LINK_UPDATE", "/sys/fs/bpf/x", io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.to_string(), "BPF_LINK_UPDATE of /sys/fs/bpf/x: Operation not permitted (EPERM)");
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert!(error.is_denied() && !error.is_denied_by_mode());
        assert_eq!(error.reason(), "Operation not permitted (EPERM)");
        let error = error.explained(Some("Device is busy shaving".into()));
        assert_eq!(
            error.to_string(),
            "BPF_LINK_UPDATE of /sys/fs/bpf/x: Operation not permitted (EPERM); the kernel says: Device is busy shaving"
        );
    }

    #[test]
    fn the_number_that_only_the_kernel_knows_has_words_too() {
        let error = Error::new("BPF_MAP_CREATE", "m", io::Error::from_raw_os_error(524));
        assert_eq!(
            error.to_string(),
            "BPF_MAP_CREATE of m: Operation not supported by this kernel (ENOTSUPP)"
        );
    }

    #[test]
    fn a_refusal_of_our_own_has_no_errno() {
        let error = Error::invalid("openat", "a/b", "not a file name");
        assert_eq!(error.to_string(), "openat of a/b: not a file name");
        assert_eq!(error.errno(), None);
        assert!(!error.is_denied());
    }
}
