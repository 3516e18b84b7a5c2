//! Maps of another definition whose entries are carried over, while packets flow: no entry and no count is lost.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use common::{DROP, Site, compile_file, compile_with, flat};
use rustix::process::{Pid, Signal, kill_process};
use xdpd_kernel::{Access, Map, cpu};
use xdpd_testlab::{DEADLINE, Invocation, Stats, Veth, require_root, wait_until, xdp_stats};

const MIGRATIONS: usize = 50;

/// Compiles a version of the program.
fn version(site: &Site, file: &str, defines: &[&str]) {
    let options: Vec<String> = defines.iter().map(|define| format!("-D{define}")).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    compile_with(&site.lab.dir().join(file), "versions", &options);
}

/// The file that runs a version on eth0.
fn file(site: &Site, object: &str, settings: &str) {
    site.config(&format!(
        "reuse = \"migrate\"\n[programs.p]\nobject = \"{object}\"\n[programs.p.maps.state]\n{settings}\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
    ));
}

fn follow(site: &Site) -> Stats {
    Stats::spawn(
        xdp_stats().args(["--config", "config.toml", "--interval", "40ms"]).current_dir(site.lab.dir()),
    )
}

/// Frames sent from each CPU, whose programs then run on it.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(site: &Site, veth: &Veth, frames_per_second: u32) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let online = cpu::possible_list().unwrap().into_iter().filter(|cpu| cpu::is_online(*cpu).unwrap());
        let threads = online.map(|cpu| {
            let sender = site.lab.sender(veth);
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                // Each counts for itself, since each keeps its own pace.
                let mine = AtomicU64::new(0);
                cpu::run_on(cpu, || sender.pace(frames_per_second, &stop, &mine)).unwrap().unwrap().unwrap();
                sent.fetch_add(mine.into_inner(), Ordering::SeqCst);
            })
        });
        Self { threads: threads.collect(), stop, sent }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.sent.load(Ordering::SeqCst)
    }
}

fn state(site: &Site) -> Map {
    site.dir("eth0").open_map("state", Access::ReadWrite).unwrap()
}

/// The sum over all CPUs of the number at these bytes of a value.
fn sum(map: &Map, key: &[u8], at: usize, size: usize) -> Option<u64> {
    let mut value = vec![0; map.value_len()];
    map.lookup(key, &mut value).unwrap().then(|| {
        let number = |slot: &[u8]| {
            let mut word = [0; 8];
            word[..size].copy_from_slice(&slot[at..at + size]);
            u64::from_le_bytes(word)
        };
        value.chunks(map.layout().stride()).map(number).sum()
    })
}

/// Migrates to and fro under traffic on all CPUs: what the map and the reader have counted is what was sent.
fn migrations_lose_no_count(versions: [&[&str]; 2], times: usize, run: impl Fn(Invocation) -> Invocation) {
    let site = Site::new("migrate");
    let veth = site.lab.veth("eth0", "peer0");
    for (file, defines) in ["one.o", "two.o"].iter().zip(versions) {
        version(&site, file, defines);
    }
    file(&site, "one.o", "");
    site.apply();
    let key = 1_u32.to_ne_bytes();
    let map = state(&site);
    map.update(&key, &vec![0; map.value_len()], 0).unwrap();
    let stats = follow(&site);
    stats.wait_event("eth0", "baseline");
    let flood = Flood::start(&site, &veth, 8000);
    for n in 1..=times {
        file(&site, ["one.o", "two.o"][n % 2], "");
        let outcome = run(site.run("apply config.toml --json")).run().expect_code(0).json();
        assert_eq!(outcome["outcome"], "applied", "migration {n}");
    }
    let sent = flood.stop();
    assert!(sent > 1000, "there was traffic");
    stats.wait_packets("eth0", sent);
    let finished = stats.stop();
    let events = |event: &str| finished.records.iter().filter(|r| r["event"] == event).count();
    assert_eq!((events("gap"), events("counter_reset"), events("error")), (0, 0, 0));
    assert!(events("map_replaced") > 0);
    assert_eq!(site.packets("eth0", DROP), sent, "carried from map to map");
    assert_eq!(sum(&state(&site), &key, 0, 8), Some(sent));
}

#[test]
#[ignore = "needs root"]
fn counts_per_cpu_are_exact_over_many_migrations() {
    require_root!();
    migrations_lose_no_count([&[], &["STATS_ENTRIES=8", "ENTRIES=32"]], MIGRATIONS, |apply| apply);
}

