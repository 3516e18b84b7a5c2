//! Attaching, replacing and detaching programs through links.

use std::ffi::CString;

use xdpd_kernel::program::Insn;
use xdpd_kernel::{
    AttachError, Attached, DetachError, IfIndex, LinkKind, Program, Refusal, UpdateError, XdpLink, XdpLoad,
    XdpMode, clock, netlink, rcu,
};
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
        let error = link.update(&second, &first).unwrap_err();
        assert!(matches!(error, UpdateError::Replaced { by, .. } if by == ids[1]), "{error:?}");

        link.detach().unwrap();
        assert_eq!(lab.device("left").xdp, []);
        assert_eq!(link.info().unwrap().kind, LinkKind::Xdp { ifindex: None });
    }
}

#[test]
#[ignore = "needs root"]
fn a_device_that_is_taken_names_what_runs_there() {
    require_root!();
    let lab = Lab::new();
    let ifindex = lab.ifindex("left");
    let program = pass("p");
    let runs = Attached { mode: XdpMode::Native, program_id: program.info().unwrap().id };
    lab.within(|| {
        let link = XdpLink::create(&program, ifindex, XdpMode::Native).unwrap();
        for (mode, words) in
            [(XdpMode::Native, "Device or resource busy (EBUSY)"), (XdpMode::Generic, "File exists (EEXIST)")]
        {
            let error = XdpLink::create(&program, ifindex, mode).unwrap_err();
            assert!(matches!(error, AttachError::Taken { by, .. } if by == runs), "{error:?}");
            let expected = format!("BPF_LINK_CREATE of interface {ifindex} ({mode}): {words}");
            assert_eq!(error.to_string(), expected);
        }
        link.detach().unwrap();
        for absent in [IfIndex(0x7fff_fff0), IfIndex(u32::MAX), IfIndex(0)] {
            let gone = XdpLink::create(&program, absent, XdpMode::Native).unwrap_err();
            assert!(matches!(gone, AttachError::DeviceGone(_)), "{gone:?}");
            assert_eq!(netlink::find(absent).unwrap(), None);
        }
        assert_eq!(netlink::find(ifindex).unwrap(), Some(lab.device("left")));
    });
}

/// What a mode is refused for, and the kernel's words.
fn refusal(lab: &Lab, device: &str, mode: XdpMode) -> (Refusal, String) {
    let ifindex = lab.ifindex(device);
    let error = lab.within(|| XdpLink::create(&pass("p"), ifindex, mode).unwrap_err());
    // Nothing of asking for words stays.
    assert_eq!(lab.device(device).xdp, []);
    let text = error.to_string();
    let AttachError::Refused { refusal, mtu, .. } = error else { panic!("{error:?}") };
    assert_eq!(mtu, lab.device(device).mtu);
    let words = text.split_once("; the kernel says: ").map(|(_, words)| words.to_owned());
    (refusal, words.unwrap_or_default())
}

#[test]
#[ignore = "needs root"]
fn a_driver_refuses_a_mode_with_the_kernels_words() {
    require_root!();
    let lab = Lab::new();
    let refused = |device, mode, kind, words: &str| {
        assert_eq!(refusal(&lab, device, mode), (kind, words.to_owned()), "{device} {mode}");
    };
    lab.ip("link add few numtxqueues 1 numrxqueues 1 type veth peer name many numtxqueues 4 numrxqueues 4");
    lab.ip("link set few up");
    lab.ip("link set many up");
    lab.ip("tuntap add tun0 mode tun");
    lab.ip("link add br0 type bridge");
    lab.ip("link set right mtu 9000");
    let native = XdpMode::Native;
    // The MTU that matters is that of the other end.
    refused("left", native, Refusal::OutOfRange, "veth: Peer MTU is too large to set XDP");
    refused(
        "few",
        native,
        Refusal::NoSpace,
        "veth: XDP expects number of rx queues not less than peer tx queues",
    );
    let none = "Underlying driver does not support XDP in native mode";
    refused("tun0", native, Refusal::Unsupported, none);
    refused("br0", native, Refusal::Unsupported, none);
    // It knows XDP and no network card to run it on, and has no words for that.
    refused("left", XdpMode::Offload, Refusal::Invalid, "");
}

#[test]
#[ignore = "needs root"]
fn a_driver_refuses_a_replacement_and_the_old_program_goes_on() {
    require_root!();
    let lab = Lab::new();
    lab.ip("link set right mtu 9000");
    let ifindex = lab.ifindex("left");
    let license = CString::new("GPL").unwrap();
    let insns = [Insn::mov(0, 2), Insn::exit()];
    let load = XdpLoad {
        name: "frags",
        insns: &insns,
        license: &license,
        frags: true,
        attach_type: 37,
        debug: None,
    };
    let (frags, plain) = (load.load(None).unwrap(), pass("plain"));
    let link = lab.within(|| XdpLink::create(&frags, ifindex, XdpMode::Native).unwrap());
    let error = link.update(&plain, &frags).unwrap_err();
    assert!(matches!(error, UpdateError::Refused { refusal: Refusal::OutOfRange, .. }), "{error:?}");
    assert_eq!(link.info().unwrap().program_id, frags.info().unwrap().id);
}

