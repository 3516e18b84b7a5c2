//! Promises about maps that hold maps or programs, which C objects fill with `.values`.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{DROP, PASS, Site, changes, compile_with, flat, packets};
use xdpd_kernel::{Access, Map, MapId, Program, ProgramId};
use xdpd_testlab::{KernelObjects, Veth, require_root, xdpd};

const ABORTED: u32 = 0;

fn config(function: &str, extra: &str) -> String {
    format!(
        "[programs.p]\nobject = \"own.o\"\nfunction = \"{function}\"\n{extra}\n\
         [interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n"
    )
}

/// A site with a device, and an object of tests/programs that runs on it.
struct Stand {
    site: Site,
    veth: Veth,
    program: &'static str,
    function: &'static str,
}

impl Stand {
    fn new(site: Site, program: &'static str, function: &'static str) -> Self {
        let veth = site.lab.veth("eth0", "peer0");
        let stand = Self { site, veth, program, function };
        stand.compile(&[]);
        stand.file("", "");
        stand.site.apply();
        stand
    }

    fn nested(name: &str) -> Self {
        Self::new(Site::new(name), "nested", "xdp_nested")
    }

    fn jumps(name: &str) -> Self {
        Self::new(Site::new(name), "jumps", "xdp_jumps")
    }

    fn object(&self) -> PathBuf {
        self.site.lab.dir().join("own.o")
    }

    fn compile(&self, options: &[&str]) {
        compile_with(&self.object(), self.program, options);
    }

    /// The same object with another digest: its program is loaded anew.
    fn touch(&self) {
        let object = std::fs::read(self.object()).unwrap();
        std::fs::write(self.object(), [&*object, b"\0"].concat()).unwrap();
    }

    /// The file, with keys at its top and lines of the program.
    fn file(&self, top: &str, extra: &str) {
        self.site.config(&format!("{top}\n{}", config(self.function, extra)));
    }

    fn map(&self, name: &str) -> Map {
        self.site.dir("eth0").open_map(name, Access::ReadWrite).unwrap()
    }

    fn id(&self, name: &str) -> MapId {
        self.map(name).id()
    }

    /// The ids in a map that holds maps or programs.
    fn held(&self, name: &str) -> BTreeMap<u32, u32> {
        let map = self.map(name);
        let keys: Vec<Vec<u8>> = map.keys().map(Result::unwrap).collect();
        let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        let held = keys.iter().filter_map(|key| {
            let mut id = [0; 4];
            map.lookup(key, &mut id).unwrap().then(|| (number(key), number(&id)))
        });
        held.collect()
    }

    fn held_programs(&self) -> BTreeMap<u32, String> {
        let name = |id| Program::open_by_id(ProgramId(id)).unwrap().info().unwrap().name;
        self.held("next").into_iter().map(|(index, id)| (index, name(id))).collect()
    }

    /// The numbers under key 0 of an inner map, all CPUs together.
    fn counted(&self, name: &str, width: usize) -> u64 {
        let map = self.map(name);
        let mut value = vec![0; map.value_len()];
        if !map.lookup(&0_u32.to_ne_bytes(), &mut value).unwrap() {
            return 0;
        }
        let number = |slot: &[u8]| {
            let mut word = [0; 8];
            word[..width].copy_from_slice(&slot[..width]);
            u64::from_ne_bytes(word)
        };
        value.chunks(map.layout().stride()).map(number).sum()
    }

    fn send(&self, count: u64) {
        self.site.send(&self.veth, "eth0", DROP, count);
    }

    #[track_caller]
    fn diff(&self, code: i32) -> String {
        let diff = self.site.expect("diff", code);
        flat(&diff.stdout)
    }
}

