//! Promises about objects that follow libbpf's conventions: C programs of tests/programs, compiled here.

mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use common::{DROP, PASS, Site, changes, compile, flat};
use xdpd::object::Object;
use xdpd_kernel::{Access, Program, ProgramId};
use xdpd_testlab::{KernelObjects, require_root};

fn config(function: Option<&str>, extra: &str) -> String {
    let function = function.map_or_else(String::new, |f| format!("function = \"{f}\"\n"));
    format!(
        "[programs.p]\nobject = \"own.o\"\n{function}{extra}\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
    )
}

#[test]
#[ignore = "needs root"]
fn a_program_with_frags_runs_natively_where_the_mtu_is_large_and_others_do_not() {
    require_root!();
    let site = Site::new("frags");
    let veth = site.lab.veth("eth0", "peer0");
    site.lab.set_mtu(&veth, 9000);
    compile(&site, "counter");
    site.config(&config(None, ""));
    let refused = site.expect("apply", 2);
    assert!(
        refused.stderr.contains("an MTU of 9000 may be too large for native XDP without frags"),
        "{}",
        refused.stderr
    );
    compile(&site, "frags");
    site.apply();
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert_eq!(status["interfaces"][0]["mode"], "native");
    let sender = site.lab.sender(&veth).size(8000);
    assert_eq!(sender.send(3), 3);
    xdpd_testlab::wait_until("large frames to be counted", xdpd_testlab::DEADLINE, || {
        site.packets("eth0", DROP) == 3
    });
}

/// A program of either dialect replaces one of the other in place, and continues its map.
#[test]
#[ignore = "needs root"]
fn programs_of_both_dialects_replace_each_other_without_a_gap() {
    require_root!();
    let site = Site::new("dialects");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "counter");
    let libbpf = config(None, "");
    let redbpf = "[programs.p]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
                  [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n";
    site.config(redbpf);
    site.apply();
    let (link, map) = (site.link("eth0").info().unwrap().id, site.map("eth0", "xdp_stats_map").id());
    let traffic = site.lab.sender(&veth).background(20_000);
    for text in [&*libbpf, redbpf, &libbpf] {
        site.config(text);
        let diff = site.run("diff config.toml --json").run().expect_code(1).json();
        assert_eq!(changes(&diff), [("eth0.program".to_owned(), "update".to_owned())]);
        site.apply();
        assert_eq!(site.link("eth0").info().unwrap().id, link);
        assert_eq!(site.map("eth0", "xdp_stats_map").id(), map);
        site.expect("diff", 0);
    }
    let sent = traffic.stop();
    xdpd_testlab::wait_until("every frame to be counted", xdpd_testlab::DEADLINE, || {
        site.packets("eth0", DROP) == sent
    });
}

/// Other loaders declare `BPF_XDP`, and a program array is for programs that declare the same.
#[test]
#[ignore = "needs root"]
fn a_program_array_takes_the_programs_of_others() {
    require_root!();
    let site = Site::new("tail");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "tail_calls");
    site.config(&config(None, ""));
    site.apply();
    site.send(&veth, "eth0", DROP, 2);
    let next = site.dir("eth0").open_map("next", Access::ReadWrite).unwrap();
    let theirs = Program::load_xdp_returning("theirs", 1).unwrap();
    next.update(&0u32.to_ne_bytes(), &theirs.as_fd().as_raw_fd().to_ne_bytes(), 0).unwrap();
    assert_eq!(site.lab.sender(&veth).send(5), 5);
    assert_eq!(site.packets("eth0", DROP), 2, "theirs drops without counting");
}

/// What docs/objects.md says of it.
#[test]
#[ignore = "needs root"]
fn a_program_array_is_for_programs_with_frags_or_without() {
    require_root!();
    let site = Site::new("array");
    site.lab.veth("eth0", "peer0");
    compile(&site, "tail_calls");
    site.config(&config(None, ""));
    site.apply();
    let running = site.running("eth0");
    common::compile_with(&site.lab.dir().join("own.o"), "tail_calls", &["-DPROGRAM=\"xdp.frags\""]);
    let refused = site.expect("apply", 2);
    assert!(refused.stderr.contains("EINVAL"), "{}", refused.stderr);
    assert_eq!(site.running("eth0"), running);
    site.config(&config(None, "[programs.p.maps.next]\nreuse = \"never\""));
    site.apply();
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_program_with_tail_calls_replaces_others_with_a_gap_that_the_plan_announces() {
    require_root!();
    let site = Site::new("gap");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "counter");
    site.config(&config(None, ""));
    site.apply();
    site.send(&veth, "eth0", DROP, 4);
    for program in ["tail_calls", "counter"] {
        compile(&site, program);
        let diff = site.expect("diff", 1);
        assert!(flat(&diff.stdout).contains("detach and attach, a short gap"), "{}", diff.stdout);
        let link = site.link("eth0").info().unwrap().id;
        site.apply();
        assert_ne!(site.link("eth0").info().unwrap().id, link);
        site.send(&veth, "eth0", DROP, 3);
        site.expect("diff", 0);
    }
    assert_eq!(site.packets("eth0", DROP), 10, "the map went along");

    // Back again, and the new program cannot be attached any more: the old one is, as it was.
    compile(&site, "tail_calls");
    let running = site.running("eth0").unwrap();
    site.config(&format!("{}[interfaces.eth1]\nnetns = \"$NETNS\"\n", config(None, "")));
    let other = site.lab.veth("eth1", "peer1");
    site.lab.set_mtu(&other, 9000);
    let failed = site.run("apply config.toml").run().expect_code(3);
    assert!(failed.stderr.contains("restored"), "{}", failed.stderr);
    assert_eq!(site.running("eth0"), Some(running));
    site.send(&veth, "eth0", DROP, 3);
}

