//! What an object holds and asks for, as plain data for people and tools. Pure, as [`super`] is.

use std::collections::BTreeMap;

use serde::Serialize;
use xdpd_types::map_types::BPF_F_NUMA_NODE;
use xdpd_types::{MapDef, map_type_name};

use super::btf::{Layout, Variable};
use super::features::{CodeFacts, Feature, Version};
use super::helpers::{self, Access};
use super::typed::{decode, describe};
use super::{Btf, Inner, MapLayout, MapOrigin, MapSpec, Object, XdpProgram};

/// The oldest kernel that xdpd runs on.
pub const OLDEST_KERNEL: Version = Version(6, 1);
/// Variables and fields that are told of one map: mangled BTF has many.
const MAX_TOLD: usize = 256;
/// Variables of so many bytes are shown with what they start with.
const MAX_SHOWN: u32 = 64;
/// The licences that the kernel takes for the GPL (`license_is_gpl_compatible` in include/linux/license.h).
const GPL_COMPATIBLE: [&str; 6] =
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// What an object holds.
#[derive(Debug, Serialize)]
pub struct Explanation<'a> {
    /// SHA-256 of the file.
    pub sha256: &'a str,
    /// Whose conventions it follows.
    pub dialect: String,
    /// It has type information.
    pub btf: bool,
    /// The licence that it declares; empty where it declares none.
    pub license: &'a str,
    /// The kernel takes that licence for the GPL.
    pub gpl_compatible: bool,
    /// Its XDP programs, in file order.
    pub programs: Vec<ProgramFacts<'a>>,
    /// Its maps, by name.
    pub maps: Vec<MapFacts<'a>>,
}

/// One program.
#[derive(Debug, Serialize)]
pub struct ProgramFacts<'a> {
    /// What a config gives as `function`.
    pub name: &'a str,
    /// Its ELF section.
    pub section: &'a str,
    /// With those of the functions that it calls.
    pub instructions: u64,
    /// It takes packets of several buffers.
    pub frags: bool,
    /// It refers to types of the running kernel.
    pub needs_kernel_types: bool,
    /// The maps that it uses.
    pub maps: Vec<&'a str>,
    /// The functions of the kernel that it calls, in the order of their numbers.
    pub helpers: Vec<String>,
    /// What else it asks of the kernel.
    pub features: Vec<Feature>,
    /// The oldest kernel that may take it, as far as its instructions tell.
    pub kernel: Version,
    /// What asks for a kernel newer than the oldest that xdpd runs on.
    pub kernel_reasons: Vec<String>,
    /// What the kernel will most likely refuse, in words.
    pub notes: Vec<String>,
    /// Why it cannot be loaded at all.
    pub defect: Option<&'a str>,
}

/// One map.
#[derive(Debug, Serialize)]
pub struct MapFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is like.
    #[serde(flatten)]
    pub def: DefFacts,
    /// The memory node that it is made on, where its flags ask for one.
    pub numa_node: Option<u32>,
    /// It is pinned below the label, and reused by the policy.
    pub pinned: bool,
    /// The type of its key, where BTF tells it.
    pub key: Option<TypeFacts>,
    /// The type of its value, where BTF tells it.
    pub value: Option<TypeFacts>,
    /// Of a map of maps: what those are like.
    pub inner: Option<InnerFacts>,
    /// The maps or programs of the object that it holds from the start, by their number.
    pub values: Vec<SlotFacts<'a>>,
    /// There are so many more.
    pub values_left_out: usize,
    /// The global variables that it holds, where BTF tells them.
    pub variables: Vec<VariableFacts>,
    /// There are so many more.
    pub variables_left_out: usize,
}

/// A definition.
#[derive(Debug, Serialize)]
pub struct DefFacts {
    /// The type as bpftool spells it.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes.
    pub key_size: u32,
    /// Bytes; for per-CPU maps of one CPU's value.
    pub value_size: u32,
    /// Room for so many entries.
    pub max_entries: u32,
    /// The names of the flags; a number for those without.
    pub flags: Vec<String>,
    /// What some types want beside.
    pub map_extra: u64,
}

impl DefFacts {
    fn of(def: &MapDef) -> Self {
        let MapDef { map_type, key_size, value_size, max_entries, flags: bits, map_extra } = *def;
        let (kind, flags) = (map_type_name(map_type), flags(bits));
        Self { kind, key_size, value_size, max_entries, flags, map_extra }
    }
}

/// The pattern of the maps in a map.
#[derive(Debug, Serialize)]
pub struct InnerFacts {
    /// What they are like.
    #[serde(flatten)]
    pub def: DefFacts,
    /// The type of their keys, where BTF tells it.
    pub key: Option<TypeFacts>,
    /// The type of their values, where BTF tells it.
    pub value: Option<TypeFacts>,
}

