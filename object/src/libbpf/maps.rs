//! The maps that BTF describes in `.maps`.

use std::collections::BTreeMap;
use std::ops::Range;

use object::elf;
use object::read::elf::Sym;
#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use xdpd_types::map_types::*;
use xdpd_types::{MapDef, map_type_name};

use crate::{
    Btf, Elf, Inner, LE, Machine, MapOrigin, MapSpec, ObjectError, Shape, Slots, Values, btf::StructMember,
    check_name, corrupt, map_layout, section_of, too_many_maps,
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

/// The member of a definition that says what the values are, where those are no bytes.
pub(super) const VALUES: &str = "values";

/// A variable in `.maps`.
pub(super) struct MapSymbol {
    pub(super) name: String,
    /// Where it is in the section, in bytes.
    pub(super) range: Range<u64>,
}

/// The symbols in `.maps`, by their index.
pub(super) fn map_symbols(
    elf: &Elf<'_>,
    section: Option<usize>,
) -> Result<BTreeMap<usize, MapSymbol>, ObjectError> {
    let Some(section) = section else { return Ok(BTreeMap::new()) };
    let mut symbols = BTreeMap::new();
    for (index, symbol) in elf.symbols.enumerate() {
        if section_of(symbol) == section && symbol.st_type() == elf::STT_OBJECT {
            let name = elf.symbol_name(symbol)?;
            check_name("map", name)?;
            let start = symbol.st_value(LE);
            let range = start..start.saturating_add(symbol.st_size(LE));
            symbols.insert(index.0, MapSymbol { name: name.to_owned(), range });
            too_many_maps(symbols.len())?;
        }
    }
    Ok(symbols)
}

/// The definitions in `.maps`: each variable is a struct whose members' types say what the map is. Tells of those that
/// may hold something from the start where in the variable that is, in bytes.
pub(super) fn declared_maps(
    btf: &Btf,
    machine: Machine<'_>,
    symbols: &BTreeMap<usize, MapSymbol>,
    maps: &mut BTreeMap<String, MapSpec>,
) -> Result<BTreeMap<String, u64>, ObjectError> {
    let mut values_at = BTreeMap::new();
    if symbols.is_empty() {
        return Ok(values_at);
    }
    let variables: BTreeMap<&str, u32> = btf
        .variables_of(".maps")
        .ok_or_else(|| corrupt("its BTF does not describe `.maps`"))?
        .into_iter()
        .collect();
    if let Some(name) = variables.keys().find(|name| !symbols.values().any(|s| s.name == **name)) {
        return Err(corrupt(format!("map `{}` is in BTF, but not in `.maps`", name.escape_debug())));
    }
    for MapSymbol { name, .. } in symbols.values() {
        let id =
            variables.get(&**name).ok_or_else(|| corrupt(format!("map `{name}` is not described by BTF")))?;
        let map = format!("map `{name}`");
        let (mut spec, values) = definition(btf, &map, *id)?;
        if let Some(values) = &values {
            values_at.insert(name.clone(), u64::from(values.offset / 8));
        }
        spec.values = referents(btf, machine, &map, &mut spec.def, values)?;
        complete(&mut spec.def, machine, &map)?;
        if maps.insert(name.clone(), spec).is_some() {
            return Err(corrupt(format!("two maps are called `{name}`")));
        }
    }
    Ok(values_at)
}

/// A definition, and the member that says what the values are where those are no bytes. `map` is what errors call it.
fn definition<'a>(
    btf: &'a Btf,
    map: &str,
    id: u32,
) -> Result<(MapSpec, Option<StructMember<'a>>), ObjectError> {
    let bad = |what: &str| corrupt(format!("{map}: {what}"));
    let Some(Shape::Struct(members)) = btf.shape(id) else { return Err(bad("its definition is no struct")) };
    let mut def = MapDef::default();
    let (mut key, mut value, mut numa_node, mut values) = (0, 0, 0, None);
    for member in members {
        let StructMember { name, type_id, .. } = member;
        let malformed = || bad(&format!("member `{}` of its definition is malformed", name.escape_debug()));
        let number = || btf.pointee(type_id).and_then(|array| btf.array_len(array)).ok_or_else(malformed);
        let typed = |size: &mut u32, to: &mut u32| {
            *to = btf.pointee(type_id).ok_or_else(malformed)?;
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
            "numa_node" => numa_node = number()?,
            // Where maps are pinned is for the file to say.
            "pinning" => drop(number()?),
            VALUES => values = Some(member),
            other => {
                return Err(ObjectError::Unsupported(format!(
                    "{map}: `{}` in its definition is not supported",
                    other.escape_debug()
                )));
            }
        }
    }
    if !MAP_TYPES.contains(&def.map_type) && !MAPS_OF_MAPS.contains(&def.map_type) {
        return Err(ObjectError::Unsupported(format!(
            "{map}: its type {} ({}) is none that XDP programs can use",
            def.map_type,
            map_type_name(def.map_type)
        )));
    }
    let typed = TYPED.contains(&def.map_type)
        && key != 0
        && value != 0
        // kernel/bpf/lpm_trie.c wants a struct as key.
        && (def.map_type != BPF_MAP_TYPE_LPM_TRIE || btf.members(key).is_some());
    let spec = MapSpec {
        btf: typed.then_some((key, value)),
        layout: typed.then(|| map_layout(btf, key, value)).flatten(),
        numa_node,
        ..MapSpec::plain(def, MapOrigin::Declared)
    };
    Ok((spec, values))
}

