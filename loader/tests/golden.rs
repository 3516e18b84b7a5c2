//! Golden plans: a file and an observed state go in, the diff that people and tools read comes out. No kernel, no root.
//!
//! A case is a folder in tests/golden: `config.toml`, `observed.toml` (devices and pins), `diff.txt` and `diff.json`.
//! `UPDATE_GOLDEN=1` writes what comes out; read it before you commit it.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xdpd::commands::Inputs;
use xdpd::desired;
use xdpd::devices::{Devices, Space};
use xdpd::object::{Field, FieldKind, Layout, MapLayout};
use xdpd::objects::Objects;
use xdpd::observed::{
    ForeignPin, ForeignProgram, Interrupted, LinkState, Observed, OtherEntry, OtherKind, Pinned, PinnedMap,
    Retired, Root,
};
use xdpd::output::{human, json};
use xdpd::plan::{self, Allow};
use xdpd_config::record::Record;
use xdpd_config::{Config, Label, Mode};
use xdpd_kernel::{Attached, Device, IfIndex, LinkId, MapDef, MapId, NetNsId, ProgramId, XdpMode};

const PATH: &str = "/etc/xdpd/config.toml";

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
struct DeviceState {
    name: String,
    ifindex: u32,
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
    maps: BTreeMap<String, MapText>,
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
    excess: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignState {
    name: String,
    link: Option<u32>,
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

fn pinned(name: &str, state: &InterfaceState, builtin: &str) -> Pinned {
    let record = Record {
        version: 1,
        generation: state.generation,
        config: PathBuf::from(state.owner.as_deref().unwrap_or(PATH)),
        device: state.device.clone(),
        ifindex: state.ifindex,
        netns: (4, 0),
        netns_name: None,
        mode: Mode::Native,
        object: state.object.clone().unwrap_or_else(|| builtin.to_owned()),
        globals: None,
        function: state.function.clone(),
        program: state.program,
        attach_type: state.attach_type,
        maps: state.maps.iter().map(|(name, map)| (name.clone(), map.recorded.unwrap_or(map.id))).collect(),
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
        others: state
            .others
            .iter()
            .map(|name| OtherEntry { name: name.into(), what: OtherKind::Program })
            .collect(),
    }
}

fn run(case: &Path) -> (String, String) {
    let text = std::fs::read_to_string(case.join("config.toml")).unwrap();
    let config = Config::parse(Path::new(PATH), &text).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
    let state: State = toml::from_str(&std::fs::read_to_string(case.join("observed.toml")).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", case.display()));
    let objects = Objects::read(&config);
    let builtin = objects.get(&xdpd_config::ObjectRef::Builtin).unwrap().digest.clone();
    let inputs = Inputs { config, objects };
    let devices = devices(&state, &inputs.config);
    let desired = match desired::resolve(&inputs.config, &devices, &inputs.objects) {
        Ok(desired) => desired,
        Err(diagnostics) => return (diagnostics.to_string(), String::new()),
    };
    let observed = Observed {
        devices,
        root: match state.bpffs.as_deref() {
            None => Root::Present,
            Some("mountable") => Root::Mountable,
            Some("private") => Root::PrivateMounts,
            Some(_) => Root::NoBpffs,
        },
        interfaces: state.interfaces.iter().map(|(n, i)| (label(n), pinned(n, i, &builtin))).collect(),
        foreign: state
            .foreign_pins
            .iter()
            .map(|name| ForeignPin { name: name.clone(), what: "a directory without our record" })
            .collect(),
        interrupted: state
            .dropped_stages
            .iter()
            .map(|directory| Interrupted::DropStage { directory: directory.clone() })
            .collect(),
        foreign_programs: state
            .foreign_programs
            .iter()
            .map(|(id, foreign)| {
                let program = ForeignProgram {
                    name: foreign.name.clone(),
                    tag: "0123456789abcdef".into(),
                    link: foreign.link.map(LinkId),
                    dispatcher: false,
                };
                (ProgramId(id.parse().unwrap()), program)
            })
            .collect(),
        possible_cpus: 4,
    };
    let plan = plan::plan(&desired, &observed, Allow { adopt: state.adopt, takeover: state.takeover });
    let hex = builtin.trim_start_matches("builtin:");
    let hide = |text: String| text.replace(hex, "BUILTIN").replace(&hex[..12], "BUILTIN");
    (hide(human::plan(&plan, false)), hide(json::plan(&inputs.config, &plan, None, None)))
}

#[test]
fn plans_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 15, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let (text, json) = run(&case);
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
