//! What the tests of the reader stand on: pins made as `xdpd` makes them, without `xdpd`, and a reader that is held
//! between two ticks for as long as a test changes something.
#![allow(clippy::unwrap_used)] // helpers of tests
#![allow(dead_code, unreachable_pub)] // a module of each test binary, of which every one uses its part

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use xdpd_config::{Label, Mode, OWNER_PIN, Record, retired};
use xdpd_kernel::{Dir, Map, MapDef, MapId};
use xdpd_testlab::{Bpffs, DEADLINE, Invocation, Lock, Stats, wait_for, wait_until, xdp_stats};

/// The map that is read unless the config names another.
pub const MAP: &str = "xdp_stats_map";
/// The bytes of each packet that [`add`] counts.
pub const SIZE: u64 = 64;
pub const DROP: u32 = 1;
pub const PASS: u32 = 2;
pub const TX: u32 = 3;

const HASH: u32 = 1;
const PERCPU_ARRAY: u32 = 6;

/// A private bpffs and a config that everybody may read.
pub struct Site {
    pub bpffs: Bpffs,
    pub dir: TempDir,
    // Beside other tests, but not beside one that counts the kernel's objects.
    _lock: Lock,
}

/// What `xdpd` pins for an interface.
pub struct Pins<'a> {
    pub generation: u64,
    pub map: &'a Map,
    /// Retired maps, each with the last generation in which it was current.
    pub retired: &'a [(u64, &'a Map)],
    /// The map whose entries were carried over to `map`.
    pub base: Option<MapId>,
}

