//! The planner on random states: carrying a plan out on a model gives the desired state, and then there is nothing to do.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use xdpd::desired::{Attachment, Desired, DesiredMap, Instance};
use xdpd::devices::{Devices, Space};
use xdpd::globals::Globals;
use xdpd::inner_map;
use xdpd::migrate::Settings;
use xdpd::object::{Inner, MapOrigin, MapSpec, Object, Store, Values};
use xdpd::observed::{LinkState, Observed, PinPermissions, Pinned, PinnedMap, map_pin};
use xdpd::permissions::{self, Readers};
use xdpd::plan::{self, Allow, Install, LinkWork, MapWork, Plan, ProgramWork, Verdict, Work};
use xdpd_config::record::Record;
use xdpd_config::{Config, Global, Label, Located, Mode, Program, Reuse, Value};
use xdpd_kernel::map_types::{
    BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PROG_ARRAY,
};
use xdpd_kernel::{Attached, Device, IfIndex, LinkId, MapDef, MapId, NetNsId, ProgramId, XdpMode};

const OURS: &str = "/etc/xdpd/config.toml";
const DEVICES: u32 = 4;

fn label(n: u32) -> Label {
    Label::try_new(&format!("if{n}")).unwrap()
}

fn device(n: u32) -> String {
    format!("eth{n}")
}

fn def(entries: u32) -> MapDef {
    MapDef {
        map_type: BPF_MAP_TYPE_PERCPU_ARRAY,
        key_size: 4,
        value_size: 16,
        max_entries: entries,
        flags: 0,
        map_extra: 0,
    }
}

/// A map of maps with those of `maps` that there are.
fn outer(numbers: &BTreeSet<u8>, is_there: impl Fn(u8) -> bool) -> MapSpec {
    let slots = numbers.iter().filter(|n| is_there(**n)).map(|n| (u32::from(*n), format!("map{n}")));
    let inner = Inner { def: def(4), btf: None, layout: None, numa_node: 0 };
    let values = Values::Maps { inner: Box::new(inner), slots: slots.collect() };
    let def = MapDef { map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS, value_size: 4, ..def(8) };
    MapSpec { values, ..MapSpec::plain(def, MapOrigin::Declared) }
}

fn program_array(numbers: &BTreeSet<u8>) -> MapSpec {
    let slots = numbers.iter().map(|n| (u32::from(*n), format!("f{n}")));
    let def = MapDef { map_type: BPF_MAP_TYPE_PROG_ARRAY, value_size: 4, ..def(8) };
    MapSpec { values: Values::Programs(slots.collect()), ..MapSpec::plain(def, MapOrigin::Declared) }
}

/// Two objects that fill maps otherwise are not the same.
fn digest(number: u8, outer: Option<&MapSpec>, next: Option<&MapSpec>) -> String {
    let slots = |spec: Option<&MapSpec>| spec.map(|spec| spec.slots().keys().copied().collect::<Vec<_>>());
    format!("sha256:{number}{:?}{:?}", slots(outer), slots(next))
}

fn pinned_map(id: MapId, def: MapDef) -> PinnedMap {
    PinnedMap { id, def, btf: None, layout: None, excess: None, slots: None }
}

/// What the file says of one interface.
#[derive(Debug, Clone)]
struct Wanted {
    function: u8,
    digest: u8,
    generic: bool,
    optional: bool,
    reuse: Reuse,
    maps: BTreeMap<u8, u32>,
    /// The maps in its map of maps, of those that it has.
    outer: Option<BTreeSet<u8>>,
    /// The functions in its program array.
    next: Option<BTreeSet<u8>>,
    globals: BTreeMap<u8, u32>,
}

/// A group of readers, or none.
fn readers() -> impl Strategy<Value = Option<Readers>> {
    prop::option::of(5..7_u32).prop_map(|gid| gid.map(|gid| Readers { gid, name: gid.to_string() }))
}

fn permissions<'a>(readers: Option<&Readers>, maps: impl Iterator<Item = &'a String>) -> PinPermissions {
    let pins = maps.map(|map| (map_pin(map), permissions::of_maps(readers))).collect();
    PinPermissions { directory: permissions::of_directories(readers), pins }
}

