//! Nothing leads out of the pin root: no name, no symbolic link, no directory that is swapped underneath a run.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{DROP, Site, compile_with, flat};
use xdpd_kernel::map_types::BPF_MAP_TYPE_ARRAY;
use xdpd_kernel::{Dir, Map, MapDef, Program};
use xdpd_testlab::{require_root, wait_until, xdpd};

const NOBODY: u32 = 65534;

/// Something that is not ours, beside the pin root and on no bpffs at all.
struct Victims {
    pins: PathBuf,
    files: PathBuf,
}

impl Victims {
    fn new(site: &Site) -> Self {
        let pins = site.bpffs.path().join("victim");
        std::fs::create_dir(&pins).unwrap();
        let dir = Dir::open(&pins).unwrap();
        dir.pin("program", &Program::load_xdp_returning("victim", 2).unwrap()).unwrap();
        let def = MapDef {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            flags: 0,
            map_extra: 0,
        };
        // By the names that xdpd looks for.
        for name in ["xdp_stats_map", "xdp-link"] {
            dir.pin(name, &Map::create("victim", &def, None).unwrap()).unwrap();
        }
        dir.symlink("v=1", "xdp-owner").unwrap();
        let files = site.lab.dir().join("victim");
        std::fs::create_dir(&files).unwrap();
        for name in ["xdp_stats_map", "xdp-link", "file"] {
            std::fs::write(files.join(name), name).unwrap();
        }
        Self { pins, files }
    }

    /// Names, inodes, permissions and times of all there is.
    fn fingerprint(&self) -> Vec<String> {
        use std::os::unix::fs::MetadataExt;
        let mut found = Vec::new();
        for dir in [&self.pins, &self.files] {
            let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            for path in entries.chain([dir.clone()]) {
                let m = path.symlink_metadata().unwrap();
                let facts = (m.ino(), m.mode(), m.uid(), m.gid(), m.ctime(), m.ctime_nsec());
                found.push(format!("{} {facts:?}", path.display()));
            }
        }
        found.sort();
        found
    }
}

#[test]
#[ignore = "needs root"]
fn no_symlink_below_the_pin_root_is_followed() {
    require_root!();
    let site = Site::new("symlinks");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let victims = Victims::new(&site);
    let before = victims.fingerprint();
    std::fs::create_dir(site.root()).unwrap();
    for name in ["eth0", "%lock", "%next-eth0", "%old-eth0", "%taken-eth0"] {
        for victim in [&victims.pins, &victims.files] {
            let link = site.root().join(name);
            symlink(victim, &link).unwrap();
            for command in ["diff", "status", "apply", "detach"] {
                let output = site.run(&format!("{command} config.toml")).run();
                if command == "apply" {
                    assert_eq!(output.code(), Some(2), "{name}: {output}");
                    assert!(flat(&(output.stdout + &output.stderr)).contains(name), "{name} is named");
                } else if command == "status" && name != "%lock" {
                    assert!(output.stdout.contains(&format!("foreign: {}", link.display())), "{output}");
                }
                assert_eq!(site.running("eth0"), None, "{name}");
            }
            assert_eq!(victims.fingerprint(), before, "through {name}");
            std::fs::remove_file(&link).unwrap();
        }
    }
    // In place of a pin of ours: not what it leads to.
    site.apply();
    for (pin, expected) in [("xdp_stats_map", 2), ("xdp-link", 0), ("xdp-owner", 2)] {
        site.dir("eth0").unlink(pin).unwrap();
        if pin == "xdp-link" {
            wait_until("the kernel to detach", xdpd_testlab::DEADLINE, || site.running("eth0").is_none());
        }
        symlink(victims.pins.join(pin), site.root().join("eth0").join(pin)).unwrap();
        site.expect("apply", expected);
        assert_eq!(victims.fingerprint(), before, "through {pin}");
        site.run("detach config.toml").run();
        let _ = std::fs::remove_dir_all(site.root());
        wait_until("the program to be gone", xdpd_testlab::DEADLINE, || site.running("eth0").is_none());
        site.apply();
    }
    assert_eq!(victims.fingerprint(), before);
    site.send(&veth, "eth0", DROP, 3);
}

