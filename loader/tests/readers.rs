//! The group that may read the pins: what it can and cannot do, and how it comes and goes.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{DROP, Site, changes, flat};
use rustix::fs::{Gid, Uid};
use xdpd_kernel::Access;
use xdpd_testlab::{Invocation, Output, require_root, xdp_stats};

/// A group that no account has: its number is all that the kernel knows.
const GROUP: u32 = 54321;
const OTHERS: u32 = 54322;
const USER: u32 = 54323;

fn site(name: &str) -> Site {
    let site = Site::new(name);
    // A way in for everybody, as `mount -o mode=0711` makes one; the lab's directories are root's alone.
    for path in [site.bpffs.path(), site.lab.dir()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o711)).unwrap();
    }
    site
}

fn file(site: &Site, function: &str, stats: &str) -> PathBuf {
    site.config(&format!(
        "[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n[stats]\n{stats}\n"
    ))
}

/// Group and permission bits of an entry of the pin root.
fn permissions(site: &Site, entry: &str) -> (u32, u32) {
    let metadata = site.root().join(entry).symlink_metadata().unwrap();
    assert_eq!(metadata.uid(), 0, "{entry}");
    (metadata.gid(), metadata.mode() & 0o7777)
}

/// Runs a program as a user of a group, without any capability or a way to get one.
fn as_user(group: u32, program: &Path) -> Invocation {
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={group}"));
    Invocation::of("setpriv")
        .args([&*user, &*group, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .arg(program)
}

/// Does something on a thread that is a user of a group, which leaves it no capability.
fn on_a_thread_of<R: Send>(group: u32, work: impl FnOnce() -> R + Send) -> R {
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(group));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            assert!(rustix::thread::capabilities(None).unwrap().effective.is_empty());
            work()
        });
        thread.join().unwrap()
    })
}

/// The binary where everybody finds it, which a checkout below /root is not.
fn copy(site: &Site, binary: &Path) -> PathBuf {
    let copy = site.lab.dir().join(binary.file_name().unwrap());
    // By another process: what is open here for writing, another test's child may hold a moment longer.
    Invocation::of("install").args(["-m", "755"]).args([binary, &copy]).run().expect_code(0);
    copy
}

