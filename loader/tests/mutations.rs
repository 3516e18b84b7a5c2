//! No object, however mangled, hurts: 100,000 seeded mutations of each dialect's objects go through all that `check`
//! does, in a child that is watched, and some of those that pass go through the loading libraries.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Site, compile_to};
use object::{Object as _, ObjectSection as _};
use xdpd::object::{Object, ObjectError};
use xdpd::output::check::{Report, text};
use xdpd::output::json;
use xdpd_config::terminal::acts_on_terminal;
use xdpd_testlab::{require_root, wait_until};

const MUTATIONS: usize = 100_000;
/// Tells the child where the sound objects are.
const SEEDS: &str = "XDPD_TEST_MUTATIONS_OF";
const REDBPF: &[&str] = &["redbpf_programs"];
const LIBBPF: &[&str] =
    &["calls", "maps", "core", "globals", "named_sections", "newer_types", "nested", "jumps"];
/// The child's address space, in bytes. Above it allocations fail, which ends the child by a signal.
const MAX_MEMORY: u64 = 512 << 20;
/// What the child may need at most, in KiB: the objects are some 20 KiB.
const MAX_RESIDENT: u64 = 64 << 10;
/// One object may take so long.
const MAX_TIME: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_mins(30);

#[test]
fn a_hundred_thousand_mutations_of_redbpf_objects_do_check_no_harm() {
    survives("a_hundred_thousand_mutations_of_redbpf_objects_do_check_no_harm", REDBPF);
}

#[test]
fn a_hundred_thousand_mutations_of_libbpf_objects_do_check_no_harm() {
    survives("a_hundred_thousand_mutations_of_libbpf_objects_do_check_no_harm", LIBBPF);
}

/// Runs the test `name` once more, as a child that mutates.
fn survives(name: &str, programs: &[&str]) {
    if let Some(dir) = std::env::var_os(SEEDS) {
        return mutate_all(Path::new(&dir), programs);
    }
    let dir = tempfile::tempdir().unwrap();
    write_seeds(dir.path(), programs);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(SEEDS, dir.path())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut status = None;
    let deadline = Instant::now() + DEADLINE;
    wait_until("the mutations to end", 2 * DEADLINE, || {
        status = child.try_wait().unwrap();
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        status.is_some()
    });
    let status = status.unwrap();
    assert!(status.success(), "{status}: a panic, a signal, a hang or too much memory");
}

fn write_seeds(dir: &Path, programs: &[&str]) {
    for name in programs {
        compile_to(&dir.join(name), name);
    }
    if programs == REDBPF {
        std::fs::write(dir.join("builtin"), common::builtin_object()).unwrap();
    }
}

fn mutate_all(dir: &Path, programs: &[&str]) {
    let limit = rustix::process::Rlimit { current: Some(MAX_MEMORY), maximum: Some(MAX_MEMORY) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let builtin = (programs == REDBPF).then_some("builtin");
    let mut seeds: Vec<Seed> = programs
        .iter()
        .copied()
        .chain(builtin)
        .map(|name| Seed::new(std::fs::read(dir.join(name)).unwrap()))
        .collect();
    let mut outcomes = BTreeMap::<&str, usize>::new();
    let mut slowest = Duration::ZERO;
    let mut panics = Vec::new();
    std::panic::set_hook(Box::new(|_| {}));
    let count = seeds.len();
    for n in 0..MUTATIONS {
        let bytes = seeds[n % count].mutated();
        let timed = || {
            let (bytes, start) = (bytes.clone(), Instant::now());
            let outcome = catch_unwind(AssertUnwindSafe(|| check(bytes, n)));
            (start.elapsed(), outcome)
        };
        let (mut took, outcome) = timed();
        for _ in 0..10 {
            if took < MAX_TIME {
                break;
            }
            // Others may have had the processor.
            took = took.min(timed().0);
        }
        slowest = slowest.max(took);
        match outcome {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(_) => panics.push(n),
        }
    }
    drop(std::panic::take_hook());
    let resident = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = resident.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let mut told = format!("{MUTATIONS} mutations of {}:", programs.join(", "));
    for (outcome, count) in &outcomes {
        write!(told, " {count} {outcome},").unwrap();
    }
    writeln!(told, " {} panics; the slowest took {slowest:?}, memory {resident}", panics.len()).unwrap();
    eprint_all(&told);
    assert_eq!(panics, Vec::<usize>::new(), "mutations that panic");
    for outcome in ["taken", "corrupt", "unsupported", "no BPF", "no ELF"] {
        assert!(outcomes.contains_key(outcome), "no mutation is {outcome}: {outcomes:?}");
    }
    assert!(slowest < MAX_TIME);
    assert!(resident.trim_end_matches(" kB").parse::<u64>().unwrap() < MAX_RESIDENT, "{resident}");
}

/// One line, whatever else prints at the same time.
fn eprint_all(line: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// All that `check` does with an object, and what `apply` does before it hands it to the loading libraries.
fn check(bytes: Vec<u8>, n: usize) -> &'static str {
    let len = bytes.len();
    let object = match Object::inspect(bytes) {
        Ok(object) => object,
        Err(ObjectError::NotElf(_)) => return "no ELF",
        Err(ObjectError::NotBpf(_)) => return "no BPF",
        Err(ObjectError::Corrupt(_)) => return "corrupt",
        Err(_) => return "unsupported",
    };
    // One of them, a different one each time: it is the same work for all.
    let program = &object.programs()[n % object.programs().len()];
    assert_eq!(object.engine_bytes(program, []).unwrap().len(), len);
    let _ = object.source_line(program, 1);
    let report = Report::of_object(String::new(), &object);
    let (text, json) = (text(&report).to_string(), json::line(&report));
    assert!(json.starts_with('{') && !text.contains(|c: char| c != '\n' && acts_on_terminal(c)), "{text:?}");
    "taken"
}

/// A sound object, and a generator of broken ones, the same in every run.
struct Seed {
    sound: Vec<u8>,
    /// What is read of it: headers, and all sections but those for debuggers.
    places: Vec<Range<usize>>,
    state: u64,
}

impl Seed {
    fn new(sound: Vec<u8>) -> Self {
        let file = object::File::parse(&*sound).unwrap();
        let sections =
            file.sections().filter(|s| !s.name().unwrap().contains("debug")).filter_map(|s| s.file_range());
        let range = |(start, len): (u64, u64)| {
            let start = usize::try_from(start).unwrap();
            start..start + usize::try_from(len).unwrap()
        };
        let headers = usize::try_from(u64::from_le_bytes(sound[40..48].try_into().unwrap())).unwrap();
        let mut places: Vec<Range<usize>> = sections.map(range).filter(|place| !place.is_empty()).collect();
        places.extend([0..64, headers..sound.len()]);
        Self { sound, places, state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn random(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % below as u64).unwrap()
    }

    fn place(&mut self) -> usize {
        let n = self.random(self.places.len());
        let place = self.places[n].clone();
        place.start + self.random(place.len())
    }

    fn mutated(&mut self) -> Vec<u8> {
        const INTERESTING: [u32; 8] = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff, 0x0100_0000];
        let mut bytes = self.sound.clone();
        for _ in 0..=self.random(4) {
            let at = self.place();
            let aligned = (at & !3).min(bytes.len() - 4);
            match self.random(16) {
                0..7 => bytes[at] = u8::try_from(self.random(256)).unwrap(),
                7..9 => bytes[at] ^= 1 << self.random(8),
                9..12 => {
                    let word = INTERESTING[self.random(INTERESTING.len())];
                    bytes[aligned..aligned + 4].copy_from_slice(&word.to_le_bytes());
                }
                12..14 => {
                    // A word that means something elsewhere.
                    let from = (self.place() & !3).min(bytes.len() - 4);
                    bytes.copy_within(from..from + 4, aligned);
                }
                14 => {
                    let from = self.place();
                    let len = self.random(64).min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + len, at);
                }
                _ => {
                    // Small changes of a word: off by one, by eight.
                    let by = [1, 8, u32::MAX, 8_u32.wrapping_neg()][self.random(4)];
                    let word = u32::from_le_bytes(bytes[aligned..aligned + 4].try_into().unwrap());
                    bytes[aligned..aligned + 4].copy_from_slice(&word.wrapping_add(by).to_le_bytes());
                }
            }
        }
        if self.random(64) == 0 {
            let len = self.random(bytes.len());
            bytes.truncate(len);
            bytes.resize(self.sound.len(), 0);
            // Cut off, with and without what was there.
            bytes.truncate(if self.random(2) == 0 { len } else { self.sound.len() });
        }
        bytes
    }
}

