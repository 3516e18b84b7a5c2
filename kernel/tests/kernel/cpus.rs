//! CPUs, and the values that maps have for each of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::thread::{sched_getaffinity, sched_getcpu};
use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_HASH;
use xdpd_kernel::{Access, Dir, Map, cpu};
use xdpd_testlab::{Invocation, require_root};

use crate::lab::{Bpffs, def};

/// Tells the child of a test where the pins are.
const PINS: &str = "XDPD_TEST_PINS";

fn online() -> Vec<usize> {
    cpu::possible_list().unwrap().into_iter().filter(|cpu| cpu::is_online(*cpu).unwrap()).collect()
}

#[test]
#[ignore = "needs root"]
fn work_runs_on_the_cpu_that_was_asked_for() {
    require_root!();
    let before = sched_getaffinity(None).unwrap();
    for cpu in online() {
        let on = cpu::run_on(cpu, || {
            let mine = sched_getaffinity(None).unwrap();
            (mine.count(), mine.is_set(cpu), sched_getcpu())
        });
        assert_eq!(on.unwrap(), Some((1, true, cpu)));
    }
    assert_eq!(sched_getaffinity(None).unwrap(), before);
    // Beyond all that there can be.
    for cpu in [1000, 100_000] {
        assert_eq!(cpu::run_on(cpu, || ()).unwrap(), None);
        assert!(!cpu::is_online(cpu).unwrap());
    }
}

#[test]
#[ignore = "needs root"]
fn the_possible_cpus_are_as_many_as_a_map_has_values() {
    require_root!();
    let (count, cpus) = (cpu::possible().unwrap(), cpu::possible_list().unwrap());
    assert_eq!(cpus.len(), count);
    assert!(cpus.is_sorted());
    assert!(count >= online().len() && !online().is_empty());
    // On a machine over whose sysfs nobody has mounted anything.
    assert_eq!(cpu::possible_by_sysfs().unwrap(), count);
}

/// The value of each CPU is where its place among the possible ones says: a program on that CPU writes there.
#[test]
#[ignore = "needs root"]
fn values_are_in_the_order_of_the_possible_cpus() {
    require_root!();
    let map = crate::lab::counters("m");
    let program = crate::lab::counts_in(&map);
    for (place, cpu) in cpu::possible_list().unwrap().into_iter().enumerate() {
        if cpu::run_on(cpu, || program.test_run(&[0; 64], 1)).unwrap().is_none() {
            continue;
        }
        let mut value = vec![0; map.value_len()];
        assert!(map.lookup(&[0; 4], &mut value).unwrap());
        let counted: Vec<_> =
            map.layout().values(&value).map(|value| value.iter().any(|b| *b != 0)).collect();
        let expected: Vec<_> = (0..counted.len()).map(|n| n == place).collect();
        assert_eq!(counted, expected, "CPU {cpu}");
        map.update(&[0; 4], &vec![0; map.value_len()], 0).unwrap();
    }
}

/// Where no map can be made to measure with, an entry does; without one, nothing is read, and nothing overrun.
#[test]
#[ignore = "needs root"]
fn values_are_counted_by_a_map_that_is_there_where_none_can_be_made() {
    require_root!();
    if let Some(pins) = std::env::var_os(PINS) {
        return read_without_rights(Path::new(&pins));
    }
    let bpffs = Bpffs::new();
    for dir in [bpffs.mount_point(), bpffs.path()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let empty = Map::create("empty", &def(BPF_MAP_TYPE_PERCPU_HASH, 4, 12, 4), None).unwrap();
    let filled = Map::create("filled", &def(BPF_MAP_TYPE_PERCPU_HASH, 4, 12, 4), None).unwrap();
    filled.update(&[1; 4], &filled.layout().repeated(&[7; 12]), 0).unwrap();
    for (name, map) in [("empty", &empty), ("filled", &filled)] {
        bpffs.root().pin(name, map).unwrap();
        bpffs.root().chmod(name, 0o644).unwrap();
    }
    // A process of its own: what is known of the CPUs is kept, and other tests have measured.
    let copy = bpffs.mount_point().with_extension("test");
    Invocation::of("install")
        .args(["-m", "755"])
        .args([std::env::current_exe().unwrap(), copy.clone()])
        .run()
        .expect_code(0);
    let output = Invocation::of("setpriv")
        .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "--no-new-privs"])
        .args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"])
        .arg(&copy)
        .args([
            "cpus::values_are_counted_by_a_map_that_is_there_where_none_can_be_made",
            "--exact",
            "--include-ignored",
        ])
        .env(PINS, bpffs.path())
        .run();
    std::fs::remove_file(copy).unwrap();
    let output = output.expect_code(0);
    assert!(output.stdout.contains("1 passed"), "{output}");
}

fn read_without_rights(pins: &Path) {
    let pins = Dir::open(pins).unwrap();
    let open = |name: &str| pins.open_map(name, Access::ReadOnly).unwrap();
    assert_eq!(cpu::possible().unwrap_err().errno(), Some(libc::EPERM));
    let empty = open("empty");
    assert_eq!(empty.value_len(), 0);
    for len in [0, 12, 16, 1 << 20] {
        let error = empty.lookup(&[1; 4], &mut vec![0; len]).unwrap_err().to_string();
        let why = "the number of its values per key is not known: ";
        assert!(error.contains(why) && error.ends_with("Operation not permitted (EPERM)"), "{error}");
    }
    assert!(empty.for_each(|_, _| panic!("an entry")).is_err());
    let filled = open("filled");
    let layout = filled.layout();
    assert_eq!((layout.stride(), layout.count()), (16, cpu::possible().unwrap()));
    let mut value = vec![0; filled.value_len()];
    assert!(filled.lookup(&[1; 4], &mut value).unwrap());
    assert!(layout.bare_values(&value).all(|value| value == [7; 12]));
    // From now on it is known.
    assert_eq!(open("empty").value_len(), filled.value_len());
    assert!(!open("empty").lookup(&[1; 4], &mut value).unwrap());
}
