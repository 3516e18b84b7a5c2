//! What is not ours, or no longer where it was: status, diff and apply recognise it, say what to do, and harm nothing.

mod common;

use common::{DROP, PASS, Site, flat};
use xdpd_kernel::{Dir, IfIndex, Program, ProgramId, XdpLink, XdpMode};
use xdpd_testlab::{DEADLINE, Veth, require_root, wait_until};

/// What the commands say about a state that the operator has to decide about: `status` one thing, `diff` and `apply`
/// another. None of them changes anything.
#[track_caller]
fn assert_blocked(site: &Site, file: &str, status: &str, blocked: &str) {
    // A refused apply has made the lock in the pin root, and removed it.
    let pins =
        || site.bpffs.fingerprint().into_iter().filter(|(path, ..)| path != "xdpd/").collect::<Vec<_>>();
    let before = pins();
    for (command, code, expected) in
        [("status", 0, status), ("diff", 2, blocked), ("apply", 2, blocked), ("apply --takeover", 2, blocked)]
    {
        let output = site.run(&format!("{command} {file}")).run().expect_code(code);
        let said = flat(&output.stdout);
        assert!(said.contains(expected), "{command}: {expected}\n{output}");
    }
    assert_eq!(pins(), before);
}

fn site(name: &str) -> (Site, Veth) {
    let site = Site::new(name);
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    (site, veth)
}

