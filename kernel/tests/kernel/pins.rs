//! Pins and the directories they are in.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

use xdpd_kernel::{
    Access, Dir, EntryKind, Look, Map, ObjectKind, Other, PinError, PinnedObject, Program, XdpLink, XdpMode,
    bpffs, kind_of,
};
use xdpd_testlab::{command, require_root};

use crate::lab::{Bpffs, Lab, counters, eventually, pass};

fn wrong_type(result: Result<impl std::fmt::Debug, PinError>) -> (Other, ObjectKind, String) {
    match result {
        Err(error @ PinError::WrongType { found, expected, .. }) => (found, expected, error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs root"]
fn a_pin_opens_as_what_was_pinned() {
    require_root!();
    let (bpffs, lab) = (Bpffs::new(), Lab::new());
    let root = bpffs.root();
    let (map, program) = (counters("m"), pass("p"));
    let link = lab.within(|| XdpLink::create(&program, lab.ifindex("left"), XdpMode::Generic).unwrap());
    root.pin("map", &map).unwrap();
    root.pin("program", &program).unwrap();
    root.pin("link", &link).unwrap();

    for access in [Access::ReadOnly, Access::ReadWrite] {
        let Look::Found(PinnedObject::Map(found)) = root.find_pin("map", access).unwrap() else { panic!() };
        assert_eq!(found.info(), map.info());
        let Look::Found(PinnedObject::Program(found)) = root.find_pin("program", access).unwrap() else {
            panic!()
        };
        assert_eq!(found.info().unwrap(), program.info().unwrap());
        let Look::Found(PinnedObject::Link(found)) = root.find_pin("link", access).unwrap() else { panic!() };
        assert_eq!(found.info().unwrap(), link.info().unwrap());
        assert_eq!(root.open_map("map", access).unwrap().id(), map.id());
    }
    assert_eq!(root.open_program("program").unwrap().info().unwrap(), program.info().unwrap());
    assert_eq!(root.open_link("link").unwrap().info().unwrap(), link.info().unwrap());
}

#[test]
#[ignore = "needs root"]
fn a_pin_of_another_type_is_named_so() {
    require_root!();
    let (bpffs, lab) = (Bpffs::new(), Lab::new());
    let root = bpffs.root();
    let program = pass("p");
    let link = lab.within(|| XdpLink::create(&program, lab.ifindex("left"), XdpMode::Generic).unwrap());
    root.pin("map", &counters("m")).unwrap();
    root.pin("program", &program).unwrap();
    root.pin("link", &link).unwrap();

    for access in [Access::ReadOnly, Access::ReadWrite] {
        let (found, expected, text) = wrong_type(root.open_map("link", access));
        assert_eq!((found, expected), (Other::Object(ObjectKind::Link), ObjectKind::Map));
        assert_eq!(text, format!("{}/link is a link, not a map", bpffs.path().display()));
        let (found, expected, _) = wrong_type(root.open_map("program", access));
        assert_eq!((found, expected), (Other::Object(ObjectKind::Program), ObjectKind::Map));
    }
    assert_eq!(wrong_type(root.open_program("map")).0, Other::Object(ObjectKind::Map));
    assert_eq!(wrong_type(root.open_program("link")).0, Other::Object(ObjectKind::Link));
    assert_eq!(wrong_type(root.open_link("map")).0, Other::Object(ObjectKind::Map));
    assert_eq!(wrong_type(root.open_link("program")).0, Other::Object(ObjectKind::Program));
}

#[test]
#[ignore = "needs root"]
fn what_is_no_pin_is_said_to_be_none() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    root.mkdir("dir", 0o700).unwrap();
    root.pin("map", &counters("m")).unwrap();
    root.symlink("map", "symlink").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("file"), "text").unwrap();

    let look = |dir: &Dir, name| dir.find_pin(name, Access::ReadWrite).unwrap();
    assert!(matches!(look(&root, "dir"), Look::Other(Other::Entry(EntryKind::Dir))));
    assert!(matches!(look(&root, "symlink"), Look::Other(Other::Entry(EntryKind::Symlink))));
    assert!(matches!(look(&root, "absent"), Look::Gone));
    assert!(matches!(look(&Dir::open(elsewhere.path()).unwrap(), "file"), Look::Other(Other::NotOnBpffs)));
    let text = |name| root.open_map(name, Access::ReadOnly).unwrap_err().to_string();
    let path = |name| root.path_of(name).display().to_string();
    assert_eq!(text("symlink"), format!("{} is a symbolic link, not a map", path("symlink")));
    assert_eq!(text("absent"), format!("{} does not exist", path("absent")));
    assert!(root.pin("with.dot", &counters("m")).is_err_and(|error| error.errno() == Some(libc::EPERM)));
    assert!(root.pin("map", &counters("m")).is_err_and(|error| error.errno() == Some(libc::EEXIST)));
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Dir::open(dir.path()).unwrap();
    for name in ["", ".", "..", "a/b", "/etc", "nul\0byte"] {
        assert_eq!(dir.stat(name).unwrap_err().errno(), None, "{name:?}");
        assert_eq!(dir.mkdir(name, 0o700).unwrap_err().errno(), None, "{name:?}");
        assert_eq!(dir.unlink(name).unwrap_err().errno(), None, "{name:?}");
        assert_eq!(dir.rename("x", name).unwrap_err().errno(), None, "{name:?}");
        assert_eq!(dir.find_pin(name, Access::ReadOnly).unwrap_err().errno(), None, "{name:?}");
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("real")).unwrap();
    let root = Dir::open(temp.path()).unwrap();
    root.symlink("real", "alias").unwrap();
    assert!(matches!(root.find_dir("alias").unwrap(), Look::Other(Other::Entry(EntryKind::Symlink))));
    assert!(matches!(root.find_dir("absent").unwrap(), Look::Gone));
    assert!(matches!(Dir::find(temp.path().join("absent")).unwrap(), Look::Gone));
    assert!(matches!(root.find_symlink("real").unwrap(), Look::Other(Other::Entry(EntryKind::Dir))));
    assert!(matches!(root.find_symlink("absent").unwrap(), Look::Gone));
    assert_eq!(root.find_stat("absent").unwrap(), None);
    assert!(!root.remove("absent").unwrap() && !root.rename_if_there("absent", "new").unwrap());
    assert!(root.mkdir_if_gone("new", 0o700).unwrap() && !root.mkdir_if_gone("new", 0o700).unwrap());
    assert_eq!(root.open_dir("alias").unwrap_err().errno(), Some(libc::ENOTDIR));
    assert_eq!(Dir::open(temp.path().join("alias")).unwrap_err().errno(), Some(libc::ENOTDIR));
    // A trailing slash must not open a back door.
    assert_eq!(Dir::open(temp.path().join("alias/")).unwrap_err().errno(), Some(libc::ENOTDIR));
    assert_eq!(root.stat("alias").unwrap().kind, EntryKind::Symlink);
    assert!(root.chmod("alias", 0o777).is_err());
    assert_eq!(root.try_lock("alias").unwrap_err().errno(), Some(libc::ENOTDIR));
    assert_eq!(root.remove_all("alias").unwrap_err().errno(), Some(libc::ENOTDIR));
    assert_eq!(root.readlink("alias").unwrap(), "real");
    assert_eq!(root.readlink("real").unwrap_err().errno(), Some(libc::EINVAL));
}

#[test]
#[ignore = "needs root"]
fn entries_are_listed_with_their_kinds_in_order() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    assert!(root.is_bpffs().unwrap());
    assert_eq!(root.list().unwrap(), []);
    root.symlink("some text: with=anything", "b").unwrap();
    root.mkdir("c", 0o750).unwrap();
    root.pin("a", &counters("m")).unwrap();
    let entries = root.list().unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (entry.name.to_str().unwrap(), entry.kind)).collect();
    assert_eq!(found, [("a", EntryKind::File), ("b", EntryKind::Symlink), ("c", EntryKind::Dir)]);
    for entry in &entries {
        assert_eq!(root.stat(&entry.name).unwrap().ino, entry.ino);
    }
    assert_eq!(root.stat("c").unwrap().mode, 0o750);
    assert_eq!(root.readlink("b").unwrap(), "some text: with=anything");
}

