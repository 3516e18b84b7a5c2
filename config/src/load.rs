//! Finding the file and reading it.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Source};
use crate::trust::{self, OpenError, Untrusted};
use crate::{Config, DEFAULT_PATH, MAX_FILE_SIZE};

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
    fn of(path: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Failed(source) => Self::Read { path: path.to_owned(), source },
            OpenError::Untrusted(untrusted) => Self::Untrusted(untrusted),
        }
    }
}

/// The file that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is: absolute. Symbolic links are kept: this is the name under which the file owns interfaces,
    /// and a link that is turned to another version of the file goes on owning them. `.` is dropped, `..` is
    /// followed as the file system means it.
    pub path: PathBuf,
    /// It was not named on the command line: the caller says on stderr which file it is.
    pub searched: bool,
}

/// Says which file is meant: `arg`, else `$XDPD_CONFIG`, else `./config.toml`, else [`DEFAULT_PATH`].
///
/// A file that is named, by `arg` or the variable, is meant even if there are others. Whether `arg` exists is
/// seen when it is read. An empty variable counts as none.
pub fn find(arg: Option<&Path>) -> Result<Found, LoadError> {
    search(arg, env::var_os("XDPD_CONFIG"), [Path::new("config.toml"), Path::new(DEFAULT_PATH)])
}

fn search(arg: Option<&Path>, variable: Option<OsString>, usual: [&Path; 2]) -> Result<Found, LoadError> {
    if let Some(path) = arg {
        return Ok(Found { path: absolute(path)?, searched: false });
    }
    let places = match variable.filter(|path| !path.is_empty()) {
        Some(named) => vec![absolute(Path::new(&named))?],
        None => usual.into_iter().map(absolute).collect::<Result<_, _>>()?,
    };
    // A file that may be there but cannot be looked at is meant too: reading it tells why.
    match places.iter().find(|path| path.try_exists().unwrap_or(true)) {
        Some(path) => Ok(Found { path: path.clone(), searched: true }),
        None => Err(LoadError::NotFound { searched: places }),
    }
}

/// Makes a path absolute as [`Found::path`] describes.
fn absolute(path: &Path) -> Result<PathBuf, LoadError> {
    absolute_path(path).map_err(|error| LoadError::of(path, error))
}

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

impl Config {
    /// Reads the file at `path`. As root, one that others can change is refused, see [`trust`].
    ///
    /// A file of more than [`MAX_FILE_SIZE`] bytes is not read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Ok(Self::parse(path, &read_config(path)?)?)
    }

    /// Reads [`Config::pin_root`] alone, for detaching: errors of the file that are not of TOML itself and
    /// not about this key do not matter, and a file that was emptied has the default.
    pub fn load_pin_root(path: &Path) -> Result<PathBuf, LoadError> {
        Ok(crate::parse::parse_pin_root(path, &read_config(path)?)?)
    }
}

fn read_config(path: &Path) -> Result<String, LoadError> {
    read(path, MAX_FILE_SIZE, "a config")
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
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Two places of a search, of which the given ones exist.
    fn places(existing: &[&str]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for name in existing {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let [here, etc] = ["here.toml", "etc.toml"].map(|name| dir.path().join(name));
        (dir, here, etc)
    }

    #[test]
    fn the_argument_is_meant_whether_or_not_it_exists() {
        let (dir, here, etc) = places(&["here.toml", "etc.toml"]);
        let named = dir.path().join("named.toml");
        let found = search(Some(&named), Some("variable.toml".into()), [&here, &etc]).unwrap();
        assert_eq!(found, Found { path: named, searched: false });
    }

    #[test]
    fn without_an_argument_the_variable_comes_first() {
        let (dir, here, etc) = places(&["here.toml", "etc.toml", "variable.toml"]);
        let variable = dir.path().join("variable.toml");
        let found = search(None, Some(variable.clone().into()), [&here, &etc]).unwrap();
        assert_eq!(found, Found { path: variable, searched: true });
    }

    #[test]
    fn a_variable_that_leads_nowhere_is_no_reason_to_use_another_file() {
        let (dir, here, etc) = places(&["here.toml", "etc.toml"]);
        let variable = dir.path().join("variable.toml");
        match search(None, Some(variable.clone().into()), [&here, &etc]) {
            Err(LoadError::NotFound { searched }) => assert_eq!(searched, [variable]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn then_the_usual_places_are_tried_in_order() {
        let (_dir, here, etc) = places(&["here.toml", "etc.toml"]);
        assert_eq!(search(None, None, [&here, &etc]).unwrap().path, here);
        let (_dir, here, etc) = places(&["etc.toml"]);
        assert_eq!(
            search(None, Some(OsString::new()), [&here, &etc]).unwrap(),
            Found { path: etc, searched: true }
        );
    }

    #[test]
    fn not_found_names_all_places() {
        let (_dir, here, etc) = places(&[]);
        let error = search(None, None, [&here, &etc]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(here.to_str().unwrap()) && text.contains(etc.to_str().unwrap()), "{text}");
        assert!(text.contains("$XDPD_CONFIG"), "{text}");
    }

    #[test]
    fn paths_become_absolute_and_keep_links() {
        let (dir, ..) = places(&[]);
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
