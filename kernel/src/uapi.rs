//! Numbers and structures of the kernel's user space interface, by the names they have there.
//!
//! From bpf.h, `if_link.h`, rtnetlink.h, netlink.h, magic.h and nsfs.h in include/uapi/linux of Linux 6.1. The
//! structures are the parts of `union bpf_attr` that one command uses: the kernel takes what is missing at the end for
//! zero. Padding is spelled out, since the kernel reads it.

/// A command of bpf(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
}

macro_rules! commands {
    ($($name:ident = $number:literal,)*) => {
        $(pub(crate) const $name: Command =
            Command { number: $number, name: stringify!($name) };)*
    };
}

commands! {
    BPF_MAP_CREATE = 0,
    BPF_MAP_LOOKUP_ELEM = 1,
    BPF_MAP_UPDATE_ELEM = 2,
    BPF_MAP_DELETE_ELEM = 3,
    BPF_MAP_GET_NEXT_KEY = 4,
    BPF_PROG_LOAD = 5,
    BPF_OBJ_PIN = 6,
    BPF_OBJ_GET = 7,
    BPF_PROG_TEST_RUN = 10,
    BPF_PROG_GET_NEXT_ID = 11,
    BPF_MAP_GET_NEXT_ID = 12,
    BPF_PROG_GET_FD_BY_ID = 13,
    BPF_MAP_GET_FD_BY_ID = 14,
    BPF_OBJ_GET_INFO_BY_FD = 15,
    BPF_BTF_LOAD = 18,
    BPF_BTF_GET_FD_BY_ID = 19,
    BPF_MAP_FREEZE = 22,
    BPF_BTF_GET_NEXT_ID = 23,
    BPF_MAP_LOOKUP_BATCH = 24,
    BPF_MAP_UPDATE_BATCH = 26,
    BPF_MAP_DELETE_BATCH = 27,
    BPF_LINK_CREATE = 28,
    BPF_LINK_UPDATE = 29,
    BPF_LINK_GET_FD_BY_ID = 30,
    BPF_LINK_GET_NEXT_ID = 31,
    BPF_LINK_DETACH = 34,
}

use xdpd_types::XdpMode;
pub(crate) use xdpd_types::map_types::{
    BPF_F_MMAPABLE, BPF_F_RDONLY, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_CPUMAP, BPF_MAP_TYPE_PERCPU_ARRAY,
};

pub(crate) const BPF_OBJ_NAME_LEN: usize = 16;
pub(crate) const BPF_TAG_SIZE: usize = 8;

pub(crate) const BPF_F_REPLACE: u32 = 1 << 2;

pub(crate) const BPF_PROG_TYPE_XDP: u32 = 6;
pub(crate) const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
/// A flag of `BPF_PROG_TEST_RUN`.
pub(crate) const BPF_F_TEST_RUN_ON_CPU: u32 = 1 << 0;
/// `enum bpf_attach_type`
pub(crate) const BPF_XDP: u32 = 37;
/// A flag of `BPF_PROG_LOAD`.
pub(crate) const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// `enum bpf_link_type`
pub(crate) const BPF_LINK_TYPE_XDP: u32 = 6;

/// `BPF_MAP_CREATE`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct MapCreate {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) inner_map_fd: u32,
    pub(crate) numa_node: u32,
    pub(crate) map_name: [u8; BPF_OBJ_NAME_LEN],
    pub(crate) map_ifindex: u32,
    pub(crate) btf_fd: u32,
    pub(crate) btf_key_type_id: u32,
    pub(crate) btf_value_type_id: u32,
    pub(crate) btf_vmlinux_value_type_id: u32,
    pub(crate) map_extra: u64,
}
const _: () = assert!(size_of::<MapCreate>() == 72);

/// `BPF_MAP_*_ELEM` and `BPF_MAP_GET_NEXT_KEY` (where `value` is `next_key`)
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct MapElem {
    pub(crate) map_fd: u32,
    pub(crate) pad: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}
const _: () = assert!(size_of::<MapElem>() == 32);

/// `BPF_MAP_LOOKUP_BATCH`, `BPF_MAP_UPDATE_BATCH`, `BPF_MAP_DELETE_BATCH`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct MapBatch {
    pub(crate) in_batch: u64,
    pub(crate) out_batch: u64,
    pub(crate) keys: u64,
    pub(crate) values: u64,
    pub(crate) count: u32,
    pub(crate) map_fd: u32,
    pub(crate) elem_flags: u64,
    pub(crate) flags: u64,
}
const _: () = assert!(size_of::<MapBatch>() == 56);

