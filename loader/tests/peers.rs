//! Peers as Debian packages them, xdp-loader, iproute2 and bpftool: who may do what to whom.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "peers/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use common::state::State;
use common::strace::{Fault, strace, traced};
use common::{DROP, Site, Stop, flat, report};
use rustix::process::{Signal, kill_process};
use table::{Before, Ends, ROWS, Row, Runs};
use xdpd_kernel::{
    AttachError, IfIndex, Insn, Program, ProgramId, Refusal, XdpLink, XdpLoad, XdpMode, netlink,
};
use xdpd_testlab::{Bpffs, DEADLINE, Invocation, Output, Veth, require_root, wait_until, xdpd};

/// A device that xdpd looks after, another one, and a program of somebody else's.
struct Stand {
    /// Where the peers pin: what they find at /sys/fs/bpf, so that the machine's stays as it is.
    theirs: Bpffs,
    site: Site,
    veth: Veth,
    mode: XdpMode,
    /// Their `bpf_link`.
    link: Option<XdpLink>,
}

impl Stand {
    fn new(mode: XdpMode) -> Self {
        let site = Site::new("peers");
        let veth = site.lab.veth("eth0", "peer0");
        site.lab.veth("other0", "peer1");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/no_maps.c");
        common::compile_file(&site.lab.dir().join("theirs.o"), &source, &[]);
        let stand = Self { site, veth, theirs: Bpffs::private(), mode, link: None };
        stand.file("xdp_drop_func");
        stand.peer(&format!("bpftool prog load theirs.o {}", stand.pin())).expect_code(0);
        stand
    }

    fn file(&self, function: &str) {
        self.site.one("eth0", function, &format!("mode = \"{}\"", self.mode));
    }

    /// Brings about what is there before.
    fn prepare(&mut self, before: Before) {
        let attach = format!("bpftool net attach <mode> pinned {} dev eth0", self.pin());
        match before {
            // In one mode before xdpd has ever been here, in the other after it has.
            Before::Free if self.mode == XdpMode::Native => {}
            Before::Free => {
                self.site.apply();
                self.site.expect("detach", 0);
            }
            Before::Ours | Before::Native | Before::Generic => drop(self.site.apply()),
            Before::Theirs => drop(self.peer(&attach).expect_code(0)),
            Before::TheirLink => {
                let program = Program::load_xdp_returning("theirs", 2).unwrap();
                let ifindex = IfIndex(self.site.lab.near().ifindex("eth0").unwrap());
                let create = || XdpLink::create(&program, ifindex, self.mode);
                self.link = Some(self.site.lab.near().run(create).unwrap());
            }
            Before::Taken => {
                self.peer(&attach).expect_code(0);
                self.site.run("apply config.toml --takeover").run().expect_code(0);
            }
        }
    }

    /// The id of our link; 0 where there is none.
    fn link_id(&self) -> u32 {
        let links = XdpLink::all_xdp().unwrap();
        let running = self.site.running("eth0");
        links.iter().find(|link| Some(link.program_id.0) == running).map_or(0, |link| link.id.0)
    }

    fn pin(&self) -> String {
        self.theirs.path().join("theirs").display().to_string()
    }

