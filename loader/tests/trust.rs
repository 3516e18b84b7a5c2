//! Who may change a config, an object, a list or a pin root, and what root follows of them.
#![allow(clippy::unwrap_used)] // tests

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use common::{Site, flat};
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, UnmountFlags};
use xdpd_testlab::{Invocation, Output, require_root, xdpd};

const NOBODY: u32 = 65534;
const GROUP: u32 = 4242;
/// Tags of entries in an ACL.
const USER: u16 = 0x02;
const NAMED_GROUP: u16 = 0x08;
const FILE: &str = "[interfaces.eth0]\n";

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A directory with `config.toml` in it, in a directory that everybody may enter.
fn home(site: &Site) -> PathBuf {
    chmod(site.lab.dir(), 0o755);
    let home = site.lab.dir().join("home");
    fs::create_dir(&home).unwrap();
    chmod(&home, 0o755);
    fs::write(home.join("config.toml"), FILE).unwrap();
    home
}

fn check(path: &Path) -> Output {
    xdpd().arg("check").arg(path).run()
}

fn refused(output: &Output, why: &str) {
    assert_eq!(output.code(), Some(2), "{output}");
    assert!(output.stderr.contains("is not trusted") && output.stderr.contains(why), "{why}: {output}");
}

/// The ACL of a file as the kernel takes it: version 2, then tag, rights and id of each entry.
fn acl(named: u16, id: u32, rights: u16) -> Vec<u8> {
    let none = u32::MAX;
    let mut entries =
        vec![(0x01, 7, none), (named, rights, id), (0x04, 5, none), (0x10, 7, none), (0x20, 5, none)];
    entries.sort_by_key(|(tag, ..)| *tag);
    let entries = entries.into_iter().flat_map(|(tag, rights, id): (u16, u16, u32)| {
        [tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

#[test]
#[ignore = "needs root"]
fn a_file_in_a_directory_of_somebody_else_is_not_applied() {
    require_root!();
    let site = Site::new("dirowner");
    site.lab.veth("eth0", "peer0");
    let home = home(&site);
    let text = |function: &str| {
        format!(
            "pin_root = '{}'\nprograms.p = {{ object = 'builtin', function = '{function}' }}\n\
             [interfaces.eth0]\nnetns = '{}'\nprogram = 'p'\n",
            site.root().display(),
            site.netns()
        )
    };
    let [config, other] = ["config.toml", "other.toml"].map(|name| home.join(name));
    fs::write(&config, text("xdp_pass_func")).unwrap();
    fs::write(&other, text("xdp_drop_func")).unwrap();
    chown(&home, Some(NOBODY), None).unwrap();
    // Both files are root's, and which of them has the name decides the owner of the directory.
    let script = format!("mv -f {} {}", other.display(), config.display());
    Invocation::of("setpriv")
        .args(["--reuid=65534", "--clear-groups", "sh", "-c", &script])
        .run()
        .expect_code(0);
    for command in ["check", "diff", "apply"] {
        let output = xdpd().arg(command).arg(&config).run();
        refused(&output, &format!("{}: it belongs to user 65534", home.display()));
    }
    assert_eq!(site.running("eth0"), None);
    // It is the same farther up.
    chown(&home, Some(0), None).unwrap();
    check(&config).expect_code(0);
    chown(site.lab.dir(), Some(NOBODY), None).unwrap();
    refused(&check(&config), "it belongs to user 65534");
    xdpd().arg("check").arg(&config).env("SUDO_UID", "65534").run().expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn what_a_foreign_group_may_write_is_refused() {
    require_root!();
    let site = Site::new("group");
    let home = home(&site);
    let config = home.join("config.toml");
    for (path, mode, why) in [
        (&home, 0o775, "group 4242 may replace the files in this directory, its mode is 0775"),
        (&config, 0o664, "group 4242 may write it, its mode is 0664"),
    ] {
        chown(path, None, Some(GROUP)).unwrap();
        chmod(path, mode);
        refused(&check(&config), why);
        let sudo = |uid: &str, gid: &str| {
            xdpd().arg("check").arg(&config).env("SUDO_UID", uid).env("SUDO_GID", gid).run()
        };
        sudo("1000", "4242").expect_code(0);
        refused(&sudo("4242", "1000"), why);
        chown(path, None, Some(0)).unwrap();
        check(&config).expect_code(0);
        chmod(path, 0o755);
    }
    // In a sticky directory, nobody else's entry can be replaced: that it is root's makes the difference.
    chown(&home, None, Some(GROUP)).unwrap();
    for mode in [0o1775, 0o1777] {
        chmod(&home, mode);
        check(&config).expect_code(0);
        chown(&config, Some(NOBODY), None).unwrap();
        refused(&check(&config), "it belongs to user 65534");
        chown(&config, Some(0), None).unwrap();
        chown(&home, Some(NOBODY), None).unwrap();
        refused(&check(&config), "it belongs to user 65534");
        chown(&home, Some(0), None).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn who_called_sudo_is_heard_of_from_root_alone() {
    require_root!();
    let site = Site::new("sudo");
    let config = home(&site).join("config.toml");
    chown(&config, Some(NOBODY), None).unwrap();
    let run = |setpriv: &[&str]| {
        let xdpd = Invocation::of("setpriv").args(setpriv).arg(xdpd().path()).arg("check").arg(&config);
        xdpd.env("SUDO_UID", "65534").run()
    };
    run(&["--ruid=0"]).expect_code(0);
    // As a program with the set-user-id bit: the variable is that of the user who started it.
    refused(&run(&["--ruid=65534"]), "it belongs to user 65534");
}

#[test]
#[ignore = "needs root"]
fn objects_and_lists_are_judged_as_the_file_is() {
    require_root!();
    let site = Site::new("named");
    let home = home(&site);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs/blocklist.c");
    common::compile_file(&home.join("own.o"), &source, &[]);
    fs::write(home.join("list.csv"), "192.0.2.0/24\n").unwrap();
    let text = "[programs.p]\nobject = 'home/own.o'\n[programs.p.maps.blocked4]\nentries = 'home/list.csv'\n\
                [interfaces.eth0]\nprogram = 'p'\n";
    let config = site.lab.write("config.toml", text);
    check(&config).expect_code(0);
    for name in ["own.o", "list.csv"] {
        let path = home.join(name);
        chown(&path, None, Some(GROUP)).unwrap();
        chmod(&path, 0o664);
        let output = check(&config);
        refused(&output, &format!("{} is not trusted: group 4242 may write it", path.display()));
        chmod(&path, 0o644);
    }
    let lists = site.lab.dir().join("lists");
    fs::create_dir(&lists).unwrap();
    fs::rename(home.join("list.csv"), lists.join("list.csv")).unwrap();
    fs::write(&config, text.replace("home/list.csv", "lists/list.csv")).unwrap();
    check(&config).expect_code(0);
    for (directory, name) in [(&home, "own.o"), (&lists, "list.csv")] {
        chown(directory, Some(NOBODY), None).unwrap();
        let output = check(&config);
        refused(
            &output,
            &format!("{} is not trusted: {}: it", directory.join(name).display(), directory.display()),
        );
        chown(directory, Some(0), None).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn who_an_acl_lets_write_is_seen() {
    require_root!();
    let site = Site::new("acl");
    let home = home(&site);
    let config = home.join("config.toml");
    for (tag, why) in [
        (USER, "by its ACL, user 65534 may replace the files in this directory"),
        (NAMED_GROUP, "by its ACL, group 65534 may replace the files in this directory"),
    ] {
        let set = |rights| {
            let acl = acl(tag, NOBODY, rights);
            rustix::fs::setxattr(&home, "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
        };
        set(7);
        refused(&check(&config), why);
        // The bits of the group say what the ACL may allow at most. This one allows nobody else to write, whatever they say.
        set(5);
        assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o775);
        chown(&home, None, Some(GROUP)).unwrap();
        check(&config).expect_code(0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_link_before_dots_is_judged_as_well() {
    require_root!();
    let site = Site::new("dots");
    let home = home(&site);
    let link = site.lab.dir().join("link");
    symlink(&home, &link).unwrap();
    let config = link.join("../home/config.toml");
    check(&config).expect_code(0);
    lchown(&link, Some(NOBODY), None).unwrap();
    refused(&check(&config), &format!("{}: it belongs to user 65534", link.display()));
}

#[test]
#[ignore = "needs root"]
fn the_advice_can_be_pasted_and_mends_it() {
    require_root!();
    let site = Site::new("advice");
    chmod(site.lab.dir(), 0o755);
    for name in ["plain", "with space", "it's", "line\nbreak\u{1b}[31m$(id)", "-dash", "\u{202e}turned"] {
        let home = site.lab.dir().join(name);
        fs::create_dir(&home).unwrap();
        let config = home.join("config.toml");
        fs::write(&config, FILE).unwrap();
        chmod(&home, 0o775);
        chown(&home, None, Some(GROUP)).unwrap();
        chmod(&config, 0o646);
        chown(&config, Some(NOBODY), None).unwrap();
        // One after the other: the directory, and of the file the bits and the owner.
        for _ in 0..3 {
            let output = check(&config);
            refused(&output, "(");
            let message = output.stderr.trim_end();
            assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'), "{message:?}");
            let advice = message.rsplit_once(" (").unwrap().1.strip_suffix(')').unwrap();
            let command = advice.split(", or ").next().unwrap();
            Invocation::of("bash").arg("-c").arg(command).run().expect_code(0);
        }
        check(&config).expect_code(0);
    }
}

#[test]
#[ignore = "needs root"]
fn directories_above_the_pin_root_are_judged() {
    require_root!();
    let site = Site::new("above");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let above = site.bpffs.path().join("above");
    fs::create_dir(&above).unwrap();
    let pin_root = above.join("xdpd");
    let text = fs::read_to_string(site.lab.dir().join("config.toml")).unwrap();
    site.lab.write("config.toml", text.replace(site.root().to_str().unwrap(), pin_root.to_str().unwrap()));
    for exists in [false, true] {
        if exists {
            fs::create_dir(&pin_root).unwrap();
            chmod(&pin_root, 0o700);
        }
        for (uid, gid, mode, why) in [
            (NOBODY, 0, 0o755, "it belongs to user 65534"),
            (0, GROUP, 0o775, "group 4242 may replace"),
            (0, 0, 0o757, "everybody may replace"),
        ] {
            chown(&above, Some(uid), Some(gid)).unwrap();
            chmod(&above, mode);
            for command in ["diff", "apply", "status"] {
                let output = site.expect(command, 2);
                assert!(flat(&output.stderr).contains(why), "{output}");
                assert!(output.stderr.contains(above.to_str().unwrap()), "{output}");
            }
        }
    }
    assert_eq!(site.running("eth0"), None);
    chmod(&above, 0o755);
    site.apply();
    chown(&above, Some(NOBODY), None).unwrap();
    for command in ["status", "detach"] {
        let output = site.expect(command, 2);
        assert!(output.stderr.contains("choose a path that only root can change, or chown root"), "{output}");
    }
    assert!(site.running("eth0").is_some());
    chown(&above, Some(0), None).unwrap();
    site.expect("status", 0);
    site.expect("detach", 0);
}

/// A volume as kubelet fills one from a `ConfigMap`: everybody may write its directory, and the files are exchanged by
/// turning a link.
fn config_map(place: &Path) {
    fs::create_dir(place).unwrap();
    chmod(place, 0o777);
    let version = place.join("..2024_05_01_10_00_00.123456789");
    fs::create_dir(&version).unwrap();
    fs::write(version.join("config.toml"), FILE).unwrap();
    symlink(version.file_name().unwrap(), place.join("..data")).unwrap();
    symlink("..data/config.toml", place.join("config.toml")).unwrap();
}

/// `xdpd check PLACE/config.toml` in a mount namespace of its own, after these commands.
fn check_mounted(mounts: &str, place: &Path) -> Output {
    let config = place.join("config.toml");
    let script = format!("set -e; {mounts}; exec {} check {}", xdpd().path().display(), config.display());
    Invocation::of("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]).run()
}

#[test]
#[ignore = "needs root"]
fn a_config_map_that_only_root_can_write_is_followed() {
    require_root!();
    let site = Site::new("configmap");
    let [volumes, place] = ["volumes", "etc"].map(|name| site.lab.dir().join(name));
    fs::create_dir(&volumes).unwrap();
    fs::create_dir(&place).unwrap();
    chmod(site.lab.dir(), 0o755);
    let volume = volumes.join("map");
    config_map(&volume);
    let bind = format!("mount --bind {} {}", volume.display(), place.display());
    let read_only = format!("{bind}; mount -o remount,bind,ro {}", place.display());

    // What lies behind it is in a directory that only root enters.
    chmod(&volumes, 0o700);
    check_mounted(&read_only, &place).expect_code(0);
    let writable = check_mounted(&bind, &place);
    refused(&writable, "everybody may replace the files in this directory, its mode is 0777");
    assert!(writable.stderr.contains("or mount it read-only"), "{writable}");

    // Everybody gets to what lies behind it. The name that the message gives can be changed.
    chmod(&volumes, 0o755);
    let behind = check_mounted(&read_only, &place);
    refused(&behind, &format!("it is mounted read-only, but can be written as {}", volume.display()));
    assert!(behind.stderr.contains(&format!("(chmod o-w {}", volume.display())), "{behind}");
    // A mount over it hides it.
    let hidden = format!("{read_only}; mount -t tmpfs -o mode=0755 tmpfs {}", volumes.display());
    check_mounted(&hidden, &place).expect_code(0);
    // Only read-only wherever it is seen.
    let everywhere =
        format!("{read_only}; mount --bind {0} {0}; mount -o remount,bind,ro {0}", volumes.display());
    check_mounted(&everywhere, &place).expect_code(0);
    chmod(&volume, 0o755);
    check_mounted(&read_only, &place).expect_code(0);
    chmod(&volume, 0o777);

    // Whose the files are is not the mount's to say; nor can that be changed there.
    chmod(&volumes, 0o700);
    chown(volume.join("..data/config.toml"), Some(NOBODY), None).unwrap();
    let given = check_mounted(&read_only, &place);
    refused(&given, "it belongs to user 65534");
    assert!(!given.stderr.contains("chown") && given.stderr.contains("copy"), "{given}");
}

#[test]
#[ignore = "needs root"]
fn a_file_system_that_is_read_only_everywhere_is_followed() {
    require_root!();
    let site = Site::new("readonly");
    let [place, other] = ["etc", "other"].map(|name| site.lab.dir().join(name));
    fs::create_dir(&place).unwrap();
    fs::create_dir(&other).unwrap();
    chmod(site.lab.dir(), 0o755);
    let fill = format!(
        "mount -t tmpfs -o mode=0777 tmpfs {0}; printf '[interfaces.eth0]\\n' > {0}/config.toml; mount --bind {0} {1}",
        place.display(),
        other.display()
    );
    refused(&check_mounted(&fill, &place), "everybody may replace");
    let bound = format!("{fill}; mount -o remount,bind,ro {}", place.display());
    refused(&check_mounted(&bound, &place), &format!("but can be written as {}", other.display()));
    let whole = format!("{fill}; mount -o remount,ro {}", place.display());
    check_mounted(&whole, &place).expect_code(0);
    // An overlay shows what can be written in its layers.
    let layered = format!(
        "mkdir {0}/l; mount -t tmpfs -o mode=0755 tmpfs {0}/l; mkdir -m 0777 {0}/l/lower; mkdir {0}/l/empty; \
         printf '[interfaces.eth0]\\n' > {0}/l/lower/config.toml; \
         mount -t overlay -o ro,lowerdir={0}/l/lower:{0}/l/empty overlay {0}",
        place.display()
    );
    refused(&check_mounted(&layered, &place), "but overlay file systems can be changed elsewhere");
}

/// A FUSE file system of a user, which says that all of it is root's, and holds nothing.
struct Fuse(PathBuf);

impl Fuse {
    fn of(uid: u32, place: PathBuf) -> Self {
        let mut device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options =
            format!("fd={},rootmode=40000,user_id={uid},group_id={uid},allow_other\0", device.as_raw_fd());
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap();
        rustix::mount::mount("test", &place, "fuse.test", MountFlags::empty(), options).unwrap();
        // Until the file system is unmounted.
        std::thread::spawn(move || {
            let mut request = vec![0; 1 << 17];
            while device.read(&mut request).is_ok() {
                let [opcode, unique] = [&request[4..8], &request[8..16]];
                // Numbers and layouts of include/uapi/linux/fuse.h: init, statfs, getattr; 1 is lookup.
                let words: Option<Vec<u32>> = match opcode {
                    [26, ..] => Some([vec![7, 31, 0, 0, 0, 4096], vec![0; 10]].concat()),
                    [17, ..] => Some(vec![0; 20]),
                    [3, ..] => {
                        Some([vec![0, 0, 0, 0, 1], vec![0; 14], vec![0o40755, 1, 0, 0, 0, 4096, 0]].concat())
                    }
                    _ => None,
                };
                let error = match opcode {
                    _ if words.is_some() => 0,
                    // No such file; nor does it know any other request.
                    [1, ..] => -2_i32,
                    _ => -38,
                };
                let body: Vec<u8> =
                    words.unwrap_or_default().iter().flat_map(|word| word.to_ne_bytes()).collect();
                let length = u32::try_from(16 + body.len()).unwrap();
                let head = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique].concat();
                // Nobody waits for the answer to a request that was given up.
                let _ = device.write(&[head, body].concat());
            }
        });
        Self(place)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_user_serves_is_that_user_s_whoever_it_says_owns_it() {
    require_root!();
    let site = Site::new("fuse");
    let place = site.lab.dir().join("fuse");
    fs::create_dir(&place).unwrap();
    let config = place.join("config.toml");
    for (server, sudo, trusted) in [(NOBODY, None, false), (NOBODY, Some(NOBODY), true), (0, None, true)] {
        let fuse = Fuse::of(server, place.clone());
        assert_eq!(fs::metadata(&place).unwrap().uid(), 0);
        let check = xdpd().arg("check").arg(&config);
        let output = match sudo {
            Some(uid) => check.env("SUDO_UID", uid.to_string()),
            None => check,
        };
        let output = output.run();
        if trusted {
            assert!(output.stderr.contains("No such file"), "{output}");
        } else {
            refused(&output, &format!("{}: user 65534 serves its file system", place.display()));
        }
        drop(fuse);
    }
}
