//! Six interfaces on a pin root of their own that an apply changes in six ways, and who may read.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, Ordering};

use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_ARRAY;
use xdpd_kernel::{IfIndex, Program, XdpMode, netlink};
use xdpd_testlab::{Invocation, Output, Veth, wait_until, xdpd};

use super::state::{Running, State, What, running};
use super::strace::{Fault, strace};
use super::{DROP, Site, builtin_object, object_with, set_word};

/// The devices, each named after what becomes of it.
pub const DEVICES: [&str; 7] =
    ["added", "function", "relabelled", "removed", "replaced", "switched", "taken"];

pub const BEFORE: &str = "
    [interfaces.function]
    program = 'drop'
    [interfaces.one-label]
    name = 'relabelled'
    program = 'drop'
    [interfaces.removed]
    program = 'drop'
    [interfaces.replaced]
    program = 'drop'
    [interfaces.switched]
    program = 'drop'
    mode = 'native'
";
pub const AFTER: &str = "
    [stats]
    group = 12345
    [interfaces.added]
    program = 'pass'
    [interfaces.function]
    program = 'pass'
    reuse = 'never'
    [interfaces.other-label]
    name = 'relabelled'
    program = 'drop'
    [interfaces.replaced]
    program = 'other'
    [interfaces.switched]
    program = 'drop'
    mode = ['offload', 'generic']
";

/// A takeover has a stand of its own: looking for who holds a program of someone else's takes a call for each link on the
/// machine, so the calls of an apply would be others with every test that runs beside this one.
pub const NOTHING: &str = "";
pub const TAKEN: &str = "
    [interfaces.taken]
    program = 'pass'
";

/// Entries are carried over, with a stand of their own for the many calls of that.
pub const PLAIN: &str = "
    [interfaces.replaced]
    program = 'drop'
    reuse = 'migrate'
";
pub const MIGRATED: &str = "
    [interfaces.replaced]
    program = 'other'
    reuse = 'migrate'
";

/// The labels of a file, sorted.
pub fn labels(file: &str) -> impl Iterator<Item = &str> {
    file.lines().filter_map(|line| line.trim().strip_prefix("[interfaces.")?.strip_suffix(']'))
}

/// What a file wants to run on a device: the function and the mode.
pub fn wanted(file: &str, device: &str) -> Option<(&'static str, XdpMode)> {
    let mut blocks = file.split("[interfaces.").skip(1);
    let block = blocks.find(|block| {
        block.starts_with(&format!("{device}]")) || block.contains(&format!("name = '{device}'"))
    })?;
    let functions = [("'drop'", "xdp_drop_func"), ("'pass'", "xdp_pass_func"), ("'other'", "xdp_tx_func")];
    let (_, function) = functions.into_iter().find(|(program, _)| block.contains(program))?;
    // The kernel keeps 15 characters, of which these names have fewer.
    let mode = if block.contains("'generic'") { XdpMode::Generic } else { XdpMode::Native };
    Some((function, mode))
}

/// A pin root and devices that are as the file said before.
pub struct Stand {
    /// The interfaces in the file before the apply, and after it.
    pub way: (&'static str, &'static str),
    pub site: Site,
    pub veths: Vec<Veth>,
    /// A program of someone else's, on the device that is taken over, and its mode: another one for every second process.
    pub theirs: (Program, XdpMode),
    /// The size of the maps, by which those of this stand are told from all others of their type in the kernel.
    pub entries: u32,
}

impl Stand {
    pub fn new(name: &str, way: (&'static str, &'static str)) -> Self {
        static STANDS: AtomicU32 = AtomicU32::new(0);
        let site = Site::new(name);
        let veths = site.lab.veths_called(&DEVICES);
        let entries = 300 + 2 * (std::process::id() % 100 * 8 + STANDS.fetch_add(1, Ordering::Relaxed));
        for (file, entries) in [("one.o", entries), ("two.o", entries + 1)] {
            let path = site.lab.write(file, builtin_object());
            object_with(&path, "maps/xdp_stats_map", |map| set_word(map, 3, entries));
        }
        let mode = [XdpMode::Native, XdpMode::Generic][std::process::id() as usize % 2];
        let theirs = (Program::load_xdp_returning("theirs", 2).unwrap(), mode);
        let stand = Self { way, site, veths, theirs, entries };
        stand.file(way.0);
        stand.reset();
        stand
    }

    pub fn file(&self, interfaces: &str) {
        self.site.config(&format!(
            "[programs.drop]\nobject = 'one.o'\nfunction = 'xdp_drop_func'\n\
             [programs.pass]\nobject = 'one.o'\nfunction = 'xdp_pass_func'\n\
             [programs.other]\nobject = 'two.o'\nfunction = 'xdp_tx_func'\n{interfaces}"
        ));
    }

    pub fn xdpd(&self, arguments: &str) -> Output {
        self.invocation(Invocation::of(xdpd().path())).args(arguments.split_whitespace()).run()
    }

    /// In the namespace of the devices: there, xdpd needs no thread of its own for each look at it, and strace counts
    /// calls per thread.
    pub fn invocation(&self, invocation: Invocation) -> Invocation {
        invocation.netns(self.site.lab.near()).current_dir(self.site.lab.dir())
    }

    /// Applies, with a fault at the n-th of these calls; gives the calls, too. `None`: there are fewer.
    pub fn apply_with(&self, calls: &str, fault: &str, n: usize) -> Option<(Output, String)> {
        let (output, log) = self.strace(&[(calls, fault, n)]);
        (output.status.signal() == Some(9) || log.contains("(INJECTED)")).then_some((output, log))
    }