/// `BPF_PROG_LOAD`, up to the attach type
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct ProgLoad {
    pub(crate) prog_type: u32,
    pub(crate) insn_cnt: u32,
    pub(crate) insns: u64,
    pub(crate) license: u64,
    pub(crate) log_level: u32,
    pub(crate) log_size: u32,
    pub(crate) log_buf: u64,
    pub(crate) kern_version: u32,
    pub(crate) prog_flags: u32,
    pub(crate) prog_name: [u8; BPF_OBJ_NAME_LEN],
    pub(crate) prog_ifindex: u32,
    pub(crate) expected_attach_type: u32,
    pub(crate) prog_btf_fd: u32,
    pub(crate) func_info_rec_size: u32,
    pub(crate) func_info: u64,
    pub(crate) func_info_cnt: u32,
    pub(crate) line_info_rec_size: u32,
    pub(crate) line_info: u64,
    pub(crate) line_info_cnt: u32,
    pub(crate) attach_btf_id: u32,
}
const _: () = assert!(size_of::<ProgLoad>() == 112);

/// `BPF_OBJ_PIN` and `BPF_OBJ_GET`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Obj {
    pub(crate) pathname: u64,
    pub(crate) bpf_fd: u32,
    pub(crate) file_flags: u32,
}
const _: () = assert!(size_of::<Obj>() == 16);

/// `BPF_PROG_TEST_RUN`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct TestRun {
    pub(crate) prog_fd: u32,
    pub(crate) retval: u32,
    pub(crate) data_size_in: u32,
    pub(crate) data_size_out: u32,
    pub(crate) data_in: u64,
    pub(crate) data_out: u64,
    pub(crate) repeat: u32,
    pub(crate) duration: u32,
    pub(crate) ctx_size_in: u32,
    pub(crate) ctx_size_out: u32,
    pub(crate) ctx_in: u64,
    pub(crate) ctx_out: u64,
    pub(crate) flags: u32,
    pub(crate) cpu: u32,
    pub(crate) batch_size: u32,
    pub(crate) pad: u32,
}
const _: () = assert!(size_of::<TestRun>() == 80);

/// `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct GetId {
    pub(crate) id: u32,
    pub(crate) next_id: u32,
    pub(crate) open_flags: u32,
}
const _: () = assert!(size_of::<GetId>() == 12);

/// `BPF_OBJ_GET_INFO_BY_FD`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct InfoByFd {
    pub(crate) bpf_fd: u32,
    pub(crate) info_len: u32,
    pub(crate) info: u64,
}
const _: () = assert!(size_of::<InfoByFd>() == 16);

/// `BPF_BTF_LOAD`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct BtfLoad {
    pub(crate) btf: u64,
    pub(crate) btf_log_buf: u64,
    pub(crate) btf_size: u32,
    pub(crate) btf_log_size: u32,
    pub(crate) btf_log_level: u32,
    pub(crate) pad: u32,
}
const _: () = assert!(size_of::<BtfLoad>() == 32);

/// `BPF_LINK_CREATE` for a network device
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct LinkCreate {
    pub(crate) prog_fd: u32,
    pub(crate) target_ifindex: u32,
    pub(crate) attach_type: u32,
    pub(crate) flags: u32,
}
const _: () = assert!(size_of::<LinkCreate>() == 16);

/// `BPF_LINK_UPDATE`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct LinkUpdate {
    pub(crate) link_fd: u32,
    pub(crate) new_prog_fd: u32,
    pub(crate) flags: u32,
    pub(crate) old_prog_fd: u32,
}
const _: () = assert!(size_of::<LinkUpdate>() == 16);

/// `BPF_LINK_DETACH` and `BPF_MAP_FREEZE`: a descriptor and nothing else
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct OnlyFd {
    pub(crate) fd: u32,
}

/// `struct bpf_map_info`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct BpfMapInfo {
    pub(crate) map_type: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) name: [u8; BPF_OBJ_NAME_LEN],
    pub(crate) ifindex: u32,
    pub(crate) btf_vmlinux_value_type_id: u32,
    pub(crate) netns_dev: u64,
    pub(crate) netns_ino: u64,
    pub(crate) btf_id: u32,
    pub(crate) btf_key_type_id: u32,
    pub(crate) btf_value_type_id: u32,
    pub(crate) pad: u32,
    pub(crate) map_extra: u64,
}
const _: () = assert!(size_of::<BpfMapInfo>() == 88);

