//! Being told of changes on bpffs.

use xdpd_kernel::watch::{ReadFlags, Watch, WatchFlags};
use xdpd_testlab::require_root;

use crate::lab::{Bpffs, counters};

#[test]
#[ignore = "needs root"]
fn pins_that_come_move_and_go_are_told() {
    require_root!();
    let bpffs = Bpffs::new();
    let root = bpffs.root();
    let watch = Watch::new().unwrap();
    let flags = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE | WatchFlags::ATTRIB;
    let id = watch.add(bpffs.path(), flags).unwrap();
    assert_eq!(watch.drain().unwrap(), []);

    let map = counters("m");
    root.pin("map", &map).unwrap();
    root.chmod("map", 0o640).unwrap();
    root.rename("map", "moved").unwrap();
    root.unlink("moved").unwrap();
    map.update(&[0; 4], &vec![1; map.value_len()], 0).unwrap();

    let events = watch.drain().unwrap();
    let told: Vec<_> =
        events.iter().map(|event| (event.flags, event.name.as_ref().unwrap().to_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            (ReadFlags::CREATE, "map"),
            (ReadFlags::ATTRIB, "map"),
            (ReadFlags::MOVED_FROM, "map"),
            (ReadFlags::MOVED_TO, "moved"),
            (ReadFlags::DELETE, "moved"),
        ]
    );
    assert!(events.iter().all(|event| event.id == Some(id)));
    watch.remove(id).unwrap();
    let absent = watch.add(bpffs.path().join("absent"), flags).unwrap_err();
    assert_eq!(absent.errno(), Some(libc::ENOENT));
}
