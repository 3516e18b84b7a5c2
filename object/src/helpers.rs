//! The functions of the kernel that programs call by number: names, and what XDP programs may make of them.
//!
//! Names are those of `enum bpf_func_id` in include/uapi/linux/bpf.h, which is complete: what the kernel offers since
//! are kernel functions. What XDP programs may call was asked of Linux 6.18; what Linux 6.1 lacks of it was read in
//! `bpf_base_func_proto` (kernel/bpf/helpers.c) and `xdp_func_proto` (net/core/filter.c). A test asks the kernel.

/// A function of the kernel that a program calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Helper {
    /// Its name, without `bpf_`.
    pub(super) name: &'static str,
    /// Who may call it.
    pub(super) access: Access,
    /// Only programs under the GPL may call it.
    pub(super) gpl: bool,
}

/// Which kernels let an XDP program call a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// All that xdpd runs on.
    Always,
    /// Some later than 6.1; 6.18 is one of them.
    Later,
    /// None, up to 6.18.
    Never,
}

/// The function with this number; `None` where no kernel has one.
pub(super) fn helper(number: u32) -> Option<Helper> {
    let name = *NAMES.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
    let number = u8::try_from(number).ok()?;
    let access = if ALWAYS.contains(&number) {
        Access::Always
    } else if LATER.contains(&number) {
        Access::Later
    } else {
        Access::Never
    };
    Some(Helper { name, access, gpl: GPL.contains(&number) })
}

#[rustfmt::skip] // a table
const ALWAYS: [u8; 83] = [
    1, 2, 3, 5, 6, 7, 8, 12, 23, 25, 28, 35, 42, 44, 51, 54, 65, 69, 84, 85, 86, 87, 88, 89, 93, 94, 99, 100,
    105, 106, 110, 112, 113, 114, 115, 118, 125, 130, 131, 132, 133, 134, 136, 137, 138, 139, 140, 149, 153,
    154, 158, 160, 163, 164, 165, 169, 170, 171, 172, 175, 177, 178, 181, 182, 188, 189, 190, 194, 195, 196,
    197, 198, 199, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209,
];

#[rustfmt::skip] // a table
const LATER: [u8; 21] = [
    14, 15, 16, 17, 22, 37, 55, 80, 109, 117, 120, 123, 141, 148, 156, 157, 176, 180, 191, 210, 211,
];

/// Of those that XDP programs may call.
#[rustfmt::skip] // a table
const GPL: [u8; 27] = [
    6, 22, 25, 35, 55, 69, 100, 110, 112, 113, 114, 115, 158, 163, 165, 169, 170, 171, 172, 175, 176, 177,
    191, 204, 205, 206, 207,
];