#[test]
#[ignore = "needs root"]
fn maps_of_maps_hold_what_the_object_says_and_stay_over_reloads() {
    require_root!();
    let stand = Stand::nested("nested");
    let ids = |names: &[&str]| names.iter().map(|name| stand.id(name)).collect::<Vec<_>>();
    let all = ["by_number", "by_key", "counters_a", "counters_b", "flows_a", "flows_b"];
    let before = ids(&all);
    let held = |outer: &str, slots: [(u32, &str); 2]| {
        assert_eq!(stand.held(outer), slots.map(|(key, name)| (key, stand.id(name).0)).into());
    };
    held("by_number", [(1, "counters_a"), (3, "counters_b")]);
    held("by_key", [(7, "flows_a"), (70, "flows_b")]);
    stand.send(5);
    let traffic = stand.site.lab.sender(&stand.veth).background(10_000);
    for _ in 0..5 {
        stand.touch();
        let diff = stand.site.run("diff config.toml --json").run().expect_code(1).json();
        assert_eq!(changes(&diff), [("eth0.program".to_owned(), "update".to_owned())]);
        stand.site.apply();
        stand.diff(0);
        assert_eq!(ids(&all), before);
    }
    let sent = traffic.stop() + 5;
    xdpd_testlab::wait_until("all frames to be counted", xdpd_testlab::DEADLINE, || {
        stand.site.packets("eth0", DROP) == sent
    });
    assert_eq!((stand.counted("counters_b", 8), stand.counted("flows_b", 8)), (sent, sent));
    assert_eq!((stand.counted("counters_a", 8), stand.counted("flows_a", 8)), (0, 0));
}

/// What others put into a map of maps is there for as long as the map is.
#[test]
#[ignore = "needs root"]
fn what_others_put_into_a_map_of_maps_stays_with_it() {
    require_root!();
    let stand = Stand::nested("others");
    let theirs = Map::create("theirs", stand.map("counters_a").def(), None).unwrap();
    stand.map("by_number").put(&3_u32.to_ne_bytes(), &theirs).unwrap();
    stand.diff(0);
    stand.touch();
    stand.site.apply();
    assert_eq!(stand.held("by_number")[&3], theirs.id().0);
    stand.send(4);
    assert_eq!(stand.counted("counters_b", 8), 0);
    // Its pin alone is no content.
    stand.site.dir("eth0").unlink("by_number").unwrap();
    assert!(stand.diff(1).contains("the map is pinned again, its content is kept"));
    stand.site.apply();
    assert_eq!(stand.held("by_number")[&3], theirs.id().0);
    stand.send(2);
}

#[test]
#[ignore = "needs root"]
fn another_definition_of_inner_maps_is_for_the_policy() {
    const NARROW: &[&str] = &["-DVALUE=__u32"];
    require_root!();
    let stand = Stand::nested("policies");
    stand.send(6);
    let outer = stand.id("by_number");

    // Required, nothing changes.
    stand.compile(NARROW);
    stand.file("reuse = \"require\"", "");
    let blocked = stand.diff(2);
    assert!(
        blocked.contains("reuse = \"require\", and the definition differs: value size 8 -> 4"),
        "{blocked}"
    );
    assert!(
        blocked.contains(
            "the map cannot stay: inner maps: value size 8 -> 4, its inner maps counters_a, counters_b are replaced"
        ),
        "{blocked}"
    );
    stand.site.expect("apply", 2);
    assert_eq!(stand.id("by_number"), outer);
    stand.send(1);

    // Carried over, into inner maps that a new outer map holds. What nobody else has changed is no loss.
    stand.compile(&["-DVALUE=__u64", "-DSIZE=8"]);
    stand.file("reuse = \"migrate\"", "");
    let diff = stand.diff(1);
    assert!(diff.contains("made anew, filled with the maps counters_a, counters_b"), "{diff}");
    assert!(!diff.contains("lost"), "{diff}");
    let traffic = stand.site.lab.sender(&stand.veth).background(5000);
    stand.site.apply();
    let sent = traffic.stop() + 7;
    stand.diff(0);
    assert_ne!(stand.id("by_number"), outer);
    assert_eq!(stand.held("by_number")[&3], stand.id("counters_b").0);
    xdpd_testlab::wait_until("all frames to be counted", xdpd_testlab::DEADLINE, || {
        stand.counted("counters_b", 8) == sent
    });

    // Replaced.
    let flows = stand.id("by_key");
    stand.compile(NARROW);
    stand.file("", "");
    let diff = stand.diff(1);
    assert!(diff.contains("its content is lost: another definition"), "{diff}");
    stand.site.apply();
    assert_ne!(stand.id("by_key"), flows);
    stand.send(3);
    assert_eq!((stand.counted("counters_b", 4), stand.counted("flows_b", 4)), (3, 3));
    stand.diff(0);

    // A fresh inner map each time.
    let (outer, flows) = (stand.id("by_number"), stand.id("by_key"));
    stand.file("", "[programs.p.maps.counters_b]\nreuse = \"never\"");
    stand.touch();
    let diff = stand.diff(1);
    assert!(diff.contains("its inner map counters_b is replaced"), "{diff}");
    stand.site.apply();
    assert_ne!(stand.id("by_number"), outer);
    assert_eq!((stand.id("by_key"), stand.counted("counters_b", 4)), (flows, 0));
    stand.send(2);
    assert_eq!((stand.counted("counters_b", 4), stand.counted("flows_b", 4)), (2, 5));
    stand.diff(0);
}