#[test]
#[ignore = "needs root"]
fn a_group_that_is_not_there_is_told_with_all_else_that_is_wrong_in_the_order_of_the_file() {
    require_root!();
    let site = Site::new("nogroup");
    site.config(
        "[stats]\ngroup = 'no-such-group'\n[programs.p]\nobject = 'gone.o'\n[programs.q]\nobject = 'builtin'\n\
         [programs.q.maps.xdp_stats_map]\nentries = 'gone.csv'\n[interfaces.x]\nprogram = 'p'\n",
    );
    for command in ["diff", "apply"] {
        let text = site.expect(command, 2).stderr;
        let errors: Vec<&str> =
            text.lines().filter(|line| line.starts_with("error: ") || line.contains(": error: ")).collect();
        let [group, object, list] = errors[..] else { panic!("{text}") };
        assert!(group.contains("no group `no-such-group` on this machine"), "{text}");
        assert!(object.contains("gone.o") && list.contains("gone.csv"), "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn the_group_reads_without_any_capability_and_nobody_else_does() {
    require_root!();
    let site = site("readers");
    let veth = site.lab.veth("eth0", "peer0");
    let config = file(&site, "xdp_drop_func", &format!("group = {GROUP}"));
    let applied = site.apply();
    assert!(!applied.stderr.contains("cannot reach"), "{}", applied.stderr);
    assert_eq!(permissions(&site, ""), (GROUP, 0o750));
    assert_eq!(permissions(&site, "eth0"), (GROUP, 0o750));
    assert_eq!(permissions(&site, "eth0/xdp_stats_map"), (GROUP, 0o640));
    assert_eq!(permissions(&site, "eth0/xdp-link"), (0, 0o600), "the link is root's alone");
    assert_eq!(permissions(&site, "%lock"), (0, 0o700), "and so is the lock");
    site.send(&veth, "eth0", DROP, 7);

    let reader = copy(&site, &xdp_stats().path());
    let read = |group| as_user(group, &reader).arg("--config").arg(&config).args(["--json", "--once"]).run();
    let record = read(GROUP).expect_code(0).json();
    assert_eq!(
        (&record["event"], &record["actions"]["drop"]["packets_total"]),
        (&"baseline".into(), &7.into())
    );
    let refused = read(OTHERS).expect_code(2);
    assert!(refused.stdout.contains("EACCES") || refused.stdout.contains("ermission denied"), "{refused}");

    // Reading is all: no write, no unlink, no new pin, no way to the link.
    let pin = site.root().join("eth0/xdp_stats_map").display().to_string();
    let shell = |script: String| as_user(GROUP, Path::new("sh")).args(["-c", &script]).run();
    let denied =
        |output: Output| assert!(output.code() != Some(0) && output.stderr.contains("enied"), "{output}");
    denied(shell(format!("rm {pin}")));
    denied(shell(format!("mkdir {}", site.root().join("eth0/new").display())));
    denied(shell(format!("mv {pin} {pin}2")));
    assert_ne!(shell(format!("chmod 0660 {pin}")).code(), Some(0));
    let dir = site.dir("eth0");
    let open = |access| on_a_thread_of(GROUP, || dir.open_map("xdp_stats_map", access));
    assert_eq!(open(Access::ReadWrite).unwrap_err().errno(), Some(libc::EACCES));
    let map = open(Access::ReadOnly).unwrap();
    let denied = map.update(&DROP.to_ne_bytes(), &vec![0; map.value_len()], 0).unwrap_err();
    assert_eq!(denied.errno(), Some(libc::EPERM), "{denied}");
    assert_eq!(common::packets(&map, DROP), 7);
    assert_eq!(on_a_thread_of(GROUP, || dir.open_link("xdp-link")).unwrap_err().errno(), Some(libc::EACCES));
    let stranger = on_a_thread_of(OTHERS, || dir.open_map("xdp_stats_map", Access::ReadOnly));
    assert_eq!(stranger.unwrap_err().errno(), Some(libc::EACCES));
}

#[test]
#[ignore = "needs root"]
fn the_group_comes_changes_and_goes_without_a_reload() {
    require_root!();
    let site = site("regroup");
    let veth = site.lab.veth("eth0", "peer0");
    file(&site, "xdp_drop_func", "");
    site.apply();
    site.send(&veth, "eth0", DROP, 2);
    // A map that is retired and still to be read.
    let text = std::fs::read_to_string(site.lab.dir().join("config.toml")).unwrap();
    site.lab.write("config.toml", text.replace("xdp_drop_func", "xdp_pass_func") + "\n");
    let text = std::fs::read_to_string(site.lab.dir().join("config.toml")).unwrap();
    site.lab.write("config.toml", text.replace("program = \"p\"", "program = \"p\"\nreuse = \"never\""));
    site.apply();
    let retired = site
        .bpffs
        .tree()
        .iter()
        .find_map(|entry| {
            entry.strip_prefix("xdpd/").filter(|e| e.contains("xdp_stats_map-")).map(str::to_owned)
        })
        .expect("a retired map");
    let program = site.running("eth0");
    let (map, link) = (site.map("eth0", "xdp_stats_map").id(), site.link("eth0").info().unwrap());

    for (stats, gid, map_mode, dir_mode) in [
        (format!("group = {GROUP}"), GROUP, 0o640, 0o750),
        (format!("group = {OTHERS}"), OTHERS, 0o640, 0o750),
        (String::new(), 0, 0o600, 0o700),
    ] {
        file(&site, "xdp_pass_func", &stats);
        let diff = site.run("diff config.toml --json").run().expect_code(1).json();
        assert_eq!(changes(&diff), [("eth0.map.xdp_stats_map".to_owned(), "update".to_owned())]);
        assert_eq!(diff["changes"][0]["after"]["mode"], format!("{map_mode:04o}"));
        site.apply();
        for (entry, mode) in
            [("", dir_mode), ("eth0", dir_mode), ("eth0/xdp_stats_map", map_mode), (&*retired, map_mode)]
        {
            assert_eq!(permissions(&site, entry), (gid, mode), "{entry} with `{stats}`");
        }
        assert_eq!(permissions(&site, "eth0/xdp-link"), (0, 0o600));
        site.expect("diff", 0);
        // Nothing was loaded, replaced or attached.
        assert_eq!((site.running("eth0"), site.map("eth0", "xdp_stats_map").id()), (program, map));
        assert_eq!(site.link("eth0").info().unwrap(), link);
    }
    // What somebody else has opened is closed again.
    std::fs::set_permissions(site.root().join("eth0/xdp_stats_map"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let diff = site.expect("diff", 1);
    assert!(diff.stdout.contains("mode 0644 -> 0600"), "{}", diff.stdout);
    site.apply();
    assert_eq!(permissions(&site, "eth0/xdp_stats_map"), (0, 0o600));
}

#[test]
#[ignore = "needs root"]
fn an_unknown_group_is_an_error_with_its_place_and_changes_nothing() {
    require_root!();
    let site = site("nogroup");
    site.lab.veth("eth0", "peer0");
    file(&site, "xdp_drop_func", "group = \"no-such-group\"");
    // Which groups there are is no matter of the file alone.
    site.expect("check", 0);
    for command in ["diff", "apply"] {
        let refused = site.expect(command, 2);
        assert!(refused.stderr.contains("config.toml:9:9"), "{}", refused.stderr);
        assert!(refused.stderr.contains("no group `no-such-group`"), "{}", refused.stderr);
    }
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
    file(&site, "xdp_drop_func", "group = \"root\"");
    site.apply();
    assert_eq!(permissions(&site, "eth0/xdp_stats_map"), (0, 0o640));
}

#[test]
#[ignore = "needs root"]
fn a_place_that_the_group_cannot_reach_is_told_and_left_as_it_is() {
    require_root!();
    let site = site("unreachable");
    site.lab.veth("eth0", "peer0");
    std::fs::set_permissions(site.bpffs.path(), PermissionsExt::from_mode(0o700)).unwrap();
    file(&site, "xdp_drop_func", &format!("group = {GROUP}"));
    let json = site.run("diff config.toml --json").run().expect_code(1).json();
    let what = json["notes"][0]["what"].as_str().unwrap();
    assert!(what.contains(&format!("{} has mode 0700", site.bpffs.path().display())), "{what}");
    let applied = site.apply();
    assert!(flat(&applied.stderr).contains("cannot reach"), "{}", applied.stderr);
    assert_eq!(site.bpffs.path().metadata().unwrap().mode() & 0o777, 0o700, "not changed");
    // It is told as long as it is so.
    assert!(site.expect("diff", 0).stderr.contains("cannot reach"));

    // The command that is proposed makes a place that can be reached, here in a mount namespace of its own.
    let (options, rest) =
        what.split_once("`mount -t bpf -o ").unwrap().1.split_once(" bpf /run/xdpd`").unwrap();
    assert!(rest.contains("pin_root = \"/run/xdpd/pins\""), "{what}");
    let target = site.lab.dir().join("new/place");
    let script =
        format!("mount -t bpf -o {options} bpf {0} && stat -f -c %T {0} && stat -c %a {0}", target.display());
    let mounted = Invocation::of("unshare").args(["-m", "sh", "-c", &script]).run().expect_code(0);
    assert_eq!(mounted.stdout, "bpf_fs\n1711\n");
}

#[test]
#[ignore = "needs root"]
fn a_pin_root_that_xdpd_has_not_made_keeps_its_permissions() {
    require_root!();
    let site = site("given");
    site.lab.veth("eth0", "peer0");
    std::fs::create_dir(site.root()).unwrap();
    std::fs::set_permissions(site.root(), PermissionsExt::from_mode(0o700)).unwrap();
    file(&site, "xdp_drop_func", &format!("group = {GROUP}"));
    let applied = site.apply();
    assert!(applied.stderr.contains(&format!("chgrp {GROUP} ")), "{}", applied.stderr);
    assert_eq!(permissions(&site, ""), (0, 0o700));
    assert_eq!(permissions(&site, "eth0/xdp_stats_map"), (GROUP, 0o640));
    std::os::unix::fs::chown(site.root(), None, Some(GROUP)).unwrap();
    std::fs::set_permissions(site.root(), PermissionsExt::from_mode(0o750)).unwrap();
    assert_eq!(site.expect("diff", 0).stderr, "");
}

#[test]
#[ignore = "needs root"]
fn two_files_with_readers_of_their_own_share_a_pin_root() {
    require_root!();
    let site = site("shared");
    site.lab.veth("eth0", "peer0");
    site.lab.veth("eth1", "peer1");
    file(&site, "xdp_drop_func", &format!("group = {GROUP}"));
    site.apply();
    let other = format!("[interfaces.eth1]\nnetns = \"$NETNS\"\n[stats]\ngroup = {OTHERS}\n");
    site.config_as("other.toml", &other);
    let applied = site.run("apply other.toml").run().expect_code(0);
    assert!(applied.stderr.contains("interfaces of another file"), "{}", applied.stderr);
    assert_eq!(permissions(&site, ""), (GROUP, 0o750), "the first file's readers still read");
    assert_eq!(permissions(&site, "eth1/xdp_stats_map"), (OTHERS, 0o640));
    site.expect("diff", 0);
    // One that takes all of it over decides for all of it.
    let both = other.replace("[stats]", "[interfaces.eth0]\nnetns = \"$NETNS\"\n[stats]");
    site.config_as("other.toml", &both);
    site.run("apply other.toml --adopt").run().expect_code(0);
    assert_eq!(permissions(&site, ""), (OTHERS, 0o750));
    site.run("diff other.toml").run().expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn permissions_are_taken_back_with_an_apply_that_fails() {
    require_root!();
    let site = site("permback");
    let veths = site.lab.veths("v", 2);
    let text = |stats: &str, second: &str| {
        site.config(&format!("[interfaces.v0]\nnetns = \"$NETNS\"\n{second}\n[stats]\n{stats}\n"))
    };
    text("", "");
    site.apply();
    // Confirmed by nobody, so all of it is undone after it was in force.
    text(&format!("group = {GROUP}"), "[interfaces.v1]\nnetns = \"$NETNS\"");
    let before = site.bpffs.tree();
    let failed = site.run("apply config.toml --confirm-timeout 100ms").run().expect_code(3);
    assert!(failed.stderr.contains("restored"), "{}", failed.stderr);
    assert_eq!(site.bpffs.tree(), before);
    for (entry, mode) in [("", 0o700), ("v0", 0o700), ("v0/xdp_stats_map", 0o600)] {
        assert_eq!(permissions(&site, entry), (0, mode), "{entry}");
    }
    assert_eq!(site.running(&veths[1].near), None);
}
