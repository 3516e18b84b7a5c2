//! Golden plans: a file and an observed state go in, the diff that people and tools read comes out. No kernel, no root.
//!
//! A case is a folder in tests/golden: `config.toml` with lists beside it, `observed.toml` (devices and pins), `diff.txt`
//! (with what goes to stderr at its end) and `diff.json`. Its objects are the builtin one, and examples in C.
//! `UPDATE_GOLDEN=1` writes what comes out; read it before you commit it.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xdpd::desired;
use xdpd::devices::{Devices, Space};
use xdpd::dispatcher::Dispatcher;
use xdpd::entries::Lists;
use xdpd::inner_map;
use xdpd::object::{Field, FieldKind, Layout, MapLayout, Object};
use xdpd::objects::Objects;
use xdpd::observed::{
    ForeignPin, ForeignProgram, Interrupted, LinkState, Observed, OtherEntry, OtherKind, PinPermissions,
    Pinned, PinnedMap, Retired, Root, map_pin,
};
use xdpd::output::{human, json};
use xdpd::permissions::{self, Permissions, Readers};
use xdpd::plan::{self, Allow};
use xdpd_config::record::Record;
use xdpd_config::{Config, Label, Mode};
use xdpd_kernel::{Attached, Device, IfIndex, LinkId, MapDef, MapId, NetNsId, ProgramId, XdpMode};

/// Where the files seem to be.
const PLACE: &str = "/etc/xdpd";
/// The examples in C: their sources and objects, and how they are called where their digests would be.
const OBJECTS: [(&str, &str, &str); 2] =
    [("blocklist.c", "blocklist.o", "BLOCKLIST"), ("services.c", "services.o", "SERVICES")];
/// In the place of what a record tells of a map of maps: what it tells when the example has made it.
const AS_MADE: &str = "as made";