/// What is pinned of one interface.
#[derive(Debug, Clone)]
struct Held {
    readers: Option<Readers>,
    label: u32,
    foreign_owner: bool,
    function: u8,
    digest: u8,
    generic: bool,
    link: u8,
    drifted: bool,
    maps: BTreeMap<u8, (u32, bool)>,
    /// And whether others have put something beside.
    outer: Option<(BTreeSet<u8>, bool)>,
    /// And whether it is still pinned: otherwise it is empty.
    next: Option<(BTreeSet<u8>, bool)>,
    globals: BTreeMap<u8, u32>,
}

/// Numbers of maps or functions.
fn numbers() -> impl Strategy<Value = BTreeSet<u8>> {
    prop::collection::btree_set(0..3_u8, 0..3)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let reuse = prop::sample::select(Reuse::ALL.to_vec());
    let maps = prop::collection::btree_map(0..3_u8, 4..6_u32, 0..3);
    let (outer, next) = (prop::option::of(numbers()), prop::option::of(numbers()));
    (0..2_u8, 0..2_u8, any::<bool>(), any::<bool>(), reuse, maps, outer, next, values()).prop_map(
        |(function, digest, generic, optional, reuse, maps, outer, next, globals)| Wanted {
            function,
            digest,
            generic,
            optional,
            reuse,
            maps,
            outer,
            next,
            globals,
        },
    )
}

/// Values for the variables of the object `settings`, by their index.
fn values() -> impl Strategy<Value = BTreeMap<u8, u32>> {
    prop_oneof![Just(BTreeMap::new()), prop::collection::btree_map(0..4_u8, 0..3_u32, 0..4)]
}

/// A constant, two variables with a value and one without.
const VARIABLES: [&str; 4] = ["limit", "slot", "own", "extra"];

/// The object that all models of programs are of, as far as variables matter.
fn settings() -> &'static Object {
    static OBJECT: LazyLock<Object> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        let object = common::compile_to(&dir.path().join("own.o"), "settings");
        Object::inspect(std::fs::read(object).unwrap()).unwrap()
    });
    &OBJECT
}

fn globals(values: &BTreeMap<u8, u32>) -> Globals {
    let values = values.iter().map(|(n, value)| Global {
        name: Located { value: VARIABLES[usize::from(*n)].to_owned(), span: 0..0 },
        value: Value::Integer(i64::from(*value)).unplaced(),
    });
    let program = Program { globals: values.collect(), ..Config::default_program() };
    Globals::resolve(settings(), &program).unwrap()
}

fn held() -> impl Strategy<Value = Held> {
    let maps = prop::collection::btree_map(0..3_u8, (4..6_u32, prop::bool::weighted(0.9)), 0..3);
    (
        0..6_u32,
        prop::bool::weighted(0.1),
        0..2_u8,
        0..2_u8,
        any::<bool>(),
        prop_oneof![6 => Just(0_u8), 1 => Just(1), 1 => Just(2)],
        prop::bool::weighted(0.1),
        (
            maps,
            prop::option::of((numbers(), prop::bool::weighted(0.2))),
            prop::option::of((numbers(), prop::bool::weighted(0.8))),
            values(),
        ),
        readers(),
    )
        .prop_map(|(label, foreign_owner, function, digest, generic, link, drifted, maps, readers)| {
            let (maps, outer, next, globals) = maps;
            Held {
                readers,
                label,
                foreign_owner,
                function,
                digest,
                generic,
                link,
                drifted,
                maps,
                outer,
                next,
                globals,
            }
        })
}

