//! The maps that BTF describes in `.maps`.

use std::collections::BTreeMap;

use object::elf;
use xdpd_kernel::cpu;
use xdpd_kernel::map::{MapDef, map_type_name};
#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use xdpd_kernel::map_types::*;

use super::super::{
    Btf, Elf, MapOrigin, MapSpec, ObjectError, check_name, corrupt, map_layout, section_of, too_many_maps,
};

/// The types of maps that an XDP program can use: `enum bpf_map_type`, less those that are bound to sockets, tasks or
/// cgroups, and maps of maps.
const MAP_TYPES: [u32; 20] = [
    BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_PROG_ARRAY,
    BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
    BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_STACK_TRACE,
    BPF_MAP_TYPE_LRU_HASH,
    BPF_MAP_TYPE_LRU_PERCPU_HASH,
    BPF_MAP_TYPE_LPM_TRIE,
    BPF_MAP_TYPE_DEVMAP,
    BPF_MAP_TYPE_SOCKMAP,
    BPF_MAP_TYPE_CPUMAP,
    BPF_MAP_TYPE_XSKMAP,
    BPF_MAP_TYPE_SOCKHASH,
    BPF_MAP_TYPE_QUEUE,
    BPF_MAP_TYPE_STACK,
    BPF_MAP_TYPE_DEVMAP_HASH,
    BPF_MAP_TYPE_RINGBUF,
    BPF_MAP_TYPE_BLOOM_FILTER,
];
const MAPS_OF_MAPS: [u32; 2] = [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS];
/// The types of maps whose keys and values may have types of their own in BTF. The kernel refuses it for the others
/// (`map_check_no_btf` in kernel/bpf/syscall.c).
const TYPED: [u32; 7] = [
    BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
    BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_LRU_HASH,
    BPF_MAP_TYPE_LRU_PERCPU_HASH,
    BPF_MAP_TYPE_LPM_TRIE,
];

/// The names of the symbols in `.maps`, by their index.
pub(super) fn map_symbols(
    elf: &Elf<'_>,
    section: Option<usize>,
) -> Result<BTreeMap<usize, String>, ObjectError> {
    let Some(section) = section else { return Ok(BTreeMap::new()) };
    let mut names = BTreeMap::new();
    for (index, symbol) in elf.symbols.enumerate() {
        if section_of(symbol) == section && symbol.st_type() == elf::STT_OBJECT {
            let name = elf.symbol_name(symbol)?;
            check_name("map", name)?;
            names.insert(index.0, name.to_owned());
            too_many_maps(names.len())?;
        }
    }
    Ok(names)
}

/// The definitions in `.maps`: each variable is a struct whose members' types say what the map is.
pub(super) fn declared_maps(
    btf: &Btf,
    symbols: &BTreeMap<usize, String>,
    maps: &mut BTreeMap<String, MapSpec>,
) -> Result<(), ObjectError> {
    if symbols.is_empty() {
        return Ok(());
    }
    let variables: BTreeMap<&str, u32> = btf
        .variables_of(".maps")
        .ok_or_else(|| corrupt("its BTF does not describe `.maps`"))?
        .into_iter()
        .collect();
    if let Some(name) = variables.keys().find(|name| !symbols.values().any(|s| s == *name)) {
        return Err(corrupt(format!("map `{}` is in BTF, but not in `.maps`", name.escape_debug())));
    }
    for name in symbols.values() {
        let id =
            variables.get(&**name).ok_or_else(|| corrupt(format!("map `{name}` is not described by BTF")))?;
        if maps.insert(name.clone(), declared_map(btf, name, *id)?).is_some() {
            return Err(corrupt(format!("two maps are called `{name}`")));
        }
    }
    Ok(())
}

fn declared_map(btf: &Btf, map: &str, id: u32) -> Result<MapSpec, ObjectError> {
    let bad = |what: &str| corrupt(format!("map `{map}`: {what}"));
    let members = btf.members(id).ok_or_else(|| bad("its definition is no struct"))?;
    let mut def = MapDef::default();
    let (mut key, mut value) = (0, 0);
    for (name, id) in members {
        let malformed = || bad(&format!("member `{}` of its definition is malformed", name.escape_debug()));
        let number = || btf.pointee(id).and_then(|array| btf.array_len(array)).ok_or_else(malformed);
        let typed = |size: &mut u32, to: &mut u32| {
            *to = btf.pointee(id).ok_or_else(malformed)?;
            let bytes = btf.size(*to).ok_or_else(malformed)?;
            if ![0, bytes].contains(size) {
                return Err(bad(&format!("`{name}` has {bytes} bytes, and `{name}_size` is {size}")));
            }
            *size = bytes;
            Ok(())
        };
        let sized = |size: &mut u32| {
            let bytes = number()?;
            if ![0, bytes].contains(size) {
                return Err(bad(&format!("`{name}` is {bytes}, and its type has {size} bytes")));
            }
            *size = bytes;
            Ok(())
        };
        match name {
            "type" => def.map_type = number()?,
            "key" => typed(&mut def.key_size, &mut key)?,
            "key_size" => sized(&mut def.key_size)?,
            "value" => typed(&mut def.value_size, &mut value)?,
            "value_size" => sized(&mut def.value_size)?,
            "max_entries" => def.max_entries = number()?,
            "map_flags" => def.flags = number()?,
            "map_extra" => def.map_extra = number()?.into(),
            // Where maps are pinned is for the file to say.
            "pinning" => drop(number()?),
            "values" => {
                return Err(ObjectError::Unsupported(format!(
                    "map `{map}`: maps of maps and initial values (`values`) are not supported yet"
                )));
            }
            other => {
                return Err(ObjectError::Unsupported(format!(
                    "map `{map}`: `{}` in its definition is not supported",
                    other.escape_debug()
                )));
            }
        }
    }
    let kind = map_type_name(def.map_type);
    if MAPS_OF_MAPS.contains(&def.map_type) {
        return Err(ObjectError::Unsupported(format!(
            "map `{map}`: maps of maps ({kind}) are not supported yet"
        )));
    }
    if !MAP_TYPES.contains(&def.map_type) {
        return Err(ObjectError::Unsupported(format!(
            "map `{map}`: its type {} ({kind}) is none that XDP programs can use",
            def.map_type
        )));
    }
    complete(&mut def);
    let typed = TYPED.contains(&def.map_type)
        && key != 0
        && value != 0
        // kernel/bpf/lpm_trie.c wants a struct as key.
        && (def.map_type != BPF_MAP_TYPE_LPM_TRIE || btf.members(key).is_some());
    Ok(MapSpec {
        def,
        btf: typed.then_some((key, value)),
        layout: typed.then(|| map_layout(btf, key, value)).flatten(),
        origin: MapOrigin::Declared,
    })
}

/// Completes what libbpf would: an array of perf events has a slot per CPU unless it says otherwise, and the size of a
/// ring buffer is a power of two of pages.
fn complete(def: &mut MapDef) {
    match def.map_type {
        BPF_MAP_TYPE_PERF_EVENT_ARRAY if def.max_entries == 0 => {
            let cpus = cpu::possible().ok().and_then(|n| u32::try_from(n).ok());
            def.max_entries = cpus.unwrap_or(1);
        }
        BPF_MAP_TYPE_RINGBUF if def.max_entries > 0 => {
            let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
            let pages = def.max_entries.div_ceil(page).checked_next_power_of_two();
            def.max_entries = pages.and_then(|n| n.checked_mul(page)).unwrap_or(def.max_entries);
        }
        _ => {}
    }
}
