//! Errors: which call failed, on what, and why.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::object::ObjectKind;

/// The result of asking the kernel for something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that failed, the object it was made on, and the reason.
///
/// One line says it all: `BPF_LINK_UPDATE of /sys/fs/bpf/xdpd/eth0/xdp-link: Operation not permitted (EPERM)`.
/// The reason is part of that line and therefore not repeated as [`source`](std::error::Error::source).
#[derive(Debug)]
pub struct Error {
    call: &'static str,
    object: String,
    source: io::Error,
    /// What is known beside it, in words.
    detail: String,
}

impl Error {
    pub(crate) fn new(call: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { call, object: object.into(), source: source.into(), detail: String::new() }
    }

    /// A refusal of our own: the call was not made, or its answer made no sense.
    pub(crate) fn invalid(call: &'static str, object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(call, object, io::Error::new(io::ErrorKind::InvalidInput, reason.into()))
    }

    /// Tells beside the error how the kernel explains it: text of its own, as drivers and modules write it.
    pub(crate) fn explained(mut self, words: Option<&str>) -> Self {
        if let Some(words) = words {
            self.detail = format!("; the kernel says: {words}");
        }
        self
    }

    /// The error number of the kernel, to be compared with `libc::EBUSY` and its like.
    ///
    /// A refusal that did not come from the kernel (a file name with a slash, a buffer of the wrong length) is
    /// `EINVAL`.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EINVAL)
    }

    /// This process has as many open files as it may: for advice.
    pub fn is_out_of_files(&self) -> bool {
        self.errno() == libc::EMFILE
    }

    /// The call that failed: a command of bpf(2) such as `BPF_LINK_CREATE`, or the name of a system call.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What the call was made on: mostly a path, a device or an id.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The reason alone, without call and object: `Operation not permitted (EPERM)`.
    pub fn reason(&self) -> String {
        format!("{}{}", Reason(&self.source), self.detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}{}", self.call, self.object, Reason(&self.source), self.detail)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = error.source.kind();
        Self::new(kind, error)
    }
}

/// For questions to which it is an answer that something is not there.
pub trait OptionalExt<T> {
    /// `None` where there is no such thing, or not any more: `ENOENT`.
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExt<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.errno() == libc::ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Why a pin could not be opened as the type that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The pin is there and holds something else.
    #[error("{} is a {found}, not a {expected}", path.display())]
    WrongType {
        /// The pin.
        path: PathBuf,
        /// What it holds.
        found: ObjectKind,
        /// What was asked for.
        expected: ObjectKind,
    },
    /// The kernel did not open it.
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl PinError {
    /// The error number, as [`Error::errno`]; a pin of another type is `EINVAL`.
    pub fn errno(&self) -> i32 {
        match self {
            Self::WrongType { .. } => libc::EINVAL,
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
    fn an_error_names_call_object_words_and_number() {
        let error = Error::new("BPF_LINK_UPDATE", "/sys/fs/bpf/x", io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.to_string(), "BPF_LINK_UPDATE of /sys/fs/bpf/x: Operation not permitted (EPERM)");
        assert_eq!(error.errno(), libc::EPERM);
        assert_eq!(error.reason(), "Operation not permitted (EPERM)");
        let error = error.explained(Some("Device is busy shaving"));
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
    fn what_is_not_there_is_none_and_every_other_error_is_one() {
        let answer = |errno| Err::<(), _>(Error::new("openat", "x", io::Error::from_raw_os_error(errno)));
        assert!(matches!(answer(libc::ENOENT).optional(), Ok(None)));
        assert!(answer(libc::ENOTDIR).optional().is_err_and(|error| error.errno() == libc::ENOTDIR));
        assert!(matches!(Ok(7).optional(), Ok(Some(7))));
    }

    #[test]
    fn a_refusal_of_our_own_is_einval() {
        let error = Error::invalid("openat", "a/b", "not a file name");
        assert_eq!(error.to_string(), "openat of a/b: not a file name");
        assert_eq!(error.errno(), libc::EINVAL);
    }
}
