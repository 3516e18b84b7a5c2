//! Promises of `xdpd watch`.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Child;
use std::sync::{Arc, Mutex};

use common::{DROP, Site, compile_to};
use rustix::process::{Pid, Signal, kill_process};
use xdpd_testlab::{DEADLINE, Invocation, Netns, require_root, wait_until};

/// A running `xdpd watch`, with what it has said.
struct Watch {
    child: Child,
    said: Arc<Mutex<String>>,
    printed: Arc<Mutex<String>>,
}

impl Watch {
    fn start(invocation: Invocation) -> Self {
        let mut child = invocation.spawn();
        let said = collect(child.stderr.take().unwrap());
        let printed = collect(child.stdout.take().unwrap());
        Self { child, said, printed }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_said(&self, what: &str) {
        wait_until(&format!("`{what}` to be said"), DEADLINE, || self.said().contains(what));
    }

    /// Waits for the end of the n-th apply.
    #[track_caller]
    fn wait_applied(&self, n: usize) {
        wait_until(&format!("apply {n}"), DEADLINE, || self.said().matches("xdpd: applied").count() >= n);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.said());
        self.said()
    }
}

/// What comes out of a pipe, line by line.
fn collect(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&collected);
    std::thread::spawn(move || {
        let (mut pipe, mut line) = (BufReader::new(pipe), String::new());
        while pipe.read_line(&mut line).is_ok_and(|read| read > 0) {
            heard.lock().unwrap().push_str(&std::mem::take(&mut line));
        }
    });
    collected
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(site: &Site) -> Watch {
    Watch::start(site.run("watch config.toml"))
}

#[track_caller]
fn wait_as_the_file_says(site: &Site) {
    wait_until("no difference", DEADLINE, || site.run("diff config.toml").run().code() == Some(0));
}

#[test]
#[ignore = "needs root"]
fn an_edit_is_applied_and_its_end_leaves_everything_attached() {
    require_root!();
    let site = Site::new("edit");
    let veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "");
    let watch = watch(&site);
    watch.wait_applied(1);
    let first = site.running("eth0").unwrap();
    // Saved in place, and by exchange.
    let file = site.lab.dir().join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("xdp_pass_func", "xdp_drop_func")).unwrap();
    watch.wait_applied(2);
    assert_ne!(site.running("eth0"), Some(first));
    site.send(&veth, "eth0", DROP, 5);
    let second = site.running("eth0").unwrap();
    site.lab.write("config.toml", text);
    watch.wait_applied(3);
    assert_ne!(site.running("eth0"), Some(second));
    let last = site.running("eth0");
    let said = watch.stop();
    assert_eq!(said.matches("applied").count(), 3, "{said}");
    assert_eq!(site.running("eth0"), last);
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn an_edit_of_a_list_alone_is_applied_and_a_broken_one_is_not() {
    require_root!();
    let site = Site::new("list");
    site.lab.veth("eth0", "peer0");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs/blocklist.c");
    common::compile_file(&site.lab.dir().join("blocklist.o"), &source, &[]);
    site.lab.write("list.csv", "192.0.2.0/24\n");
    site.config(
        "[programs.p]\nobject = 'blocklist.o'\n[programs.p.maps.blocked4]\nentries = 'list.csv'\n\
         [interfaces.eth0]\nprogram = 'p'\nnetns = '$NETNS'\n",
    );
    let watch = watch(&site);
    watch.wait_applied(1);
    let program = site.running("eth0");
    let keys = || xdpd::entries::read(&site.map("eth0", "blocked4")).unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(keys(), [[24, 0, 0, 0, 192, 0, 2, 0]]);
    site.lab.write("list.csv", "somewhere\n");
    watch.wait_said("the state of before stays in force");
    assert_eq!(keys(), [[24, 0, 0, 0, 192, 0, 2, 0]]);
    site.lab.write("list.csv", "198.51.100.0/24\n");
    watch.wait_applied(2);
    assert_eq!(keys(), [[24, 0, 0, 0, 198, 51, 100, 0]]);
    assert_eq!(site.running("eth0"), program);
    // What somebody else does to the map is mended, like all drift.
    let map = site.dir("eth0").open_map("blocked4", xdpd_kernel::Access::ReadWrite).unwrap();
    map.delete(&keys()[0]).unwrap();
    watch.wait_applied(3);
    assert_eq!(keys(), [[24, 0, 0, 0, 198, 51, 100, 0]]);
    watch.stop();
}

