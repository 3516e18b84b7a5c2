//! Attaching, replacing and detaching programs through links.

use std::ffi::CString;

use xdpd_kernel::program::Insn;
use xdpd_kernel::{Attached, LinkKind, Program, XdpLink, XdpMode, clock, netlink, rcu};
use xdpd_testlab::require_root;

use crate::lab::{Bpffs, Lab, eventually, pass};

const MODES: [XdpMode; 2] = [XdpMode::Native, XdpMode::Generic];

#[test]
#[ignore = "needs root"]
fn a_link_is_made_updated_and_detached() {
    require_root!();
    let lab = Lab::new();
    let ifindex = lab.ifindex("left");
    let (first, second) = (pass("first"), pass("second"));
    let ids = [&first, &second].map(|program| program.info().unwrap().id);
    for mode in MODES {
        let link = lab.within(|| XdpLink::create(&first, ifindex, mode).unwrap());
        let info = link.info().unwrap();
        assert_eq!((info.program_id, info.ifindex()), (ids[0], Some(ifindex)));
        assert_eq!(lab.device("left").xdp, [Attached { mode, program_id: ids[0] }]);
        assert!(XdpLink::all_xdp().unwrap().contains(&info));

        link.update(&second, &first).unwrap();
        assert_eq!(link.info().unwrap().program_id, ids[1]);
        assert_eq!(lab.device("left").xdp, [Attached { mode, program_id: ids[1] }]);
        // Compare and swap: `first` does not run any more.
        assert_eq!(link.update(&second, &first).unwrap_err().errno(), Some(libc::EPERM));

        link.detach().unwrap();
        assert_eq!(lab.device("left").xdp, []);
        assert_eq!(link.info().unwrap().kind, LinkKind::Xdp { ifindex: None });
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_taken_is_busy() {
    require_root!();
    let lab = Lab::new();
    let ifindex = lab.ifindex("left");
    let program = pass("p");
    lab.within(|| {
        let link = XdpLink::create(&program, ifindex, XdpMode::Native).unwrap();
        let error = XdpLink::create(&program, ifindex, XdpMode::Native).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EBUSY));
        let expected =
            format!("BPF_LINK_CREATE of interface {ifindex} (native): Device or resource busy (EBUSY)");
        assert_eq!(error.to_string(), expected);
        let other = XdpLink::create(&program, ifindex, XdpMode::Generic).unwrap_err();
        assert_eq!(other.errno(), Some(libc::EEXIST));
        link.detach().unwrap();
        let gone = XdpLink::create(&program, xdpd_kernel::IfIndex(0x7fff_fff0), XdpMode::Native).unwrap_err();
        assert_eq!(gone.errno(), Some(libc::ENODEV));
    });
    // No network card to run it on. (Drivers that have no XDP at all say EOPNOTSUPP.)
    let refused = lab.within(|| XdpLink::create(&program, ifindex, XdpMode::Offload).unwrap_err());
    assert_eq!(refused.errno(), Some(libc::EINVAL));
}

#[test]
#[ignore = "needs root"]
fn a_large_mtu_refuses_native_mode_by_number() {
    require_root!();
    let lab = Lab::new();
    lab.ip("link set left mtu 9000");
    lab.ip("link set right mtu 9000");
    let error = lab.within(|| XdpLink::create(&pass("p"), lab.ifindex("left"), XdpMode::Native).unwrap_err());
    assert_eq!(error.errno(), Some(libc::ERANGE));
    assert_eq!(lab.device("left").mtu, 9000);
}

#[test]
#[ignore = "needs root"]
fn a_link_outlives_its_device_as_a_defunct_one() {
    require_root!();
    let (bpffs, lab) = (Bpffs::new(), Lab::new());
    let root = bpffs.root();
    let program = pass("p");
    let link = lab.within(|| XdpLink::create(&program, lab.ifindex("left"), XdpMode::Native).unwrap());
    root.pin("link", &link).unwrap();
    let id = link.info().unwrap().id;
    drop(link);
    lab.ip("link del left");
    let link = root.open_link("link").unwrap();
    let info = link.info().unwrap();
    assert_eq!((info.id, info.ifindex()), (id, None));
    let error = link.update(&program, &program).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOLINK));
    assert_eq!(
        error.to_string(),
        format!("BPF_LINK_UPDATE of {}/link: Link has been severed (ENOLINK)", bpffs.path().display())
    );
    root.unlink("link").unwrap();
    drop(link);
    eventually("the link is freed", || {
        XdpLink::open_by_id(id).is_err_and(|error| error.errno() == Some(libc::ENOENT))
    });
}