#[test]
#[ignore = "needs root"]
fn our_link_on_a_device_that_was_renamed_is_followed() {
    require_root!();
    let (site, mut veth) = site("renamed");
    site.apply();
    let link = site.link("eth0").info().unwrap();
    site.lab.rename(&mut veth, "wan0");
    assert_blocked(
        &site,
        "config.toml",
        "drift of eth0: device eth0 is called wan0 now",
        "no device `eth0` in netns `$NETNS`; device eth0 is called wan0 now, its program still attached: follow it in the \
         file, or move it back"
            .replace("$NETNS", site.netns())
            .as_str(),
    );
    site.send(&veth, "eth0", DROP, 3);
    site.one("eth0", "xdp_drop_func", "name = \"wan0\"");
    let followed = site.apply();
    assert!(flat(&followed.stdout).contains("the program stays attached"), "{followed}");
    assert_eq!(site.link("eth0").info().unwrap(), link);
    assert_eq!(site.packets("eth0", DROP), 3);
    assert!(!site.expect("status", 0).stdout.contains("drift"));
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn our_link_on_a_device_that_was_moved_to_another_namespace_is_followed() {
    require_root!();
    let (site, veth) = site("moved");
    site.apply();
    let link = site.link("eth0").info().unwrap();
    let (near, far) = (site.lab.near(), site.lab.far());
    near.ip(&format!("link set dev eth0 netns {}", far.name()));
    far.ip("link set dev eth0 up");
    assert_blocked(
        &site,
        "config.toml",
        "drift of eth0: device eth0 is in another network namespace now",
        "device eth0 is in another network namespace now, its program still attached: follow it in the file",
    );
    site.send(&veth, "eth0", DROP, 3);
    let text = format!(
        "[programs.p]\nobject = \"builtin\"\nfunction = \"xdp_drop_func\"\n\
         [interfaces.eth0]\nnetns = \"{}\"\nprogram = \"p\"\n",
        far.name()
    );
    site.config(&text);
    let followed = site.apply();
    assert!(flat(&followed.stdout).contains("the program stays attached"), "{followed}");
    assert_eq!(site.link("eth0").info().unwrap().id, link.id);
    assert_eq!(site.packets("eth0", DROP), 3);
    site.expect("diff", 0);
    // Where the file names both namespaces, it is told in which of them the device is.
    far.ip(&format!("link set dev eth0 netns {}", near.name()));
    site.config(&format!("{text}[interfaces.other]\nname = \"lo\"\nnetns = \"$NETNS\"\n"));
    let expected = format!("drift of eth0: device eth0 is eth0 in netns {} now", near.name());
    let status = site.expect("status", 0);
    assert!(status.stdout.contains(&expected), "{status}");
    site.expect("detach", 0);
    assert_eq!(site.running("eth0"), None);
}

#[test]
#[ignore = "needs root"]
fn another_device_under_the_old_name_gets_the_program_and_the_old_one_loses_it() {
    require_root!();
    let (site, mut old) = site("swapped");
    site.apply();
    site.lab.rename(&mut old, "old0");
    let new = site.lab.veth("eth0", "peer1");
    let diff = site.expect("diff", 1);
    assert!(flat(&diff.stdout).contains("the link is on another device (ifindex"), "{diff}");
    assert!(diff.stdout.contains("drift of eth0: device eth0 is called old0 now"), "{diff}");
    site.apply();
    site.send(&new, "eth0", DROP, 3);
    assert_eq!(site.running("old0"), None);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn a_link_whose_device_is_gone_is_told_and_detached() {
    require_root!();
    let (site, veth) = site("gone");
    site.apply();
    site.lab.delete(&veth);
    wait_until("the link to be defunct", DEADLINE, || site.link("eth0").info().unwrap().ifindex().is_none());
    assert_blocked(&site, "config.toml", "device gone xdp_drop_func", "no device `eth0` in netns");
    let status = site.run("status config.toml --json").run().expect_code(0).json();
    assert!(status["drift"][0]["what"].as_str().unwrap().ends_with("is gone"), "{status}");
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn what_others_have_put_in_the_place_of_an_interface_is_told_and_stays() {
    require_root!();
    let (site, veth) = site("inplace");
    std::fs::create_dir(site.root()).unwrap();
    let root = Dir::open(site.root()).unwrap();
    let program = Program::load_xdp_returning("theirs", 2).unwrap();
    let place = |what: &str| {
        format!("{}/eth0 is {what}; move it away, or choose another pin_root", site.root().display())
    };
    let told = |what: &str| format!("foreign: {}/eth0 is {what}", site.root().display());

    root.mkdir("eth0", 0o700).unwrap();
    root.open_dir("eth0").unwrap().pin("theirs", &program).unwrap();
    let what = "a directory without our record";
    assert_blocked(&site, "config.toml", &told(what), &place(what));
    root.remove_all("eth0").unwrap();

    root.pin("eth0", &program).unwrap();
    assert_blocked(&site, "config.toml", &told("a pin"), &place("a pin"));
    root.unlink("eth0").unwrap();

    let elsewhere = site.bpffs.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    root.symlink(&elsewhere, "eth0").unwrap();
    assert_blocked(&site, "config.toml", &told("a symlink"), &place("a symlink"));
    root.unlink("eth0").unwrap();

    // A pin of theirs elsewhere is in nobody's way.
    root.pin("theirs", &program).unwrap();
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), ["elsewhere/", "xdpd/", "xdpd/theirs"]);

    // What is in a directory of ours stays there, and is named.
    site.apply();
    root.open_dir("eth0").unwrap().pin("theirs", &program).unwrap();
    let detached = site.expect("detach", 0);
    let left = format!(
        "{}/eth0 is left in place, since it holds `theirs`, which is not xdpd's",
        site.root().display()
    );
    assert!(flat(&detached.stderr).contains(&left), "{detached}");
    assert_eq!(site.bpffs.tree(), ["elsewhere/", "xdpd/", "xdpd/eth0/", "xdpd/eth0/theirs", "xdpd/theirs"]);
}

#[test]
#[ignore = "needs root"]
fn an_interface_of_another_file_is_told_and_changes_hands_without_a_gap() {
    require_root!();
    let (site, veth) = site("adopt");
    site.apply();
    site.send(&veth, "eth0", DROP, 3);
    let link = site.link("eth0").info().unwrap();
    let first = site.lab.dir().join("config.toml");
    let text = "[programs.p]\nobject = \"builtin\"\nfunction = \"xdp_pass_func\"\n[interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n";
    let second = site.config_as("other.toml", text);
    assert_blocked(
        &site,
        "other.toml",
        &format!("eth0: belongs to {}", first.display()),
        &format!("the interface belongs to {}; apply with --adopt to take it over", first.display()),
    );
    let left = site.run("detach other.toml").run().expect_code(0);
    assert!(left.stderr.contains("left alone: `eth0` belongs to another config"), "{left}");

    let adopted = site.run("apply other.toml --adopt").run().expect_code(0);
    assert!(
        flat(&adopted.stdout).contains(&format!("owner {} -> {}", first.display(), second.display())),
        "{adopted}"
    );
    assert_eq!(site.link("eth0").info().unwrap().id, link.id, "replaced in place");
    site.send(&veth, "eth0", PASS, 3);
    assert_eq!(site.packets("eth0", DROP), 3, "its counts go on");
    // Now it is the first file's that has to ask; and that the interface leaves it takes nothing away.
    assert_blocked(
        &site,
        "config.toml",
        &format!("eth0: belongs to {}", second.display()),
        &format!("the interface belongs to {}", second.display()),
    );
    site.lab.veth("eth1", "peer1");
    site.config("[interfaces.eth1]\nnetns = \"$NETNS\"\n");
    site.apply();
    assert!(site.running("eth0").is_some());
    site.run("detach other.toml").run().expect_code(0);
    assert!(site.running("eth0").is_none() && site.running("eth1").is_some());
}

#[test]
#[ignore = "needs root"]
fn a_device_that_another_file_holds_is_told_and_is_free_once_that_lets_go() {
    require_root!();
    let (site, veth) = site("claimed");
    site.apply();
    let first = site.lab.dir().join("config.toml");
    // Another label under the same pin root.
    site.config_as("label.toml", "[interfaces.uplink]\nname = \"eth0\"\nnetns = \"$NETNS\"\n");
    assert_blocked(
        &site,
        "label.toml",
        &format!("eth0: belongs to {}", first.display()),
        &format!(
            "interface `eth0` of {} holds device eth0 in native mode; detach it there first",
            first.display()
        ),
    );
    // A pin root of its own, from which the first one's link is anybody's.
    let text = format!(
        "pin_root = \"{}\"\n[interfaces.eth0]\nnetns = \"{}\"\n",
        site.bpffs.path().join("second").display(),
        site.netns()
    );
    site.lab.write("root.toml", text);
    let held = format!("held by bpf_link {}", site.link("eth0").info().unwrap().id);
    assert_blocked(&site, "root.toml", &held, &held);
    site.send(&veth, "eth0", DROP, 3);
    site.expect("detach", 0);
    for file in ["label.toml", "root.toml"] {
        site.run(&format!("apply {file}")).run().expect_code(0);
        site.run(&format!("detach {file}")).run().expect_code(0);
    }
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn what_runs_without_its_pinned_link_is_not_called_detached() {
    require_root!();
    let (site, veth) = site("unheld");
    site.config("[interfaces.eth0]\nnetns = '$NETNS'\n[interfaces.eth1]\nnetns = '$NETNS'\n");
    site.lab.veth("eth1", "peer1");
    site.apply();
    site.send(&veth, "eth0", PASS, 2);
    // Somebody keeps the link under another name, and removes our pin.
    let root = Dir::open(site.root()).unwrap();
    let elsewhere = Dir::open(site.root().parent().unwrap()).unwrap();
    elsewhere.link(&site.dir("eth0"), "xdp-link", "kept").unwrap();
    site.dir("eth0").unlink("xdp-link").unwrap();
    let running = site.running("eth0");
    let pins = site.bpffs.fingerprint();
    // Whoever keeps the interface is told the same, and not that it is somebody else's.
    for (command, code) in [("diff", 2), ("apply", 2), ("status", 0)] {
        let output = site.expect(command, code);
        let said = flat(&format!("{} {}", output.stdout, output.stderr));
        assert!(!said.contains("someone else") && !said.contains("nothing keeps"), "{output}");
        assert!(command == "status" || said.contains("`bpftool link detach id "), "{output}");
        assert!(said.contains(&format!("while program {} still runs", running.unwrap())), "{output}");
        assert_eq!((site.running("eth0"), site.bpffs.fingerprint()), (running, pins.clone()), "{output}");
    }
    site.config("[interfaces.eth1]\nnetns = '$NETNS'\n");
    for command in ["detach", "apply"] {
        let output = site.expect(command, 2);
        let expected =
            format!("eth0 holds no link, yet its program {} still runs on eth0; bpf_link ", running.unwrap());
        assert!(
            output.stderr.contains(&expected) && output.stderr.contains("nothing was changed"),
            "{output}"
        );
        assert_eq!((site.running("eth0"), site.bpffs.fingerprint()), (running, pins.clone()), "{output}");
    }
    // As the message says.
    elsewhere.open_link("kept").unwrap().detach().unwrap();
    elsewhere.unlink("kept").unwrap();
    site.expect("detach", 0);
    assert!(root.find_dir("eth0").unwrap().found().is_none());
    assert_eq!((site.running("eth0"), site.running("eth1")), (None, None));
}

#[test]
#[ignore = "needs root"]
fn a_program_of_ours_that_others_attach_elsewhere_is_theirs_there() {
    require_root!();
    let (site, _veth) = site("borrowed");
    site.lab.veth("eth1", "peer1");
    site.apply();
    let id = site.running("eth0").unwrap();
    let ifindex = IfIndex(site.lab.near().ifindex("eth1").unwrap());
    let program = Program::open_by_id(ProgramId(id)).unwrap();
    let link = site.lab.near().run(|| XdpLink::create(&program, ifindex, XdpMode::Native)).unwrap();
    site.config("[interfaces.eth0]\nnetns = '$NETNS'\n[interfaces.eth1]\nnetns = '$NETNS'\n");
    let refused = site.expect("diff", 2);
    let said = flat(&refused.stdout);
    assert!(said.contains("eth1 runs someone else's program") && !said.contains("is gone"), "{refused}");
    drop(link);
    site.apply();
}

#[test]
#[ignore = "needs root"]
fn a_record_that_cannot_be_read_ends_detach_before_anything_is_changed() {
    require_root!();
    let (site, _veth) = site("unread");
    site.config("[interfaces.eth0]\nnetns = '$NETNS'\n[interfaces.eth1]\nnetns = '$NETNS'\n");
    site.lab.veth("eth1", "peer1");
    site.apply();
    let dir = site.dir("eth0");
    dir.unlink("xdp-owner").unwrap();
    dir.symlink("version=9 from=the-future", "xdp-owner").unwrap();
    let pins = site.bpffs.fingerprint();
    let output = site.expect("detach", 2);
    assert!(output.stderr.contains("`eth0` has a record that cannot be read"), "{output}");
    assert!(output.stderr.contains("nothing was changed"), "{output}");
    assert_eq!(site.bpffs.fingerprint(), pins);
    site.expect("detach --interface eth1", 0);
    assert!(site.running("eth0").is_some() && site.running("eth1").is_none());
    site.run(&format!("detach --pin-root {}", site.root().display())).run().expect_code(0);
    assert!(site.running("eth0").is_none());
}