#[test]
#[ignore = "needs root"]
fn global_variables_are_pinned_and_follow_the_policy() {
    require_root!();
    let site = Site::new("globals");
    let veth = site.lab.veth("eth0", "peer0");
    let number = |pin: &str| {
        let mut value = [0; 8];
        assert!(site.map("eth0", pin).lookup(&0u32.to_ne_bytes(), &mut value).unwrap());
        u64::from_ne_bytes(value)
    };
    compile(&site, "globals");
    site.config(&config(None, ""));
    site.apply();
    assert_eq!((number("%2Edata"), number("%2Ebss")), (3, 0));
    site.send(&veth, "eth0", PASS, 3);
    site.send(&veth, "eth0", DROP, 2);
    assert_eq!((number("%2Edata"), number("%2Ebss")), (3, 5));

    // Another program, the same variables: they go on.
    let bss = site.map("eth0", "%2Ebss").id();
    let object = std::fs::read(site.lab.dir().join("own.o")).unwrap();
    site.lab.write("own.o", [&*object, b"another digest"].concat());
    site.apply();
    assert_eq!((site.map("eth0", "%2Ebss").id(), number("%2Ebss")), (bss, 5));
    site.send(&veth, "eth0", DROP, 1);

    // Other variables at the same places: their content would be taken for something else.
    compile(&site, "globals_moved");
    let diff = site.expect("diff", 1);
    let text = flat(&diff.stdout);
    assert!(text.contains("value field `budget` is gone, value field `limit` is new"), "{text}");
    site.apply();
    assert_eq!((site.map("eth0", "%2Ebss").id(), number("%2Ebss")), (bss, 6), "its variables are the same");

    compile(&site, "globals");
    site.config(&config(None, "[programs.p.maps.\".bss\"]\nreuse = \"never\""));
    site.apply();
    assert_eq!(number("%2Ebss"), 0);
    site.send(&veth, "eth0", PASS, 1);
}

#[test]
#[ignore = "needs root"]
fn constants_are_frozen_and_not_pinned() {
    require_root!();
    let site = Site::new("constants");
    site.lab.veth("eth0", "peer0");
    compile(&site, "constants");
    site.config(&config(None, ""));
    site.apply();
    assert!(!site.bpffs.tree().iter().any(|pin| pin.contains("rodata")), "{:?}", site.bpffs.tree());
    let program = Program::open_by_id(ProgramId(site.running("eth0").unwrap())).unwrap();
    let maps = program.info().unwrap().map_ids;
    let constants = maps.iter().map(|id| xdpd_kernel::Map::open_by_id(*id).unwrap());
    let constants: Vec<_> = constants.filter(|map| map.info().name == ".rodata").collect();
    let [constants] = &*constants else { panic!("one map of constants") };
    let error = constants.update(&0u32.to_ne_bytes(), &[0; 8], 0).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EPERM));
}

#[test]
#[ignore = "needs root"]
fn maps_are_made_as_the_object_defines_them_and_live_on() {
    require_root!();
    let site = Site::new("defs");
    let veth = site.lab.veth("eth0", "peer0");
    compile(&site, "maps");
    site.config(&config(None, ""));
    site.apply();
    let pages = u32::try_from(rustix::param::page_size()).unwrap();
    let ringbuf = site.map("eth0", "events").def().max_entries;
    assert!(ringbuf >= 5000 && ringbuf.is_multiple_of(pages) && ringbuf.is_power_of_two(), "{ringbuf}");
    let cpus = xdpd_kernel::cpu::possible().unwrap();
    assert_eq!(site.map("eth0", "samples").def().max_entries as usize, cpus);
    assert_eq!(site.map("eth0", "bloom").def().map_extra, 3);
    site.send(&veth, "eth0", DROP, 1);
    let ids = |site: &Site| {
        ["hash", "lru", "lpm", "devices", "cpus", "sockets", "events", "samples", "queue", "bloom"]
            .map(|name| site.map("eth0", name).id())
    };
    let before = ids(&site);
    let object = std::fs::read(site.lab.dir().join("own.o")).unwrap();
    site.lab.write("own.o", [&*object, b"another digest"].concat());
    // Whatever sysfs says of the CPUs, by which some are as large as they are.
    for text in ["0-6", "none"] {
        let diff = site.run("diff config.toml --json").cpus_by_sysfs(text).run().expect_code(1).json();
        assert_eq!(changes(&diff), [("eth0.program".to_owned(), "update".to_owned())]);
    }
    site.run("apply config.toml").cpus_by_sysfs("0-6").run().expect_code(0);
    assert_eq!(ids(&site), before, "what the kernel makes of a definition is no difference");
    site.expect("check", 0);
    let mut value = [0; 8];
    assert!(site.map("eth0", "hash").lookup(&1u32.to_ne_bytes(), &mut value).unwrap());
    assert_eq!(u64::from_ne_bytes(value), 2);
}

