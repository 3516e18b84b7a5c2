//! Finding the file and reading it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::file::{LoadError, absolute_path, read};
use crate::parse::{parse, parse_pin_root};
use crate::{Config, DEFAULT_PATH, Diagnostics, MAX_FILE_SIZE};

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

/// A file that is not valid.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub error: LoadError,
    /// The file without its errors, for looking for those that show only where others are asked: with defaults in the
    /// place of what is wrong, and without the programs that have errors. `None` where there is no TOML to read.
    pub rest: Option<Box<Config>>,
}

impl Config {
    /// Reads a file's text; `path` is the name it goes by, made absolute as [`find`] does.
    ///
    /// No file is touched. Everything that is wrong with the text is in the one error.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Diagnostics> {
        parse(path, text).map_err(|(errors, _)| errors)
    }

    /// Reads the file at `path`. As root, one that others can change is refused, see [`trust`](crate::trust).
    ///
    /// A file of more than [`MAX_FILE_SIZE`] bytes is not read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::load_or_rest(path).map_err(|rejected| rejected.error)
    }

    /// As [`load`](Self::load); where the file is not valid, with the rest of it.
    pub fn load_or_rest(path: &Path) -> Result<Self, Rejected> {
        let text = read_config(path).map_err(|error| Rejected { error, rest: None })?;
        parse(path, &text).map_err(|(errors, rest)| Rejected { error: errors.into(), rest })
    }

    /// Reads [`Config::pin_root`] alone, for detaching: errors of the file that are not of TOML itself and
    /// not about this key do not matter, and a file that was emptied has the default.
    pub fn load_pin_root(path: &Path) -> Result<PathBuf, LoadError> {
        Ok(parse_pin_root(path, &read_config(path)?)?)
    }
}

fn read_config(path: &Path) -> Result<String, LoadError> {
    read(path, MAX_FILE_SIZE, "a config")
}

#[cfg(test)]
mod tests {
    use std::fs;

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
}
