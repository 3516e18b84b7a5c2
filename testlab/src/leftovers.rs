//! What a killed test process left behind: found by name, because a name tells the process that owns it.

use std::path::Path;
use std::sync::Once;

use rustix::mount::UnmountFlags;

use crate::netns::{self, RUN_NETNS};

/// All names of this crate's namespaces and directories begin so: `xlab-<pid>-...`.
pub(crate) const PREFIX: &str = "xlab";

/// Removes the namespaces, mounts and directories of processes that are gone; once per process.
pub fn remove() {
    static ONCE: Once = Once::new();
    ONCE.call_once(remove_all);
}

fn remove_all() {
    for name in ownerless(Path::new(RUN_NETNS)) {
        netns::delete(&name);
    }
    let temporary = std::env::temp_dir();
    for name in ownerless(&temporary) {
        let path = temporary.join(name);
        // Whatever fails here failed for another process's rubbish, and harms no test.
        let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = std::fs::remove_dir_all(&path);
    }
}

/// The names of our making in `dir` whose process does not exist any more.
fn ownerless(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists())).collect()
}

/// The process id in a name of our making.
fn owner(name: &str) -> Option<&str> {
    let (pid, _) = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split_once('-')?;
    (!pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())).then_some(pid)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{Lab, require_root};

    #[test]
    fn only_names_of_our_making_have_an_owner() {
        assert_eq!(owner("xlab-123-0-reload"), Some("123"));
        for foreign in ["xlab", "xlab-", "xlab-123", "xlab-abc-0", "xlab--0", "tenant-a", "xlabs-1-2"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        require_root!();
        let lab = Lab::new("leftovers");
        // A process that is gone, and none that another checkout's tests make up as well.
        let mut process = Command::new("true").spawn().unwrap();
        process.wait().unwrap();
        let name = format!("{PREFIX}-{}-0-left", process.id());
        netns::command("ip", &["netns", "add", &name]);
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).unwrap();
        rustix::mount::mount("bpf", &dir, "bpf", rustix::mount::MountFlags::empty(), None).unwrap();
        remove_all();
        assert!(!dir.exists());
        assert!(!Path::new(RUN_NETNS).join(name).exists());
        assert!(lab.near().path().exists() && lab.dir().exists());
    }
}