    /// Runs a peer's command line beside the devices, or xdpd's.
    fn peer(&self, line: &str) -> Output {
        // xdp-loader takes a lock in /run and does not wait for it: each gets one of its own.
        const SCRIPT: &str = "mount --bind \"$0\" /sys/fs/bpf || exit 99
            case $1 in xdp-loader) mount -t tmpfs none /run || exit 99; esac
            exec \"$@\"";
        let (mode, other, m) = match self.mode {
            XdpMode::Generic => ("xdpgeneric", "xdpdrv", "skb"),
            _ => ("xdpdrv", "xdpgeneric", "native"),
        };
        // bpftool gives every CPU the same value.
        let entry = format!("key 0 0 0 0 value {}", "7 ".repeat(16));
        let line = line
            .replace("<mode>", mode)
            .replace("<other>", other)
            .replace("<m>", m)
            .replace("<pin>", &self.pin())
            .replace("<root>", &self.site.root().display().to_string())
            .replace("<peers>", &self.theirs.path().display().to_string())
            .replace("<other netns>", self.site.lab.far().name())
            .replace("<id>", &self.site.running("eth0").unwrap_or_default().to_string())
            .replace("<link id>", &self.link_id().to_string())
            .replace("<key and value>", &entry);
        if let Some(command) = line.strip_prefix("xdpd ") {
            return self.site.run(&command.replacen(' ', " config.toml ", 1)).run();
        }
        Invocation::of("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", SCRIPT])
            .arg(self.theirs.path())
            .args(line.split_whitespace())
            .current_dir(self.site.lab.dir())
            .netns(self.site.lab.near())
            .run()
    }

    fn state(&self) -> State {
        State::of(&self.site, &[], &[])
    }

    /// Goes through a row; tells whether the stand is as it was.
    fn check(&self, row: &Row) -> bool {
        let Row { before, does, ends, runs, status, codes: [diff, apply, takeover] } = *row;
        let context = format!("{before:?} in {} mode: {does}", self.mode);
        let (ran, pins) = (self.site.running("eth0"), self.state());
        let output = self.peer(does);
        let said = flat(&format!("{}{}", output.stdout, output.stderr));
        match ends {
            Ends::Refused(says) => {
                assert!(output.code() != Some(0) && said.contains(says), "{context}: {output}");
            }
            Ends::Done | Ends::Ignored => assert_eq!(output.code(), Some(0), "{context}: {output}"),
        }
        let is_untouched = ends != Ends::Done;
        if is_untouched {
            assert_eq!((self.site.running("eth0"), &self.state()), (ran, &pins), "{context}");
        }
        match runs {
            // The kernel frees a link in the background.
            Runs::None => wait_until("nothing to run", DEADLINE, || self.site.running("eth0").is_none()),
            Runs::Away => assert!(XdpLink::all_xdp().unwrap().iter().any(|l| Some(l.program_id.0) == ran)),
            Runs::Ours | Runs::Theirs => {
                let id = self.site.running("eth0").unwrap_or_else(|| panic!("{context}"));
                let name = Program::open_by_id(ProgramId(id)).unwrap().info().unwrap().name;
                assert_eq!(name.ends_with("_func"), runs == Runs::Ours, "{context}: {name}");
            }
        }
        let ran = self.site.running("eth0");

        let told = self.site.expect("status", 0).stdout;
        assert!(told.contains(status), "{context}: {told}");
        if status.is_empty() {
            assert!(
                !["foreign", "drift", "not attached"].iter().any(|s| told.contains(s)),
                "{context}: {told}"
            );
        }
        let run = |command: &str, code: i32| {
            let output = self.site.run(&command.replacen(' ', " config.toml ", 1)).run();
            assert_eq!(output.code(), Some(code), "{context}: {output}");
        };
        run("diff ", diff);
        run("apply ", apply);
        if apply == 2 {
            assert_eq!(self.site.running("eth0"), ran, "{context}: a refused apply does nothing");
            run("apply --takeover", takeover);
        }
        if takeover == 2 {
            assert_eq!(self.site.running("eth0"), ran, "{context}: a refused takeover does nothing");
            run("detach ", 0);
            return false;
        }
        // Whatever was done: the next edit of the file is applied in place.
        self.file("xdp_pass_func");
        run("apply ", 0);
        run("diff ", 0);
        self.file("xdp_drop_func");
        run("apply ", 0);
        if is_untouched && row.is_ours() {
            return true;
        }
        // And what is detached is, whoever else has the link.
        run("detach ", 0);
        assert_eq!(self.site.running("eth0"), None, "{context}");
        false
    }
}

#[test]
#[ignore = "needs root"]
fn who_may_do_what_to_whom() {
    require_root!();
    // Two at a time: the kernel's own waiting is most of it.
    std::thread::scope(|scope| {
        for mode in [XdpMode::Native, XdpMode::Generic] {
            scope.spawn(move || {
                let mut ready: Option<Stand> = None;
                let other = if mode == XdpMode::Native { Before::Generic } else { Before::Native };
                for row in ROWS.iter().filter(|row| row.before != other) {
                    let stand = ready.take().filter(|_| row.is_ours()).unwrap_or_else(|| {
                        let mut stand = Stand::new(mode);
                        stand.prepare(row.before);
                        stand
                    });
                    ready = stand.check(row).then_some(stand);
                }
            });
        }
    });
}

