//! Measures `xdpd` and `xdp-stats` beside their peers, in one run, and prints ratios with the aims beside
//! them.
//!
//! Times of one machine mean little on another, so nothing is asserted: a missed aim is printed, not failed.
//! The sides of a comparison take turns, each number is a median, and preparation and clean-up are not
//! measured.

#![forbid(unsafe_code)]
// This program is its output.
#![allow(clippy::print_stdout)]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use xdpd_kernel::{Access, Dir, Map};
use xdpd_testlab::{Bpffs, KernelObjects, Lab, is_root, leftovers};

/// Interfaces in every comparison.
const VETHS: u32 = 100;
/// Repeats of what takes milliseconds, and of what takes a second.
const SHORT: usize = 21;
const LONG: usize = 5;
/// How `xdp-stats` ticks while it is measured, and for how many ticks per repeat.
const TICK: Duration = Duration::from_millis(50);
const TICKS: u32 = 40;

/// The program that the peers load: what `xdp_pass_func` does, in the dialect of libbpf.
const COUNTER: &str = r#"
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))

struct datarec { __u64 rx_packets, rx_bytes; };

struct {
	int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
	int (*max_entries)[XDP_REDIRECT + 1];
	__u32 *key;
	struct datarec *value;
} xdp_stats_map SEC(".maps");

static void *(*lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

SEC("xdp") int count(struct xdp_md *ctx)
{
	__u32 action = XDP_PASS;
	struct datarec *rec = lookup(&xdp_stats_map, &action);

	if (!rec)
		return XDP_ABORTED;
	rec->rx_packets++;
	rec->rx_bytes += ctx->data_end - ctx->data;
	return action;
}

char _license[] SEC("license") = "Dual MIT/GPL";
"#;

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [flag, program, rest @ ..] = &arguments[..]
        && flag == MAX_RSS
    {
        return print_max_rss(program, rest);
    }
    if arguments == [CLEAN] {
        return leftovers::remove();
    }
    assert!(is_root(), "the bench needs root");
    let bench = Bench::prepare();
    println!("{}", setting());
    println!("{:<46} {:>10} {:>10} {:>7}  aim", "", "this", "peer", "ratio");
    bench.no_op();
    bench.first_apply();
    bench.reader();
    bench.sizes();
}

/// A hundred devices, the file that names them, and the object for the peers.
struct Bench {
    xdpd: PathBuf,
    xdp_stats: PathBuf,
    config: PathBuf,
    object: PathBuf,
    bpffs: Bpffs,
    lab: Lab,
}

impl Bench {
    fn prepare() -> Self {
        // Alone: a test that runs meanwhile would be measured with it.
        let lab = Lab::alone("bench");
        let bpffs = Bpffs::private();
        lab.veths("v", VETHS as usize);
        let mut text = format!("pin_root = \"{}\"\n", bpffs.pin_root().display());
        for n in 0..VETHS {
            writeln!(text, "[interfaces.v{n}]").expect("a string");
        }
        let config = lab.write("config.toml", text);
        let (source, object) = (lab.write("counter.c", COUNTER), lab.dir().join("counter.o"));
        // On Debian the asm/ headers lie in a directory of the architecture.
        let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        let mut clang = Command::new("clang-22");
        clang.args(["-target", "bpf", "-O2", "-g", &include, "-c"]).arg(&source).arg("-o").arg(&object);
        complete(&mut clang);
        let dir = std::env::current_exe().expect("the path of this program");
        let dir = dir.parent().expect("a directory");
        Self { xdpd: dir.join("xdpd"), xdp_stats: dir.join("xdp-stats"), config, object, bpffs, lab }
    }

    /// An apply that finds everything as wished, against the one question that any tool has to ask.
    fn no_op(&self) {
        self.apply();
        self.compare_no_op("no-op apply : ip -j link show, 101 devices");
        // Devices that the file does not name: the other ends of a hundred pairs often lie beside them.
        self.ip_batch((0..VETHS / 2).map(|n| format!("link add idle{n}a type veth peer name idle{n}b")));
        self.compare_no_op("no-op apply : ip -j link show, 201 devices");
        self.ip_batch((0..VETHS / 2).map(|n| format!("link del idle{n}a")));
        self.detach();
    }

