//! When two definitions of a map are the same.

use xdpd_kernel::map::MapDef;
use xdpd_kernel::map_types::{
    BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_RDONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_MAP_TYPE_DEVMAP,
    BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH,
};

use crate::object::{Field, Layout, MapOrigin, MapSpec};
use crate::observed::PinnedMap;

/// How a pinned map differs from the definition, after what the kernel itself makes of a definition; `None` where it
/// can be reused.
pub(super) fn definition_difference(wanted: &MapSpec, now: &PinnedMap, possible_cpus: u32) -> Option<String> {
    let mut differences = attributes(wanted, now, possible_cpus, true);
    if let (Some(want), Some(have)) = (&wanted.layout, &now.layout)
        && differences.is_empty()
    {
        differences.extend(layout_differences("key", &have.key, &want.key));
        differences.extend(layout_differences("value", &have.value, &want.value));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

/// How it differs in all but what its values hold.
pub(super) fn attribute_differences(wanted: &MapSpec, now: &PinnedMap, possible_cpus: u32) -> Vec<String> {
    attributes(wanted, now, possible_cpus, false)
}

fn attributes(wanted: &MapSpec, now: &PinnedMap, possible_cpus: u32, with_value: bool) -> Vec<String> {
    let (mut have, mut want) = (now.def, normalised(&wanted.def, possible_cpus));
    have.flags &= !(BPF_F_RDONLY | BPF_F_WRONLY);
    if wanted.origin == MapOrigin::Data {
        // How user space gets at global variables, and not what they are.
        want.flags &= !BPF_F_MMAPABLE;
        have.flags &= !BPF_F_MMAPABLE;
    }
    if !with_value {
        want.value_size = have.value_size;
    }
    have.differences(&want)
}

/// What became of the fields of a key or value.
fn layout_differences(side: &str, have: &Layout, want: &Layout) -> Vec<String> {
    let name =
        |field: &Field| if field.path.is_empty() { "number".to_owned() } else { format!("`{}`", field.path) };
    let find = |layout: &Layout, path: &str| layout.0.iter().find(|f| f.path == path).cloned();
    let mut differences = Vec::new();
    for old in &have.0 {
        match find(want, &old.path) {
            None => differences.push(format!("{side} field {} is gone", name(old))),
            Some(new) if new.size != old.size => {
                differences.push(format!("{side} field {} {} -> {} bits", name(old), old.size, new.size));
            }
            Some(new) if new.offset != old.offset => {
                differences.push(format!("{side} field {} moved", name(old)));
            }
            Some(_) => {}
        }
    }
    let new = want.0.iter().filter(|new| find(have, &new.path).is_none());
    differences.extend(new.map(|new| format!("{side} field {} is new", name(new))));
    differences
}

/// The definition as the kernel will tell it: kernel/bpf/hashtab.c rounds LRU maps with a list per CPU to a multiple
/// of the possible CPUs, kernel/bpf/devmap.c makes device maps read-only for programs.
fn normalised(def: &MapDef, possible_cpus: u32) -> MapDef {
    let mut def = *def;
    def.flags &= !(BPF_F_RDONLY | BPF_F_WRONLY);
    let lru = [BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH].contains(&def.map_type);
    if lru && def.flags & BPF_F_NO_COMMON_LRU != 0 && possible_cpus > 0 {
        def.max_entries = def
            .max_entries
            .checked_next_multiple_of(possible_cpus)
            .unwrap_or(def.max_entries / possible_cpus * possible_cpus);
    }
    if [BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH].contains(&def.map_type) {
        def.flags |= BPF_F_RDONLY_PROG;
    }
    def
}