/// What the values of a map are, by the member `values`: pointers to inner maps, or to programs. Their size is that of
/// what user space writes there, a descriptor.
fn referents(
    btf: &Btf,
    machine: Machine<'_>,
    map: &str,
    def: &mut MapDef,
    member: Option<StructMember<'_>>,
) -> Result<Values, ObjectError> {
    const DESCRIPTOR: u32 = 4;
    let unsupported = |what: String| ObjectError::Unsupported(format!("{map}: {what}"));
    let kind = map_type_name(def.map_type);
    let of_maps = MAPS_OF_MAPS.contains(&def.map_type);
    let Some(member) = member else {
        return match def.map_type {
            BPF_MAP_TYPE_PROG_ARRAY => Ok(Values::Programs(Slots::new())),
            _ if of_maps => Err(unsupported(
                "nothing says what its inner maps are like: `__array(values, struct …)` would".to_owned(),
            )),
            _ => Ok(Values::Bytes),
        };
    };
    if !of_maps && def.map_type != BPF_MAP_TYPE_PROG_ARRAY {
        return Err(unsupported(format!(
            "`values` are for maps of maps and program arrays, and its type is {kind}"
        )));
    }
    if ![0, DESCRIPTOR].contains(&def.value_size) {
        return Err(corrupt(format!(
            "{map}: `values` have {DESCRIPTOR} bytes, and its definition says {}",
            def.value_size
        )));
    }
    def.value_size = DESCRIPTOR;
    let malformed = || corrupt(format!("{map}: member `values` of its definition is malformed"));
    let Some(Shape::Array { element, .. }) = btf.shape(member.type_id) else { return Err(malformed()) };
    let pointee = btf.pointee(element).ok_or_else(malformed)?;
    if !of_maps {
        return if btf.is_function(pointee) { Ok(Values::Programs(Slots::new())) } else { Err(malformed()) };
    }
    let (mut inner, values) = definition(btf, &format!("{map}, its inner maps"), pointee)?;
    if values.is_some() || MAPS_OF_MAPS.contains(&inner.def.map_type) {
        return Err(unsupported("its inner maps are maps of maps, and the kernel nests but once".to_owned()));
    }
    if inner.def.map_type == BPF_MAP_TYPE_PROG_ARRAY {
        return Err(unsupported("its inner maps are program arrays, which the kernel refuses".to_owned()));
    }
    if btf.member(pointee, "pinning").is_some() {
        return Err(unsupported(
            "`pinning` in the pattern of its inner maps, which is never pinned".to_owned(),
        ));
    }
    complete(&mut inner.def, machine, map)?;
    let MapSpec { def, btf, layout, numa_node, .. } = inner;
    Ok(Values::Maps { inner: Box::new(Inner { def, btf, layout, numa_node }), slots: Slots::new() })
}

/// Completes what libbpf would: an array of perf events has a slot per CPU unless it says otherwise, and the size of a
/// ring buffer is a power of two of pages.
fn complete(def: &mut MapDef, machine: Machine<'_>, map: &str) -> Result<(), ObjectError> {
    match def.map_type {
        BPF_MAP_TYPE_PERF_EVENT_ARRAY if def.max_entries == 0 => {
            def.max_entries = (machine.possible_cpus)().map_err(|e| {
                ObjectError::Unsupported(format!(
                    "{map} has a slot per CPU, and their number is not known: {e}"
                ))
            })?;
        }
        BPF_MAP_TYPE_RINGBUF if def.max_entries > 0 => {
            let page = machine.page_size;
            let pages = def.max_entries.div_ceil(page).checked_next_power_of_two();
            def.max_entries = pages.and_then(|n| n.checked_mul(page)).unwrap_or(def.max_entries);
        }
        _ => {}
    }
    Ok(())
}