    fn compare_no_op(&self, what: &str) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..SHORT {
            ours.push(time(|| self.apply()));
            theirs.push(time(|| self.run(Command::new("ip").args(["-j", "link", "show"]))));
        }
        compare(what, &ours, &theirs, Some(2.5));
    }

    fn first_apply(&self) {
        let set = |what: String| (0..VETHS).map(move |n| format!("link set dev v{n} {what}"));
        let (on, off) =
            (set(format!("xdp obj {} sec xdp", self.object.display())), set("xdp off".to_owned()));
        let (mut ours, mut loader, mut iproute2) = (Vec::new(), Vec::new(), Vec::new());
        let before = KernelObjects::snapshot();
        let settle = || settle(&before);
        for _ in 0..LONG {
            ours.push(time(|| self.apply()));
            self.detach();
            settle();
            loader.push(time(|| self.xdp_loader()));
            self.ip_batch(off.clone());
            settle();
            iproute2.push(time(|| self.ip_batch(on.clone())));
            self.ip_batch(off.clone());
            settle();
        }
        compare("first apply : loop of xdp-loader load", &ours, &loader, Some(0.7));
        compare("first apply : ip -batch (information)", &ours, &iproute2, None);
    }

    /// The reader's CPU time per map and tick, against a loop that does nothing but the batch lookups.
    fn reader(&self) {
        self.apply();
        let maps = self.maps();
        let mut command = Command::new(&self.xdp_stats);
        command.arg("--config").arg(&self.config).arg("--json");
        command.arg("--interval").arg(format!("{}ms", TICK.as_millis()));
        // It ends by itself, should this process die; and what a consumer of the lines costs is its own
        // affair.
        command.args(["--count", "2000"]);
        let reader = Reader(self.spawn(command.stdout(Stdio::null())));
        let pid = reader.0.id();
        // Started and in its stride: nothing to wait for, as it writes to nobody.
        std::thread::sleep(TICK * 20);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..LONG {
            let before = cpu_time(&format!("/proc/{pid}/task"));
            std::thread::sleep(TICK * TICKS);
            let used = cpu_time(&format!("/proc/{pid}/task")).saturating_sub(before);
            ours.push(used / (TICKS * VETHS));
            bare.push(bare_lookups(&maps) / (TICKS * VETHS));
        }
        compare("xdp-stats : bare batch lookup, per map and tick", &ours, &bare, Some(1.5));
        size("xdp-stats peak memory", peak_memory(pid), Some(16));
        drop(reader);
        self.detach();
        size("xdpd peak memory, first apply", self.peak_of_apply(), None);
        self.detach();
    }

    fn sizes(&self) {
        for (program, aim) in [(&self.xdp_stats, Some(2)), (&self.xdpd, None)] {
            let bytes = program.metadata().expect("a built program").len();
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            size(&format!("{name} stripped"), bytes, aim);
        }
    }

    fn apply(&self) {
        self.run(Command::new(&self.xdpd).arg("apply").arg(&self.config));
    }

    fn detach(&self) {
        self.run(Command::new(&self.xdpd).arg("detach").arg(&self.config));
    }

    /// A process per device, in one mount namespace with a bpffs of its own: xdp-loader knows only
    /// /sys/fs/bpf.
    fn xdp_loader(&self) {
        let script = format!(
            "mount -t bpf bpf /sys/fs/bpf; n=0; while [ $n -lt {VETHS} ]; do
             xdp-loader load -m native v$n \"$1\" || exit; n=$((n + 1)); done"
        );
        self.run(Command::new("unshare").args(["--mount", "sh", "-c", &script, "sh"]).arg(&self.object));
    }

    /// Many commands in one process. With `-n`, `ip` gives itself a mount namespace: it likes to leave
    /// directories in /sys/fs/bpf.
    fn ip_batch(&self, lines: impl Iterator<Item = String>) {
        let file = self.lab.write("batch", lines.fold(String::new(), |text, line| text + &line + "\n"));
        complete(Command::new("ip").args(["-n", self.lab.near().name(), "-batch"]).arg(file));
    }

    /// In bytes. Measured by a process that has no other child, because the kernel only keeps the largest.
    fn peak_of_apply(&self) -> u64 {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.arg(MAX_RSS).arg(&self.xdpd).arg("apply").arg(&self.config);
        let output = self.near(|| command.output()).expect("a run of this program");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of bytes")
    }

    /// The maps that `xdp-stats` reads, opened the way it does.
    fn maps(&self) -> Vec<Map> {
        let root = Dir::open(self.bpffs.pin_root()).expect("the pin root");
        let open = |n| {
            let dir = root.open_dir(format!("v{n}"))?;
            dir.open_map("xdp_stats_map", Access::ReadOnly)
        };
        (0..VETHS).map(|n| open(n).expect("the stats map of an interface")).collect()
    }

    fn run(&self, command: &mut Command) {
        self.near(|| complete(command));
    }

    fn spawn(&self, command: &mut Command) -> Child {
        self.near(|| command.spawn()).unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
    }

    fn near<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.lab.near().run(work)
    }
}

