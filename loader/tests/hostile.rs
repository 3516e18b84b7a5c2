//! What others do meanwhile: foreign programs, pins and locks, kills, failures in the middle.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{DROP, PASS, Site, flat};
use xdpd_kernel::{Dir, Program, XdpLink, XdpMode, netlink};
use xdpd_testlab::{DEADLINE, require_root, wait_for, wait_until, xdpd};

#[test]
#[ignore = "needs root"]
fn someone_elses_program_is_named_and_left_alone() {
    require_root!();
    let site = Site::new("foreign");
    let veth = site.lab.veth("eth0", "peer0");
    let ifindex = xdpd_kernel::IfIndex(site.lab.near().ifindex("eth0").unwrap());
    let program = Program::load_xdp_returning("their_filter", 2).unwrap();
    let id = program.info().unwrap().id;
    site.one("eth0", "xdp_drop_func", "");

    let attach = || netlink::attach_netlink(ifindex, &program, XdpMode::Native, None);
    site.lab.near().run(attach).unwrap();
    let refused = site.expect("apply", 2);
    assert!(
        flat(&refused.stdout).contains("their_filter") && flat(&refused.stdout).contains("netlink"),
        "{}",
        refused.stdout
    );
    assert_eq!(site.running("eth0"), Some(id.0));
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
    let status = site.expect("status", 0);
    assert!(status.stdout.contains("their_filter"), "{}", status.stdout);
    site.lab.near().run(|| netlink::detach_netlink(ifindex, XdpMode::Native, &program)).unwrap();

    let link = site.lab.near().run(|| XdpLink::create(&program, ifindex, XdpMode::Generic)).unwrap();
    let refused = site.expect("apply", 2);
    let expected = format!("bpf_link {}", link.info().unwrap().id);
    assert!(
        flat(&refused.stdout).contains("their_filter") && flat(&refused.stdout).contains(&expected),
        "{}",
        refused.stdout
    );
    let json = site.run("apply config.toml --json").run().expect_code(2).json();
    assert_eq!((&json["outcome"], &json["summary"]["blocked"]), (&"refused".into(), &1.into()));
    assert_eq!(site.running("eth0"), Some(id.0));
    drop(link);
    wait_until("the foreign link to be gone", DEADLINE, || site.running("eth0").is_none());
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
}