#[test]
#[ignore = "needs root"]
fn no_label_leads_out_of_the_pin_root() {
    require_root!();
    let site = Site::new("labels");
    let labels = ["../../up", "..", ".", "/etc", "a/b", "%lock", "%next-x", "%2E%2E", "xdp-owner"];
    let veths = site.lab.veths("v", labels.len());
    let entries: Vec<String> = labels
        .iter()
        .zip(&veths)
        .map(|(label, veth)| format!("[interfaces.'{label}']\nname = '{}'\nnetns = '$NETNS'\n", veth.near))
        .collect();
    site.config(&entries.concat());
    site.apply();
    site.expect("diff", 0);
    let mut expected: Vec<String> = labels
        .iter()
        .map(|label| label.replace('%', "%25").replace('.', "%2E").replace('/', "%2F"))
        .chain(["%lock".to_owned()])
        .collect();
    expected.sort();
    let mut found: Vec<String> = std::fs::read_dir(site.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, expected, "one directory for each, all in the pin root");
    assert!(site.bpffs.tree().iter().all(|entry| entry.starts_with("xdpd/")));
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    let mut told: Vec<_> =
        status["interfaces"].as_array().unwrap().iter().map(|i| i["interface"].as_str().unwrap()).collect();
    told.sort_unstable();
    let mut labels = labels;
    labels.sort_unstable();
    assert_eq!(told, labels);
    site.run("detach config.toml --interface ../../up").run().expect_code(0);
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
fn no_map_of_an_object_has_a_name_that_leads_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str| {
        let object = dir.path().join("own.o");
        compile_with(&object, "map_by_any_name", &[&format!("-DNAME=\"{name}\"")]);
        let config = dir.path().join("config.toml");
        std::fs::write(&config, "programs.p.object = 'own.o'\n[interfaces.eth0]\nprogram = 'p'\n").unwrap();
        xdpd().arg("check").arg(config).run()
    };
    check("plain_name").expect_code(0);
    for name in ["../../x", "a/b", "xdp-link", "xdp-owner", "xdp_stats_map-0-5", "%lock", "a b"] {
        let refused = check(name).expect_code(2);
        assert!(refused.stderr.contains(&format!("map `{name}`")), "{}", refused.stderr);
    }
}

#[test]
#[ignore = "needs root"]
fn directories_that_others_can_change_are_not_used_and_named_with_their_owner() {
    require_root!();
    let site = Site::new("others");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    site.apply();
    // Of ours, but given away: whoever owns it decides what is in it.
    let (given, root) = (site.root().join("eth0"), Dir::open(site.root()).unwrap());
    chown(&given, Some(NOBODY), None).unwrap();
    let pins = || {
        let entries = site.bpffs.fingerprint();
        entries.into_iter().filter(|entry| entry.0.contains("eth0")).collect::<Vec<_>>()
    };
    let before = pins();
    site.one("eth0", "xdp_pass_func", "");
    let refused = site.expect("apply", 2);
    let expected =
        format!("{0} belongs to user {NOBODY}, and not to root: not used; chown root {0}", given.display());
    assert!(flat(&refused.stdout).contains(&expected), "{refused}");
    // What runs there may be ours, so that nothing can be called detached.
    for command in ["detach", "detach --interface eth0"] {
        let refused = site.expect(command, 2);
        assert!(
            refused.stderr.contains(&expected) && refused.stderr.contains("nothing was changed"),
            "{refused}"
        );
    }
    let status = site.expect("status", 0);
    assert!(
        flat(&status.stdout).contains(&format!(
            "eth0 is a directory that others than root can change: mode 0700, owner {NOBODY}"
        )),
        "{status}"
    );
    assert_eq!(pins(), before, "not touched");
    chown(&given, Some(0), None).unwrap();
    // A stage with a record and pins like ours, made by somebody else: nothing of it is taken over or removed.
    for name in ["%next-eth0", "%old-eth0", "%taken-eth0"] {
        root.mkdir(name, 0o700).unwrap();
        let forged = root.open_dir(name).unwrap();
        forged.symlink(root.open_dir("eth0").unwrap().readlink("xdp-owner").unwrap(), "xdp-owner").unwrap();
        forged.link(&site.dir("eth0"), "xdp-link", "xdp-link").unwrap();
        chown(site.root().join(name), Some(NOBODY), None).unwrap();
        let before = (pins(), site.running("eth0"));
        let refused = site.expect("apply", 2);
        assert!(flat(&refused.stdout).contains(&format!("{name} is not xdpd's")), "{}", refused.stdout);
        assert_eq!((pins(), site.running("eth0")), before, "{name}");
        let status = site.expect("status", 0);
        assert!(status.stdout.contains(name), "{}", status.stdout);
        root.remove_all(name).unwrap();
    }
    site.apply();
}

