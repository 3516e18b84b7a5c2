//! What the file asks for, resolved against the devices that exist: program instances and the attachments that run
//! them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use xdpd_config::{Config, Diagnostic, Interface, Label, MapSettings, Mode, Program, Reuse, Selector};
use xdpd_kernel::{IfIndex, NetNsId};

use crate::devices::{Devices, Space};
use crate::entries::{Declared, Lists};
use crate::globals::Globals;
use crate::migrate::Settings;
use crate::object::{MapOrigin, MapSpec, Slots, Values};
use crate::objects::Objects;
use crate::permissions::Readers;

/// Names an instance. Today each attachment has one of its own, called like it.
pub type InstanceId = Label;

/// The state that the file describes.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Absolute path of the file: what owns the interfaces.
    pub config: PathBuf,
    /// Directory of the pins.
    pub pin_root: PathBuf,
    /// Who may read the pins besides root.
    pub readers: Option<Readers>,
    /// Name of the map whose predecessors are kept for readers.
    pub stats_map: String,
    /// Programs with their maps.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Devices and what they run.
    pub attachments: BTreeMap<Label, Attachment>,
    /// Devices that patterns match and that have no attachment, since they can have no label.
    pub left_out: Vec<LeftOut>,
}

/// A device that a pattern matches and whose name makes no label. Who may name devices in a namespace of the file, such as
/// a tenant there, must not be able to stop the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The entry's key.
    pub entry: String,
    /// The device's network namespace as the file writes it.
    pub netns: Option<String>,
    /// The device's name.
    pub device: String,
    /// Why it can have no label.
    pub reason: String,
}

/// One loaded copy of a program, with maps of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where the object comes from, for people: `builtin` or a path.
    pub object: String,
    /// Its identity: `builtin:HEX` or `sha256:HEX`.
    pub digest: String,
    /// The function that runs.
    pub function: String,
    /// What it declares to be for, `expected_attach_type`.
    pub attach_type: u32,
    /// Values for the object's global variables.
    pub globals: Arc<Globals>,
    /// The maps it is pinned with.
    pub maps: BTreeMap<String, DesiredMap>,
}

/// A map of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredMap {
    /// As the object defines it.
    pub spec: MapSpec,
    /// What a (re)load does when it is pinned already.
    pub reuse: Reuse,
    /// How its entries are carried over, where they are.
    pub settings: Settings,
    /// What it holds; `None` where that is not the file's business.
    pub entries: Option<Arc<Declared>>,
}

/// A device and the instance it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What it runs.
    pub instance: InstanceId,
    /// A name of the device: the one that the file says, which may be an alternative name, or of a pattern the name that it
    /// matched.
    pub device: String,
    /// Its network namespace as the file writes it; `None` is the one `xdpd` runs in.
    pub netns: Option<String>,
    /// That its device is absent, or vanishes, is no failure: the file says so, or a glob has matched it.
    pub optional: bool,
    /// The modes that satisfy the file, in order of preference. Never empty.
    pub modes: Vec<Mode>,
}

/// Resolves a file: globs against the devices, programs against their objects, maps against what they are to hold. With
/// the group of the file, or why there is none, it tells everything that is wrong at once.
pub fn resolve(
    config: &Config,
    devices: &Devices,
    objects: &Objects,
    lists: &Lists,
    readers: Result<Option<Readers>, Diagnostic>,
) -> Result<Desired, Vec<Diagnostic>> {
    let mut problems = objects.problems(config);
    let readers = readers.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let mut desired = Desired {
        config: config.path.clone(),
        pin_root: config.pin_root.clone(),
        readers,
        stats_map: config.stats.map.clone(),
        instances: BTreeMap::new(),
        attachments: BTreeMap::new(),
        left_out: Vec::new(),
    };
    let explicit = Explicit::of(config, devices);
    let mut claims = Claims::default();
    for (index, interface) in config.interfaces.iter().enumerate() {
        let program = config.program_of(interface);
        let Some(instance) = instance(config, interface, program, objects, lists) else { continue };
        for (label, device) in matches(interface, devices, &explicit, &mut desired.left_out) {
            if let Err(other) = claims.claim(interface, &device, index, devices) {
                let name = devices.device(interface.netns.as_deref(), &device).map_or(&*device, |d| &d.name);
                problems.push(config.two_claims(name, &config.interfaces[other], interface));
                continue;
            }
            if desired.attachments.contains_key(&label) {
                // Of names that are no UTF-8, two can read alike.
                let reason = "another device has this name, as far as it is UTF-8".to_owned();
                let (entry, netns) = (interface.key().to_owned(), interface.netns.clone());
                desired.left_out.push(LeftOut { entry, netns, device, reason });
                continue;
            }
            let attachment = Attachment {
                instance: label.clone(),
                device,
                netns: interface.netns.clone(),
                optional: interface.optional || is_glob(interface),
                modes: interface.modes.clone(),
            };
            desired.instances.insert(label.clone(), instance.clone());
            desired.attachments.insert(label, attachment);
        }
    }
    if problems.is_empty() { Ok(desired) } else { Err(problems) }
}