#[test]
#[ignore = "needs root"]
fn migrate_does_not_lose_what_others_put_into_a_map_of_maps() {
    require_root!();
    let stand = Stand::nested("foreign");
    stand.file("reuse = \"migrate\"", "");
    let theirs = Map::create("theirs", stand.map("counters_a").def(), None).unwrap();
    stand.map("by_number").put(&0_u32.to_ne_bytes(), &theirs).unwrap();
    stand.compile(&["-DTHIRD"]);
    let blocked = stand.diff(2);
    let why = "what others put there (1 entry) cannot be carried over to another map: the object fills it otherwise";
    assert!(blocked.contains(why) && blocked.contains("take it out"), "{blocked}");
    stand.site.expect("apply", 2);
    stand.send(1);
    let outer = stand.map("by_number");
    outer.delete(&0_u32.to_ne_bytes()).unwrap();
    stand.site.apply();
    assert_eq!(stand.held("by_number").keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    stand.send(1);
    assert_eq!(stand.counted("counters_b", 8), 2);

    // The policy of the map alone allows the loss.
    stand.map("by_number").put(&0_u32.to_ne_bytes(), &theirs).unwrap();
    stand.compile(&[]);
    stand.file("reuse = \"migrate\"", "[programs.p.maps.by_number]\nreuse = \"if-compatible\"");
    let diff = stand.diff(1);
    assert!(diff.contains("what others put there (1 entry) is lost"), "{diff}");
    stand.site.apply();
    assert_eq!(stand.held("by_number").keys().copied().collect::<Vec<_>>(), [1, 3]);
    stand.diff(0);

    // Nor is there anything to lose where the outer map is of another type.
    stand.compile(&["-DOUTER=BPF_MAP_TYPE_HASH_OF_MAPS"]);
    stand.file("reuse = \"migrate\"", "");
    let diff = stand.diff(1);
    assert!(
        diff.contains("type array_of_maps -> hash_of_maps; made anew") && !diff.contains("lost"),
        "{diff}"
    );
    stand.site.apply();
    assert_eq!(stand.held("by_number").keys().copied().collect::<Vec<_>>(), [1, 3]);
    stand.diff(0);
}

/// A program that finds a map by its name and in another map finds the same one.
#[test]
#[ignore = "needs root"]
fn an_inner_map_that_lost_its_place_to_another_is_replaced_in_the_outer_map_too() {
    require_root!();
    let stand = Stand::nested("pins");
    stand.file("reuse = \"migrate\"", "");
    let def = *stand.map("counters_b").def();
    let mend = |context: &str| {
        stand.touch();
        let diff = stand.diff(1);
        assert!(diff.contains("its inner map counters_b is replaced"), "{context}: {diff}");
        assert!(!diff.contains("what others put there"), "{context}: {diff}");
        stand.site.apply();
        assert_eq!(stand.held("by_number")[&3], stand.id("counters_b").0, "{context}");
        stand.send(2);
        assert_eq!(stand.counted("counters_b", 8), 2, "{context}");
        stand.diff(0);
    };
    stand.site.dir("eth0").unlink("counters_b").unwrap();
    mend("no pin");
    let dir = stand.site.dir("eth0");
    dir.unlink("counters_b").unwrap();
    dir.pin("counters_b", &Map::create("theirs", &def, None).unwrap()).unwrap();
    mend("a pin of another map");
}

/// The kernel compares no sizes of hash maps, so neither is it a difference.
#[test]
#[ignore = "needs root"]
fn the_pattern_of_inner_maps_is_compared_as_the_kernel_does() {
    require_root!();
    let stand = Stand::new(Site::new("pattern"), "nested", "xdp_nested");
    stand.compile(&["-DKIND=BPF_MAP_TYPE_HASH"]);
    stand.site.apply();
    let outer = stand.id("by_number");
    stand.compile(&["-DKIND=BPF_MAP_TYPE_HASH", "-DPATTERN_SIZE=99"]);
    stand.site.apply();
    assert_eq!(stand.id("by_number"), outer);
    stand.compile(&["-DKIND=BPF_MAP_TYPE_LRU_HASH"]);
    assert!(stand.diff(1).contains("inner maps: type hash -> lru_hash"));
    stand.site.apply();
    stand.diff(0);
}

#[test]
#[ignore = "needs root"]
fn programs_jump_to_those_of_their_version_over_reloads_without_a_lost_packet() {
    require_root!();
    let stand = Stand::jumps("jumps");
    let filled = BTreeMap::from([(0, "xdp_first".to_owned()), (2, "xdp_second".to_owned())]);
    assert_eq!(stand.held_programs(), filled);
    assert_eq!(stand.held("more"), BTreeMap::new());
    let (link, second, more) =
        (stand.site.link("eth0").info().unwrap().id, stand.id("only_second"), stand.id("more"));
    let traffic = stand.site.lab.sender(&stand.veth).background(20_000);
    // A policy is for data, and this is code.
    stand.file("reuse = \"require\"", "");
    for _ in 0..20 {
        let before = (stand.id("next"), stand.held("next"));
        stand.touch();
        let diff = stand.site.run("diff config.toml --json").run().expect_code(1).json();
        let expected = [("eth0.program", "update"), ("eth0.map.next", "delete+create")];
        assert_eq!(changes(&diff), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        stand.site.apply();
        let after = (stand.id("next"), stand.held("next"));
        assert!(before.0 != after.0 && before.1.iter().zip(&after.1).all(|(old, new)| old != new));
        assert_eq!(stand.held_programs(), filled);
        stand.diff(0);
    }
    let sent = traffic.stop();
    xdpd_testlab::wait_until("all frames to be counted", xdpd_testlab::DEADLINE, || {
        stand.site.packets("eth0", DROP) == sent
    });
    let stats = stand.site.map("eth0", "xdp_stats_map");
    assert_eq!(packets(&stats, ABORTED), 0, "no jump has missed");
    assert_eq!(stand.site.link("eth0").info().unwrap().id, link);
    assert_eq!((stand.id("only_second"), stand.id("more")), (second, more));
}

#[test]
#[ignore = "needs root"]
fn a_program_that_is_jumped_to_and_refused_leaves_everything_as_it_was() {
    require_root!();
    let stand = Stand::new(Site::alone("refused"), "jumps", "xdp_jumps");
    stand.send(2);
    let objects = KernelObjects::settled();
    let state =
        || (stand.site.bpffs.tree(), stand.site.running("eth0"), stand.id("next"), stand.held("next"));
    let before = state();
    for function in ["xdp_jumps", "xdp_first"] {
        stand.compile(&["-DBROKEN"]);
        stand.site.config(&config(function, ""));
        let refused = stand.site.expect("apply", 2);
        let last = refused.stderr.trim_end().lines().last().unwrap();
        assert!(
            last.contains("cannot load xdp_second: the kernel refused the program at jumps.c:"),
            "{last}"
        );
        assert!(last.ends_with("nothing was changed"), "{last}");
        assert_eq!(state(), before);
    }
    objects.wait_until_equal();
    stand.send(2);
    // One that no slot refers to is not even looked at by the kernel.
    stand.compile(&["-DBROKEN", "-DSLOTS={ [0] = &xdp_jumps }"]);
    stand.site.config(&config("xdp_jumps", ""));
    stand.site.apply();
    assert_eq!(stand.held("next"), BTreeMap::from([(0, stand.site.running("eth0").unwrap())]));
}

/// The kernel empties a program array with its last pin.
#[test]
#[ignore = "needs root"]
fn a_program_array_that_was_emptied_is_found_and_mended() {
    require_root!();
    let stand = Stand::jumps("emptied");
    let mend = |why: &str| {
        let diff = stand.diff(1);
        assert!(diff.contains(why), "{diff}");
        stand.site.apply();
        assert_eq!(stand.held("next").len(), 2);
        stand.send(3);
        stand.diff(0);
    };
    let dir = stand.site.dir("eth0");
    dir.unlink("next").unwrap();
    mend("program: map next has lost its pin, and its programs with it");
    let dir = stand.site.dir("eth0");
    let id = stand.id("next");
    dir.unlink("next").unwrap();
    xdpd_testlab::wait_until("the array to be emptied", xdpd_testlab::DEADLINE, || {
        // The kernel takes out one program after the other.
        let array = Map::open_by_id(id).unwrap();
        [0_u32, 2].iter().all(|index| !array.lookup(&index.to_ne_bytes(), &mut [0; 4]).unwrap())
    });
    dir.pin("next", &Map::open_by_id(id).unwrap()).unwrap();
    mend("program: map next has lost xdp_first, xdp_second");
    stand.map("next").delete(&2_u32.to_ne_bytes()).unwrap();
    mend("program: map next has lost xdp_second");
    // What others put in the place of a program is theirs until the next load.
    let theirs = Program::load_xdp_returning("theirs", 1).unwrap();
    stand.map("next").put(&0_u32.to_ne_bytes(), &theirs).unwrap();
    stand.diff(0);
}

#[test]
#[ignore = "needs root"]
fn a_program_array_that_the_function_does_not_reach_is_for_others_to_fill() {
    require_root!();
    let stand = Stand::new(Site::new("unreached"), "jumps", "xdp_second");
    assert_eq!(stand.held("next"), BTreeMap::new());
    let next = stand.id("next");
    stand.touch();
    stand.site.apply();
    assert_eq!(stand.id("next"), next);
    stand.send(2);
    stand.site.config(&config("xdp_jumps", ""));
    stand.site.apply();
    assert_eq!(stand.held("next").len(), 2);
    stand.send(2);
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_maps_and_programs_that_others_held() {
    require_root!();
    let site = Site::alone("slotsgone");
    let objects = KernelObjects::settled();
    let nested = Stand::new(site, "nested", "xdp_nested");
    nested.compile(&["-DSIZE=8"]);
    nested.site.apply();
    nested.site.expect("detach", 0);
    objects.wait_until_equal();
    let Stand { site, veth, .. } = nested;
    let jumps = Stand { site, veth, program: "jumps", function: "xdp_jumps" };
    jumps.compile(&[]);
    jumps.file("", "");
    jumps.site.apply();
    jumps.touch();
    jumps.site.apply();
    jumps.site.expect("detach", 0);
    objects.wait_until_equal();
    assert_eq!(jumps.site.bpffs.tree(), Vec::<String>::new());
}

/// Compiled as its first lines say, run as its file says.
#[test]
#[ignore = "needs root"]
fn the_example_lets_in_what_is_for_open_ports() {
    require_root!();
    let site = Site::new("services");
    let veth = site.lab.veth("eth0", "peer0");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs");
    common::compile_file(&site.lab.dir().join("services.o"), &examples.join("services.c"), &[]);
    let text = std::fs::read_to_string(examples.join("services.toml")).unwrap();
    site.config(&text.replace("[interfaces.eth0]", "[interfaces.eth0]\nnetns = \"$NETNS\""));
    site.apply();
    site.expect("diff", 0);
    site.send(&veth, "eth0", PASS, 2); // no IP
    let program = Program::open_by_id(ProgramId(site.running("eth0").unwrap())).unwrap();
    let verdict_on = |version: usize, protocol: u8, port: u16| {
        let mut frame = [0; 64];
        let (ether_type, header, protocol_at) =
            if version == 4 { ([0x08, 0x00], 20, 23) } else { ([0x86, 0xdd], 40, 20) };
        frame[12..14].copy_from_slice(&ether_type);
        frame[14] = if version == 4 { 0x45 } else { 0x60 };
        frame[protocol_at] = protocol;
        frame[14 + header + 2..14 + header + 4].copy_from_slice(&port.to_be_bytes());
        program.test_run(&frame, 1).unwrap().return_value
    };
    for version in [4, 6] {
        for (protocol, port, action) in
            [(6, 22, PASS), (6, 53, DROP), (17, 53, PASS), (17, 443, DROP), (1, 0, PASS)]
        {
            assert_eq!(verdict_on(version, protocol, port), action, "{version}, {protocol}, {port}");
        }
    }
    // Another file, and what is open with it.
    site.config(
        &text
            .replace("[22, 443]", "[22, 53]")
            .replace("[interfaces.eth0]", "[interfaces.eth0]\nnetns = \"$NETNS\""),
    );
    site.apply();
    assert_eq!((verdict_on(4, 6, 443), verdict_on(6, 6, 53)), (DROP, PASS));
}

#[test]
fn entries_of_a_map_of_maps_or_of_programs_are_refused_with_what_to_do_instead() {
    let dir = tempfile::tempdir().unwrap();
    compile_with(&dir.path().join("own.o"), "nested", &[]);
    let check = |function: &str, map: &str| {
        let path = dir.path().join("config.toml");
        let extra = format!("[programs.p.maps.{map}]\nentries = [{{ key = 0, value = 1 }}]");
        std::fs::write(&path, config(function, &extra)).unwrap();
        flat(&xdpd().arg("check").arg(path).run().expect_code(2).stderr)
    };
    let text = check("xdp_nested", "by_number");
    assert!(
        text.contains(
            "map `by_number` cannot have `entries`: its type is array_of_maps, which the object fills"
        ),
        "{text}"
    );
    compile_with(&dir.path().join("own.o"), "jumps", &[]);
    let text = check("xdp_jumps", "next");
    assert!(text.contains("map `next` cannot have `entries`: its type is prog_array, which the object fills (`values`), or others do"), "{text}");
}

#[test]
fn a_function_that_is_there_is_no_near_miss() {
    let dir = tempfile::tempdir().unwrap();
    compile_with(&dir.path().join("own.o"), "jumps", &["-DSECOND=\"xdp.frags\""]);
    let path = dir.path().join("config.toml");
    std::fs::write(&path, config("xdp_jumps", "")).unwrap();
    let text = flat(&xdpd().arg("check").arg(path).run().expect_code(2).stderr);
    assert!(text.contains("takes packets of several buffers"), "{text}");
    assert!(!text.contains("did you mean"), "{text}");
}