/// What a map of maps or a program array holds under a number.
#[derive(Debug, Serialize)]
pub struct SlotFacts<'a> {
    /// The number, which is the key.
    pub index: u32,
    /// The map or function.
    pub name: &'a str,
}

/// The type of a key or value.
#[derive(Debug, Serialize)]
pub struct TypeFacts {
    /// As C spells it, with its members.
    #[serde(rename = "type")]
    pub spelling: String,
    /// Its leaves, in the order of their offsets.
    pub fields: Vec<FieldFacts>,
    /// There are so many more.
    pub fields_left_out: usize,
}

/// A leaf of a key or value.
#[derive(Debug, Serialize)]
pub struct FieldFacts {
    /// Path from the outermost struct; empty where the type itself is a number.
    pub path: String,
    /// Bits from the start.
    pub bit_offset: u32,
    /// Bits.
    pub bits: u32,
}

/// A global variable.
#[derive(Debug, Serialize)]
pub struct VariableFacts {
    /// Its name.
    pub name: String,
    /// As C spells it.
    #[serde(rename = "type")]
    pub spelling: String,
    /// Bytes from the start of the section.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// What it starts with, where that is short.
    pub initial: Option<String>,
}

impl<'a> Explanation<'a> {
    /// Explains an object.
    pub fn of(object: &'a Object) -> Self {
        let btf = object.btf().and_then(|raw| Btf::parse(raw).ok());
        let license = object.license();
        let gpl_compatible = GPL_COMPATIBLE.contains(&license);
        let mut code = Code::default();
        let programs =
            object.programs.iter().map(|program| code.explain(object, program, gpl_compatible)).collect();
        let maps = object.maps.iter().map(|(name, spec)| map(object, btf.as_ref(), name, spec)).collect();
        Self {
            sha256: object.digest(),
            dialect: object.dialect().to_string(),
            btf: object.btf().is_some(),
            license,
            gpl_compatible,
            programs,
            maps,
        }
    }
}

/// What the functions of an object do. Several programs may call one, or jump to one: it is read once.
#[derive(Default)]
struct Code<'a> {
    functions: BTreeMap<(usize, u64), CodeFacts>,
    /// What the programs in an array do.
    arrays: BTreeMap<&'a str, CodeFacts>,
}

impl<'a> Code<'a> {
    fn explain(
        &mut self,
        object: &'a Object,
        program: &'a XdpProgram,
        gpl_compatible: bool,
    ) -> ProgramFacts<'a> {
        let mut facts = self.facts(object, program);
        for map in &program.maps {
            facts.extend(self.facts_of_array(object, map));
        }
        let (mut notes, mut reasons) = (Vec::new(), Vec::new());
        let mut kernel = OLDEST_KERNEL;
        for feature in &facts.features {
            if feature.since() > OLDEST_KERNEL {
                kernel = kernel.max(feature.since());
                reasons.push(feature.words().to_owned());
            }
        }
        let mut names = Vec::new();
        for number in &facts.helpers {
            let Some(helper) = helpers::helper(*number) else {
                notes
                    .push(format!("it calls the kernel's function {number}, which no kernel up to 6.18 has"));
                names.push(format!("#{number}"));
                continue;
            };
            let name = format!("bpf_{}", helper.name);
            match helper.access {
                Access::Always => {}
                Access::Later => {
                    kernel = kernel.max(Version(OLDEST_KERNEL.0, OLDEST_KERNEL.1 + 1));
                    reasons.push(name.clone());
                }
                Access::Never => {
                    notes.push(format!(
                        "{name} is not for XDP programs; the kernel refuses calls that can be reached"
                    ));
                }
            }
            if helper.gpl && !gpl_compatible {
                notes.push(format!(
                    "{name} is for programs under the GPL; the kernel refuses calls that can be reached"
                ));
            }
            names.push(name);
        }
        ProgramFacts {
            name: &program.name,
            section: &program.section,
            instructions: program.instructions,
            frags: program.frags,
            needs_kernel_types: facts.features.contains(&Feature::KernelTypes),
            maps: program.maps.iter().map(|map| &**map).collect(),
            helpers: names,
            features: facts.features.into_iter().collect(),
            kernel,
            kernel_reasons: reasons,
            notes,
            defect: program.defect.as_deref(),
        }
    }

    /// The programs that an array holds from the start are loaded with the one that jumps there.
    fn facts_of_array(&mut self, object: &'a Object, map: &'a str) -> &CodeFacts {
        if !self.arrays.contains_key(map) {
            let mut all = CodeFacts::default();
            let slots = object.maps.get(map).and_then(MapSpec::programs);
            for name in slots.into_iter().flat_map(|slots| slots.values()) {
                if let Some(program) = object.programs.iter().find(|program| program.name == *name) {
                    all.extend(&self.facts(object, program));
                }
            }
            self.arrays.insert(map, all);
        }
        self.arrays.entry(map).or_default()
    }

    fn facts(&mut self, object: &Object, program: &XdpProgram) -> CodeFacts {
        let mut facts = CodeFacts::default();
        for function in &program.code {
            let read = self.functions.entry((function.section, function.start)).or_insert_with(|| {
                CodeFacts::of(object.bytes.get(function.bytes.clone()).unwrap_or_default())
            });
            facts.extend(read);
        }
        let data = |map: &String| object.maps.get(map).is_some_and(|spec| spec.origin != MapOrigin::Declared);
        facts.features.extend(
            [
                (program.frags, Feature::Frags),
                (program.needs_kernel_types, Feature::KernelTypes),
                (program.maps.iter().any(data), Feature::GlobalData),
                (program.callbacks, Feature::Callbacks),
            ]
            .into_iter()
            .filter_map(|(present, feature)| present.then_some(feature)),
        );
        facts
    }
}

