//! What the file asks for, resolved against the devices that exist: program instances and the attachments that run
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use xdpd_config::{Config, Diagnostic, Interface, Label, MapSettings, Mode, Program, Reuse, Selector};
use xdpd_kernel::NetNsId;

use crate::devices::{Devices, Space};
use crate::entries::{Declared, Lists};
use crate::globals::Globals;
use crate::migrate::Settings;
use crate::object::{MapOrigin, MapSpec, Slots, Values};
use crate::objects::Objects;
use crate::readers::Readers;

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
    /// Name of the device.
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
    };
    let explicit = explicit_claims(config, devices);
    let mut claims = Claims::default();
    let mut labels = BTreeMap::new();
    for (index, interface) in config.interfaces.iter().enumerate() {
        let program = config.program_of(interface);
        let Some(instance) = instance(config, interface, program, objects, lists) else { continue };
        for (label, device) in matches(interface, devices, &explicit, &mut problems) {
            if let Err(other) = claims.claim(interface, &device, index, devices) {
                problems.push(config.two_claims(&device, &config.interfaces[other], interface));
                continue;
            }
            if let Some(&other) = labels.get(&label) {
                let other: &Interface = &config.interfaces[other];
                problems.push(config.two_labels(&label, other, interface));
                continue;
            }
            labels.insert(label.clone(), index);
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
    explicit: &BTreeSet<Claim>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<(Label, String)> {
    let glob = match &interface.selector {
        Selector::Device { label, device } => return vec![(label.clone(), device.clone())],
        Selector::Glob(glob) => glob,
    };
    let Space::Present { id, devices } = devices.space(interface.netns.as_deref()) else { return Vec::new() };
    let mut found = Vec::new();
    for device in devices.iter().filter(|d| glob.matches(&d.name)) {
        if explicit.contains(&(Some(*id), device.name.clone())) {
            continue;
        }
        match interface.label_of(&device.name) {
            Ok(label) => found.push((label, device.name.clone())),
            Err(e) => problems.push(
                Diagnostic::new(format!("device `{}` cannot be a label: {e}", device.name))
                    .at(interface.span.clone())
                    .help("give it an entry of its own, with `name`"),
            ),
        }
    }
    found
}

fn is_glob(interface: &Interface) -> bool {
    matches!(interface.selector, Selector::Glob(_))
}

/// A device by the real identity of its namespace: two spellings of one are one. `None`: the namespace is absent.
type Claim = (Option<NetNsId>, String);

fn claim(interface: &Interface, device: &str, devices: &Devices) -> Claim {
    let space = match devices.space(interface.netns.as_deref()) {
        Space::Present { id, .. } => Some(*id),
        Space::Absent(_) => None,
    };
    (space, device.to_owned())
}

/// The devices that have an entry of their own, which no glob takes.
fn explicit_claims(config: &Config, devices: &Devices) -> BTreeSet<Claim> {
    let entries = config.interfaces.iter().filter_map(|interface| match &interface.selector {
        Selector::Device { device, .. } => Some(claim(interface, device, devices)),
        Selector::Glob(_) => None,
    });
    entries.collect()
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
        let claim = claim(interface, device, devices);
        match self.0.get(&claim) {
            // Absent namespaces have no identity; the file's own check compared their names.
            Some(&other) if claim.0.is_some() => Err(other),
            _ => {
                self.0.insert(claim, index);
                Ok(())
            }
        }
    }
}