impl Site {
    /// A site with an empty pin root, and a config of this text behind the pin root.
    pub fn new(text: &str) -> Self {
        let lock = Lock::shared();
        let bpffs = Bpffs::private();
        std::fs::create_dir(bpffs.pin_root()).unwrap();
        let site = Self { bpffs, dir: tempfile::tempdir().unwrap(), _lock: lock };
        for dir in [site.bpffs.pin_root(), site.dir.path().to_owned()] {
            std::fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        }
        site.config(text);
        site
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Saves the config: the pin root on the first line, then `text`.
    pub fn config(&self, text: &str) {
        save(&self.config_path(), &format!("pin_root = \"{}\"\n{text}", self.bpffs.pin_root().display()));
    }

    pub fn root(&self) -> Dir {
        Dir::open(self.bpffs.pin_root()).unwrap()
    }

    /// `xdp-stats` with the site's config.
    pub fn stats(&self) -> Invocation {
        xdp_stats().arg("--config").arg(self.config_path())
    }

    /// A reader with short ticks.
    pub fn follow(&self) -> Stats {
        Stats::spawn(self.stats().args(["--interval", "25ms"]))
    }

    /// Pins a map alone, without a record, as other loaders do.
    pub fn pin(&self, label: &str, map: &Map) {
        let stage = self.stage();
        stage.pin(MAP, map).unwrap();
        self.commit(label);
    }

    /// Pins what an apply of `xdpd` pins.
    pub fn apply(&self, label: &str, pins: &Pins<'_>) {
        self.apply_migrated(label, pins, &[]);
    }

    /// The same, with `bases` of retired maps: map id, and the id of the map whose entries were carried over to it.
    pub fn apply_migrated(&self, label: &str, pins: &Pins<'_>, bases: &[(MapId, MapId)]) {
        let Pins { generation, map, retired, base } = pins;
        let base_of = |id: MapId| bases.iter().find(|(map, _)| *map == id).map(|(_, base)| base.0);
        let retired_bases = retired.iter().filter_map(|(generation, map)| {
            Some((retired::name(MAP, *generation, map.id().0), base_of(map.id())?))
        });
        let stage = self.stage();
        stage.pin(MAP, *map).unwrap();
        for (generation, map) in *retired {
            stage.pin(retired::name(MAP, *generation, map.id().0), *map).unwrap();
        }
        let record = Record {
            version: Record::VERSION,
            generation: *generation,
            config: self.config_path(),
            device: format!("dev-{label}"),
            ifindex: 4_000_007,
            netns: (4, 4_026_531_840),
            netns_name: None,
            mode: Mode::Native,
            object: "builtin:0".to_owned(),
            globals: None,
            values: [].into(),
            function: "xdp_pass_func".to_owned(),
            program: 1,
            attach_type: 0,
            maps: [(MAP.to_owned(), map.id().0)].into(),
            inner: [].into(),
            base: base.iter().map(|base| (MAP.to_owned(), base.0)).chain(retired_bases).collect(),
            retired: retired.iter().map(|(_, map)| (map.id().0, 0)).collect(),
        };
        stage.symlink(record.format(), OWNER_PIN).unwrap();
        self.commit(label);
    }

    /// Pins a map beside a record with this text.
    pub fn pin_beside_record(&self, label: &str, map: &Map, text: &str) {
        let stage = self.stage();
        stage.pin(MAP, map).unwrap();
        stage.symlink(text, OWNER_PIN).unwrap();
        self.commit(label);
    }

    fn stage(&self) -> Dir {
        self.root().mkdir("%next-stage", 0o755).unwrap();
        self.root().open_dir("%next-stage").unwrap()
    }

    /// Puts what is staged in its place, in one step.
    fn commit(&self, label: &str) {
        let (root, name) = (self.root(), Label::try_new(label).unwrap().file_name());
        if root.stat(&name).is_ok() {
            root.exchange("%next-stage", &name).unwrap();
            root.remove_all("%next-stage").unwrap();
        } else {
            root.rename_noreplace("%next-stage", &name).unwrap();
        }
    }
}

/// Saves a file in one step, so that however slow the machine is, no half of it is ever read.
pub fn save(path: &Path, text: &str) {
    let next = path.with_file_name("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// A map of the tutorial's layout, empty.
pub fn stats_map() -> Map {
    map_of_type(PERCPU_ARRAY)
}

/// A map that has the sizes of a stats map, but is none.
pub fn hash_map() -> Map {
    map_of_type(HASH)
}

fn map_of_type(map_type: u32) -> Map {
    let def = MapDef { map_type, key_size: 4, value_size: 16, max_entries: 5, ..MapDef::default() };
    Map::create(MAP, &def, None).unwrap()
}

/// A stats map that has counted `packets` passed packets.
pub fn counted(packets: u64) -> Map {
    let map = stats_map();
    add(&map, PASS, packets);
    map
}

/// Counts packets of [`SIZE`] bytes on the first CPU.
pub fn add(map: &Map, action: u32, packets: u64) {
    let (before, bytes) = get(map, action, 0);
    set(map, action, 0, before + packets, bytes + packets * SIZE);
}

/// Writes packets and bytes of one action and CPU. No program counts in these maps, so the others stay as they are.
pub fn set(map: &Map, action: u32, cpu: usize, packets: u64, bytes: u64) {
    let mut value = vec![0; map.value_len()];
    assert!(map.lookup(&action.to_ne_bytes(), &mut value).unwrap());
    let at = cpu * map.layout().stride();
    value[at..at + 8].copy_from_slice(&packets.to_ne_bytes());
    value[at + 8..at + 16].copy_from_slice(&bytes.to_ne_bytes());
    map.update(&action.to_ne_bytes(), &value, 0).unwrap();
}

fn get(map: &Map, action: u32, cpu: usize) -> (u64, u64) {
    let mut value = vec![0; map.value_len()];
    assert!(map.lookup(&action.to_ne_bytes(), &mut value).unwrap());
    let number = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
    (number(cpu * map.layout().stride()), number(cpu * map.layout().stride() + 8))
}

/// Does `work` while the reader waits between two ticks: it sees all of it at once, at the next one.
pub fn between_ticks<R>(reader: u32, work: impl FnOnce() -> R) -> R {
    let stopped = wait_for("a reader that waits", DEADLINE, || {
        let stopped = Stopped::new(reader);
        stopped.is_waiting().then_some(stopped)
    });
    let result = work();
    drop(stopped);
    result
}

/// A process that is stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(process: u32) -> Self {
        let stopped = Self(Pid::from_raw(process.cast_signed()).unwrap());
        kill_process(stopped.0, Signal::STOP).unwrap();
        wait_until("a stopped process", DEADLINE, || {
            let stat = stopped.proc("stat");
            stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
        });
        stopped
    }

    /// Whether it was stopped in a call that waits: a reader waits nowhere but for its next tick.
    fn is_waiting(&self) -> bool {
        let text = self.proc("syscall");
        let number = text.split(' ').next().unwrap();
        // poll, ppoll, epoll_wait, epoll_pwait, epoll_pwait2, and restart_syscall for one that a stop had interrupted.
        let waiting: &[&str] = if cfg!(target_arch = "x86_64") {
            &["7", "271", "232", "281", "441", "219"]
        } else {
            &["73", "22", "441", "128"]
        };
        waiting.contains(&number)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.as_raw_nonzero())).unwrap()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Waits for so many more ticks of the reader, told by the samples of `interface`.
#[track_caller]
pub fn wait_ticks(stats: &Stats, interface: &str, ticks: usize) {
    let mut left = ticks;
    let _ = stats.wait_after(stats.mark(), "some ticks", |record| {
        let is_tick = record["event"] == "sample" && record["interface"] == interface;
        left -= usize::from(is_tick && record["partial"] == false);
        left == 0
    });
}

/// The records of one interface with one event.
pub fn events(records: &[Value], interface: &str, event: &str) -> Vec<Value> {
    let matches = |record: &&Value| record["interface"] == interface && record["event"] == event;
    records.iter().filter(matches).cloned().collect()
}

/// The events of one interface but its samples, in their order.
pub fn names(records: &[Value], interface: &str) -> Vec<String> {
    let matches = |record: &&Value| record["interface"] == interface && record["event"] != "sample";
    records.iter().filter(matches).map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

/// A reader whose lines are looked at as they are; killed on drop.
pub struct Lines {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Lines {
    pub fn spawn(invocation: Invocation) -> Self {
        let mut child = invocation.spawn();
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line, as soon as it is there.
    #[track_caller]
    pub fn next(&mut self) -> String {
        let stdout = self.stdout.as_mut().expect("an open stdout");
        let mut line = String::new();
        if stdout.buffer().is_empty() {
            let deadline = Timespec::try_from(DEADLINE).unwrap();
            let mut fds = [PollFd::new(stdout.get_ref(), PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&deadline)), Ok(1), "a line in time");
        }
        stdout.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "a whole line: {line:?}");
        line
    }

    /// Nobody reads any more.
    pub fn close(&mut self) {
        self.stdout = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and returns how it ended and what it said on stderr.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = wait_for("the end of the reader", DEADLINE, || self.child.try_wait().unwrap());
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status, stderr)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It has ended already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