/// `struct bpf_prog_info`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct BpfProgInfo {
    pub(crate) prog_type: u32,
    pub(crate) id: u32,
    pub(crate) tag: [u8; BPF_TAG_SIZE],
    pub(crate) jited_prog_len: u32,
    pub(crate) xlated_prog_len: u32,
    pub(crate) jited_prog_insns: u64,
    pub(crate) xlated_prog_insns: u64,
    pub(crate) load_time: u64,
    pub(crate) created_by_uid: u32,
    pub(crate) nr_map_ids: u32,
    pub(crate) map_ids: u64,
    pub(crate) name: [u8; BPF_OBJ_NAME_LEN],
    pub(crate) ifindex: u32,
    pub(crate) gpl_compatible: u32,
    pub(crate) netns_dev: u64,
    pub(crate) netns_ino: u64,
    pub(crate) nr_jited_ksyms: u32,
    pub(crate) nr_jited_func_lens: u32,
    pub(crate) jited_ksyms: u64,
    pub(crate) jited_func_lens: u64,
    pub(crate) btf_id: u32,
    pub(crate) func_info_rec_size: u32,
    pub(crate) func_info: u64,
    pub(crate) nr_func_info: u32,
    pub(crate) nr_line_info: u32,
    pub(crate) line_info: u64,
    pub(crate) jited_line_info: u64,
    pub(crate) nr_jited_line_info: u32,
    pub(crate) line_info_rec_size: u32,
    pub(crate) jited_line_info_rec_size: u32,
    pub(crate) nr_prog_tags: u32,
    pub(crate) prog_tags: u64,
    pub(crate) run_time_ns: u64,
    pub(crate) run_cnt: u64,
    pub(crate) recursion_misses: u64,
    pub(crate) verified_insns: u32,
    pub(crate) attach_btf_obj_id: u32,
    pub(crate) attach_btf_id: u32,
    pub(crate) pad: u32,
}
const _: () = assert!(size_of::<BpfProgInfo>() == 232);

/// `struct bpf_link_info`, its union as plain words
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct BpfLinkInfo {
    pub(crate) link_type: u32,
    pub(crate) id: u32,
    pub(crate) prog_id: u32,
    pub(crate) pad: u32,
    /// `xdp.ifindex`
    pub(crate) ifindex: u32,
    pub(crate) rest: [u32; 7],
}
const _: () = assert!(size_of::<BpfLinkInfo>() == 48);

/// `struct bpf_btf_info`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct BpfBtfInfo {
    pub(crate) btf: u64,
    pub(crate) btf_size: u32,
    pub(crate) id: u32,
    pub(crate) name: u64,
    pub(crate) name_len: u32,
    pub(crate) kernel_btf: u32,
}
const _: () = assert!(size_of::<BpfBtfInfo>() == 32);

// if_link.h
pub(crate) const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1 << 0;
pub(crate) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
pub(crate) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
pub(crate) const XDP_FLAGS_HW_MODE: u32 = 1 << 3;
pub(crate) const XDP_FLAGS_REPLACE: u32 = 1 << 4;

/// The flag that asks for a mode.
pub(crate) fn flag_of(mode: XdpMode) -> u32 {
    match mode {
        XdpMode::Native => XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => XDP_FLAGS_SKB_MODE,
        XdpMode::Offload => XDP_FLAGS_HW_MODE,
    }
}

pub(crate) const XDP_ATTACHED_DRV: u8 = 1;
pub(crate) const XDP_ATTACHED_SKB: u8 = 2;
pub(crate) const XDP_ATTACHED_HW: u8 = 3;

pub(crate) const IFLA_XDP_FD: u16 = 1;
pub(crate) const IFLA_XDP_ATTACHED: u16 = 2;
pub(crate) const IFLA_XDP_FLAGS: u16 = 3;
pub(crate) const IFLA_XDP_PROG_ID: u16 = 4;
pub(crate) const IFLA_XDP_DRV_PROG_ID: u16 = 5;
pub(crate) const IFLA_XDP_SKB_PROG_ID: u16 = 6;
pub(crate) const IFLA_XDP_HW_PROG_ID: u16 = 7;
pub(crate) const IFLA_XDP_EXPECTED_FD: u16 = 8;

pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_EXT_MASK: u16 = 29;
pub(crate) const IFLA_LINK_NETNSID: u16 = 37;
pub(crate) const IFLA_XDP: u16 = 43;
pub(crate) const IFLA_PROP_LIST: u16 = 52;
pub(crate) const IFLA_ALT_IFNAME: u16 = 53;

// rtnetlink.h
pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;
pub(crate) const RTMGRP_LINK: u32 = 1;
pub(crate) const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

// netlink.h
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 16;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// Of an `NLMSG_ERROR`: it has only the header of the request that it answers.
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
/// Of an `NLMSG_ERROR`: attributes follow (`enum nlmsgerr_attrs`).
pub(crate) const NLM_F_ACK_TLVS: u16 = 0x200;
pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;
pub(crate) const NETLINK_EXT_ACK: libc::c_int = 11;
pub(crate) const NLA_F_NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are its number: without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
pub(crate) const NLA_TYPE_MASK: u16 = 0x3fff;

/// `BPF_NOEXIST`: only where there is no entry.
pub(crate) const BPF_NOEXIST: u64 = 1;

// magic.h
pub(crate) const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
pub(crate) const NSFS_MAGIC: u32 = 0x6e73_6673;

// nsfs.h and sched.h
pub(crate) const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