/// What passes the gate is handed to the library in a process of its own: apply survives whatever it does there, and what
/// runs goes on.
fn harms_nothing_that_runs(lab: &str, program: &str, function: &str) {
    const SAMPLE: usize = 100;
    let site = Site::new(lab);
    site.lab.veth("eth0", "peer0");
    site.one("eth0", "xdp_pass_func", "");
    site.apply();
    let object = site.lab.dir().join("own.o");
    compile_to(&object, program);
    let mut seed = Seed::new(std::fs::read(&object).unwrap());
    site.config(&format!(
        "[programs.p]\nobject = \"own.o\"\nfunction = \"{function}\"\n[interfaces.eth0]\nnetns = \"$NETNS\"\n\
         program = \"p\"\n"
    ));
    let mut outcomes = BTreeMap::<String, usize>::new();
    for n in 0..SAMPLE {
        let passes = |bytes: &Vec<u8>| {
            Object::inspect(bytes.clone()).is_ok_and(|object| object.program(Some(function)).is_ok())
        };
        let bytes = std::iter::repeat_with(|| seed.mutated()).find(passes).unwrap();
        std::fs::write(&object, bytes).unwrap();
        let output = site.run("apply config.toml").run();
        let last = output.stderr.lines().last().unwrap_or_default();
        let outcome =
            match (output.code(), last.contains("the kernel refused"), last.contains("ended unexpectedly")) {
                (Some(0), ..) => "applied",
                (Some(2), true, _) => "refused by the kernel",
                (Some(2), _, true) => "crashed the library",
                (Some(2), ..) => "refused otherwise",
                (code, ..) => panic!("mutation {n}: exit {code:?}\n{}{}", output.stdout, output.stderr),
            };
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
        assert!(site.running("eth0").is_some(), "mutation {n}: {last}");
    }
    eprint_all(&format!("{SAMPLE} mutations of {program} that pass the gate: {outcomes:?}\n"));
    assert!(outcomes.contains_key("applied"), "{outcomes:?}");
    site.one("eth0", "xdp_pass_func", "reuse = \"never\"");
    site.apply();
    site.expect("diff", 0);
}

#[test]
#[ignore = "needs root"]
fn redbpf_objects_that_pass_harm_nothing_that_runs() {
    require_root!();
    harms_nothing_that_runs("mangled1", "redbpf_programs", "with_data");
}

#[test]
#[ignore = "needs root"]
fn libbpf_objects_that_pass_harm_nothing_that_runs() {
    require_root!();
    harms_nothing_that_runs("mangled2", "calls", "xdp_calls");
}

#[test]
#[ignore = "needs root"]
fn libbpf_objects_that_fill_maps_harm_nothing_that_runs() {
    require_root!();
    harms_nothing_that_runs("mangled3", "jumps", "xdp_jumps");
}