#[test]
#[ignore = "needs root"]
fn a_device_above_that_runs_a_program_is_named() {
    require_root!();
    let lab = Lab::new();
    lab.ip("link add br0 type bridge");
    lab.ip("link set left master br0");
    lab.ip("link add above link right type macvlan");
    let program = pass("p");
    for (upper, lower) in [("br0", "left"), ("above", "right")] {
        let [above, below] = [upper, lower].map(|device| lab.ifindex(device));
        lab.within(|| {
            netlink::attach_netlink(below, &program, XdpMode::Generic, None).unwrap();
            let link = XdpLink::create(&program, above, XdpMode::Generic).unwrap();
            let error = netlink::detach_netlink(below, XdpMode::Generic, &program).unwrap_err();
            assert!(
                matches!(&error, DetachError::UpperDevice { upper: found, .. } if found == upper),
                "{error:?}"
            );
            link.detach().unwrap();
            netlink::detach_netlink(below, XdpMode::Generic, &program).unwrap();

            let link = XdpLink::create(&program, above, XdpMode::Generic).unwrap();
            // The peer, which runs one as well, is not above.
            for error in [
                XdpLink::create(&program, below, XdpMode::Generic).unwrap_err(),
                netlink::attach_netlink(below, &program, XdpMode::Native, None).unwrap_err(),
            ] {
                assert!(
                    matches!(&error, AttachError::UpperDevice { upper: found, .. } if found == upper),
                    "{error:?}"
                );
            }
            link.detach().unwrap();
        });
    }
    // From another namespace it cannot be seen. The kernel knows.
    let (other, below) = (Lab::empty(), lab.ifindex("right"));
    lab.ip(&format!("link set above netns {}", other.name()));
    let link = other.within(|| XdpLink::create(&program, other.ifindex("above"), XdpMode::Generic).unwrap());
    let error = lab.within(|| XdpLink::create(&program, below, XdpMode::Generic).unwrap_err());
    assert!(matches!(error, AttachError::Failed(_)), "{error:?}");
    let words = "; the kernel says: Cannot attach when an upper device already has a program";
    assert!(error.to_string().ends_with(words), "{error}");
    link.detach().unwrap();
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
    assert!(matches!(error, UpdateError::Defunct(_)), "{error:?}");
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
            let by = Attached { mode, program_id: ids[0] };
            assert!(matches!(taken, AttachError::Taken { by: found, .. } if found == by), "{taken:?}");
            let words = "Device or resource busy (EBUSY); the kernel says: XDP program already attached";
            assert!(taken.to_string().ends_with(words), "{taken}");
            let unexpected = netlink::attach_netlink(ifindex, &first, mode, Some(&second)).unwrap_err();
            assert!(
                matches!(unexpected, AttachError::Taken { by: found, .. } if found == by),
                "{unexpected:?}"
            );
            assert_eq!(lab.device("left").xdp, [Attached { mode, program_id: ids[0] }]);
            netlink::attach_netlink(ifindex, &second, mode, Some(&first)).unwrap();
            assert_eq!(lab.device("left").xdp, [Attached { mode, program_id: ids[1] }]);
            let unexpected = netlink::detach_netlink(ifindex, mode, &first).unwrap_err();
            let is_second = matches!(unexpected, DetachError::Replaced { by: Some(id), .. } if id == ids[1]);
            assert!(is_second, "{unexpected:?}");
            netlink::detach_netlink(ifindex, mode, &second).unwrap();
            assert_eq!(lab.device("left").xdp, []);
            let removed = netlink::detach_netlink(ifindex, mode, &second).unwrap_err();
            assert!(matches!(removed, DetachError::Replaced { by: None, .. }), "{removed:?}");
        });
    }
    let absent = IfIndex(0x7fff_fff0);
    lab.within(|| {
        let gone = netlink::attach_netlink(absent, &first, XdpMode::Native, None).unwrap_err();
        assert!(matches!(gone, AttachError::DeviceGone(_)), "{gone:?}");
        let gone = netlink::detach_netlink(absent, XdpMode::Native, &first).unwrap_err();
        assert!(matches!(gone, DetachError::DeviceGone(_)), "{gone:?}");
    });
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
        assert!(matches!(error, DetachError::Failed(_)), "{error:?}");
        let words = "Device or resource busy (EBUSY); the kernel says: Can't replace active BPF XDP link";
        assert!(error.to_string().ends_with(words), "{error}");
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
