//! Texts of files: which are read, and why not.

use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Source};
use crate::trust::{self, OpenError, Untrusted};

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// As root: somebody else could change what the file says.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The file is not valid.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
    /// No file was named and there is none in the usual places.
    #[error("no config found, looked for {}; name one as the argument or in $XDPD_CONFIG", list(searched))]
    NotFound {
        /// All places, in the order of the search.
        searched: Vec<PathBuf>,
    },
}

impl LoadError {
    pub(crate) fn of(path: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Failed(source) => Self::Read { path: path.to_owned(), source },
            OpenError::Untrusted(untrusted) => Self::Untrusted(untrusted),
        }
    }
}

/// Makes a path absolute as [`Found::path`](crate::Found::path) describes.
pub(crate) fn absolute_path(path: &Path) -> Result<PathBuf, OpenError> {
    let path = std::path::absolute(path)?;
    // `..` leads out of where a link leads to, not out of where it lies: only the file system knows.
    let mut rest = path.components();
    while let Some(part) = rest.next_back() {
        if part == Component::ParentDir {
            let followed = rest.as_path().join("..");
            let after = path.strip_prefix(&followed).unwrap_or(Path::new(""));
            return Ok(trust::resolve(&followed)?.join(after));
        }
    }
    Ok(path)
}

fn list(places: &[PathBuf]) -> String {
    let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
    places.join(" and ")
}

/// Reads a text of at most `limit` bytes; `what` it is, is said where there is more.
pub(crate) fn read(path: &Path, limit: u64, what: &str) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Read { path: path.to_owned(), source };
    let file = trust::open(path).map_err(|error| LoadError::of(path, error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.starts_with(b"\x7fELF") {
        let shown = path.display();
        let message = format!(
            "it is an ELF object, not {what}: name the TOML file whose programs use it; `xdpd check {shown}` explains it"
        );
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, message)));
    }
    if bytes.len() as u64 > limit {
        let message = format!("it holds more than {} KiB, too much for {what}", limit >> 10);
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    String::from_utf8(bytes)
        .map_err(|e| LoadError::Invalid(not_utf8(path, e.as_bytes(), e.utf8_error().valid_up_to())))
}

fn not_utf8(path: &Path, bytes: &[u8], offset: usize) -> Diagnostics {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let source = Arc::new(Source::new(path, text));
    let error = Diagnostic::new(format!("the file is not UTF-8 text from byte offset {offset} on"))
        .at(offset..offset + char::REPLACEMENT_CHARACTER.len_utf8())
        .label(format!(
            "found the byte 0x{:02x}, expected UTF-8",
            bytes.get(offset).copied().unwrap_or_default()
        ));
    Diagnostics::new(source, vec![error])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::{env, fs};

    use super::*;

    #[test]
    fn paths_become_absolute_and_keep_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("real/sub")).unwrap();
        symlink("real/sub", dir.path().join("link")).unwrap();
        let base = dir.path().canonicalize().unwrap();

        assert_eq!(absolute_path(Path::new("a/./b")).unwrap(), env::current_dir().unwrap().join("a/b"));
        assert_eq!(absolute_path(&base.join("link/x.toml")).unwrap(), base.join("link/x.toml"));
        // `..` after a link leads out of its target.
        assert_eq!(absolute_path(&base.join("link/../x.toml")).unwrap(), base.join("real/x.toml"));
        assert_eq!(absolute_path(&base.join("real/../link/x.toml")).unwrap(), base.join("link/x.toml"));
    }
}
