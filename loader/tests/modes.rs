//! Promises about the modes in which programs are attached: what a device refuses, why, and what is taken instead.

mod common;

use common::strace::{Fault, strace};
use common::{Site, changes, compile};
use serde_json::{Value, json};
use xdpd_kernel::{IfIndex, Program, XdpMode, netlink};
use xdpd_testlab::{Output, require_root, xdpd};

const NO_NATIVE: &str = "Operation not supported (EOPNOTSUPP); the kernel says: Underlying driver does not support XDP in \
                         native mode";

/// A device whose driver refuses native mode, the reason with the kernel's words, and what may be the cause.
struct Refusing {
    make: &'static [&'static str],
    reason: &'static str,
    advice: &'static str,
}

const REFUSING: [Refusing; 4] = [
    Refusing {
        make: &[
            "link add eth0 mtu 9000 type veth peer name peer0 mtu 9000",
            "link set eth0 up",
            "link set peer0 up",
        ],
        reason: "Numerical result out of range (ERANGE); the kernel says: veth: Peer MTU is too large to set XDP",
        advice: "an MTU of 9000 may be too large for native XDP without frags: a smaller MTU or mode = \"generic\" may help",
    },
    Refusing {
        make: &[
            "link add eth0 numtxqueues 1 numrxqueues 1 type veth peer name peer0 numtxqueues 4 numrxqueues 4",
            "link set eth0 up",
            "link set peer0 up",
        ],
        reason: "No space left on device (ENOSPC); the kernel says: veth: XDP expects number of rx queues not less than \
                 peer tx queues",
        advice: "the queues or rings of the device may be too few for native XDP (`ethtool -l`, `ethtool -g`): \
                 mode = \"generic\" may help",
    },
    Refusing {
        make: &["tuntap add eth0 mode tun"],
        reason: NO_NATIVE,
        advice: "the driver may have no native mode, or none with the device as it is set up: mode = \"generic\" may help",
    },
    Refusing {
        make: &["link add eth0 type bridge"],
        reason: NO_NATIVE,
        advice: "the driver may have no native mode, or none with the device as it is set up: mode = \"generic\" may help",
    },
];

fn site(name: &str, make: &[&str]) -> Site {
    let site = Site::new(name);
    for command in make {
        site.lab.near().ip(command);
    }
    site
}

fn ifindex(site: &Site, device: &str) -> u32 {
    site.lab.near().ifindex(device).expect("a device")
}

/// The mode in which a label is attached, by `status`.
fn mode(site: &Site) -> Value {
    site.run("status config.toml --json").run().json()["interfaces"][0]["mode"].take()
}

#[test]
#[ignore = "needs root"]
fn a_refused_mode_is_an_error_with_the_kernels_words_and_what_may_help() {
    require_root!();
    for Refusing { make, reason, advice } in REFUSING {
        let site = site("refused", make);
        site.one("eth0", "xdp_drop_func", "mode = \"native\"");
        let refused = site.expect("apply", 2);
        let expected = format!(
            "xdpd: eth0: cannot attach: BPF_LINK_CREATE of interface {} (native): {reason}; {advice}; nothing was changed",
            ifindex(&site, "eth0")
        );
        assert_eq!(refused.stderr.trim_end(), expected);
        assert_eq!(site.bpffs.tree(), Vec::<String>::new());
        assert_eq!(site.running("eth0"), None, "nothing of asking for words stays");
    }
}

#[test]
#[ignore = "needs root"]
fn a_list_goes_on_after_each_kind_of_refusal_and_says_so() {
    require_root!();
    for Refusing { make, reason, .. } in REFUSING {
        let site = site("fallback", make);
        site.one("eth0", "xdp_drop_func", "mode = [\"native\", \"generic\"]");
        let planned = site.run("diff config.toml --json").run().expect_code(1).json();
        let applied = site.run("apply config.toml --json").run().expect_code(0);
        let (applied, refusal) = (applied.json(), json!([{ "mode": "native", "reason": reason }]));
        assert_eq!(mode(&site), "generic", "{reason}");
        assert_eq!(changes(&applied), changes(&planned));
        let link = |plan: &Value| {
            let mut changes = plan["changes"].as_array().unwrap().iter();
            changes.find(|change| change["address"] == "eth0.link").unwrap()["after"].clone()
        };
        let mut expected = link(&planned);
        assert_eq!(expected["modes"], json!(["native", "generic"]));
        expected["modes"] = json!(["generic"]);
        expected["refused"] = refusal;
        assert_eq!(link(&applied), expected);
        // Any mode of the list satisfies the file.
        site.expect("diff", 0);

        site.expect("detach", 0);
        let applied = site.apply();
        let expected = format!("xdpd: applied; eth0 attached in generic mode (native refused: {reason})");
        assert_eq!(applied.stderr.trim_end(), expected);
    }
}