#[test]
#[ignore = "needs root"]
fn a_program_that_others_put_into_our_link_is_drift_and_is_replaced() {
    require_root!();
    let site = Site::new("drift");
    let veth = site.lab.veth("eth0", "peer0");
    site.lab.veth("eth1", "peer1");
    site.one("eth0", "xdp_drop_func", "[interfaces.eth1]\nnetns = \"$NETNS\"");
    site.apply();
    // A program of the same engine: the kernel replaces none by one of another expected_attach_type.
    let running =
        |device| Program::open_by_id(xdpd_kernel::ProgramId(site.running(device).unwrap())).unwrap();
    site.link("eth0").update(&running("eth1"), &running("eth0")).unwrap();
    let diff = site.run("diff config.toml --json").run().expect_code(1).json();
    assert!(diff["drift"][0]["what"].as_str().unwrap().contains("runs, not"), "{diff}");
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn foreign_pins_are_reported_and_never_touched() {
    require_root!();
    let site = Site::new("pins");
    let veth = site.lab.veth("eth0", "peer0");
    std::fs::create_dir(site.root()).unwrap();
    let root = Dir::open(site.root()).unwrap();
    let program = Program::load_xdp_returning("theirs", 2).unwrap();
    root.pin("their_pin", &program).unwrap();
    root.mkdir("their_dir", 0o700).unwrap();
    // Their directory under the name of our interface.
    root.mkdir("eth0", 0o700).unwrap();
    site.one("eth0", "xdp_drop_func", "");
    let refused = site.expect("apply", 2);
    assert!(flat(&refused.stdout).contains("a directory without our record"), "{}", refused.stdout);
    root.rmdir("eth0").unwrap();
    site.apply();
    let status = site.expect("status", 0);
    assert!(status.stdout.contains("their_pin") && status.stdout.contains("their_dir"), "{}", status.stdout);

    // What others pin beside our maps is carried along.
    site.dir("eth0").pin("their_map_or_so", &program).unwrap();
    site.one("eth0", "xdp_pass_func", "");
    site.apply();
    assert!(site.dir("eth0").open_program("their_map_or_so").is_ok());
    // A program where a map is expected is named as one.
    std::fs::remove_file(site.root().join("eth0/xdp_stats_map")).unwrap();
    site.dir("eth0").pin("xdp_stats_map", &program).unwrap();
    site.one("eth0", "xdp_drop_func", "");
    let refused = site.expect("apply", 2);
    assert!(
        flat(&refused.stdout).contains("xdp_stats_map") && flat(&refused.stdout).contains("is a program"),
        "{}",
        refused.stdout
    );
    std::fs::remove_file(site.root().join("eth0/xdp_stats_map")).unwrap();
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    // A map of theirs beside ours is no map of the program, and a directory cannot be carried over by a link.
    let theirs = xdpd_kernel::Map::create("theirs", site.map("eth0", "xdp_stats_map").def(), None).unwrap();
    site.dir("eth0").pin("their_map", &theirs).unwrap();
    site.expect("diff", 0);
    site.dir("eth0").mkdir("their_nested_dir", 0o700).unwrap();
    site.expect("detach", 0);
    assert_eq!(site.running("eth0"), None);
    let left = [
        "",
        "eth0/",
        "eth0/their_map",
        "eth0/their_map_or_so",
        "eth0/their_nested_dir/",
        "their_dir/",
        "their_pin",
    ];
    assert_eq!(site.bpffs.tree(), left.map(|name| format!("xdpd/{name}")));
}

#[test]
#[ignore = "needs root"]
fn a_failure_in_the_middle_of_the_commit_restores_what_was() {
    require_root!();
    let site = Site::new("restore");
    let veths = site.lab.veths("v", 2);
    let file = |function: &str, second: &str| {
        site.config(&format!(
            "reuse = \"never\"\n[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n\
             [interfaces.v0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n{second}"
        ))
    };
    file("xdp_drop_func", "");
    site.apply();
    site.send(&veths[0], "v0", DROP, 10);
    let (program, map, link) =
        (site.running("v0"), site.map("v0", "xdp_stats_map").id(), site.link("v0").info().unwrap());
    // v0 would be updated first; then v1 cannot be attached, since its MTU is too large.
    site.lab.set_mtu(&veths[1], 9000);
    file("xdp_pass_func", "[interfaces.v1]\nnetns = \"$NETNS\"\nprogram = \"p\"\n");
    let failed = site.run("apply config.toml --json").run().expect_code(3);
    assert!(failed.stderr.contains("v1") && failed.stderr.contains("restored"), "{}", failed.stderr);
    assert_eq!(failed.json()["outcome"], "restored");
    assert_eq!(site.running("v0"), program);
    assert_eq!(site.map("v0", "xdp_stats_map").id(), map);
    assert_eq!(site.link("v0").info().unwrap(), link);
    assert_eq!(site.running("v1"), None);
    assert!(
        !site.bpffs.tree().iter().any(|e| e.contains("%next") || e.contains("%old")),
        "{:?}",
        site.bpffs.tree()
    );
    site.send(&veths[0], "v0", DROP, 10);
    assert_eq!(site.packets("v0", DROP), 20);
    // The next apply of a sound file starts from there.
    site.lab.set_mtu(&veths[1], 1500);
    site.apply();
    site.expect("diff", 0);
    site.send(&veths[1], "v1", PASS, 3);
}

/// Waits without giving up the CPU, for what is there for some milliseconds only.
fn spin_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::hint::spin_loop();
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_killed_apply_left_is_settled_by_the_next_one() {
    require_root!();
    let site = Site::new("killed");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "reuse = \"never\"");
    site.apply();
    // Killed at ever later moments from when its stage is there; the last ones may have ended by then.
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..40_u32 {
        let function = ["xdp_pass_func", "xdp_drop_func"][(round % 2) as usize];
        site.one("eth0", function, "reuse = \"never\"");
        let mut child = site.run("apply config.toml").spawn();
        let stage = site.root().join("%next-eth0");
        spin_until(|| stage.exists() || child.try_wait().unwrap().is_some());
        let deadline = Instant::now() + Duration::from_micros(u64::from(round) * 1500);
        spin_until(|| Instant::now() >= deadline || child.try_wait().unwrap().is_some());
        let _ = child.kill();
        let status = child.wait().unwrap();
        seen.insert((status.signal(), site.bpffs.tree().iter().any(|e| e.contains("%next"))));
        assert!(site.running("eth0").is_some(), "never without a program");
        site.apply();
        assert!(!site.bpffs.tree().iter().any(|e| e.contains("%next") || e.contains("%old")));
        site.expect("diff", 0);
    }
    assert!(seen.contains(&(Some(9), true)), "some of them were killed with a stage made: {seen:?}");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

/// Waits until an apply has come to take the lock: it handles signals from then on, and has the pin root open. It does
/// not hold the lock, so nothing else of it can be seen; that it still waits is what can be asked.
fn wait_for_its_try(site: &Site, apply: &std::process::Child) {
    let proc = Path::new("/proc").join(apply.id().to_string());
    let handles_signals = || {
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (libc::SIGINT - 1) & 1 == 1
    };
    wait_until("the apply to try the lock", DEADLINE, || {
        let mut fds = std::fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
        handles_signals() && fds.any(|fd| fd.path().read_link().is_ok_and(|to| to == site.root()))
    });
}

#[test]
#[ignore = "needs root"]
fn the_holder_of_the_lock_is_named_and_can_be_waited_for() {
    require_root!();
    let site = Site::new("lock");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    std::fs::create_dir(site.root()).unwrap();
    let root = Dir::open(site.root()).unwrap();
    root.mkdir("%lock", 0o700).unwrap();
    let lock = root.try_lock("%lock").unwrap().taken().expect("the lock");
    let busy = site.expect("apply", 2);
    assert!(busy.stderr.contains(&format!("pid {}", std::process::id())), "{}", busy.stderr);
    assert!(busy.stderr.contains("or give --lock-timeout"), "{}", busy.stderr);
    let waited = site.run("apply config.toml --lock-timeout 50ms").run().expect_code(2);
    assert!(waited.stderr.contains("gave up after 50ms"), "who has given one is not told to: {waited}");
    let mut waiting = site.run("apply config.toml --lock-timeout 10m").spawn();
    wait_for_its_try(&site, &waiting);
    assert!(waiting.try_wait().unwrap().is_none());
    drop(lock);
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert!(site.running("eth0").is_some());
}

#[test]
#[ignore = "needs root"]
fn under_nohup_an_apply_outlives_its_terminal() {
    require_root!();
    let site = Site::new("nohup");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    std::fs::create_dir(site.root()).unwrap();
    let root = Dir::open(site.root()).unwrap();
    root.mkdir("%lock", 0o700).unwrap();
    // The test itself may run under nohup.
    for (how, code) in [("env --default-signal=HUP nohup", 0), ("env --default-signal=HUP", 2)] {
        let lock = root.try_lock("%lock").unwrap().taken().expect("the lock");
        let mut words = how.split(' ');
        let apply = xdpd_testlab::Invocation::of(words.next().unwrap()).args(words).arg(xdpd().path());
        let apply = apply.args(["apply", "config.toml", "--lock-timeout", "10m"]);
        let mut apply = apply.current_dir(site.lab.dir()).spawn();
        wait_for_its_try(&site, &apply);
        let pid = rustix::process::Pid::from_child(&apply);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        drop(lock);
        assert_eq!(apply.wait().unwrap().code(), Some(code), "{how}");
        site.expect("detach", 0);
        root.mkdir("%lock", 0o700).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn the_lock_of_a_killed_run_is_waited_for_while_its_child_still_has_it() {
    require_root!();
    let site = Site::new("orphan");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    std::fs::create_dir(site.root()).unwrap();
    let root = Dir::open(site.root()).unwrap();
    root.mkdir("%lock", 0o700).unwrap();
    // As a run that is killed between the fork and the exec of a process: the lock is the child's, too.
    let lock = site.root().join("%lock");
    let mut holder = xdpd_testlab::Invocation::of("flock").arg(&lock).args(["sleep", "3600"]).spawn();
    let child = wait_for("the child of the holder", DEADLINE, || {
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        std::fs::read_to_string(children).ok()?.trim().parse().ok()
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(
        root.try_lock("%lock").unwrap().taken().is_none() && root.lock_holders("%lock").unwrap().is_empty()
    );

    let mut apply = site.run("apply config.toml").spawn();
    wait_for_its_try(&site, &apply);
    assert!(apply.try_wait().unwrap().is_none(), "it waits");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(apply.wait().unwrap().code(), Some(0));
}

/// The directories below this one, and what is in them, as far as it does not go away while they are counted.
fn entries(dir: &Path) -> usize {
    let found = std::fs::read_dir(dir).into_iter().flatten().flatten();
    found.map(|entry| 1 + entries(&entry.path())).sum()
}

#[test]
#[ignore = "needs root"]
fn an_interrupt_leaves_no_half_of_anything() {
    require_root!();
    let site = Site::new("interrupt");
    let veths = site.lab.veths("v", 8);
    site.config("[interfaces.\"v*\"]\nnetns = \"$NETNS\"\n");
    let mut codes = std::collections::BTreeSet::new();
    // From before it has begun, through all that it makes, until it has ended.
    for made in (0..).step_by(4) {
        let mut child = site.run("apply config.toml").spawn();
        let mut ended = false;
        spin_until(|| {
            ended = child.try_wait().unwrap().is_some();
            ended || entries(&site.root()) >= made
        });
        if !ended {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        let status = child.wait().unwrap();
        let running = veths.iter().filter(|v| site.running(&v.near).is_some()).count();
        match status.code() {
            Some(0) => assert_eq!(running, veths.len()),
            // A signal before it is listened for ends the process at once, with nothing done.
            Some(2 | 3) | None => assert_eq!((running, site.bpffs.tree()), (0, Vec::new()), "{status}"),
            other => panic!("exit {other:?}"),
        }
        codes.insert(status.code());
        site.expect("detach", 0);
        if ended {
            break;
        }
    }
    assert!(codes.len() > 1, "interrupted at different moments: {codes:?}");
}

#[test]
#[ignore = "needs root"]
fn in_a_private_mount_namespace_a_missing_bpffs_is_explained() {
    require_root!();
    let site = Site::new("mounts");
    site.lab.veth("eth0", "peer0");
    let config = site.lab.write("config.toml", format!("[interfaces.eth0]\nnetns = \"{}\"\n", site.netns()));
    let binary = xdpd().path();
    let script = format!(
        "mount -t tmpfs none /sys/fs/bpf && {} apply {}; code=$?; findmnt -n -o FSTYPE --target /sys/fs/bpf; exit $code",
        binary.display(),
        config.display()
    );
    let output = xdpd_testlab::Invocation::of("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script])
        .run()
        .expect_code(2);
    assert!(output.stderr.contains("nsenter") && output.stderr.contains("netns ="), "{}", output.stderr);
    assert!(output.stdout.trim_end().ends_with("tmpfs"), "nothing was mounted: {}", output.stdout);
    assert_eq!(site.running("eth0"), None);
}

#[test]
#[ignore = "needs root"]
fn without_rights_the_error_says_so() {
    require_root!();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "[interfaces.lo]\n").unwrap();
    // The binary must be reachable for nobody, which a checkout below /root is not.
    let copy = dir.path().join("xdpd");
    // By another process: what is open here for writing, another test's child may hold a moment longer.
    xdpd_testlab::Invocation::of("install")
        .args(["-m", "755"])
        .args([&xdpd().path(), &copy])
        .run()
        .expect_code(0);
    let run = |command: &str| {
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        xdpd_testlab::Invocation::of("setpriv").args(nobody).arg(&copy).arg(command).arg(&config).run()
    };
    let refused = run("apply").expect_code(2);
    assert!(refused.stderr.contains("root"), "{}", refused.stderr);
    run("check").expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn a_reader_that_goes_away_is_no_error() {
    require_root!();
    let site = Site::new("pipe");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    for command in ["check", "diff", "status", "apply"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(xdpd().path())
            .args([command, "config.toml"])
            .current_dir(site.lab.dir())
            .stdout(writer)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {stderr}");
        assert!(!stderr.contains("ipe"), "{command}: {stderr}");
    }
    assert!(site.running("eth0").is_some(), "apply did its work all the same");
}

#[test]
#[ignore = "needs root"]
fn recovery_touches_nothing_of_others() {
    require_root!();
    let site = Site::new("recover");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    // As a killed run leaves it, but that somebody else took the place meanwhile.
    let theirs = Program::load_xdp_returning("theirs", 2).unwrap();
    for leftover in ["%next-eth0", "%old-eth0"] {
        let root = Dir::open(site.root()).unwrap();
        root.rename("eth0", leftover).unwrap();
        root.mkdir("eth0", 0o700).unwrap();
        root.open_dir("eth0").unwrap().pin("theirs", &theirs).unwrap();
        let refused = site.expect("apply", 2);
        assert!(refused.stderr.contains("eth0"), "{}", refused.stderr);
        assert!(root.open_dir("eth0").unwrap().open_program("theirs").is_ok());
        assert!(site.running("eth0").is_some());
        root.remove_all("eth0").unwrap();
        site.apply();
        site.expect("diff", 0);
    }
    site.send(&veth, "eth0", DROP, 3);
}

#[test]
#[ignore = "needs root"]
fn what_others_call_as_xdpd_calls_its_own_is_reported_and_left_alone() {
    require_root!();
    let site = Site::new("names");
    let _veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    let root = Dir::open(site.root()).unwrap();
    let names = ["%former-eth1", "%lock-2", "%next-", "%next-%zz", "%old-eth1", "%snap-eth1", "%taken-eth1"];
    for name in names {
        match name {
            "%former-eth1" | "%lock-2" | "%next-" | "%next-%zz" => root.mkdir(name, 0o700).unwrap(),
            _ => root.symlink("theirs", name).unwrap(),
        }
    }
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    let foreign = status["foreign_pins"].as_array().unwrap();
    let path = |name: &str| site.root().join(name).display().to_string();
    assert_eq!(foreign.iter().map(|pin| pin["path"].as_str().unwrap()).collect::<Vec<_>>(), names.map(path));
    site.expect("diff", 0);
    site.one("eth0", "xdp_pass_func", "");
    site.apply();
    site.expect("detach", 0);
    let left: Vec<_> = root.list().unwrap().into_iter().map(|entry| entry.name).collect();
    for name in names {
        assert!(left.iter().any(|left| left == name), "{name}: {left:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn devices_that_come_and_go_during_an_apply_of_a_glob_are_no_failure() {
    require_root!();
    let site = Site::new("churn");
    let veths = site.lab.veths("g", 12);
    let netns = site.lab.near();
    let file = |n: usize| {
        let function = ["xdp_pass_func", "xdp_drop_func"][n % 2];
        site.config(&format!(
            "reuse = \"never\"\n[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n\
             [interfaces.\"g*\"]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
        ));
    };
    file(0);
    site.apply();
    for n in 1..=6 {
        file(n);
        let mut child = site.run("apply config.toml").spawn();
        let deadline = Instant::now() + Duration::from_millis(n as u64 * 12);
        spin_until(|| Instant::now() >= deadline || child.try_wait().unwrap().is_some());
        netns.ip(&format!("link del {}", veths[n].near));
        netns.ip(&format!("link add g{} type veth", 90 + n));
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "round {n}: {stderr}");
        assert!(site.running(&veths[0].near).is_some());
    }
    site.apply();
    site.expect("diff", 0);
    assert!(site.running("g91").is_some());
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn two_applies_at_once_wait_for_each_other() {
    require_root!();
    let site = Site::new("both");
    site.lab.veths("v", 4);
    for round in 0..10 {
        let function = ["xdp_pass_func", "xdp_drop_func"][round % 2];
        site.config(&format!(
            "[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n\
             [interfaces.\"v*\"]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
        ));
        let mut both = [(); 2].map(|()| site.run("apply config.toml --lock-timeout 10m").spawn());
        for child in &mut both {
            assert_eq!(child.wait().unwrap().code(), Some(0), "round {round}");
        }
        site.expect("diff", 0);
        if round % 3 == 2 {
            site.expect("detach", 0);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn waiting_for_the_lock_can_be_interrupted() {
    require_root!();
    let site = Site::new("lockint");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    std::fs::create_dir(site.root()).unwrap();
    let root = Dir::open(site.root()).unwrap();
    root.mkdir("%lock", 0o700).unwrap();
    let _lock = root.try_lock("%lock").unwrap().taken().expect("the lock");
    let mut waiting = site.run("apply config.toml --lock-timeout 1h").spawn();
    wait_for_its_try(&site, &waiting);
    let pid = rustix::process::Pid::from_child(&waiting);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(2));
    assert_eq!(site.running("eth0"), None);
}

#[test]
#[ignore = "needs root"]
fn directories_that_the_operator_made_stay() {
    require_root!();
    let site = Site::new("dirs");
    site.lab.veth("eth0", "peer0");
    let deep = site.root().join("a/b");
    site.one("eth0", "xdp_drop_func", "mode = \"offload\"");
    std::fs::create_dir(site.root()).unwrap();
    site.expect("apply", 2);
    assert_eq!(site.bpffs.tree(), ["xdpd/"], "a refused apply leaves the operator's directory");
    let text =
        format!("pin_root = \"{}\"\n[interfaces.eth0]\nnetns = \"{}\"\n", deep.display(), site.netns());
    site.lab.write("config.toml", text);
    site.apply();
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), ["xdpd/"], "those that apply has made are gone");
}

#[test]
#[ignore = "needs root"]
fn an_outcome_that_cannot_be_written_is_no_other_outcome() {
    require_root!();
    let site = Site::new("full");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(xdpd().path())
        .args(["apply", "config.toml", "--json"])
        .current_dir(site.lab.dir())
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(site.running("eth0").is_some());
}

#[test]
#[ignore = "needs root"]
fn a_pin_root_that_is_a_symlink_or_somebody_elses_is_refused_by_diff_and_apply_alike() {
    require_root!();
    let site = Site::new("root");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let real = site.bpffs.path().join("real");
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, site.root()).unwrap();
    for command in ["diff", "apply"] {
        let refused = site.expect(command, 2);
        assert!(refused.stderr.contains("a symlink is not followed"), "{}", refused.stderr);
    }
    std::fs::remove_file(site.root()).unwrap();
    std::fs::create_dir(site.root()).unwrap();
    std::os::unix::fs::chown(site.root(), Some(65534), None).unwrap();
    for command in ["diff", "apply"] {
        let refused = site.expect(command, 2);
        assert!(refused.stderr.contains("belongs to user 65534"), "{}", refused.stderr);
    }
    assert_eq!(site.running("eth0"), None);
}

#[test]
#[ignore = "needs root"]
fn status_tells_what_is_attached_though_the_file_is_broken() {
    require_root!();
    let site = Site::new("status");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    site.config("[interfaces.eth0]\nprogam = \"typo\"\n");
    let status = site.expect("status", 0);
    assert!(status.stdout.contains("eth0") && status.stdout.contains("xdp_drop_func"), "{}", status.stdout);
    assert!(status.stderr.contains("has errors"), "{}", status.stderr);
    site.config("[programs.p]\nobject = \"gone.o\"\n[interfaces.eth0]\nprogram = \"p\"\n");
    let status = site.expect("status", 0);
    assert!(status.stdout.contains("xdp_drop_func"), "{}", status.stdout);
}

#[test]
#[ignore = "needs root"]
fn a_bpffs_that_is_mounted_read_only_is_told_and_what_to_do() {
    require_root!();
    let site = Site::new("readonly");
    let _veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let mount = xdpd_testlab::Invocation::of("mount").args(["-o", &options]);
        mount.arg(site.bpffs.path()).run().expect_code(0);
    };
    let refuse = |commands: &[&str]| {
        for command in commands {
            let output = site.expect(command, 2);
            assert!(output.stderr.contains("(EROFS); for this process it is mounted read-only"), "{output}");
        }
    };
    remount("ro");
    refuse(&["apply"]);
    remount("rw");
    site.apply();
    let running = site.running("eth0");
    remount("ro");
    // A link is opened for writing only, whatever for.
    refuse(&["apply", "diff", "status", "detach"]);
    assert_eq!(site.running("eth0"), running);
    remount("rw");
    site.expect("diff", 0);
}