#[test]
#[ignore = "needs root"]
fn a_pin_root_that_others_can_write_is_refused() {
    require_root!();
    let site = Site::new("writable");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    std::fs::create_dir(site.root()).unwrap();
    for (mode, gid, refused) in [
        (0o777, 0, true),
        (0o1777, 0, true),
        (0o702, 0, true),
        (0o770, NOBODY, true),
        (0o770, 0, false),
        (0o755, NOBODY, false),
    ] {
        chown(site.root(), None, Some(gid)).unwrap();
        std::fs::set_permissions(site.root(), PermissionsExt::from_mode(mode)).unwrap();
        for command in ["diff", "apply"] {
            let output = site.run(&format!("{command} config.toml")).run();
            let told = flat(&output.stderr).contains("others than root can put pins there");
            let code = output.code();
            assert_eq!(
                (told, code == Some(2)),
                (refused, refused),
                "{command} with {mode:o} {gid}: {output}"
            );
        }
        site.run("detach config.toml").run();
    }
}

/// Exchanges directories of the pin root with things that are not ours, as fast as it goes.
fn swap(stop: &AtomicBool, swaps: &AtomicUsize, root: &Path, decoys: &[PathBuf]) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let names = ["eth0", "eth1", "%next-eth0", "%next-eth1"];
    let mut n = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let (name, decoy) = (root.join(names[n % names.len()]), &decoys[n % decoys.len()]);
        n += 1;
        for _ in 0..2 {
            if renameat_with(CWD, decoy, CWD, &name, RenameFlags::EXCHANGE).is_err() {
                break;
            }
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_is_swapped_underneath_a_run_does_no_harm() {
    require_root!();
    let site = Site::new("swapped");
    let veths = [site.lab.veth("eth0", "peer0"), site.lab.veth("eth1", "peer1")];
    let file = |n: usize| {
        let function = ["xdp_drop_func", "xdp_pass_func"][n % 2];
        site.config(&format!(
            "reuse = \"never\"\n[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n\
             [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n\
             [interfaces.eth1]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
        ));
    };
    file(0);
    site.apply();
    let victims = Victims::new(&site);
    let before = victims.fingerprint();
    // A link to what is not ours, one to files, and a directory that somebody else fills.
    let lair = site.bpffs.path().join("lair");
    std::fs::create_dir(&lair).unwrap();
    let decoys = ["pins", "files", "own"].map(|name| lair.join(name));
    symlink(&victims.pins, &decoys[0]).unwrap();
    symlink(&victims.files, &decoys[1]).unwrap();
    std::fs::create_dir(&decoys[2]).unwrap();
    symlink("v=1", decoys[2].join("xdp-owner")).unwrap();
    chown(&decoys[2], Some(NOBODY), None).unwrap();

    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut codes = std::collections::BTreeMap::<_, usize>::new();
    let mut apply = |n| {
        file(n);
        let code = site.run("apply config.toml").run().code();
        *codes.entry(code).or_default() += 1;
    };
    // What is swapped while a run has moved it stays where it is, so most of them may be refused at once, and even all.
    apply(1);
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&stop, &swaps, &site.root(), &decoys));
        (2..=60).for_each(apply);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(victims.fingerprint(), before, "nothing outside was touched: {codes:?}");
    assert!(
        codes.keys().all(|code| [0, 2, 3, 4].map(Some).contains(code)),
        "it ends with an answer: {codes:?}"
    );
    assert!(codes.len() > 1 && swaps.load(Ordering::Relaxed) > 100, "they met: {codes:?}");

    // Once it is over and what is not ours is out of the way, the next runs converge.
    for entry in std::fs::read_dir(site.root()).unwrap().map(|entry| entry.unwrap().path()) {
        use std::os::unix::fs::MetadataExt;
        let metadata = entry.symlink_metadata().unwrap();
        if metadata.is_symlink() {
            std::fs::remove_file(&entry).unwrap();
        } else if metadata.uid() == NOBODY {
            std::fs::remove_dir_all(&entry).unwrap();
        }
    }
    std::fs::remove_dir_all(&lair).unwrap();
    // The pins of one interface may have got the name of the other: detach takes what is ours, whatever it is called.
    // What lost its pins altogether is detached in the background.
    site.expect("detach", 0);
    let deadline = std::time::Instant::now() + xdpd_testlab::DEADLINE;
    while let output = site.run("apply config.toml").run()
        && output.code() != Some(0)
    {
        assert!(std::time::Instant::now() < deadline, "{codes:?}: {:#?}: {output}", site.bpffs.tree());
    }
    site.expect("diff", 0);
    file(0);
    site.apply();
    for veth in &veths {
        site.send(veth, &veth.near, DROP, 3);
    }
    site.expect("detach", 0);
    assert_eq!(victims.fingerprint(), before);
}
