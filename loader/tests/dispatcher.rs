//! The dispatcher of libxdp is told by its configuration, of each layout that there has been, and nothing else is.
//!
//! libxdp needs a kernel with freplace to make one; these are made by hand, as it leaves them.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Site, flat};
use xdpd_kernel::map_types::{
    BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_ARRAY,
};
use xdpd_kernel::{IfIndex, Insn, Map, MapDef, Program, XdpMode, netlink};
use xdpd_testlab::require_root;

/// A program that refers to maps, as libxdp's dispatcher does to its constants.
fn program_with(name: &str, maps: &[&Map]) -> Program {
    let refer = maps.iter().flat_map(|map| {
        // ld_imm64 with BPF_PSEUDO_MAP_FD takes two instructions.
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(map));
        [Insn::new(0x18, 1, 1, 0, fd), Insn::new(0, 0, 0, 0, 0)]
    });
    let insns: Vec<Insn> = refer.chain([Insn::mov(0, 2), Insn::exit()]).collect();
    Program::load_xdp(name, &insns, c"GPL", None).unwrap()
}

/// Constants of a program, frozen as libbpf leaves them.
fn constants(value_size: u32, begin: &[u8], flags: u32) -> Map {
    let def =
        MapDef { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size, max_entries: 1, flags, map_extra: 0 };
    let map = Map::create(".rodata", &def, None).unwrap();
    let mut value = vec![0; map.value_len()];
    value[..begin.len()].copy_from_slice(begin);
    map.update(&0_u32.to_ne_bytes(), &value, 0).unwrap();
    map.freeze().unwrap();
    map
}

/// What status, diff and apply call a program that somebody attaches to the device of a site. It is there afterwards.
fn told(site: &Site, program: &Program) -> [String; 3] {
    let ifindex = IfIndex(site.lab.near().ifindex("eth0").unwrap());
    site.lab.near().run(|| netlink::attach_netlink(ifindex, program, XdpMode::Native, None)).unwrap();
    let told =
        [("status", 0), ("diff", 2), ("apply", 2)].map(|(command, code)| site.expect(command, code).stdout);
    site.lab.near().run(|| netlink::detach_netlink(ifindex, XdpMode::Native, program)).unwrap();
    told.map(|text| flat(&text))
}

#[test]
#[ignore = "needs root"]
fn a_dispatcher_of_libxdp_is_named_with_its_version_and_programs() {
    require_root!();
    let site = Site::new("dispatcher");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    for (size, begin, version, programs) in [
        (84, &[7][..], 1, "7 programs"),
        (124, &[236, 2, 1], 2, "1 program"),
        (128, &[236, 3, 10], 3, "10 programs"),
    ] {
        let program = program_with("xdp_dispatcher", &[&constants(size, begin, BPF_F_RDONLY_PROG)]);
        let expected = format!("libxdp dispatcher (version {version}, {programs}, see `xdp-loader status`;");
        for text in told(&site, &program) {
            assert!(text.contains(&expected), "{size} bytes: {text}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_only_looks_like_a_dispatcher_is_not_named_one() {
    require_root!();
    let site = Site::new("lookalikes");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let right = constants(124, &[236, 2, 3], BPF_F_RDONLY_PROG);
    let create = |map_type, flags, max_entries| {
        let def = MapDef { map_type, key_size: 4, value_size: 124, max_entries, flags, map_extra: 0 };
        Map::create("lookalike", &def, None).unwrap()
    };
    let looks_like = [
        ("another name", program_with("xdp_dispatchers", &[&right])),
        ("no map", program_with("xdp_dispatcher", &[])),
        (
            "two maps",
            program_with("xdp_dispatcher", &[&right, &constants(124, &[236, 2, 3], BPF_F_RDONLY_PROG)]),
        ),
        ("writable", program_with("xdp_dispatcher", &[&constants(124, &[236, 2, 3], 0)])),
        ("another size", program_with("xdp_dispatcher", &[&constants(100, &[236, 2, 3], BPF_F_RDONLY_PROG)])),
        ("a byte", program_with("xdp_dispatcher", &[&constants(1, &[236], BPF_F_RDONLY_PROG)])),
        ("large", program_with("xdp_dispatcher", &[&constants(1 << 20, &[236, 2, 3], BPF_F_RDONLY_PROG)])),
        ("not filled in", program_with("xdp_dispatcher", &[&constants(124, &[], BPF_F_RDONLY_PROG)])),
        ("not filled in either", program_with("xdp_dispatcher", &[&constants(84, &[], BPF_F_RDONLY_PROG)])),
        ("hash", program_with("xdp_dispatcher", &[&create(BPF_MAP_TYPE_HASH, BPF_F_RDONLY_PROG, 1)])),
        (
            "per CPU",
            program_with("xdp_dispatcher", &[&create(BPF_MAP_TYPE_PERCPU_ARRAY, BPF_F_RDONLY_PROG, 1)]),
        ),
        ("two entries", program_with("xdp_dispatcher", &[&create(BPF_MAP_TYPE_ARRAY, BPF_F_RDONLY_PROG, 2)])),
        (
            "not readable",
            program_with(
                "xdp_dispatcher",
                &[&create(BPF_MAP_TYPE_ARRAY, BPF_F_RDONLY_PROG | BPF_F_WRONLY, 1)],
            ),
        ),
    ];
    for (how, program) in looks_like {
        let expected = format!("program `{}` (tag", program.info().unwrap().name);
        for text in told(&site, &program) {
            assert!(text.contains(&expected) && !text.contains("libxdp"), "{how}: {text}");
        }
    }
}
