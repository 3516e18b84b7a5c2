//! Network namespaces.

use std::thread;

use xdpd_kernel::{NetNs, netlink};
use xdpd_testlab::require_root;

use crate::lab::Lab;

#[test]
#[ignore = "needs root"]
fn work_runs_in_the_namespace_and_the_caller_stays_where_it_was() {
    require_root!();
    let lab = Lab::new();
    let before = NetNs::current().unwrap().identity();
    let (inside, names) = lab.within(|| {
        let names: Vec<_> = netlink::devices().unwrap().into_iter().map(|device| device.name).collect();
        (NetNs::current().unwrap().identity(), names)
    });
    assert_eq!(inside, lab.netns.identity());
    assert_ne!(inside, before);
    assert_eq!(names, ["lo", "right", "left"]);
    assert_eq!(NetNs::current().unwrap().identity(), before);
    assert!(!lab.netns.is_current().unwrap());
}

#[test]
fn the_current_namespace_needs_no_thread_and_no_privileges() {
    let current = NetNs::current().unwrap();
    let here = thread::current().id();
    assert_eq!(current.run(|| thread::current().id()).unwrap(), here);
    assert!(current.is_current().unwrap());
    let by_path = NetNs::open("/proc/self/ns/net").unwrap();
    assert_eq!(by_path.identity(), current.identity());
}

#[test]
#[ignore = "needs root"]
fn a_namespace_is_opened_by_name_and_by_path() {
    require_root!();
    let lab = Lab::empty();
    let by_path = NetNs::open(format!("/run/netns/{}", lab.name())).unwrap();
    assert_eq!(by_path.identity(), lab.netns.identity());
}

#[test]
fn an_absent_namespace_is_told_from_something_else() {
    let absent = NetNs::open("xk-no-such-namespace").unwrap_err();
    assert_eq!(absent.errno(), Some(libc::ENOENT));
    assert_eq!(
        absent.to_string(),
        "open of /run/netns/xk-no-such-namespace: No such file or directory (ENOENT)"
    );
    for path in ["/etc/passwd", "/dev/null", "/proc/self/ns/uts", "/"] {
        let other = NetNs::open(path).unwrap_err();
        assert_eq!(other.to_string(), format!("open of {path}: not a network namespace"));
    }
}

#[test]
#[ignore = "needs root"]
fn a_panic_in_a_namespace_is_the_callers() {
    require_root!();
    let lab = Lab::empty();
    let panic = std::panic::catch_unwind(|| lab.netns.run(|| panic!("within"))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"within"));
}