#[test]
#[ignore = "needs root"]
fn a_broken_edit_is_told_once_and_what_was_stays_in_force() {
    require_root!();
    let site = Site::new("broken");
    let veth = site.lab.veth("eth0", "peer0");
    let file = site.one("eth0", "xdp_pass_func", "");
    let watch = watch(&site);
    watch.wait_applied(1);
    let good = fs::read_to_string(&file).unwrap();
    site.lab.write("config.toml", format!("{good}\nmodus = 1\n"));
    watch.wait_said("stays in force");
    assert!(watch.said().contains("config.toml:"), "{}", watch.said());
    // Meanwhile a device comes anew: what was read before is kept up.
    site.lab.delete(&veth);
    site.lab.create(&veth);
    watch.wait_applied(2);
    assert_ne!(site.running("eth0"), None);
    // Mended without another change, there is nothing to apply; it is told all the same.
    site.lab.write("config.toml", &good);
    watch.wait_said("is valid again");
    site.lab.write("config.toml", good.replace("xdp_pass_func", "xdp_drop_func"));
    watch.wait_applied(3);
    let said = watch.stop();
    assert_eq!(said.matches("stays in force").count(), 1, "{said}");
}

#[test]
#[ignore = "needs root"]
fn an_object_that_is_built_anew_is_loaded() {
    require_root!();
    let site = Site::new("object");
    let _veth = site.lab.veth("eth0", "peer0");
    compile_to(&site.lab.dir().join("own.o"), "counter");
    site.config("[programs.own]\nobject = 'own.o'\n[interfaces.eth0]\nnetns = '$NETNS'\nprogram = 'own'\n");
    let watch = watch(&site);
    watch.wait_applied(1);
    let first = site.running("eth0").unwrap();
    let other = compile_to(&site.lab.dir().join("other.o"), "frags");
    site.lab.write("own.o", fs::read(other).unwrap());
    watch.wait_applied(2);
    assert_ne!(site.running("eth0"), Some(first));
    // Something that is no object is refused, and the program stays.
    let second = site.running("eth0");
    site.lab.write("own.o", "no object");
    watch.wait_said("stays in force");
    assert_eq!(site.running("eth0"), second);
    drop(watch.stop());
}

#[test]
#[ignore = "needs root"]
fn a_device_is_attached_when_it_appears_also_in_a_namespace_that_comes_later() {
    require_root!();
    let site = Site::new("appear");
    let later = format!("{}-later", site.netns());
    site.config(&format!("[interfaces.'v*']\nnetns = '$NETNS'\n[interfaces.'w*']\nnetns = '{later}'\n"));
    let watch = watch(&site);
    watch.wait_said("watching");
    let _veths = [site.lab.veth("v0", "p0"), site.lab.veth("v1", "p1")];
    wait_until("both devices to be attached", DEADLINE, || {
        site.running("v0").is_some() && site.running("v1").is_some()
    });
    let netns = Netns::create(&later);
    netns.ip("link add w0 type veth peer name p0");
    let running = || netns.run(|| xdpd_kernel::netlink::devices().unwrap());
    wait_until("the device of the new namespace to be attached", DEADLINE, || {
        running().iter().any(|d| d.name == "w0" && !d.xdp.is_empty())
    });
    wait_as_the_file_says(&site);
    drop(watch);
}