#[test]
fn a_directory_with_more_entries_than_fit_one_read_is_listed_whole() {
    let temp = tempfile::tempdir().unwrap();
    for number in 0..500 {
        std::fs::write(temp.path().join(format!("a-rather-long-name-of-an-entry-{number:04}")), "").unwrap();
    }
    let entries = Dir::open(temp.path()).unwrap().list().unwrap();
    assert_eq!(entries.len(), 500);
    assert!(entries.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
#[ignore = "needs root"]
fn a_second_name_of_a_pin_has_the_same_inode_and_mode() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    root.mkdir("old", 0o700).unwrap();
    root.mkdir("new", 0o700).unwrap();
    let (old, new) = (root.open_dir("old").unwrap(), root.open_dir("new").unwrap());
    let map = counters("m");
    old.pin("map", &map).unwrap();
    old.chmod("map", 0o640).unwrap();
    old.chown("map", None, Some(12345)).unwrap();
    new.link(&old, "map", "map").unwrap();
    let (before, after) = (old.stat("map").unwrap(), new.stat("map").unwrap());
    assert_eq!((before.dev, before.ino), (after.dev, after.ino));
    assert_eq!((after.mode, after.gid), (0o640, 12345));
    old.unlink("map").unwrap();
    assert_eq!(new.open_map("map", Access::ReadOnly).unwrap().id(), map.id());
    assert_eq!(new.link(&old, "map", "again").unwrap_err().errno(), Some(libc::ENOENT));
}

#[test]
#[ignore = "needs root"]
fn an_exchange_of_directories_leaves_no_moment_without_either() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    let maps = ["live", "next"].map(|name| {
        root.mkdir(name, 0o700).unwrap();
        let map = counters(name);
        root.open_dir(name).unwrap().pin("map", &map).unwrap();
        map
    });
    let ids = maps.map(|map| map.id());
    let mut exchanges = 0_usize;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..2000 {
                let map = root.open_dir("live").unwrap().open_map("map", Access::ReadOnly).unwrap();
                assert!(ids.contains(&map.id()));
            }
        });
        while !reader.is_finished() {
            root.exchange("live", "next").unwrap();
            exchanges += 1;
        }
    });
    // The same call again undoes one.
    if !exchanges.is_multiple_of(2) {
        root.exchange("live", "next").unwrap();
    }
    let held = |name| root.open_dir(name).unwrap().open_map("map", Access::ReadOnly).unwrap().id();
    assert_eq!([held("live"), held("next")], ids);
}