/// Where the files of all cases are.
struct Place {
    dir: tempfile::TempDir,
    /// Of the builtin object.
    builtin: String,
    /// The others, in their order.
    objects: Vec<Object>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs");
        let objects = OBJECTS.map(|(source, object, _)| {
            let object = common::compile_file(&dir.path().join(object), &sources.join(source), &[]);
            Object::inspect(std::fs::read(object).unwrap()).unwrap()
        });
        let config = Config::parse(Path::new("config.toml"), "[interfaces.eth0]").unwrap();
        let builtin = Objects::read(&config).get(&xdpd_config::ObjectRef::Builtin).unwrap().digest.clone();
        Self { builtin, objects: objects.into(), dir }
    }

    /// The digest of an object, by the name of its file where it is an example.
    fn digest(&self, object: Option<&str>) -> String {
        let of_example = |name: &str| {
            let at = OBJECTS.iter().position(|(_, object, _)| *object == name)?;
            Some(format!("sha256:{}", self.objects[at].digest()))
        };
        object
            .map_or_else(|| self.builtin.clone(), |name| of_example(name).unwrap_or_else(|| name.to_owned()))
    }

    /// What a record tells of a map of maps of an example.
    fn as_made(&self, map: &str) -> String {
        let spec = self.objects.iter().find_map(|object| object.maps().get(map)).unwrap();
        inner_map::recorded(spec).unwrap()
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// The text as if the files were in their usual place, and always the same.
    fn hide(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir.path().display().to_string(), PLACE);
        let (_, builtin) = self.builtin.split_once(':').unwrap();
        let others = self.objects.iter().zip(OBJECTS).map(|(object, (.., name))| (object.digest(), name));
        for (hex, name) in others.chain([(builtin, "BUILTIN")]) {
            text = text.replace(hex, name).replace(&hex[..12], name);
        }
        text
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(default)]
    adopt: bool,
    #[serde(default)]
    takeover: bool,
    #[serde(default)]
    bpffs: Option<String>,
    #[serde(default)]
    pin_root: Option<Directory>,
    #[serde(default)]
    above: BTreeMap<PathBuf, Directory>,
    #[serde(default)]
    devices: Vec<DeviceState>,
    #[serde(default)]
    interfaces: BTreeMap<String, InterfaceState>,
    #[serde(default)]
    foreign_pins: Vec<String>,
    #[serde(default)]
    foreign_programs: BTreeMap<String, ForeignState>,
    #[serde(default)]
    dropped_stages: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    gid: u32,
    mode: u32,
    #[serde(default)]
    made: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceState {
    name: String,
    ifindex: u32,
    #[serde(default)]
    alt_names: Vec<String>,
    netns: Option<String>,
    #[serde(default)]
    xdp: Vec<(Mode2, u32)>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Mode2 {
    Native,
    Generic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceState {
    owner: Option<String>,
    device: String,
    ifindex: u32,
    function: String,
    object: Option<String>,
    program: u32,
    #[serde(default)]
    attach_type: u32,
    #[serde(default)]
    generation: u64,
    link: LinkText,
    #[serde(default)]
    globals: BTreeMap<String, String>,
    maps: BTreeMap<String, MapText>,
    /// What the record tells of maps of maps.
    #[serde(default)]
    inner: BTreeMap<String, String>,
    /// The group that may read its pins.
    gid: Option<u32>,
    /// The permission bits of its directory, where they are others.
    directory: Option<u32>,
    #[serde(default)]
    others: Vec<String>,
    #[serde(default)]
    retired: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum LinkText {
    Live { program: u32, ifindex: u32 },
    Defunct { program: u32 },
    Missing {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapText {
    id: u32,
    recorded: Option<u32>,
    #[serde(default)]
    unpinned: bool,
    map_type: u32,
    sizes: (u32, u32, u32),
    #[serde(default)]
    flags: u32,
    value: Option<Vec<(String, u32, u32)>>,
    excess: Option<usize>,
    /// The ids of the maps or programs that it holds, by their number.
    slots: Option<Vec<(u32, u32)>>,
    /// What it holds.
    #[serde(default)]
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignState {
    name: String,
    link: Option<u32>,
    /// Version and number of programs.
    dispatcher: Option<(u8, u8)>,
}

fn label(text: &str) -> Label {
    Label::try_new(text).unwrap()
}

fn devices(state: &State, config: &Config) -> Devices {
    let mut spaces: BTreeMap<Option<String>, Vec<Device>> = BTreeMap::from([(None, Vec::new())]);
    for device in &state.devices {
        let attached = |&(mode, id): &(Mode2, u32)| Attached {
            mode: match mode {
                Mode2::Native => XdpMode::Native,
                Mode2::Generic => XdpMode::Generic,
            },
            program_id: ProgramId(id),
        };
        spaces.entry(device.netns.clone()).or_default().push(Device {
            ifindex: IfIndex(device.ifindex),
            name: device.name.clone(),
            alt_names: device.alt_names.clone(),
            mtu: 1500,
            xdp: device.xdp.iter().map(attached).collect(),
        });
    }
    let present = |(n, (name, devices)): (usize, (Option<String>, Vec<Device>))| {
        (name, Space::Present { id: NetNsId { dev: 4, ino: n as u64 }, devices })
    };
    let absent = config
        .interfaces
        .iter()
        .filter(|i| !spaces.contains_key(&i.netns))
        .map(|i| {
            (
                i.netns.clone(),
                Space::Absent("open of /run/netns/blue: No such file or directory (ENOENT)".into()),
            )
        })
        .collect::<Vec<_>>();
    Devices::from_spaces(spaces.into_iter().enumerate().map(present).chain(absent))
}

fn pinned(name: &str, state: &InterfaceState, place: &Place) -> Pinned {
    let record = Record {
        version: 1,
        generation: state.generation,
        config: state.owner.as_ref().map_or_else(|| place.config(), PathBuf::from),
        device: state.device.clone(),
        ifindex: state.ifindex,
        netns: (4, 0),
        netns_name: None,
        mode: Mode::Native,
        object: place.digest(state.object.as_deref()),
        globals: (!state.globals.is_empty()).then(|| "sha256:0123".to_owned()),
        values: state.globals.clone(),
        function: state.function.clone(),
        program: state.program,
        attach_type: state.attach_type,
        maps: state.maps.iter().map(|(name, map)| (name.clone(), map.recorded.unwrap_or(map.id))).collect(),
        inner: state
            .inner
            .iter()
            .map(|(name, text)| {
                (name.clone(), if text == AS_MADE { place.as_made(name) } else { text.clone() })
            })
            .collect(),
        base: BTreeMap::new(),
        retired: BTreeMap::new(),
    };
    let map = |map: &MapText| PinnedMap {
        id: MapId(map.id),
        def: MapDef {
            map_type: map.map_type,
            key_size: map.sizes.0,
            value_size: map.sizes.1,
            max_entries: map.sizes.2,
            flags: map.flags,
            map_extra: 0,
        },
        btf: None,
        layout: map.value.as_ref().map(|fields| {
            let field = |(path, offset, size): &(String, u32, u32)| Field {
                path: path.clone(),
                offset: *offset,
                size: *size,
                kind: FieldKind::Unsigned,
                element: *size,
            };
            MapLayout {
                key: Layout(vec![field(&(String::new(), 0, 32))]),
                value: Layout(fields.iter().map(field).collect()),
            }
        }),
        excess: map.excess,
        slots: map
            .slots
            .as_ref()
            .map(|slots| slots.iter().map(|(index, id)| (index.to_ne_bytes().to_vec(), *id)).collect()),
    };
    Pinned {
        directory: label(name).file_name(),
        record: Ok(record),
        link: match state.link {
            LinkText::Live { program, ifindex } => {
                LinkState::Live { id: LinkId(1), program: ProgramId(program), ifindex: IfIndex(ifindex) }
            }
            LinkText::Defunct { program } => {
                LinkState::Defunct { id: LinkId(1), program: ProgramId(program) }
            }
            LinkText::Missing {} => LinkState::Missing,
        },
        maps: state.maps.iter().filter(|(_, m)| !m.unpinned).map(|(n, m)| (n.clone(), map(m))).collect(),
        retired: state
            .retired
            .iter()
            .map(|pin| {
                let (_, generation, id) = xdpd_config::retired::parse(pin).unwrap();
                Retired { pin: pin.clone(), generation, id: MapId(id) }
            })
            .collect(),
        permissions: pin_permissions(state),
        others: state
            .others
            .iter()
            .map(|name| OtherEntry { name: name.into(), what: OtherKind::Program })
            .collect(),
    }
}

fn pin_permissions(state: &InterfaceState) -> PinPermissions {
    let readers = state.gid.map(|gid| Readers { gid, name: gid.to_string() });
    let pins = state.maps.keys().map(|map| map_pin(map)).chain(state.retired.iter().cloned());
    let mut directory = permissions::of_directories(readers.as_ref());
    directory.mode = state.directory.unwrap_or(directory.mode);
    PinPermissions {
        directory,
        pins: pins.map(|pin| (pin, permissions::of_maps(readers.as_ref()))).collect(),
    }
}

fn place_of(state: &State) -> xdpd::observed::Place {
    let permissions = |d: &Directory| Permissions { uid: 0, gid: d.gid, mode: d.mode };
    let mut above: Vec<_> = state.above.iter().map(|(path, d)| (path.clone(), permissions(d))).collect();
    above.reverse();
    xdpd::observed::Place {
        root: state.pin_root.as_ref().map(permissions),
        made: state.pin_root.as_ref().is_some_and(|root| root.made),
        above,
    }
}

fn run(case: &Path, place: &Place) -> (String, String) {
    for file in std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&file, place.dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let text = std::fs::read_to_string(case.join("config.toml")).unwrap();
    let config = Config::parse(&place.config(), &text).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
    let state: State = toml::from_str(&std::fs::read_to_string(case.join("observed.toml")).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", case.display()));
    let objects = Objects::read(&config);
    let (lists, problems) = Lists::read(&config, &objects);
    assert!(problems.is_empty(), "{}: {problems:?}", case.display());
    let devices = devices(&state, &config);
    // Groups by their numbers, which are the same on every machine.
    let readers = permissions::resolve(&config);
    let desired = match desired::resolve(&config, &devices, &objects, &lists, readers) {
        Ok(desired) => desired,
        Err(found) => return (place.hide(&config.diagnostics(found).to_string()), String::new()),
    };
    let foreign_programs = devices
        .iter()
        .flat_map(|(_, device)| device.xdp.iter().map(move |a| (a.program_id, device.ifindex)))
        .filter_map(|place| {
            let foreign = state.foreign_programs.get(&place.0.to_string())?;
            let dispatcher = foreign.dispatcher.map(|(version, programs)| Dispatcher { version, programs });
            let (name, tag) = (foreign.name.clone(), "0123456789abcdef".into());
            Some((place, ForeignProgram { name, tag, link: foreign.link.map(LinkId), dispatcher }))
        })
        .collect();
    let observed = Observed {
        devices,
        place: place_of(&state),
        root: match state.bpffs.as_deref() {
            None => Root::Present,
            Some("mountable") => Root::Mountable,
            Some("private") => Root::PrivateMounts,
            Some(_) => Root::NoBpffs,
        },
        interfaces: state.interfaces.iter().map(|(n, i)| (label(n), pinned(n, i, place))).collect(),
        foreign: state
            .foreign_pins
            .iter()
            .map(|name| ForeignPin::of(name, "a directory without our record"))
            .collect(),
        interrupted: state
            .dropped_stages
            .iter()
            .map(|directory| Interrupted::DropStage { directory: directory.clone() })
            .collect(),
        foreign_programs,
        possible_cpus: 4,
        contents: state
            .interfaces
            .values()
            .flat_map(|interface| interface.maps.values())
            .map(|map| (MapId(map.id), map.entries.iter().cloned().collect()))
            .collect(),
    };
    let plan = plan::plan(&desired, &observed, Allow { adopt: state.adopt, takeover: state.takeover });
    let mut text = human::plan(&plan, false).to_string();
    for note in &plan.notes {
        writeln!(text, "xdpd: {note}").unwrap();
    }
    (place.hide(&text), place.hide(&json::plan(&config, &plan, None, None)))
}

#[test]
fn plans_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 15, "the cases are there");
    let place = Place::new();
    let mut wrong = Vec::new();
    for case in cases {
        let (text, json) = run(&case, &place);
        for (name, actual) in [("diff.txt", text), ("diff.json", json)] {
            let path = case.join(name);
            if update {
                std::fs::write(&path, &actual).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != actual {
                wrong.push(format!("{}:\n{actual}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not as written (UPDATE_GOLDEN=1 rewrites):\n{}", wrong.join("\n"));
}
