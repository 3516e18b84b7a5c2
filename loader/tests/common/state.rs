//! Everything that an apply which is taken back must leave as it was: pins with their modes, owners and content, and
//! who runs.

use std::collections::BTreeMap;

use xdpd_config::{LINK_PIN, retired};
use xdpd_kernel::{Access, Attached, Dir, EntryKind, MapId, PinnedObject, Program, netlink};

use super::Site;
use super::verdict::Shape;

/// What runs on each device.
pub type Running = BTreeMap<&'static str, Vec<Attached>>;

#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// By path under the pin root; without retired maps.
    pub pins: BTreeMap<String, Pin>,
    pub devices: Running,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Pin {
    mode: u32,
    owner: (u32, u32),
    pub what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub enum What {
    Dir,
    Record(String),
    /// With what it counts.
    Map {
        id: MapId,
        entries: u32,
        content: Vec<u8>,
    },
    Program(u32),
    /// Its id, unless a gap may change it, and its program.
    Link(Option<u32>, u32),
}

impl State {
    /// The state of a site; `gaps` are the labels that may get another link.
    pub fn of(site: &Site, devices: &[&'static str], gaps: &[&str]) -> Self {
        let mut pins = BTreeMap::new();
        if let Ok(root) = Dir::open(site.root()) {
            walk(&root, "", gaps, &mut pins);
        }
        Self { pins, devices: running(site, devices) }
    }
}

impl State {
    /// It without what differs from run to run.
    pub fn shape(&self) -> Shape {
        let pins = self.pins.iter().map(|(path, pin)| {
            let Pin { mode, owner: (uid, gid), what } = pin;
            let what = match what {
                What::Dir => "directory".to_owned(),
                What::Record(_) => "record".to_owned(),
                What::Map { entries, content, .. } => {
                    let counts = content.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
                    format!("map of {entries} entries that counts {}", counts.sum::<u64>())
                }
                What::Program(_) => "program".to_owned(),
                What::Link(..) => "link".to_owned(),
            };
            (path.clone(), format!("{what} {mode:o} {uid}:{gid}"))
        });
        let devices = self.devices.iter().map(|(device, attached)| {
            let function = |attached: &Attached| {
                let program = Program::open_by_id(attached.program_id).unwrap().info().unwrap();
                (program.name, attached.mode)
            };
            (*device, attached.iter().map(function).collect())
        });
        Shape { pins: pins.collect(), devices: devices.collect() }
    }
}

pub fn running(site: &Site, names: &[&'static str]) -> Running {
    let devices = site.lab.near().run(netlink::devices).unwrap();
    let attached = |name| devices.iter().find(|d| d.name == name).map(|d| d.xdp.clone());
    names.iter().map(|name| (*name, attached(*name).expect("the device"))).collect()
}

fn walk(dir: &Dir, prefix: &str, gaps: &[&str], pins: &mut BTreeMap<String, Pin>) {
    for entry in dir.list().unwrap() {
        let name = entry.name.to_str().unwrap();
        if retired::parse(name).is_some() {
            continue;
        }
        let path = format!("{prefix}{name}");
        let stat = dir.stat(name).unwrap();
        let what = match entry.kind {
            EntryKind::Dir => {
                walk(&dir.open_dir(name).unwrap(), &format!("{path}/"), gaps, pins);
                What::Dir
            }
            EntryKind::Symlink => What::Record(dir.readlink(name).unwrap().into_string().unwrap()),
            EntryKind::File | EntryKind::Other => {
                match dir.find_pin(name, Access::ReadOnly).unwrap().found().unwrap() {
                    PinnedObject::Map(map) => {
                        // The entries that XDP actions have.
                        let mut content = vec![0; map.value_len() * 5];
                        for (key, value) in (0_u32..).zip(content.chunks_mut(map.value_len())) {
                            assert!(map.lookup(&key.to_ne_bytes(), value).unwrap());
                        }
                        What::Map { id: map.id(), entries: map.def().max_entries, content }
                    }
                    PinnedObject::Program(program) => What::Program(program.info().unwrap().id.0),
                    PinnedObject::Link(link) => {
                        let info = link.info().unwrap();
                        let has_gap = gaps.iter().any(|label| path == format!("{label}/{LINK_PIN}"));
                        What::Link((!has_gap).then_some(info.id.0), info.program_id.0)
                    }
                }
            }
        };
        let owner = (stat.uid, stat.gid);
        pins.insert(path, Pin { mode: stat.mode, owner, what });
    }
}