/// The object that libxdp itself loads, but for the programs that it would put into it.
#[test]
#[ignore = "needs root"]
fn what_xdp_loader_takes_for_a_dispatcher_is_one_for_xdpd() {
    use object::{Object as _, ObjectSection as _};
    require_root!();
    let stand = Stand::new(XdpMode::Native);
    let theirs = format!("/usr/lib/{}-linux-gnu/bpf/xdp-dispatcher.o", std::env::consts::ARCH);
    let mut bytes =
        std::fs::read(&theirs).unwrap_or_else(|e| panic!("{theirs}: {e}; is xdp-tools installed?"));
    let constants =
        object::File::parse(&*bytes).unwrap().section_by_name(".rodata").unwrap().file_range().unwrap();
    let begin = usize::try_from(constants.0).unwrap();
    bytes[begin..begin + 3].copy_from_slice(&[236, 2, 4]);
    stand.site.lab.write("dispatcher.o", bytes);
    let pin = stand.theirs.path().join("dispatcher").display().to_string();
    stand.peer(&format!("bpftool prog load dispatcher.o {pin}")).expect_code(0);
    stand.peer(&format!("bpftool net attach xdp pinned {pin} dev eth0")).expect_code(0);
    let witness = stand.peer("xdp-loader status eth0");
    assert!(witness.stdout.contains("xdp_dispatcher"), "{witness}");
    for (command, code) in [("status", 0), ("diff", 2), ("apply", 2)] {
        let text = flat(&stand.site.expect(command, code).stdout);
        assert!(text.contains("libxdp dispatcher (version 2, 4 programs,"), "{command}: {text}");
    }
    let status = stand.site.run("status config.toml --json").run().expect_code(0).json();
    let expected = serde_json::json!({"version": 2, "programs": 4});
    assert_eq!(status["foreign_programs"][0]["dispatcher"], expected, "{status}");
    // It is a program like any other for who wants its place.
    let taken = stand.site.run("apply config.toml --takeover").run().expect_code(0);
    assert!(flat(&taken.stdout).contains("takes the place of someone else's libxdp dispatcher"), "{taken}");
    stand.site.send(&stand.veth, "eth0", DROP, 3);
}

#[test]
#[ignore = "needs root"]
fn a_peer_that_comes_and_goes_during_applies_is_never_harmed() {
    require_root!();
    let site = Site::new("race");
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_drop_func", "");
    let theirs = Program::load_xdp_returning("theirs", 2).unwrap();
    let ifindex = IfIndex(site.lab.near().ifindex("eth0").unwrap());
    let stop = Stop::default();
    let stopped = stop.handle();
    let come_and_go = || {
        let (mut attached, mut refused) = (0, 0);
        while !stopped.get() {
            match netlink::attach_netlink(ifindex, &theirs, XdpMode::Native, None) {
                Ok(()) => attached += 1,
                Err(e) => {
                    // Ours may be gone again when it is looked at.
                    let is_busy = matches!(e, AttachError::Refused { refusal: Refusal::Busy, .. });
                    assert!(is_busy || matches!(e, AttachError::Taken { .. }), "{e}");
                    refused += 1;
                    continue;
                }
            }
            // For ever other times, so that it is met at every moment of an apply.
            std::thread::sleep(Duration::from_millis(attached * 3 % 10));
            // It goes only where it still runs.
            netlink::detach_netlink(ifindex, XdpMode::Native, &theirs).expect("nobody else has removed it");
            std::thread::sleep(Duration::from_millis(attached * 7 % 40));
        }
        (attached, refused)
    };
    let mut codes = BTreeMap::<i32, usize>::new();
    let (attached, refused) = std::thread::scope(|scope| {
        let peer = scope.spawn(|| site.lab.near().run(come_and_go));
        for _ in 0..40 {
            let apply = site.run("apply config.toml").run();
            let code = apply.code().unwrap();
            *codes.entry(code).or_default() += 1;
            match code {
                0 => assert_ne!(site.running("eth0").unwrap(), theirs.info().unwrap().id.0),
                // They were there when it looked, or when it came to attach.
                2 | 3 => assert_eq!(site.bpffs.tree(), Vec::<String>::new(), "{apply}"),
                _ => panic!("{apply}"),
            }
            site.expect("detach", 0);
        }
        drop(stop);
        peer.join().unwrap()
    });
    report(format_args!("exit codes {codes:?}; theirs: {attached} times attached, {refused} times refused"));
    assert!(codes[&0] > 0 && attached > 0 && refused > 0, "both had their turn");
}