#[test]
#[ignore = "needs root"]
fn counts_per_cpu_are_exact_whatever_sysfs_says_of_the_cpus() {
    require_root!();
    for text in ["0", "0-63", "none"] {
        let versions: [&[&str]; 2] = [&[], &["STATS_ENTRIES=8", "ENTRIES=32"]];
        migrations_lose_no_count(versions, 4, |apply| apply.cpus_by_sysfs(text));
    }
}

#[test]
#[ignore = "needs root"]
fn counts_that_are_added_atomically_are_exact_over_many_migrations() {
    require_root!();
    let count = "COUNT=__sync_fetch_and_add(&entry->packets,1)";
    let versions: [&[&str]; 2] =
        [&["TYPE=BPF_MAP_TYPE_HASH", count], &["TYPE=BPF_MAP_TYPE_LRU_HASH", "STATS_ENTRIES=8", count]];
    migrations_lose_no_count(versions, MIGRATIONS, |apply| apply);
}

/// The reader and the old map have every packet, also those that only the new program has seen, when nobody confirms.
#[test]
#[ignore = "needs root"]
fn a_migration_that_is_taken_back_loses_no_count() {
    require_root!();
    let site = Site::new("takenback");
    let veth = site.lab.veth("eth0", "peer0");
    version(&site, "one.o", &[]);
    version(&site, "two.o", &["STATS_ENTRIES=8", "FIELDS=__u32 more;__u64 packets;", "ENTRIES=32"]);
    file(&site, "one.o", "");
    site.apply();
    let (key, appears) = (1_u32.to_ne_bytes(), 7_u32.to_ne_bytes());
    let old = state(&site);
    old.update(&key, &vec![0; old.value_len()], 0).unwrap();
    let stats = follow(&site);
    stats.wait_event("eth0", "baseline");
    let flood = Flood::start(&site, &veth, 4000);
    for _ in 0..5 {
        file(&site, "two.o", "");
        let trial = site.run("apply config.toml --confirm-timeout 1h").spawn();
        wait_until("the apply to wait", DEADLINE, || site.root().join("%lock/unconfirmed").is_symlink());
        // An entry of the new program's own.
        let new = state(&site);
        let mut value = vec![0; new.value_len()];
        value[8] = 5;
        new.update(&appears, &value, 0).unwrap();
        kill_process(Pid::from_child(&trial), Signal::TERM).unwrap();
        let output = trial.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert_eq!(state(&site).id(), old.id());
        assert_eq!(sum(&old, &appears, 0, 8), Some(5));
        old.delete(&appears).unwrap();
    }
    let sent = flood.stop();
    stats.wait_packets("eth0", sent);
    let finished = stats.stop();
    let events = |event: &str| finished.records.iter().filter(|r| r["event"] == event).count();
    assert_eq!((events("gap"), events("counter_reset"), events("error")), (0, 0, 0));
    assert!(events("map_replaced") >= 2);
    assert_eq!(site.packets("eth0", DROP), sent);
    assert_eq!(sum(&old, &key, 0, 8), Some(sent));
    assert!(site.bpffs.tree().iter().all(|pin| !pin.contains("%snap") && !pin.contains("%next")));
}

#[test]
#[ignore = "needs root"]
fn the_example_goes_on_counting_in_its_second_version() {
    require_root!();
    let site = Site::new("flows");
    let veth = site.lab.veth("eth0", "peer0");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs");
    let object = site.lab.dir().join("flows.o");
    let text = std::fs::read_to_string(examples.join("flows.toml")).unwrap();
    site.config(&text.replace("[interfaces.eth0]", "[interfaces.eth0]\nnetns = \"$NETNS\""));
    let protocol = 0x88b5_u32.to_ne_bytes();
    let flows = || site.dir("eth0").open_map("flows", Access::ReadOnly).unwrap();
    let traffic = |at: usize, size: usize, frames: u64| {
        wait_until("all frames", DEADLINE, || sum(&flows(), &protocol, at, size) == Some(frames));
    };
    compile_file(&object, &examples.join("flows.c"), &["-DVERSION=1"]);
    site.apply();
    site.lab.sender(&veth).send(100);
    traffic(0, 4, 100);
    compile_file(&object, &examples.join("flows.c"), &["-DVERSION=2"]);
    let diff = flat(&site.expect("diff", 1).stdout);
    let said = "entries are carried over: max entries 256 -> 1024, field `packets` widened 32 -> 64 bits, field `bytes` \
                is new";
    assert!(diff.contains(said), "{diff}");
    site.apply();
    site.lab.sender(&veth).send(50);
    traffic(8, 8, 150);
    traffic(16, 8, 50 * 64);
    assert!(sum(&flows(), &protocol, 0, 8) > Some(0), "when the last one was seen");
}