#[test]
#[ignore = "needs root"]
fn a_directory_swapped_underneath_does_no_harm() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    root.mkdir("dir", 0o700).unwrap();
    let dir = root.open_dir("dir").unwrap();
    root.rename("dir", "moved").unwrap();
    root.mkdir("dir", 0o700).unwrap();
    let map = counters("m");
    dir.pin("map", &map).unwrap();
    assert_eq!(root.open_dir("dir").unwrap().list().unwrap(), []);
    assert_eq!(root.open_dir("moved").unwrap().open_map("map", Access::ReadWrite).unwrap().id(), map.id());
}

#[test]
fn a_directory_is_taken_over_as_a_descriptor() {
    let temp = tempfile::tempdir().unwrap();
    let original = Dir::open(temp.path()).unwrap();
    let copy = Dir::from_fd(original.as_fd().try_clone_to_owned().unwrap(), "handed over").unwrap();
    original.mkdir("new", 0o700).unwrap();
    assert_eq!(copy.list().unwrap().len(), 1);
    assert_eq!(copy.path_of("new").to_str(), Some("handed over/new"));
    let file = Dir::from_fd(tempfile::tempfile().unwrap().into(), "file").unwrap_err();
    assert_eq!(file.errno(), Some(libc::ENOTDIR));
}

#[test]
#[ignore = "needs root"]
fn rename_replaces_only_when_told_so() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    let (first, second) = (counters("one"), counters("two"));
    root.pin("one", &first).unwrap();
    root.pin("two", &second).unwrap();
    assert_eq!(root.rename_noreplace("one", "two").unwrap_err().errno(), Some(libc::EEXIST));
    root.rename("one", "two").unwrap();
    assert_eq!(root.open_map("two", Access::ReadOnly).unwrap().id(), first.id());
    root.rename_noreplace("two", "three").unwrap();
    assert_eq!(root.list().unwrap().len(), 1);
    assert_eq!(root.exchange("three", "absent").unwrap_err().errno(), Some(libc::ENOENT));
}

#[test]
#[ignore = "needs root"]
fn remove_all_takes_a_flat_directory_and_refuses_a_nested_one() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    root.mkdir("dir", 0o700).unwrap();
    let dir = root.open_dir("dir").unwrap();
    let map = counters("m");
    dir.pin("map", &map).unwrap();
    dir.symlink("text", "symlink").unwrap();
    dir.mkdir("nested", 0o700).unwrap();
    assert_eq!(root.remove_all("dir").unwrap_err().errno(), Some(libc::ENOTEMPTY));
    assert_eq!(dir.list().unwrap().len(), 3);
    dir.rmdir("nested").unwrap();
    root.remove_all("dir").unwrap();
    assert_eq!(root.list().unwrap(), []);
    assert_eq!(root.remove_all("dir").unwrap_err().errno(), Some(libc::ENOENT));
    // Nothing but our descriptor held the map.
    let id = map.id();
    drop(map);
    eventually("the map is freed", || Map::find_by_id(id).unwrap().is_none());
}