#[test]
#[ignore = "needs root"]
fn the_first_mode_of_a_list_that_is_taken_is_told_too() {
    require_root!();
    let site = site("first", &["tuntap add eth0 mode tap"]);
    site.one("eth0", "xdp_drop_func", "mode = [\"native\", \"generic\"]");
    assert_eq!(site.apply().stderr.trim_end(), "xdpd: applied; eth0 attached in native mode");
    assert_eq!(mode(&site), "native");
    // No list, no choice.
    site.one("eth0", "xdp_drop_func", "mode = \"generic\"");
    let applied = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(changes(&applied)[0], ("eth0.mode".to_owned(), "update".to_owned()));
    assert_eq!(applied["changes"][0]["after"], json!({ "mode": "generic" }));
    // A change of mode is an attach: the list is tried, and the change tells its result.
    site.one("eth0", "xdp_drop_func", "mode = [\"offload\", \"native\"]");
    let applied = site.run("apply config.toml --json").run().expect_code(0).json();
    assert_eq!(applied["changes"][0]["after"], json!({ "mode": "native" }));
    assert_eq!(mode(&site), "native");
}

#[test]
#[ignore = "needs root"]
fn where_all_modes_of_a_list_are_refused_each_is_told_with_its_reason() {
    require_root!();
    let site = site("all", REFUSING[0].make);
    site.one("eth0", "xdp_drop_func", "mode = [\"offload\", \"native\"]");
    let refused = site.expect("apply", 2);
    let expected = format!(
        "xdpd: eth0: cannot attach: no mode of the list is accepted; offload: Invalid argument (EINVAL); native: {}; the \
         network card may not run programs itself; {}; nothing was changed",
        REFUSING[0].reason, REFUSING[0].advice
    );
    assert_eq!(refused.stderr.trim_end(), expected);
}

/// A program with frags runs natively at a large MTU; one without is to take its place.
fn replacement(modes: &str) -> Site {
    let site = site("replacement", REFUSING[0].make);
    site.config(&format!(
        "[programs.p]\nobject = \"own.o\"\n[interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\nmode = {modes}\n"
    ));
    compile(&site, "frags");
    site.apply();
    assert_eq!(mode(&site), "native");
    compile(&site, "counter");
    site
}

#[test]
#[ignore = "needs root"]
fn a_replacement_does_not_fall_back_and_names_the_mode_that_may_do() {
    require_root!();
    for modes in ["\"native\"", "[\"native\", \"generic\"]"] {
        let site = replacement(modes);
        let before = (site.running("eth0"), site.link("eth0").info().unwrap());
        let refused = site.expect("apply", 2);
        let said = refused.stderr.lines().last().unwrap();
        assert!(said.starts_with("xdpd: eth0: cannot replace the program: BPF_LINK_UPDATE of "), "{said}");
        let expected = "xdp-link: Numerical result out of range (ERANGE); an MTU of 9000 may be too large for native XDP \
                        without frags: a smaller MTU, SEC(\"xdp.frags\") or mode = \"generic\" may help, for a replacement \
                        does not fall back to another mode; nothing was changed";
        assert!(said.ends_with(expected), "{said}");
        assert_eq!((site.running("eth0"), site.link("eth0").info().unwrap()), before);
        // What is named does help.
        let config = std::fs::read_to_string(site.lab.dir().join("config.toml")).unwrap();
        site.lab.write("config.toml", config.replace(modes, "\"generic\""));
        site.apply();
        assert_eq!(mode(&site), "generic");
        site.expect("diff", 0);
    }
}