#[test]
#[ignore = "needs root"]
fn global_variables_are_carried_over_by_their_names() {
    require_root!();
    let site = Site::new("globals");
    let veth = site.lab.veth("eth0", "peer0");
    let count = "COUNT=seen++";
    version(&site, "one.o", &["MORE=__u64 seen;__u32 limit=7;", "TYPE=BPF_MAP_TYPE_ARRAY", count]);
    let more = "MORE=__u64 other;__u64 seen;__u32 limit=8,fresh=9;";
    version(&site, "two.o", &[more, "TYPE=BPF_MAP_TYPE_ARRAY", "COUNT=seen++;other++;limit+=fresh*0"]);
    file(&site, "one.o", "");
    site.apply();
    let sent = site.lab.sender(&veth).send(100);
    wait_until("all frames", DEADLINE, || site.packets("eth0", DROP) == sent);
    file(&site, "two.o", "");
    let plan = flat(&site.expect("diff", 1).stdout);
    assert!(plan.contains("field `other` is new"), "{plan}");
    site.apply();
    let map = |pin: &str| {
        let map = site.dir("eth0").open_map(pin, Access::ReadOnly).unwrap();
        let mut value = vec![0; map.value_len()];
        assert!(map.lookup(&0_u32.to_ne_bytes(), &mut value).unwrap());
        value
    };
    let bss = map("%2Ebss");
    assert!(bss.chunks(8).any(|word| word == sent.to_ne_bytes()), "{bss:?}");
    let data = || -> Vec<u32> {
        map("%2Edata").chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    };
    assert_eq!(data(), [7, 9], "what was there is kept, and what is new begins as the object says");
    site.config(
        "reuse = \"migrate\"\n[programs.p]\nobject = \"one.o\"\nglobals = { limit = 42 }\n[interfaces.eth0]\n\
         netns = \"$NETNS\"\nprogram = \"p\"\n",
    );
    site.apply();
    assert_eq!(data(), [42], "what the file says comes before what was there");
    assert!(map("%2Ebss").chunks(8).any(|word| word == sent.to_ne_bytes()));
}

/// A map that takes a while to carry over is carried in batches, and a signal in between takes all of it back.
#[test]
#[ignore = "needs root"]
fn a_large_map_is_carried_over_and_a_signal_takes_it_back() {
    const ENTRIES: u32 = 200_000;
    require_root!();
    let site = Site::new("large");
    let shape = ["TYPE=BPF_MAP_TYPE_HASH", "FLAGS=BPF_F_NO_PREALLOC", "FIELDS=__u64 packets;__u64 a;"];
    version(&site, "one.o", &[shape[0], shape[1], shape[2], "ENTRIES=200000"]);
    version(&site, "two.o", &[shape[0], shape[1], shape[2], "ENTRIES=300000"]);
    let _veth = site.lab.veth("eth0", "peer0");
    file(&site, "one.o", "");
    site.apply();
    let old = state(&site);
    let keys: Vec<u8> = (0..ENTRIES).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> =
        (0..u64::from(ENTRIES)).flat_map(|n| [n.to_ne_bytes(), (n * n).to_ne_bytes()].concat()).collect();
    old.update_all(&keys, &values).unwrap();

    file(&site, "two.o", "");
    let mut apply = site.run("apply config.toml").spawn();
    wait_until("the copy to begin", DEADLINE, || site.root().join("%snap-eth0/state-base").exists());
    kill_process(Pid::from_child(&apply), Signal::INT).unwrap();
    let ended = apply.wait().unwrap().code();
    assert!([Some(2), Some(3)].contains(&ended), "{ended:?}");
    assert_eq!(state(&site).id(), old.id());
    let left: Vec<String> = site.bpffs.tree().into_iter().filter(|pin| pin.contains("/%")).collect();
    assert!(left.iter().all(|pin| pin.contains("%lock")), "{left:?}");

    let start = std::time::Instant::now();
    site.apply();
    println!("{ENTRIES} entries: {:?}", start.elapsed());
    let mut found = vec![false; ENTRIES as usize];
    state(&site)
        .for_each(|key, value| {
            let number = u32::from_ne_bytes(key.try_into().unwrap());
            let n = u64::from(number);
            assert_eq!(value, [n.to_ne_bytes(), (n * n).to_ne_bytes()].concat());
            assert!(!std::mem::replace(&mut found[number as usize], true));
        })
        .unwrap();
    assert!(found.into_iter().all(|found| found));
}