/// The instance that an interface runs; `None` where its object has a problem, which is reported once elsewhere.
fn instance(
    config: &Config,
    interface: &Interface,
    program: &Program,
    objects: &Objects,
    lists: &Lists,
) -> Option<Instance> {
    let loaded = objects.get(&program.object.value)?;
    let function = loaded.object.program(program.function()).ok()?;
    let maps = loaded
        .object
        .maps()
        .iter()
        .filter(|(_, spec)| spec.origin != MapOrigin::ReadOnlyData)
        .map(|(name, spec)| {
            let reuse = config.reuse_of(interface, program, name);
            let settings = program.maps.get(name).map(settings).unwrap_or_default();
            let entries = lists.get(program, name).cloned();
            let mut spec = spec.clone();
            if spec.programs().is_some() && !function.maps.contains(name) {
                // Only what the function may jump to is loaded with it: others may fill this one.
                spec.values = Values::Programs(Slots::new());
            }
            (name.clone(), DesiredMap { spec, reuse, settings, entries })
        })
        .collect();
    Some(Instance {
        object: program.object.value.to_string(),
        digest: loaded.digest.clone(),
        function: function.name.clone(),
        attach_type: loaded.object.attach_type(function),
        globals: Arc::new(Globals::resolve(&loaded.object, program).ok()?),
        maps,
    })
}

fn settings(map: &MapSettings) -> Settings {
    let merge = map.merge.iter().map(|(field, rule)| (field.clone(), rule.value)).collect();
    Settings { merge, lossy: map.lossy }
}

/// Labels and devices that an entry stands for. An explicit one is there even when its device is not.
fn matches(
    interface: &Interface,
    devices: &Devices,
    explicit: &Explicit<'_>,
    left_out: &mut Vec<LeftOut>,
) -> Vec<(Label, String)> {
    if let Selector::Device { label, device } = &interface.selector {
        return vec![(label.clone(), device.clone())];
    }
    let Space::Present { id, devices } = devices.space(interface.netns.as_deref()) else { return Vec::new() };
    let mut found = Vec::new();
    for device in devices.iter().filter(|d| interface.selector.is_pattern_for(&d.name, &d.alt_names)) {
        if explicit.claims.contains(&Claim::Present(*id, device.ifindex)) {
            continue;
        }
        let reason = match interface.label_of(&device.name) {
            Ok(label) if explicit.labels.contains(&label) => {
                "the file gives this label to another device".to_owned()
            }
            Ok(label) => {
                found.push((label, device.name.clone()));
                continue;
            }
            Err(error) => error.to_string(),
        };
        left_out.push(LeftOut {
            entry: interface.key().to_owned(),
            netns: interface.netns.clone(),
            device: device.name.clone(),
            reason,
        });
    }
    found
}

fn is_glob(interface: &Interface) -> bool {
    matches!(interface.selector, Selector::Glob { .. })
}

/// A device by the real identity of its namespace: two spellings of one are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// It is there: all its names mean the same one.
    Present(NetNsId, IfIndex),
    /// No device has this name.
    Absent(NetNsId, String),
}

/// `None`: the namespace is absent and has no identity; the file's own check has compared names.
fn claim(interface: &Interface, device: &str, devices: &Devices) -> Option<Claim> {
    let netns = interface.netns.as_deref();
    let Space::Present { id, .. } = devices.space(netns) else { return None };
    Some(match devices.device(netns, device) {
        Some(found) => Claim::Present(*id, found.ifindex),
        None => Claim::Absent(*id, device.to_owned()),
    })
}

/// What no pattern takes: the devices that have an entry of their own, and the labels of such entries.
struct Explicit<'a> {
    claims: BTreeSet<Claim>,
    labels: BTreeSet<&'a Label>,
}

impl<'a> Explicit<'a> {
    fn of(config: &'a Config, devices: &Devices) -> Self {
        let (mut claims, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for interface in &config.interfaces {
            if let Selector::Device { label, device } = &interface.selector {
                claims.extend(claim(interface, device, devices));
                labels.insert(label);
            }
        }
        Self { claims, labels }
    }
}

/// Which entry has which device.
#[derive(Default)]
struct Claims(BTreeMap<Claim, usize>);

impl Claims {
    /// Err: the entry that has it already.
    fn claim(
        &mut self,
        interface: &Interface,
        device: &str,
        index: usize,
        devices: &Devices,
    ) -> Result<(), usize> {
        let Some(claim) = claim(interface, device, devices) else { return Ok(()) };
        match self.0.entry(claim) {
            Entry::Occupied(other) => Err(*other.get()),
            Entry::Vacant(unclaimed) => {
                unclaimed.insert(index);
                Ok(())
            }
        }
    }
}