#[test]
#[ignore = "needs root"]
fn drift_is_repaired_and_told() {
    require_root!();
    let site = Site::new("drift");
    let _veth = site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "");
    let watch = watch(&site);
    watch.wait_applied(1);
    site.link("eth0").detach().unwrap();
    watch.wait_applied(2);
    watch.wait_said("the link is detached from device eth0");
    assert_ne!(site.running("eth0"), None);
    site.dir("eth0").unlink("xdp_stats_map").unwrap();
    watch.wait_applied(3);
    watch.wait_said("the pin of map xdp_stats_map is gone");
    assert!(site.root().join("eth0/xdp_stats_map").exists());
    drop(watch.stop());
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_done_is_said_once_and_done_when_it_can_be() {
    require_root!();
    let site = Site::new("absent");
    site.one("eth0", "xdp_pass_func", "");
    let watch = watch(&site);
    watch.wait_said("no device `eth0`");
    // A signal asks for another look, and for saying it again.
    watch.signal(Signal::HUP);
    wait_until("it to be said again", DEADLINE, || watch.said().matches("no device `eth0`").count() == 2);
    let _veth = site.lab.veth("eth0", "peer0");
    watch.wait_applied(1);
    assert_ne!(site.running("eth0"), None);
    let said = watch.stop();
    assert_eq!(said.matches("no device `eth0`").count(), 2, "{said}");
}

#[test]
#[ignore = "needs root"]
fn an_optional_device_is_waited_for_and_that_is_said_once() {
    require_root!();
    let site = Site::new("optional");
    site.one("eth0", "xdp_pass_func", "optional = true");
    let watch = watch(&site);
    watch.wait_said("no device `eth0`");
    let veth = site.lab.veth("eth0", "peer0");
    watch.wait_applied(1);
    assert_ne!(site.running("eth0"), None);
    site.lab.delete(&veth);
    watch.wait_said("its pins stay");
    site.lab.create(&veth);
    watch.wait_applied(2);
    assert_ne!(site.running("eth0"), None);
    let said = watch.stop();
    assert_eq!(said.matches("no device `eth0`").count(), 2, "once each time: {said}");
}

#[test]
#[ignore = "needs root"]
fn legend_and_notes_are_told_once_over_many_edits() {
    require_root!();
    let site = Site::new("told");
    let _veth = site.lab.veth("eth0", "peer0");
    let file = |function: &str| {
        site.config(&format!(
            "[programs.p]\nobject = 'builtin'\nfunction = '{function}'\n[interfaces.eth0]\nprogram = 'p'\n\
             netns = '$NETNS'\n[interfaces.late0]\nnetns = '$NETNS'\noptional = true\n"
        ));
    };
    file("xdp_pass_func");
    let watch = watch(&site);
    watch.wait_applied(1);
    for (n, function) in ["xdp_drop_func", "xdp_tx_func", "xdp_pass_func"].into_iter().enumerate() {
        file(function);
        watch.wait_applied(n + 2);
    }
    let printed = || watch.printed.lock().unwrap().clone();
    wait_until("all four plans", DEADLINE, || printed().matches("Plan: ").count() == 4);
    assert_eq!(printed().matches("+ apply adds").count(), 1, "{}", printed());
    assert_eq!(watch.said().matches("no device `late0`").count(), 1, "{}", watch.said());
    watch.stop();
}

#[test]
#[ignore = "needs root"]
fn a_file_that_is_wrong_from_the_start_ends_it() {
    require_root!();
    let site = Site::new("wrong");
    site.config("modus = 1\n");
    let output = site.expect("watch", 2);
    assert!(output.stderr.contains("unknown key"), "{}", output.stderr);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_service_manager_is_told() {
    require_root!();
    let site = Site::new("service");
    let _veth = site.lab.veth("eth0", "peer0");
    let name = format!("xdpd-{}", site.netns());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    site.one("eth0", "xdp_pass_func", "");
    let watch = Watch::start(site.run("watch config.toml").env("NOTIFY_SOCKET", format!("@{name}")));
    assert!(told().starts_with("READY=1\nSTATUS=1 interface as "));
    assert!(site.running("eth0").is_some());
    watch.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(told().starts_with("READY=1\n"));
    drop(watch.stop());
    assert_eq!(told(), "STOPPING=1");
}