#[test]
#[ignore = "needs root"]
fn a_load_that_fails_leaves_nothing_in_the_kernel() {
    require_root!();
    let site = Site::alone("residue");
    site.lab.veth("eth0", "peer0");
    compile(&site, "counter");
    site.config(&config(None, ""));
    site.apply();
    let objects = KernelObjects::settled();
    for program in ["rejected", "no_license"] {
        compile(&site, program);
        site.expect("apply", 2);
    }
    objects.wait_until_equal();
}

/// Without BTF there is no `.maps`; programs without maps load all the same.
#[test]
#[ignore = "needs root"]
fn an_object_without_btf_loads_where_nothing_needs_it() {
    require_root!();
    let site = Site::new("nobtf");
    site.lab.veth("eth0", "peer0");
    site.config(&config(None, ""));
    common::compile_with(&site.lab.dir().join("own.o"), "counter", &["-g0"]);
    let refused = site.expect("check", 2);
    assert!(
        flat(&refused.stderr).contains("no BTF, which describes the maps in `.maps`"),
        "{}",
        refused.stderr
    );
    common::compile_with(&site.lab.dir().join("own.o"), "no_maps", &["-g0"]);
    let check = site.expect("check", 0);
    assert!(check.stdout.contains(": libbpf, no BTF"), "{}", check.stdout);
    site.apply();
    assert!(site.running("eth0").is_some());
}

#[test]
fn a_program_uses_the_maps_of_the_functions_that_it_calls() {
    let dir = tempfile::tempdir().unwrap();
    let inspect = |name: &str| {
        let object = common::compile_to(&dir.path().join("own.o"), name);
        Object::inspect(std::fs::read(object).unwrap()).unwrap()
    };
    let calls = inspect("calls");
    let [program] = calls.programs() else { panic!("{:?}", calls.programs()) };
    assert_eq!(program.name, "xdp_calls");
    assert!(program.maps.iter().eq(["xdp_stats_map"]), "{program:?}");
    let globals = inspect("globals");
    assert!(globals.programs()[0].maps.iter().eq([".bss", ".data", "xdp_stats_map"]), "{globals:?}");
    assert_eq!((globals.data(".data"), globals.data(".bss")), (Some(&3u64.to_ne_bytes()[..]), None));
    let two = inspect("two_functions");
    assert!(two.programs().iter().all(|p| p.section == "xdp" && !p.frags));
    assert!(inspect("frags").programs()[0].frags);
}

#[test]
fn only_code_that_can_be_loaded_decides_whether_the_kernels_types_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let needs = |name: &str| {
        let object = common::compile_to(&dir.path().join("own.o"), name);
        Object::inspect(std::fs::read(object).unwrap()).unwrap().programs()[0].needs_kernel_types
    };
    assert!(needs("core"));
    assert!(!needs("other_hooks"), "a classifier refers to them");
    assert!(!needs("counter"));
}

/// Compiled as its first lines say, run as its file says.
#[test]
#[ignore = "needs root"]
fn the_example_lets_in_what_is_on_its_list() {
    require_root!();
    let site = Site::new("example");
    let veth = site.lab.veth("eth0", "peer0");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs");
    common::compile_file(&site.lab.dir().join("allow.o"), &examples.join("allow.c"), &[]);
    let text = std::fs::read_to_string(examples.join("allow.toml")).unwrap();
    let text = text.replace("[interfaces.eth0]", "[interfaces.eth0]\nnetns = \"$NETNS\"");
    site.config(&text);
    site.apply();
    site.send(&veth, "eth0", PASS, 3); // no IP
    let program = Program::open_by_id(ProgramId(site.running("eth0").unwrap())).unwrap();
    let verdict_on = |source: [u8; 4]| {
        let mut frame = [0; 64];
        frame[12] = 8; // IPv4
        frame[26..30].copy_from_slice(&source);
        program.test_run(&frame, 1).unwrap().return_value
    };
    assert_eq!((verdict_on([192, 0, 2, 7]), verdict_on([198, 51, 100, 7])), (PASS, PASS));
    assert_eq!((verdict_on([192, 0, 3, 7]), verdict_on([198, 51, 100, 8])), (DROP, DROP));
    site.config(&text.replace("192.0.2.0/24", "192.0.3.0/24"));
    site.apply();
    assert_eq!((verdict_on([192, 0, 2, 7]), verdict_on([192, 0, 3, 7])), (DROP, PASS), "the same program");
    site.expect("diff", 0);
}