#[test]
#[ignore = "needs root"]
fn a_pin_alone_keeps_the_program_attached() {
    require_root!();
    let (bpffs, lab) = (Bpffs::new(), Lab::new());
    let root = bpffs.root();
    let program = pass("p");
    let id = program.info().unwrap().id;
    let link = lab.within(|| XdpLink::create(&program, lab.ifindex("left"), XdpMode::Generic).unwrap());
    root.pin("link", &link).unwrap();
    drop((link, program));
    assert_eq!(lab.device("left").xdp, [Attached { mode: XdpMode::Generic, program_id: id }]);
    root.unlink("link").unwrap();
    eventually("the program is detached", || lab.device("left").xdp.is_empty());
    eventually("the program is freed", || {
        Program::open_by_id(id).is_err_and(|error| error.errno() == Some(libc::ENOENT))
    });
}

#[test]
#[ignore = "needs root"]
fn netlink_attaches_and_detaches_what_is_expected_only() {
    require_root!();
    let lab = Lab::new();
    let ifindex = lab.ifindex("left");
    let (first, second) = (pass("first"), pass("second"));
    let ids = [&first, &second].map(|program| program.info().unwrap().id);
    for mode in MODES {
        lab.within(|| {
            netlink::attach_netlink(ifindex, &first, mode, None).unwrap();
            let taken = netlink::attach_netlink(ifindex, &second, mode, None).unwrap_err();
            assert_eq!(taken.errno(), Some(libc::EBUSY));
            let unexpected = netlink::attach_netlink(ifindex, &first, mode, Some(&second)).unwrap_err();
            assert_eq!(unexpected.errno(), Some(libc::EEXIST));
            assert_eq!(lab.device("left").xdp, [Attached { mode, program_id: ids[0] }]);
            netlink::attach_netlink(ifindex, &second, mode, Some(&first)).unwrap();
            assert_eq!(lab.device("left").xdp, [Attached { mode, program_id: ids[1] }]);
            let unexpected = netlink::detach_netlink(ifindex, mode, &first).unwrap_err();
            assert_eq!(unexpected.errno(), Some(libc::EEXIST));
            netlink::detach_netlink(ifindex, mode, &second).unwrap();
            assert_eq!(lab.device("left").xdp, []);
        });
    }
    let absent = xdpd_kernel::IfIndex(0x7fff_fff0);
    let gone = lab.within(|| netlink::attach_netlink(absent, &first, XdpMode::Native, None).unwrap_err());
    assert_eq!(gone.errno(), Some(libc::ENODEV));
}

#[test]
#[ignore = "needs root"]
fn a_link_resists_netlink() {
    require_root!();
    let lab = Lab::new();
    let ifindex = lab.ifindex("left");
    let program = pass("p");
    lab.within(|| {
        let link = XdpLink::create(&program, ifindex, XdpMode::Native).unwrap();
        let error = netlink::detach_netlink(ifindex, XdpMode::Native, &program).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EBUSY));
        assert_eq!(lab.device("left").xdp.len(), 1);
        drop(link);
    });
}

#[test]
#[ignore = "needs root"]
fn a_program_tells_about_itself() {
    require_root!();
    let before = clock::boottime();
    let program = pass("a_name_that_is_longer_than_15");
    let after = clock::boottime();
    let info = program.info().unwrap();
    assert_eq!(info.name, "a_name_that_is_");
    assert!(info.is_xdp());
    assert!((before..=after).contains(&info.load_time), "{before:?} {:?} {after:?}", info.load_time);
    assert_eq!((info.uid, info.map_ids.len(), info.btf_id), (0, 0, None));
    assert_eq!(info.tag_hex().len(), 16);
    // The tag is that of the instructions: equal for equal ones.
    assert_eq!(pass("other").info().unwrap().tag, info.tag);
    assert_eq!(Program::open_by_id(info.id).unwrap().info().unwrap(), info);
    let run = loop {
        match program.test_run(&[0; 64], 10) {
            // The end of another test's child, while a thread is being started: then the signal, which nobody minds, does
            // not get lost on the way.
            Err(error) if error.errno() == Some(libc::EINTR) => {}
            run => break run.unwrap(),
        }
    };
    assert_eq!(run.return_value, 2);
    assert_eq!(
        Program::load_xdp_returning("drop", 1).unwrap().test_run(&[0; 64], 1).unwrap().return_value,
        1
    );
    assert_eq!(program.test_run(&[0; 4], 1).unwrap_err().errno(), Some(libc::EINVAL));
}

#[test]
#[ignore = "needs root"]
fn the_verifier_says_why_it_refuses() {
    require_root!();
    let license = CString::new("GPL").unwrap();
    let mut log = vec![0; 4096];
    // r0 is not set.
    let error = Program::load_xdp("bad", &[Insn::exit()], &license, Some(&mut log)).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EACCES));
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("R0 !read_ok"), "{text}");
    let error = Program::load_xdp("bad", &[], &license, None).unwrap_err();
    assert!(error.to_string().starts_with("BPF_PROG_LOAD of program bad: "), "{error}");
}

#[test]
fn a_grace_period_passes() {
    rcu::wait_grace_period().unwrap();
}