#[rustfmt::skip] // a table
const NAMES: [&str; 211] = [
    "map_lookup_elem", "map_update_elem", "map_delete_elem", "probe_read", "ktime_get_ns", "trace_printk",
    "get_prandom_u32", "get_smp_processor_id", "skb_store_bytes", "l3_csum_replace", "l4_csum_replace",
    "tail_call", "clone_redirect", "get_current_pid_tgid", "get_current_uid_gid", "get_current_comm",
    "get_cgroup_classid", "skb_vlan_push", "skb_vlan_pop", "skb_get_tunnel_key", "skb_set_tunnel_key",
    "perf_event_read", "redirect", "get_route_realm", "perf_event_output", "skb_load_bytes", "get_stackid",
    "csum_diff", "skb_get_tunnel_opt", "skb_set_tunnel_opt", "skb_change_proto", "skb_change_type",
    "skb_under_cgroup", "get_hash_recalc", "get_current_task", "probe_write_user",
    "current_task_under_cgroup", "skb_change_tail", "skb_pull_data", "csum_update", "set_hash_invalid",
    "get_numa_node_id", "skb_change_head", "xdp_adjust_head", "probe_read_str", "get_socket_cookie",
    "get_socket_uid", "set_hash", "setsockopt", "skb_adjust_room", "redirect_map", "sk_redirect_map",
    "sock_map_update", "xdp_adjust_meta", "perf_event_read_value", "perf_prog_read_value", "getsockopt",
    "override_return", "sock_ops_cb_flags_set", "msg_redirect_map", "msg_apply_bytes", "msg_cork_bytes",
    "msg_pull_data", "bind", "xdp_adjust_tail", "skb_get_xfrm_state", "get_stack", "skb_load_bytes_relative",
    "fib_lookup", "sock_hash_update", "msg_redirect_hash", "sk_redirect_hash", "lwt_push_encap",
    "lwt_seg6_store_bytes", "lwt_seg6_adjust_srh", "lwt_seg6_action", "rc_repeat", "rc_keydown",
    "skb_cgroup_id", "get_current_cgroup_id", "get_local_storage", "sk_select_reuseport",
    "skb_ancestor_cgroup_id", "sk_lookup_tcp", "sk_lookup_udp", "sk_release", "map_push_elem",
    "map_pop_elem", "map_peek_elem", "msg_push_data", "msg_pop_data", "rc_pointer_rel", "spin_lock",
    "spin_unlock", "sk_fullsock", "tcp_sock", "skb_ecn_set_ce", "get_listener_sock", "skc_lookup_tcp",
    "tcp_check_syncookie", "sysctl_get_name", "sysctl_get_current_value", "sysctl_get_new_value",
    "sysctl_set_new_value", "strtol", "strtoul", "sk_storage_get", "sk_storage_delete", "send_signal",
    "tcp_gen_syncookie", "skb_output", "probe_read_user", "probe_read_kernel", "probe_read_user_str",
    "probe_read_kernel_str", "tcp_send_ack", "send_signal_thread", "jiffies64", "read_branch_records",
    "get_ns_current_pid_tgid", "xdp_output", "get_netns_cookie", "get_current_ancestor_cgroup_id",
    "sk_assign", "ktime_get_boot_ns", "seq_printf", "seq_write", "sk_cgroup_id", "sk_ancestor_cgroup_id",
    "ringbuf_output", "ringbuf_reserve", "ringbuf_submit", "ringbuf_discard", "ringbuf_query", "csum_level",
    "skc_to_tcp6_sock", "skc_to_tcp_sock", "skc_to_tcp_timewait_sock", "skc_to_tcp_request_sock",
    "skc_to_udp6_sock", "get_task_stack", "load_hdr_opt", "store_hdr_opt", "reserve_hdr_opt",
    "inode_storage_get", "inode_storage_delete", "d_path", "copy_from_user", "snprintf_btf",
    "seq_printf_btf", "skb_cgroup_classid", "redirect_neigh", "per_cpu_ptr", "this_cpu_ptr", "redirect_peer",
    "task_storage_get", "task_storage_delete", "get_current_task_btf", "bprm_opts_set",
    "ktime_get_coarse_ns", "ima_inode_hash", "sock_from_file", "check_mtu", "for_each_map_elem", "snprintf",
    "sys_bpf", "btf_find_by_name_kind", "sys_close", "timer_init", "timer_set_callback", "timer_start",
    "timer_cancel", "get_func_ip", "get_attach_cookie", "task_pt_regs", "get_branch_snapshot",
    "trace_vprintk", "skc_to_unix_sock", "kallsyms_lookup_name", "find_vma", "loop", "strncmp",
    "get_func_arg", "get_func_ret", "get_func_arg_cnt", "get_retval", "set_retval", "xdp_get_buff_len",
    "xdp_load_bytes", "xdp_store_bytes", "copy_from_user_task", "skb_set_tstamp", "ima_file_hash",
    "kptr_xchg", "map_lookup_percpu_elem", "skc_to_mptcp_sock", "dynptr_from_mem", "ringbuf_reserve_dynptr",
    "ringbuf_submit_dynptr", "ringbuf_discard_dynptr", "dynptr_read", "dynptr_write", "dynptr_data",
    "tcp_raw_gen_syncookie_ipv4", "tcp_raw_gen_syncookie_ipv6", "tcp_raw_check_syncookie_ipv4",
    "tcp_raw_check_syncookie_ipv6", "ktime_get_tai_ns", "user_ringbuf_drain", "cgrp_storage_get",
    "cgrp_storage_delete",
];

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use xdpd_kernel::program::{Insn, Program};
    use xdpd_testlab::require_root;

    use super::*;

    /// What the verifier says of a program that calls a function with nothing prepared.
    fn verdict(number: i32, license: &CStr) -> String {
        let program = [Insn::new(0x85, 0, 0, 0, number), Insn::mov(0, 2), Insn::exit()];
        let mut log = vec![0; 1 << 16];
        let _ = Program::load_xdp("helper", &program, license, Some(&mut log));
        let end = log.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8_lossy(&log[..end]).into_owned()
    }

    #[test]
    #[ignore = "needs root"]
    fn the_kernel_agrees_about_who_may_call_what() {
        require_root!();
        for number in 1..=211_i32 {
            let Helper { name, access, gpl } = helper(number.cast_unsigned()).unwrap();
            let said = verdict(number, c"GPL");
            let refused =
                ["cannot use helper", "unknown func", "invalid func"].iter().any(|no| said.contains(no));
            match access {
                Access::Always => assert!(!refused, "{name}: {said}"),
                // Later kernels than 6.18 may let more programs call it.
                Access::Never => assert!(refused || release() > (6, 18), "{name}: {said}"),
                Access::Later => {}
            }
            // A program that is taken leaves no instructions in the log.
            let named = said.contains(&format!("call bpf_{name}#{number}\n"));
            assert!(named || !said.contains("call bpf_"), "{name}: {said}");
            if !refused {
                assert_eq!(verdict(number, c"Proprietary").contains("GPL-restricted"), gpl, "{name}");
            }
        }
    }

    fn release() -> (u32, u32) {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).flat_map(str::parse);
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    #[test]
    fn numbers_that_no_kernel_has_have_no_name() {
        assert_eq!(helper(1).map(|h| h.name), Some("map_lookup_elem"));
        assert_eq!(helper(211).map(|h| h.name), Some("cgrp_storage_delete"));
        assert!([0, 212, 257, u32::MAX].iter().all(|number| helper(*number).is_none()));
    }
}
