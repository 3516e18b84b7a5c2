//! What a tick of `xdp-stats` costs per map, against bare batch lookups of the same maps at the same pace.
//!
//! Needs root. `cargo build --release -p xdp-stats --bins --examples && target/release/examples/tick-cost [maps]`
//!
//! It pins maps on a bpffs of its own, without devices, runs the release build beside it, and prints the CPU time of
//! both as nanoseconds per map and tick with their ratio: with the output thrown away and with a pipe that is read, with
//! idle counters and with counters that all change between two ticks.

#![allow(clippy::print_stdout)] // its output is what it is for

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_ARRAY;
use xdpd_kernel::{Dir, Map, MapDef};
use xdpd_testlab::Bpffs;

const TICK: Duration = Duration::from_millis(50);
/// The entries of a stats map: one for each XDP action.
const ACTIONS: usize = 5;
const TICKS: u32 = 40;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(100), |count| count.parse())?;
    let bpffs = Bpffs::private();
    let files = tempfile::tempdir()?;
    let config = files.path().join("config.toml");
    let maps = pin(&bpffs, &config, count)?;

    println!(
        "{count} maps, {} ms ticks, medians of {RUNS} runs of {TICKS} ticks, per map and tick:",
        TICK.as_millis()
    );
    for (busy, counters) in [(false, "idle"), (true, "busy")] {
        for (piped, output) in [(false, "/dev/null"), (true, "a pipe")] {
            let mut reader = Reader::start(&config, piped)?;
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            // In turns, so that both see the same machine; the first turn is for getting into their stride.
            for run in 0..=RUNS {
                let before = cpu_time(&reader.tasks())?;
                pace(|tick| if busy { count_packets(&maps, tick) } else { Ok(()) })?;
                let used = cpu_time(&reader.tasks())?.saturating_sub(before);
                let lookups = bare_lookups(&maps, busy)?;
                if run > 0 {
                    ours.push(used);
                    bare.push(lookups);
                }
            }
            let (ours, bare) = (median(&mut ours), median(&mut bare));
            let per = |time: Duration| time.as_nanos() / u128::from(TICKS * count);
            let ratio = ours.as_secs_f64() / bare.as_secs_f64();
            let (ours, bare, peak) = (per(ours), per(bare), reader.peak()?);
            println!(
                "{counters} counters, {output:<9}: {ours:>5} ns : {bare:>5} ns = {ratio:.2}, peak memory {peak} KiB"
            );
            reader.stop()?;
        }
    }
    Ok(())
}

/// Makes maps, pins them where a config says, and writes that.
fn pin(bpffs: &Bpffs, config: &Path, count: u32) -> Result<Vec<Map>, Box<dyn Error>> {
    let def = MapDef {
        map_type: BPF_MAP_TYPE_PERCPU_ARRAY,
        key_size: 4,
        value_size: 16,
        max_entries: 5,
        ..MapDef::default()
    };
    let mount = Dir::open(bpffs.path())?;
    mount.mkdir("xdpd", 0o755)?;
    let root = mount.open_dir("xdpd")?;
    let mut text = format!("pin_root = \"{}\"\n", bpffs.pin_root().display());
    let mut maps = Vec::new();
    for number in 0..count {
        let label = format!("if{number}");
        root.mkdir(&label, 0o755)?;
        let map = Map::create("xdp_stats_map", &def, None)?;
        root.open_dir(&label)?.pin("xdp_stats_map", &map)?;
        maps.push(map);
        writeln!(text, "[interfaces.{label}]")?;
    }
    fs::write(config, text)?;
    Ok(maps)
}

/// As if each interface had passed and dropped packets on every CPU.
fn count_packets(maps: &[Map], tick: u32) -> Result<(), Box<dyn Error>> {
    let value: Vec<u8> =
        [u64::from(tick) * 997, u64::from(tick) * 997 * 64].iter().flat_map(|n| n.to_ne_bytes()).collect();
    for map in maps {
        let value = value.repeat(map.layout().count());
        for action in [1_u32, 2] {
            map.update(&action.to_ne_bytes(), &value, 0)?;
        }
    }
    Ok(())
}

/// Does `work` at every tick for a while.
fn pace(mut work: impl FnMut(u32) -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    for tick in 1..=TICKS {
        std::thread::sleep((TICK * tick).saturating_sub(start.elapsed()));
        work(tick)?;
    }
    Ok(())
}

/// The CPU time of nothing but the lookups.
fn bare_lookups(maps: &[Map], busy: bool) -> Result<Duration, Box<dyn Error>> {
    let (mut keys, mut values, mut position) = ([0; 4 * ACTIONS], Vec::new(), [0; 4]);
    let mut counting = Duration::ZERO;
    let tasks = "/proc/thread-self";
    let before = cpu_time_of(tasks)?;
    pace(|tick| {
        if busy {
            let before = cpu_time_of(tasks)?;
            count_packets(maps, tick)?;
            counting += cpu_time_of(tasks)?.saturating_sub(before);
        }
        maps.iter().try_for_each(|map| {
            values.resize(ACTIONS * map.value_len(), 0);
            Ok(map.lookup_batch(&mut keys, &mut values, &mut position).map(drop)?)
        })
    })?;
    Ok(cpu_time_of(tasks)?.saturating_sub(before + counting))
}

struct Reader(Child);

impl Reader {
    fn start(config: &Path, piped: bool) -> Result<Self, Box<dyn Error>> {
        let program = std::env::current_exe()?.with_file_name("../xdp-stats");
        let mut command = Command::new(program);
        command.arg("--json").arg("--config").arg(config).args(["--interval", "50ms", "--count", "2000"]);
        let mut child = command.stdout(if piped { Stdio::piped() } else { Stdio::null() }).spawn()?;
        if let Some(mut stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while stdout.read(&mut buffer).is_ok_and(|read| read > 0) {}
            });
        }
        Ok(Self(child))
    }

    fn tasks(&self) -> String {
        format!("/proc/{}/task", self.0.id())
    }

    fn peak(&self) -> Result<String, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
        Ok(peak.trim().trim_end_matches(" kB").to_owned())
    }

    fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

/// The CPU time of all threads in a directory of tasks.
fn cpu_time(tasks: &str) -> Result<Duration, Box<dyn Error>> {
    fs::read_dir(tasks)?.map(|task| cpu_time_of(&task?.path().to_string_lossy())).sum()
}

fn cpu_time_of(task: &str) -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string(format!("{task}/schedstat"))?;
    let nanoseconds = text.split(' ').next().ok_or("no time")?.parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
