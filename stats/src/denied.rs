//! What to do where a permission is lacking: an unprivileged reader is let in by modes alone.

use std::path::Path;

use xdpd_config::shell;
use xdpd_kernel::{Error, Result, privilege};

/// An error about the pin root or something below it, and what helps if that was denied to this user.
pub(crate) fn explain(error: &Error, pin_root: &Path) -> String {
    if !error.is_denied_by_mode() {
        return error.to_string();
    }
    format!("{error}; {}", remedy(pin_root, privilege::may_search))
}

/// What is denied twice stays denied, as long as nobody changes the permissions: `None`. Anything else that fails can be
/// tried again.
pub(crate) fn unless_denied<T>(look: impl Fn() -> Result<T>) -> Result<Option<T>> {
    match look() {
        Err(error) if error.is_denied() => match look() {
            Err(error) if error.is_denied() => Ok(None),
            again => again.map(Some),
        },
        first => first.map(Some),
    }
}

fn remedy(pin_root: &Path, is_searchable: impl Fn(&Path) -> bool) -> String {
    // What is below a directory that may not be searched cannot be seen, so the topmost one is what is in the way.
    let above: Vec<&Path> = pin_root.ancestors().skip(1).collect();
    match above.into_iter().rev().find(|directory| !is_searchable(directory)) {
        Some(closed) => {
            let word = shell::word(closed);
            format!("this user may not search {}: as root, `chmod o+x {word}`", closed.display())
        }
        None => "name one of this user's groups as `group` under [stats], and apply".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(closed: &str) -> String {
        remedy(Path::new("/sys/fs/bpf/xdpd"), |directory| directory != Path::new(closed))
    }

    #[test]
    fn the_first_closed_directory_above_the_pin_root_is_named() {
        assert_eq!(
            told("/sys/fs/bpf"),
            "this user may not search /sys/fs/bpf: as root, `chmod o+x /sys/fs/bpf`"
        );
    }

    #[test]
    fn what_xdpd_made_is_opened_by_its_config() {
        assert!(told("/sys/fs/bpf/xdpd").contains("`group` under [stats]"));
        assert!(told("/sys/fs/bpf/xdpd/eth0").contains("`group` under [stats]"));
    }
}