/// A running `xdp-stats`, ended on drop.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        // Already ended: then both fail, and that is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives the kernel time to free the programs of the last round: it does so in the background, at the next
/// one's cost. Whatever else appears on the machine meanwhile is no reason to fail.
fn settle(before: &KernelObjects) {
    let end = Instant::now() + Duration::from_secs(5);
    while !KernelObjects::snapshot().since(before).is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The entries of a stats map: one for each XDP action.
const ACTIONS: usize = 5;

/// As many ticks at the same pace, with one batch lookup per map and nothing else: the CPU time of that.
fn bare_lookups(maps: &[Map]) -> Duration {
    let (mut keys, mut values, mut position) = ([0; 4 * ACTIONS], Vec::new(), [0; 4]);
    let before = cpu_time("/proc/self/task");
    let start = Instant::now();
    for tick in 1..=TICKS {
        std::thread::sleep((TICK * tick).saturating_sub(start.elapsed()));
        for map in maps {
            values.resize(ACTIONS * map.value_len(), 0);
            map.lookup_batch(&mut keys, &mut values, &mut position).expect("a map that can be read");
        }
    }
    cpu_time("/proc/self/task").saturating_sub(before)
}

/// The time that the threads of a process have spent on a CPU, in the kernel and outside of it.
fn cpu_time(tasks: &str) -> Duration {
    let tasks = std::fs::read_dir(tasks).expect("the threads of a process");
    let nanoseconds = tasks.map(|task| {
        let path = task.expect("a thread").path().join("schedstat");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).expect("nanoseconds on a CPU")
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// The most memory that a running process ever had resident, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak in the status");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
}

/// What the script calls this program with at the end, however that came: a release build that panics cleans
/// nothing up.
const CLEAN: &str = "--clean";

/// What this program calls itself with, to run another and print the most memory that it ever had resident.
const MAX_RSS: &str = "--max-rss";

fn print_max_rss(program: &OsStr, arguments: &[OsString]) {
    complete(Command::new(program).args(arguments));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the child");
    println!("{}", usage.max_rss() * 1024);
}

/// Runs a command that has to succeed; its output is of no interest otherwise.
fn complete(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The machine, in a line: without it no number means anything.
fn setting() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Linux {}, {cpus} CPUs, {VETHS} veth pairs, native mode, medians of {SHORT} or {LONG} runs",
        release.trim()
    )
}

fn compare(what: &str, ours: &[Duration], theirs: &[Duration], aim: Option<f64>) {
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let verdict =
        aim.map(|aim| format!("<= {aim}  {}", if ratio <= aim { "ok" } else { "MISS" })).unwrap_or_default();
    println!("{what:<46} {:>10} {:>10} {ratio:>7.2}  {verdict}", human(ours), human(theirs));
}

fn size(what: &str, bytes: u64, aim: Option<u64>) {
    let verdict =
        aim.map(|aim| format!("<= {aim} MB  {}", if bytes <= aim * 1_000_000 { "ok" } else { "MISS" }));
    let (whole, hundredths) = (bytes / 1_000_000, bytes % 1_000_000 / 10_000);
    println!("{what:<46} {whole:>4}.{hundredths:02} MB {:>18}  {}", "", verdict.unwrap_or_default());
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

fn human(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.2} us", seconds * 1e6),
    }
}
