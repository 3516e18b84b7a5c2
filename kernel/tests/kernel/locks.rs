//! The lock on a directory.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use xdpd_kernel::{Attempt, Dir, Lock};
use xdpd_testlab::require_root;

use crate::lab::Bpffs;

fn take(root: &Dir, name: &str) -> Lock {
    root.try_lock(name).unwrap().taken().expect("free")
}

fn check(root: &Dir) {
    root.mkdir("lock", 0o700).unwrap();
    let lock = take(root, "lock");
    assert!(matches!(root.try_lock("lock").unwrap(), Attempt::Busy));
    let holders = root.lock_holders("lock").unwrap();
    let [holder] = holders.as_slice() else { panic!("{holders:?}") };
    assert_eq!(holder.pid, process::id());
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(holder.to_string(), format!("{} (pid {})", comm.trim_end(), process::id()));
    drop(lock);
    assert_eq!(root.lock_holders("lock").unwrap(), []);
    drop(take(root, "lock"));
    assert!(matches!(root.try_lock("absent").unwrap(), Attempt::Gone));
}

#[test]
fn a_lock_has_one_holder_who_is_named() {
    let temp = tempfile::tempdir().unwrap();
    // A file system whose device number in stat is that in /proc/locks.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    for dir in [temp, shm] {
        check(&Dir::open(dir.path()).unwrap());
    }
}

#[test]
#[ignore = "needs root"]
fn a_lock_on_bpffs_has_one_holder_who_is_named() {
    require_root!();
    check(&Bpffs::new().root());
}

#[test]
fn the_holder_is_named_while_other_locks_come_and_go() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = Dir::open(temp.path()).unwrap();
    root.mkdir("ours", 0o700).unwrap();
    root.mkdir("other", 0o700).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(root.try_lock("other").unwrap());
            }
        });
        let unnamed = (0..10_000).filter(|_| {
            let _lock = take(&root, "ours");
            root.lock_holders("ours").unwrap().is_empty()
        });
        let unnamed = unnamed.count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(unnamed, 0);
    });
}

#[test]
fn a_lock_is_on_what_the_name_leads_to_now() {
    let temp = tempfile::tempdir().unwrap();
    let root = Dir::open(temp.path()).unwrap();
    root.mkdir("lock", 0o700).unwrap();
    let _old = take(&root, "lock");
    root.rename("lock", "old").unwrap();
    root.mkdir("lock", 0o700).unwrap();
    drop(take(&root, "lock"));
    assert!(matches!(root.try_lock("old").unwrap(), Attempt::Busy));
}