fn desired(wanted: &BTreeMap<u32, (u32, Wanted)>, readers: Option<Readers>) -> Desired {
    let mut desired = Desired {
        config: PathBuf::from(OURS),
        pin_root: PathBuf::from("/sys/fs/bpf/xdpd"),
        readers,
        stats_map: "map0".into(),
        instances: BTreeMap::new(),
        attachments: BTreeMap::new(),
        left_out: Vec::new(),
    };
    for (on, (name, wanted)) in wanted {
        let spec = |entries: u32| MapSpec::plain(def(entries), MapOrigin::Declared);
        let declared = wanted.maps.iter().map(|(n, entries)| (format!("map{n}"), spec(*entries)));
        let data = [".data", ".bss"].map(|name| (name.to_owned(), settings().maps()[name].clone()));
        let map =
            |spec| DesiredMap { spec, reuse: wanted.reuse, settings: Settings::default(), entries: None };
        let outer = wanted.outer.as_ref().map(|numbers| outer(numbers, |n| wanted.maps.contains_key(&n)));
        let next = wanted.next.as_ref().map(program_array);
        let digest = digest(wanted.digest, outer.as_ref(), next.as_ref());
        let slots = [("outer", outer), ("next", next)];
        let slots = slots.into_iter().filter_map(|(name, spec)| Some((name.to_owned(), spec?)));
        let all = declared.chain(data).chain(slots);
        let maps = all.map(|(name, spec)| (name, map(spec)));
        let instance = Instance {
            object: "builtin".into(),
            digest,
            function: format!("f{}", wanted.function),
            attach_type: u32::from(wanted.function) * 37,
            globals: Arc::new(globals(&wanted.globals)),
            maps: maps.collect(),
        };
        let attachment = Attachment {
            instance: label(*name),
            device: device(*on),
            netns: None,
            optional: wanted.optional,
            modes: vec![if wanted.generic { Mode::Generic } else { Mode::Native }],
        };
        desired.instances.insert(label(*name), instance);
        desired.attachments.insert(label(*name), attachment);
    }
    desired
}

fn new_device(n: u32) -> Device {
    Device { ifindex: IfIndex(n + 2), name: device(n), alt_names: Vec::new(), mtu: 1500, xdp: Vec::new() }
}

/// The model of a host: devices with what runs on them, and the pins.
#[derive(Debug, Clone)]
struct Host {
    devices: Vec<Device>,
    interfaces: BTreeMap<Label, Pinned>,
    /// What the maps of global variables hold.
    contents: BTreeMap<MapId, Vec<u8>>,
    /// What maps of maps and program arrays hold.
    slots: BTreeMap<MapId, BTreeMap<Vec<u8>, u32>>,
    next: u32,
}

/// What others put into a map of maps, and where: ids of maps that are none of ours.
const THEIRS: (u32, u32) = (7, 90_000);

fn zeros(spec: &MapSpec) -> Vec<u8> {
    vec![0; spec.def.value_size as usize]
}

impl Host {
    /// A host that holds something, and has lost some of its devices since.
    fn new(held: &BTreeMap<u32, Held>, absent: &BTreeSet<u32>) -> Self {
        let mut host = Self {
            devices: (0..DEVICES).map(new_device).collect(),
            interfaces: BTreeMap::new(),
            contents: BTreeMap::new(),
            slots: BTreeMap::new(),
            next: 100,
        };
        let mut labels = BTreeSet::new();
        for (on, held) in held {
            if labels.insert(held.label) {
                host.hold(*on, held);
            }
        }
        for n in absent {
            host.lose(&device(*n));
        }
        host
    }

