//! The built-in programs: each answers every packet with one XDP action, and counts the packet under that
//! action.
//!
//! The map has the name and the layout of the xdp-tutorial's, so that the readers of either side understand
//! the other's maps. The sections follow redbpf: `xdp/<function>`, `maps/<map>`, and `maps.ext` for the BTF
//! of a map's key and value. redbpf's `#[map]` is not used because it adds a variable in `.rodata`, and so
//! one map more to every load.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use redbpf_probes::maps::PerCpuArray;
use redbpf_probes::net::NetworkBuffer;
use redbpf_probes::xdp::prelude::xdp;
use redbpf_probes::xdp::{XdpAction, XdpContext, XdpResult};

/// XDP actions are numbered from `XDP_ABORTED` (0) to `XDP_REDIRECT` (4); the number is the key in the map.
const ACTIONS: u32 = XdpAction::Redirect as u32 + 1;

/// What one CPU counted for one action. The name ends up in the map's BTF; it is the one that the tutorial's
/// map has there.
#[repr(C)]
struct datarec {
    rx_packets: u64,
    /// From the start of the Ethernet header; of a packet in several buffers, what is in the first.
    rx_bytes: u64,
}

// SAFETY: no other symbol has this name, and the section is redbpf's for the map of this name.
#[unsafe(no_mangle)]
#[unsafe(link_section = "maps/xdp_stats_map")]
static mut xdp_stats_map: PerCpuArray<datarec> = PerCpuArray::with_max_entries(ACTIONS);

/// Only its BTF is used: the types of the members are those of the map's key and value. redbpf knows it by
/// these names.
#[repr(C)]
struct MapBtf {
    key_type: u32,
    value_type: datarec,
}

// SAFETY: no other symbol has this name, and the section is redbpf's for this purpose.
#[unsafe(no_mangle)]
#[unsafe(link_section = "maps.ext")]
static MAP_BTF_xdp_stats_map: MapBtf =
    MapBtf { key_type: 0, value_type: datarec { rx_packets: 0, rx_bytes: 0 } };

/// What the kernel is told. It takes this for GPL; the sources are MIT OR Apache-2.0.
// SAFETY: no other symbol has this name, and the section is where every loader expects the license as a C
// string.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Lets the packet go on to the network stack.
#[xdp]
fn xdp_pass_func(packet: XdpContext) -> XdpResult {
    count(&packet, XdpAction::Pass as u32);
    Ok(XdpAction::Pass)
}

/// Drops the packet.
#[xdp]
fn xdp_drop_func(packet: XdpContext) -> XdpResult {
    count(&packet, XdpAction::Drop as u32);
    Ok(XdpAction::Drop)
}

/// Drops the packet and fires the tracepoint `xdp:xdp_exception`.
#[xdp]
fn xdp_abort_func(packet: XdpContext) -> XdpResult {
    count(&packet, XdpAction::Aborted as u32);
    Ok(XdpAction::Aborted)
}

/// Sends the packet back out of the device it came in by, unchanged.
#[xdp]
fn xdp_tx_func(packet: XdpContext) -> XdpResult {
    count(&packet, XdpAction::Tx as u32);
    Ok(XdpAction::Tx)
}

#[expect(clippy::inline_always, reason = "redbpf does not relocate calls from one function to another")]
#[inline(always)]
fn count(packet: &XdpContext, action: u32) {
    let stats = &raw mut xdp_stats_map;
    // SAFETY: nothing follows the reference. It is an operand of the lookup that the loader replaces by the
    // map.
    let stats = unsafe { &mut *stats };
    // The record is this CPU's own, and an XDP program runs to its end before another one starts on the same
    // CPU.
    if let Some(record) = stats.get_mut(action) {
        record.rx_packets += 1;
        record.rx_bytes += packet.len() as u64;
    }
}

/// Never reached, as nothing here can panic: the verifier would refuse the loop.
#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {}
}