#[test]
#[ignore = "needs root"]
fn a_map_pinned_for_a_group_is_readable_without_privileges() {
    require_root!();
    let bpffs = Bpffs::new();
    std::fs::set_permissions(bpffs.mount_point(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = bpffs.root();
    let map = counters("m");
    root.pin("open", &map).unwrap();
    root.pin("closed", &map).unwrap();
    root.chmod("open", 0o644).unwrap();
    root.chmod("closed", 0o640).unwrap();
    unprivileged(|| {
        let root = bpffs.root();
        let found = root.open_map("open", Access::ReadOnly).unwrap();
        assert_eq!(found.id(), map.id());
        let (mut keys, mut values) = ([0; 20], vec![0; 5 * found.value_len()]);
        assert_eq!(found.lookup_batch(&mut keys, &mut values, &mut [0; 4]).unwrap(), 5);
        let mut value = vec![0; found.value_len()];
        assert!(found.lookup(&[0; 4], &mut value).unwrap());
        assert_eq!(found.update(&[0; 4], &value, 0).unwrap_err().errno(), Some(libc::EPERM));
        assert_eq!(root.open_map("open", Access::ReadWrite).unwrap_err().errno(), Some(libc::EACCES));
        let error = root.open_map("closed", Access::ReadOnly).unwrap_err();
        assert!(error.to_string().ends_with("Permission denied (EACCES)"), "{error}");
        assert_eq!(Map::open_by_id(map.id()).unwrap_err().errno(), Some(libc::EPERM));
    });
}

/// Runs something on a thread that is nobody.
fn unprivileged(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let nobody = rustix::fs::Uid::from_raw(65534);
            let nogroup = rustix::fs::Gid::from_raw(65534);
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(nogroup, nogroup, nogroup).unwrap();
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            work();
        });
    });
}

#[test]
#[ignore = "needs root"]
fn descriptors_tell_their_kind() {
    require_root!();
    let lab = Lab::new();
    let program = pass("p");
    let link = lab.within(|| XdpLink::create(&program, lab.ifindex("left"), XdpMode::Native).unwrap());
    assert_eq!(kind_of(counters("m")).unwrap(), Some(ObjectKind::Map));
    assert_eq!(kind_of(&program).unwrap(), Some(ObjectKind::Program));
    assert_eq!(kind_of(&link).unwrap(), Some(ObjectKind::Link));
    assert_eq!(kind_of(std::io::stdin()).unwrap(), None);
    let fd = program.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(wrong_type(Map::from_fd(fd, "theirs")).2, "theirs is a program, not a map");
    assert!(Program::from_fd(tempfile::tempfile().unwrap().into(), "file").is_err());
}

#[test]
#[ignore = "needs root"]
fn a_bpffs_is_told_from_other_file_systems() {
    require_root!();
    let bpffs = Bpffs::new();
    assert!(bpffs::is_bpffs(bpffs.path()).unwrap());
    assert!(bpffs::is_bpffs(bpffs.mount_point()).unwrap());
    assert!(bpffs.root().is_bpffs().unwrap());
    assert_eq!(Dir::open(bpffs.mount_point()).unwrap().stat_self().unwrap().mode, 0o1700);
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(!bpffs::is_bpffs(elsewhere.path()).unwrap());
    assert!(!Dir::open(elsewhere.path()).unwrap().is_bpffs().unwrap());
    assert_eq!(bpffs::is_bpffs("/nowhere").unwrap_err().errno(), Some(libc::ENOENT));
}

#[test]
fn a_mount_namespace_is_told_from_that_of_process_1() {
    const INSIDE: &str = "XDPD_KERNEL_TEST_IN_MOUNT_NAMESPACE";
    require_root!();
    let inside = std::env::var_os(INSIDE).is_some();
    assert_eq!(bpffs::in_init_mount_namespace().unwrap(), !inside);
    if !inside {
        // A thread cannot leave the mount namespace of its process: this test again, in a process that did.
        let this = std::env::current_exe().unwrap();
        let arguments = ["--mount", "env", &format!("{INSIDE}=1"), this.to_str().unwrap(), "--exact"];
        let name = "pins::a_mount_namespace_is_told_from_that_of_process_1";
        let output = command("unshare", &[&arguments[..], &[name]].concat());
        assert!(output.contains("1 passed"), "{output}");
    }
}

#[test]
#[ignore = "needs root"]
fn of_a_number_only_a_program_is_taken() {
    require_root!();
    let (program, map) = (pass("p"), counters("m"));
    let again = Program::from_number(program.as_fd().as_raw_fd(), "theirs").unwrap();
    assert_eq!(again.info().unwrap().id, program.info().unwrap().id);
    assert_ne!(again.as_fd().as_raw_fd(), program.as_fd().as_raw_fd());
    let error = Program::from_number(map.as_fd().as_raw_fd(), "theirs").unwrap_err();
    assert_eq!(error.to_string(), "theirs is a map, not a program");
    for number in [-1, 1_000_000] {
        let error = Program::from_number(number, "theirs").unwrap_err();
        assert_eq!(error.to_string(), "fcntl(F_DUPFD_CLOEXEC) of theirs: Bad file descriptor (EBADF)");
    }
}