    /// Applies with faults, each at the n-th of some calls; gives the calls of all kinds, too.
    pub fn strace(&self, faults: &[Fault<'_>]) -> (Output, String) {
        let log = self.site.lab.dir().join("strace.log");
        let strace = self.invocation(strace(&log, faults));
        let output = strace.arg(xdpd().path()).args(["apply", "config.toml", "--takeover", "--json"]).run();
        (output, std::fs::read_to_string(log).expect("the log of strace"))
    }

    /// Makes the state before, always the same: something counted in each map, none of them retired.
    pub fn reset(&self) {
        self.xdpd("detach config.toml").expect_code(0);
        self.file(self.way.0);
        self.xdpd("apply config.toml").expect_code(0);
        for label in labels(self.way.0) {
            let device = if label == "one-label" { "relabelled" } else { label };
            let veth = self.veths.iter().find(|veth| veth.near == device).expect("the device of a label");
            self.site.send(veth, label, DROP, 3);
        }
        self.attach_theirs();
        self.file(self.way.1);
    }

    /// Someone else attaches a program through netlink, where nothing runs.
    pub fn attach_theirs(&self) {
        if self.way.1 == TAKEN && self.attached()["taken"].is_empty() {
            let ifindex = IfIndex(self.site.lab.near().ifindex("taken").unwrap());
            let attach = || netlink::attach_netlink(ifindex, &self.theirs.0, self.theirs.1, None);
            self.site.lab.near().run(attach).unwrap();
        }
    }

    pub fn state(&self) -> State {
        let state = State::of(&self.site, &DEVICES, &["switched"]);
        let sizes = state.pins.values().filter_map(|pin| match &pin.what {
            What::Map { entries, .. } => Some(*entries),
            _ => None,
        });
        assert!(sizes.into_iter().all(|size| [self.entries, self.entries + 1].contains(&size)));
        state
    }

    pub fn attached(&self) -> Running {
        running(&self.site, &DEVICES)
    }

    /// The state is what the file says, and nothing is there beside it.
    #[track_caller]
    pub fn assert_converged(&self, file: &str, context: &str) {
        let diff = self.xdpd("diff config.toml");
        assert_eq!(diff.code(), Some(0), "{context}: {diff}");
        // The lock, and the note in it, are no part of the state: a kill may leave them, or come before the note.
        let state = self.state();
        let pins: Vec<&String> = state.pins.keys().filter(|path| !path.starts_with("%lock")).collect();
        let entries = |label: &str| {
            ["", "/xdp-link", "/xdp-owner", "/xdp_stats_map"].map(|entry| format!("{label}{entry}"))
        };
        let mut expected: Vec<String> = labels(file).flat_map(entries).collect();
        expected.sort();
        assert_eq!(pins, expected.iter().collect::<Vec<_>>(), "{context}");
        if [PLAIN, MIGRATED].contains(&file) {
            assert_eq!(
                self.site.packets("replaced", DROP),
                3,
                "{context}: what was counted is carried along"
            );
        }
    }

    /// Each device runs what it ran before, or what the file says, with its map pinned. Only the change of mode and the
    /// takeover, which are announced as gaps, may have left one without.
    #[track_caller]
    pub fn assert_old_or_new(&self, before: &Running, file: &str, context: &str) {
        let pins = self.state().pins;
        for (device, now) in self.attached() {
            let context = format!("{device}, {context}: {now:?}");
            let ran = &before[&device];
            let [attached] = &*now else {
                let may_be_none = ["switched", "taken"].contains(&device)
                    || ran.is_empty()
                    || wanted(file, device).is_none();
                assert!(now.is_empty() && may_be_none, "{context}");
                continue;
            };
            let program = Program::open_by_id(attached.program_id).unwrap().info().unwrap();
            let is_new = wanted(file, device) == Some((&*program.name, attached.mode));
            assert!(is_new || now == *ran, "{context}");
            if program.id == self.theirs.0.info().unwrap().id {
                continue;
            }
            let is_pinned = pins
                .values()
                .any(|pin| matches!(&pin.what, What::Map { id, .. } if program.map_ids.contains(id)));
            assert!(is_pinned, "{context}: its map is not pinned: {pins:?}");
        }
    }

    /// Nothing of this test is left, neither on the bpffs nor in the kernel: each of its programs and links would hold
    /// a map.
    pub fn assert_no_residue(&self) {
        self.xdpd("detach config.toml").expect_code(0);
        // A pin root whose maker was killed before it had noted that is taken for the operator's.
        let tree = self.site.bpffs.tree();
        assert!(tree.is_empty() || tree == ["xdpd/"], "{tree:?}");
        assert!(self.attached().iter().all(|(device, xdp)| *device == "taken" || xdp.is_empty()));
        let ours = || {
            let maps = xdpd_kernel::Map::ids()
                .filter_map(|id| xdpd_kernel::Map::open_by_id(id.ok()?).ok())
                .filter(|map| map.def().map_type == BPF_MAP_TYPE_PERCPU_ARRAY)
                .filter(|map| [self.entries, self.entries + 1].contains(&map.def().max_entries));
            maps.map(|map| map.id()).collect::<Vec<_>>()
        };
        wait_until("the last map to be gone", xdpd_testlab::DEADLINE, || ours().is_empty());
    }
}