    /// A device is deleted: the link on it stays pinned, and is on none.
    fn lose(&mut self, name: &str) {
        let at = self.devices.iter().position(|d| d.name == name).unwrap();
        let gone = self.devices.remove(at);
        for pinned in self.interfaces.values_mut() {
            if let LinkState::Live { id, program, ifindex } = pinned.link
                && ifindex == gone.ifindex
            {
                pinned.link = LinkState::Defunct { id, program };
            }
        }
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn hold(&mut self, on: u32, held: &Held) {
        let (program, link) = (self.id(), LinkId(self.id()));
        let ifindex = IfIndex(on + 2);
        let mode = if held.generic { XdpMode::Generic } else { XdpMode::Native };
        let state = match held.link {
            0 => {
                let attached = Attached { mode, program_id: ProgramId(program) };
                self.devices[on as usize].xdp.push(attached);
                LinkState::Live { id: link, program: ProgramId(program), ifindex }
            }
            1 => LinkState::Defunct { id: link, program: ProgramId(program) },
            _ => LinkState::Missing,
        };
        let mut pinned = BTreeMap::new();
        let mut recorded = BTreeMap::new();
        for (n, (entries, is_pinned)) in &held.maps {
            let id = self.id();
            recorded.insert(format!("map{n}"), id);
            if *is_pinned {
                pinned.insert(format!("map{n}"), pinned_map(MapId(id), def(*entries)));
            }
        }
        let mut inner = BTreeMap::new();
        let is_there = |n| held.maps.contains_key(&n);
        let outer = held.outer.as_ref().map(|(numbers, _)| outer(numbers, is_there));
        if let (Some(spec), Some((_, with_theirs))) = (&outer, &held.outer) {
            let id = MapId(self.id());
            let held = spec.slots().iter().map(|(index, name)| (*index, recorded[name]));
            let held = held.chain(with_theirs.then_some(THEIRS));
            self.slots.insert(id, held.map(|(index, id)| (index.to_ne_bytes().to_vec(), id)).collect());
            inner.insert("outer".to_owned(), inner_map::recorded(spec).unwrap());
            recorded.insert("outer".to_owned(), id.0);
            pinned.insert("outer".to_owned(), pinned_map(id, spec.def));
        }
        let next = held.next.as_ref().map(|(numbers, _)| program_array(numbers));
        if let (Some(spec), Some((_, is_pinned))) = (&next, held.next.as_ref()) {
            let id = MapId(self.id());
            recorded.insert("next".to_owned(), id.0);
            if *is_pinned {
                let slots = self.new_programs(spec);
                self.slots.insert(id, slots);
                pinned.insert("next".to_owned(), pinned_map(id, spec.def));
            }
        }
        let globals = globals(&held.globals);
        for (name, spec) in settings().maps() {
            if spec.origin == MapOrigin::Data {
                let id = self.id();
                recorded.insert(name.clone(), id);
                let map = pinned_map(MapId(id), spec.def);
                pinned.insert(name.clone(), map);
                self.contents
                    .insert(MapId(id), globals.content(settings(), name).unwrap_or_else(|| zeros(spec)));
            }
        }
        let record = Record {
            version: 1,
            generation: 0,
            config: PathBuf::from(if held.foreign_owner { "/etc/other.toml" } else { OURS }),
            device: device(on),
            ifindex: ifindex.0,
            netns: (4, 1),
            netns_name: None,
            mode: if held.generic { Mode::Generic } else { Mode::Native },
            object: digest(held.digest, outer.as_ref(), next.as_ref()),
            globals: globals.digest(),
            values: globals.recorded(),
            function: format!("f{}", held.function),
            attach_type: u32::from(held.function) * 37,
            program: if held.drifted { program + 1000 } else { program },
            maps: recorded,
            inner,
            base: BTreeMap::new(),
            retired: BTreeMap::new(),
        };
        let directory = label(held.label).file_name();
        let pinned = Pinned {
            directory,
            record: Ok(record),
            link: state,
            permissions: permissions(held.readers.as_ref(), pinned.keys()),
            maps: pinned,
            retired: vec![],
            others: vec![],
        };
        self.interfaces.insert(label(held.label), pinned);
    }

    /// Programs for the slots of an array.
    fn new_programs(&mut self, spec: &MapSpec) -> BTreeMap<Vec<u8>, u32> {
        spec.slots().keys().map(|index| (index.to_ne_bytes().to_vec(), self.id())).collect()
    }

    fn observed(&self) -> Observed {
        let mut interfaces = self.interfaces.clone();
        for map in interfaces.values_mut().flat_map(|pinned| pinned.maps.values_mut()) {
            let holds_slots =
                [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY].contains(&map.def.map_type);
            map.slots = holds_slots.then(|| self.slots.get(&map.id).cloned().unwrap_or_default());
        }
        let space = Space::Present { id: NetNsId { dev: 4, ino: 1 }, devices: self.devices.clone() };
        Observed {
            devices: Devices::from_spaces([(None, space)]),
            interfaces,
            possible_cpus: 2,
            ..Observed::default()
        }
    }

    fn detach(&mut self, link: &LinkState) {
        if let LinkState::Live { program, ifindex, .. } = link {
            let device = self.devices.iter_mut().find(|d| d.ifindex == *ifindex).unwrap();
            device.xdp.retain(|a| a.program_id != *program);
        }
    }

    fn execute(&mut self, plan: &Plan, desired: &Desired) {
        for (label, work) in plan.work() {
            match work {
                Work::Remove { .. } => {
                    let gone = self.interfaces.remove(label).unwrap();
                    self.detach(&gone.link);
                }
                Work::Install(install) => self.install(label, install, desired),
                Work::Entries => panic!("no map here has entries of the file"),
            }
        }
    }

    fn install(&mut self, label: &Label, install: &Install, desired: &Desired) {
        let instance = &desired.instances[&desired.attachments[label].instance];
        let old = install.replaces.as_ref().map(|directory| {
            let (from, _) = self.interfaces.iter().find(|(_, p)| p.directory == *directory).unwrap();
            let from = from.clone();
            self.interfaces.remove(&from).unwrap()
        });
        let program = match install.program {
            ProgramWork::Keep(id) => id,
            ProgramWork::Load => ProgramId(self.id()),
        };
        let mode = match install.modes[0] {
            Mode::Generic => XdpMode::Generic,
            _ => XdpMode::Native,
        };
        let link = match (install.link, old.as_ref().map(|o| &o.link)) {
            (LinkWork::Create { .. }, old) => {
                if let Some(old) = old {
                    self.detach(&old.clone());
                }
                LinkId(self.id())
            }
            (_, Some(LinkState::Live { id, program: before, ifindex })) => {
                assert_eq!(*ifindex, install.ifindex, "a link that is kept stays on its device");
                let (id, before) = (*id, *before);
                let device = self.devices.iter_mut().find(|d| d.ifindex == install.ifindex).unwrap();
                let attached = device.xdp.iter().find(|a| a.program_id == before).unwrap();
                assert_eq!(attached.mode, mode, "a link that is kept keeps its mode");
                device.xdp.retain(|a| a.program_id != before);
                id
            }
            (work, old) => panic!("{work:?} of {old:?}"),
        };
        let device = self.devices.iter_mut().find(|d| d.ifindex == install.ifindex).unwrap();
        assert!(device.xdp.is_empty(), "nothing else runs on {}", device.name);
        device.xdp.push(Attached { mode, program_id: program });

        let mut maps = BTreeMap::new();
        for (name, work) in &install.maps {
            let map = match work {
                MapWork::Keep(id) => {
                    let kept = old.as_ref().unwrap().maps[name].clone();
                    assert_eq!(kept.id, *id);
                    kept
                }
                MapWork::Repin(id) => pinned_map(*id, instance.maps[name].spec.def),
                MapWork::Migrate(id) => {
                    let carried = &old.as_ref().unwrap().maps[name];
                    assert_eq!(carried.id, *id);
                    assert_ne!(carried.def, instance.maps[name].spec.def);
                    pinned_map(MapId(self.id()), instance.maps[name].spec.def)
                }
                MapWork::Create => pinned_map(MapId(self.id()), instance.maps[name].spec.def),
            };
            let spec = &instance.maps[name].spec;
            if spec.origin == MapOrigin::Data && *work == MapWork::Create {
                let content = instance.globals.content(settings(), name).unwrap_or_else(|| zeros(spec));
                self.contents.insert(map.id, content);
            }
            if *work == MapWork::Create && spec.programs().is_some() {
                assert_eq!(install.program, ProgramWork::Load, "programs come from an object");
                let programs = self.new_programs(spec);
                self.slots.insert(map.id, programs);
            } else if *work == MapWork::Create && spec.inner().is_some() {
                let ids = spec.slots().iter().map(|(index, inner)| {
                    let inner: &PinnedMap = &maps[inner];
                    (index.to_ne_bytes().to_vec(), inner.id.0)
                });
                self.slots.insert(map.id, ids.collect());
            }
            maps.insert(name.clone(), map);
        }
        for Store { section, offset, bytes } in &install.stores {
            let content = self.contents.get_mut(&maps[section].id).unwrap();
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        let record = Record {
            version: 1,
            generation: install.generation,
            config: desired.config.clone(),
            device: install.device.clone(),
            ifindex: install.ifindex.0,
            netns: (4, 1),
            netns_name: None,
            mode: install.modes[0],
            object: instance.digest.clone(),
            globals: instance.globals.digest(),
            values: instance.globals.recorded(),
            function: instance.function.clone(),
            attach_type: instance.attach_type,
            program: program.0,
            maps: maps.iter().map(|(name, map)| (name.clone(), map.id.0)).collect(),
            inner: instance
                .maps
                .iter()
                .filter_map(|(name, map)| Some((name.clone(), inner_map::recorded(&map.spec)?)))
                .collect(),
            base: BTreeMap::new(),
            retired: BTreeMap::new(),
        };
        let pinned = Pinned {
            directory: label.file_name(),
            record: Ok(record),
            link: LinkState::Live { id: link, program, ifindex: install.ifindex },
            permissions: permissions(desired.readers.as_ref(), maps.keys()),
            maps,
            retired: Vec::new(),
            others: Vec::new(),
        };
        self.interfaces.insert(label.clone(), pinned);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(
        want in prop::collection::btree_map(0..DEVICES, (0..6_u32, wanted()), 0..4),
        held in prop::collection::btree_map(0..DEVICES, held(), 0..4),
        absent in prop::collection::btree_set(0..DEVICES, 0..2),
        readers in readers(),
    ) {
        // A label stands for one device.
        let mut labels = BTreeSet::new();
        let want: BTreeMap<_, _> = want.into_iter().filter(|(_, (label, _))| labels.insert(*label)).collect();
        let desired = desired(&want, readers);
        let mut host = Host::new(&held, &absent);
        let is_absent = |label: &Label| absent.iter().any(|n| desired.attachments[label].device == device(*n));
        let waiting: Vec<&Label> = desired.attachments.keys().filter(|label| is_absent(label)).collect();
        let plan = plan::plan(&desired, &host.observed(), Allow::default());
        prop_assert_eq!(plan.count(Verdict::Blocked) > 0, plan.is_blocked());
        if waiting.iter().any(|label| !desired.attachments[*label].optional) {
            prop_assert!(plan.is_blocked(), "a device that must be there is not");
        }
        if plan.is_blocked() {
            return Ok(());
        }
        let foreign: Vec<_> = host
            .interfaces
            .iter()
            .filter(|(_, p)| p.record.as_ref().unwrap().config != desired.config)
            .map(|(label, pinned)| (label.clone(), pinned.clone()))
            .collect();
        let before = host.interfaces.clone();
        host.execute(&plan, &desired);
        let again = plan::plan(&desired, &host.observed(), Allow::default());
        prop_assert!(again.is_empty(), "{:#?}", again);
        prop_assert_eq!(again.unchanged + waiting.len(), desired.attachments.len());
        prop_assert_eq!(again.notes.len(), waiting.len(), "each device that is waited for is told");
        for label in &waiting {
            prop_assert_eq!(host.interfaces.get(*label), before.get(*label), "pins of absent devices stay");
        }
        // Where they come back, they are attached.
        host.devices.extend(absent.iter().map(|n| new_device(*n)));
        let return_of_devices = plan::plan(&desired, &host.observed(), Allow::default());
        if return_of_devices.is_blocked() {
            return Ok(());
        }
        for label in &waiting {
            prop_assert!(return_of_devices.interfaces.contains_key(*label));
        }
        host.execute(&return_of_devices, &desired);
        prop_assert!(plan::plan(&desired, &host.observed(), Allow::default()).is_empty());
        for (label, pinned) in foreign {
            prop_assert_eq!(host.interfaces.get(&label), Some(&pinned), "what another config owns is left alone");
        }
        for (label, attachment) in &desired.attachments {
            let pinned = &host.interfaces[label];
            let instance = &desired.instances[label];
            prop_assert_eq!(&pinned.record.as_ref().unwrap().function, &instance.function);
            prop_assert_eq!(&pinned.record.as_ref().unwrap().object, &instance.digest);
            prop_assert!(pinned.maps.keys().eq(instance.maps.keys()));
            for name in [".data", ".bss"] {
                let wanted = instance.globals.content(settings(), name);
                let wanted = wanted.unwrap_or_else(|| zeros(&instance.maps[name].spec));
                prop_assert_eq!(&host.contents[&pinned.maps[name].id], &wanted, "{} of {}", name, label);
            }
            let device = host.devices.iter().find(|d| d.name == attachment.device).unwrap();
            prop_assert!(pinned.runs_on(device));
        }
    }

    /// One interface, whose program is loaded anew in one way or another.
    #[test]
    fn maps_that_hold_others_hold_those_that_are_pinned(want in wanted(), held in held()) {
        let want = Wanted { generic: held.generic, ..want };
        let held = Held { label: 0, foreign_owner: false, link: 0, drifted: false, ..held };
        let desired = desired(&BTreeMap::from([(0, (0, want))]), None);
        let mut host = Host::new(&BTreeMap::from([(0, held)]), &BTreeSet::new());
        let before = host.observed().interfaces.remove(&label(0)).unwrap();
        let plan = plan::plan(&desired, &host.observed(), Allow::default());
        if plan.is_blocked() {
            return Ok(());
        }
        host.execute(&plan, &desired);
        let is_theirs = |map: &PinnedMap| map.slots.iter().flatten().any(|(_, id)| *id == THEIRS.1);
        let after = host.observed().interfaces.remove(&label(0)).unwrap();
        for (name, map) in &desired.instances[&label(0)].maps {
            let (was, now) = (before.maps.get(name), &after.maps[name]);
            let held = now.slots.clone().unwrap_or_default();
            for (index, slot) in map.spec.slots() {
                let id = held.get(&index.to_ne_bytes()[..]);
                let is_right = |id: &u32| map.spec.inner().is_none() || *id == after.maps[slot].id.0;
                prop_assert!(id.is_some_and(is_right), "{} in {}: {:?}", slot, name, held);
            }
            let ids: BTreeSet<u32> = after.maps.values().map(|map| map.id.0).chain([THEIRS.1]).collect();
            if map.spec.inner().is_some() {
                prop_assert!(held.values().all(|id| ids.contains(id)), "{} holds a map that went: {:?}", name, held);
            }
            if [Reuse::Migrate, Reuse::Require].contains(&map.reuse) && was.is_some_and(is_theirs) {
                prop_assert!(is_theirs(now), "lost without a word");
            }
            let kept = was.is_some_and(|was| was.id == now.id);
            prop_assert!(!kept || map.spec.programs().is_none() || plan.is_empty() || before.record == after.record);
        }
    }

    #[test]
    fn an_equal_state_needs_no_plan(
        want in prop::collection::btree_map(0..DEVICES, (0..6_u32, wanted()), 1..4),
    ) {
        let mut labels = BTreeSet::new();
        let want: BTreeMap<_, _> = want.into_iter().filter(|(_, (label, _))| labels.insert(*label)).collect();
        let mut desired = desired(&want, None);
        let mut host = Host::new(&BTreeMap::new(), &BTreeSet::new());
        let first = plan::plan(&desired, &host.observed(), Allow::default());
        prop_assert_eq!(first.count(Verdict::Add), desired.attachments.len());
        host.execute(&first, &desired);
        prop_assert!(plan::plan(&desired, &host.observed(), Allow::default()).is_empty());
        // Readers alone change no program and no map.
        desired.readers = Some(Readers { gid: 5, name: "5".into() });
        let shared = plan::plan(&desired, &host.observed(), Allow::default());
        prop_assert_eq!(shared.count(Verdict::Change), desired.attachments.len());
        for (_, work) in shared.work() {
            let Work::Install(install) = work else { panic!("{work:?}") };
            prop_assert!(matches!((install.program, install.link), (ProgramWork::Keep(_), LinkWork::Keep)));
            prop_assert!(install.maps.values().all(|map| matches!(map, MapWork::Keep(_))));
        }
        host.execute(&shared, &desired);
        prop_assert!(plan::plan(&desired, &host.observed(), Allow::default()).is_empty());
    }
}