/// Applies in the namespace of the device, where one thread makes all calls, with faults; gives the calls, too.
fn run(site: &Site, faults: &[Fault<'_>]) -> (Output, String) {
    let log = site.lab.dir().join("strace.log");
    let strace = strace(&log, faults).netns(site.lab.near()).current_dir(site.lab.dir());
    let output = strace.arg(xdpd().path()).args(["apply", "config.toml", "--json"]).run();
    (output, std::fs::read_to_string(log).expect("the log of strace"))
}

/// The number of the first call with this text among all calls of bpf(2) that an apply makes.
fn number(log: &str, command: &str) -> usize {
    let mut calls = log.lines().filter(|line| line.starts_with("bpf("));
    1 + calls.position(|line| line.contains(command)).expect(command)
}

const ERRORS: [&str; 11] =
    ["EIO", "EACCES", "EPERM", "EINVAL", "ENOENT", "ENOSPC", "ENOMEM", "EAGAIN", "EBUSY", "EEXIST", "ENODEV"];

#[test]
#[ignore = "needs root"]
fn an_error_that_no_driver_gave_is_no_reason_for_another_mode_nor_for_a_vanished_device() {
    require_root!();
    let site = site("injected", &["link add eth0 type veth peer name peer0", "link set eth0 up"]);
    let modes = "mode = [\"native\", \"generic\"]\noptional = true";
    site.config(&format!("[interfaces.eth0]\n{modes}\n"));
    let (output, log) = run(&site, &[]);
    output.expect_code(0);
    let create = number(&log, "BPF_LINK_CREATE");
    for error in ERRORS {
        site.expect("detach", 0);
        let (output, log) = run(&site, &[("bpf", &format!("error={error}"), create)]);
        assert!(log.contains("(INJECTED)"), "{log}");
        let json = output.json();
        if output.code() == Some(0) {
            // It was asked again.
            assert_eq!(json["outcome"], "applied", "{error}");
            assert_eq!(mode(&site), "native", "{error}");
            continue;
        }
        let said = output.expect_code(2).stderr;
        assert!(said.contains(&format!("({error})")), "{said}");
        for wrong in ["another", "someone", "gone", "detach", "generic"] {
            assert!(!said.contains(wrong), "{error}: {said}");
        }
        assert_eq!(site.bpffs.tree(), Vec::<String>::new(), "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn an_error_of_a_replacement_is_nobody_elses_program_nor_a_vanished_device() {
    require_root!();
    let site = site("updates", &["link add eth0 type veth peer name peer0", "link set eth0 up"]);
    let file = |function: &str| {
        site.config(&format!(
            "[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n[interfaces.eth0]\nprogram = \"p\"\n\
             optional = true\n"
        ));
    };
    // All in the namespace of the device, whose name the machine's own may have.
    let xdpd = |command: &str| {
        let output = site.run(&format!("{command} config.toml")).netns(site.lab.near()).run();
        output.expect_code(0);
    };
    let reset = || {
        file("xdp_pass_func");
        xdpd("detach");
        xdpd("apply");
        file("xdp_drop_func");
    };
    reset();
    let (output, log) = run(&site, &[]);
    output.expect_code(0);
    let update = number(&log, "BPF_LINK_UPDATE");
    for error in ERRORS.into_iter().chain(["ENOLINK"]) {
        reset();
        let before = site.running("eth0");
        let (output, log) = run(&site, &[("bpf", &format!("error={error}"), update)]);
        assert!(log.contains("(INJECTED)"), "{log}");
        if output.code() == Some(0) {
            assert_ne!(site.running("eth0"), before, "{error}");
            xdpd("diff");
            continue;
        }
        let said = output.expect_code(2).stderr;
        assert!(said.contains(&format!("({error})")), "{said}");
        for wrong in ["another", "someone", "gone", "detach", "generic"] {
            assert!(!said.contains(wrong), "{error}: {said}");
        }
        assert_eq!(site.running("eth0"), before, "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_device_above_that_runs_a_program_is_named() {
    require_root!();
    let site = site(
        "above",
        &["link add br0 type bridge", "link add eth0 type veth peer name peer0", "link set eth0 master br0"],
    );
    let theirs = Program::load_xdp_returning("theirs", 2).unwrap();
    let above = IfIndex(ifindex(&site, "br0"));
    site.lab.near().run(|| netlink::attach_netlink(above, &theirs, XdpMode::Generic, None)).unwrap();
    site.one("eth0", "xdp_drop_func", "mode = [\"native\", \"generic\"]");
    let refused = site.expect("apply", 2);
    let expected = format!(
        "xdpd: eth0: cannot attach: BPF_LINK_CREATE of interface {} (native): File exists (EEXIST); br0, which lies above \
         this device, runs a program: the kernel attaches from below to above and detaches from above to below; nothing \
         was changed",
        ifindex(&site, "eth0")
    );
    assert_eq!(refused.stderr.trim_end(), expected);
}