/// A peer comes between the plan and the commit: `xdpd` is stopped before the call that it comes before.
#[test]
#[ignore = "needs root"]
fn who_comes_between_the_plan_and_the_commit_is_told() {
    require_root!();
    let site = Site::new("between");
    site.lab.veth("eth0", "peer0");
    let log = site.lab.dir().join("strace.log");
    let apply = |faults: &[Fault<'_>]| {
        let strace = strace(&log, faults).arg(xdpd().path()).args(["apply", "config.toml"]);
        // In the namespace of the device: there, all calls are made by one thread, and strace counts per thread.
        strace.current_dir(site.lab.dir()).netns(site.lab.near())
    };
    let bpf_calls = || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines().filter(|line| line.starts_with("bpf(")).map(str::to_owned).collect::<Vec<_>>()
    };
    // Who comes before the call `before`, and what an apply says then that is like the one before.
    let meanwhile = |before: &str, peer: &dyn Fn()| {
        let n = bpf_calls().iter().position(|line| line.contains(before)).expect("the call");
        let _ = std::fs::remove_file(&log);
        let apply = apply(&[("bpf", "signal=STOP", n)]).spawn();
        // The signal comes with the end of that call.
        wait_until("the calls before", DEADLINE, || bpf_calls().len() == n);
        peer();
        kill_process(traced(&apply), Signal::CONT).unwrap();
        let output = apply.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        said.trim_end().to_owned()
    };

    let theirs = Program::load_xdp_returning("theirs", 2).unwrap();
    let id = theirs.info().unwrap().id;
    let ifindex = IfIndex(site.lab.near().ifindex("eth0").unwrap());
    site.config("[interfaces.eth0]\nmode = ['native', 'generic']\n");
    apply(&[]).run().expect_code(0);
    for (mode, words) in
        [(XdpMode::Native, "Device or resource busy (EBUSY)"), (XdpMode::Generic, "File exists (EEXIST)")]
    {
        site.expect("detach", 0);
        let said = meanwhile("BPF_LINK_CREATE", &|| {
            site.lab.near().run(|| netlink::attach_netlink(ifindex, &theirs, mode, None)).unwrap();
        });
        let expected = format!(
            "xdpd: eth0: cannot attach: BPF_LINK_CREATE of interface {ifindex} (native): {words}; another program, id {id}, \
             runs there since, `xdpd diff` names it; nothing was changed"
        );
        assert_eq!(said, expected);
        assert_eq!(site.running("eth0"), Some(id.0));
        assert_eq!(site.bpffs.tree(), Vec::<String>::new());
        site.lab.near().run(|| netlink::detach_netlink(ifindex, mode, &theirs)).unwrap();
        apply(&[]).run().expect_code(0);
    }

    let file = |function: &str| {
        let program = format!("[programs.p]\nobject = 'builtin'\nfunction = '{function}'\n");
        site.config(&format!("{program}[interfaces.eth0]\nprogram = 'p'\n"));
    };
    file("xdp_tx_func");
    apply(&[]).run().expect_code(0);
    let ran = Program::open_by_id(ProgramId(site.running("eth0").unwrap())).unwrap();
    file("xdp_drop_func");
    let link = site.link("eth0");
    // What is built in declares no attach type.
    let license = CString::new("GPL").unwrap();
    let insns = [Insn::mov(0, 2), Insn::exit()];
    let load = XdpLoad {
        name: "theirs",
        insns: &insns,
        license: &license,
        frags: false,
        attach_type: 0,
        debug: None,
    };
    let theirs = load.load(None).unwrap();
    let id = theirs.info().unwrap().id;
    // By another process that has the pin.
    let said = meanwhile("BPF_LINK_UPDATE", &|| link.update(&theirs, &ran).unwrap());
    let expected = format!(
        "Operation not permitted (EPERM); another program, id {id}, runs there since, `xdpd diff` names it; nothing was \
         changed"
    );
    assert!(said.ends_with(&expected), "{said}");
    assert_eq!(site.running("eth0"), Some(id.0));
    // Or the link is detached: the device is there all the same.
    link.update(&ran, &theirs).unwrap();
    apply(&[]).run().expect_code(0);
    file("xdp_tx_func");
    let said = meanwhile("BPF_LINK_UPDATE", &|| link.detach().unwrap());
    let expected = "Link has been severed (ENOLINK); the link was detached meanwhile; nothing was changed";
    assert!(said.ends_with(expected), "{said}");
    site.expect("detach", 0);
}

#[test]
fn the_table_is_that_of_the_documentation() {
    const BEGIN: &str = "<!-- begin of the table of loader/tests/peers -->\n";
    const END: &str = "<!-- end of the table -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the begin of the table");
    let (found, tail) = rest.split_once(END).expect("the end of the table");
    let table = table::markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
    } else {
        assert!(found == table, "UPDATE_GOLDEN=1 writes the table into {}; it is:\n{table}", path.display());
    }
}
