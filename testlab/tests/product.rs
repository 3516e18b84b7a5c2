//! The lab with the programs that it is for: built when stale, run in a namespace, read while they run.

use xdpd_testlab::{Bpffs, Lab, Stats, require_root, xdp_stats, xdpd};

#[test]
#[ignore = "needs root"]
fn counts_equal_the_packets_sent() {
    require_root!();
    let lab = Lab::new("counts");
    let bpffs = Bpffs::private();
    let veth = lab.veth("eth0", "peer0");
    let text = format!("pin_root = \"{}\"\n[interfaces.eth0]\n", bpffs.pin_root().display());
    let config = lab.write("config.toml", text);
    let _ = xdpd().arg("apply").arg(&config).netns(lab.near()).run().expect_code(0);
    let reader = xdp_stats().args(["--interval", "50ms", "--config"]).arg(&config).netns(lab.near());
    let stats = Stats::spawn(reader);
    stats.wait_event("eth0", "baseline");
    let sent = lab.sender(&veth).send(1000);
    stats.wait_packets("eth0", sent);
    assert_eq!(stats.stop().status.code(), Some(0));
}