fn map<'a>(object: &Object, btf: Option<&Btf>, name: &'a str, spec: &'a MapSpec) -> MapFacts<'a> {
    let declared = spec.origin == MapOrigin::Declared;
    let (key, value) = types(btf.filter(|_| declared), spec.btf, spec.layout.as_ref());
    let variables = btf.filter(|_| !declared).map(|btf| btf.section_variables(name)).unwrap_or_default();
    let told = variables.iter().take(MAX_TOLD);
    let variables_left_out = variables.len() - told.len();
    let variables = btf.map(|btf| told.map(|v| variable(btf, v, object.data(name))).collect());
    let slots = spec.slots();
    MapFacts {
        name,
        def: DefFacts::of(&spec.def),
        numa_node: (spec.def.flags & BPF_F_NUMA_NODE != 0).then_some(spec.numa_node),
        pinned: spec.origin != MapOrigin::ReadOnlyData,
        key,
        value,
        inner: spec.inner().map(|pattern| inner(btf, pattern)),
        values: slots.iter().take(MAX_TOLD).map(|(index, name)| SlotFacts { index: *index, name }).collect(),
        values_left_out: slots.len().saturating_sub(MAX_TOLD),
        variables: variables.unwrap_or_default(),
        variables_left_out,
    }
}

fn inner(btf: Option<&Btf>, Inner { def, btf: ids, layout, .. }: &Inner) -> InnerFacts {
    let (key, value) = types(btf, *ids, layout.as_ref());
    InnerFacts { def: DefFacts::of(def), key, value }
}

/// The types of key and value.
fn types(
    btf: Option<&Btf>,
    ids: Option<(u32, u32)>,
    layout: Option<&MapLayout>,
) -> (Option<TypeFacts>, Option<TypeFacts>) {
    let Some(((btf, (key, value)), layout)) = btf.zip(ids).zip(layout) else { return (None, None) };
    let side = |id: u32, layout: &Layout| {
        let field = |field: &super::Field| FieldFacts {
            path: field.path.clone(),
            bit_offset: field.offset,
            bits: field.size,
        };
        Some(TypeFacts {
            spelling: describe(btf, id),
            fields: layout.0.iter().take(MAX_TOLD).map(field).collect(),
            fields_left_out: layout.0.len().saturating_sub(MAX_TOLD),
        })
    };
    (side(key, &layout.key), side(value, &layout.value))
}

/// `content` is that of the section; none where it is all zeros.
fn variable(btf: &Btf, variable: &Variable<'_>, content: Option<&[u8]>) -> VariableFacts {
    let initial = || {
        if variable.size > MAX_SHOWN {
            return None;
        }
        let zeros = vec![0; variable.size as usize];
        let value = match content {
            Some(content) => {
                let at = variable.offset as usize;
                content.get(at..at.checked_add(variable.size as usize)?)?
            }
            None => &zeros,
        };
        Some(decode(btf, variable.type_id, value).to_string())
    };
    VariableFacts {
        name: variable.name.to_owned(),
        spelling: describe(btf, variable.type_id),
        offset: variable.offset,
        size: variable.size,
        initial: initial(),
    }
}

/// The names of `BPF_F_*` for maps, in the order of their bits: `include/uapi/linux/bpf.h`.
fn flags(flags: u32) -> Vec<String> {
    const NAMES: [&str; 13] = [
        "no_prealloc",
        "no_common_lru",
        "numa_node",
        "rdonly",
        "wronly",
        "stack_build_id",
        "zero_seed",
        "rdonly_prog",
        "wronly_prog",
        "clone",
        "mmapable",
        "preserve_elems",
        "inner_map",
    ];
    let name = |bit: u32| {
        let name = usize::try_from(bit).ok().and_then(|bit| NAMES.get(bit));
        name.map_or_else(|| format!("{:#x}", 1u32 << bit), |name| (*name).to_owned())
    };
    (0..u32::BITS).filter(|bit| flags & (1 << bit) != 0).map(name).collect()
}
