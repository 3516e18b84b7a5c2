//! What the record of an interface tells of its maps of maps: the pattern of the inner maps, and which of the object's
//! they held at first. The kernel tells neither.
//!
//! Pure. The text is `type:key size:value size:max entries:flags:extra:layout:slots`, all numbers but the last two, which
//! are digests: a record is a symlink, with room for some dozen maps.

use std::fmt::Write as _;

use xdpd_config::sha256;
use xdpd_kernel::MapDef;

use crate::object::values::differences;
use crate::object::{Inner, MapLayout, MapSpec, Slots};

/// Bytes of a digest.
const DIGEST_LEN: usize = 4;
/// In the place of a layout that is not known.
const UNKNOWN: &str = "-";

/// What the record tells of a map; `None` where that is no map of maps.
pub fn recorded(spec: &MapSpec) -> Option<String> {
    let Inner { def, layout, .. } = spec.inner()?;
    let MapDef { map_type, key_size, value_size, max_entries, flags, map_extra } = def;
    let layout = layout.as_ref().map_or_else(|| UNKNOWN.to_owned(), digest_of_layout);
    let slots = digest_of_slots(spec.slots());
    Some(format!("{map_type}:{key_size}:{value_size}:{max_entries}:{flags}:{map_extra}:{layout}:{slots}"))
}

/// How a pinned map of maps, of which a record tells this, differs from what the object wants, in words.
pub fn changes(recorded: Option<&str>, wanted: &MapSpec) -> Vec<String> {
    let Some(inner) = wanted.inner() else { return Vec::new() };
    let Some((def, layout, slots)) = recorded.and_then(parse) else {
        return vec!["nothing tells what its inner maps were to be like".to_owned()];
    };
    let mut words: Vec<String> =
        differences(&def, &inner.def).into_iter().map(|what| format!("inner maps: {what}")).collect();
    let known = inner.layout.as_ref().filter(|_| layout != UNKNOWN);
    if words.is_empty() && known.is_some_and(|wanted| digest_of_layout(wanted) != layout) {
        words.push("inner maps: other fields".to_owned());
    }
    if slots != digest_of_slots(wanted.slots()) {
        words.push("the object fills it otherwise".to_owned());
    }
    words
}

/// Whether a map of maps, of which a record tells this, was filled with these maps of the object at first.
pub fn was_filled_so(recorded: Option<&str>, slots: &Slots) -> bool {
    recorded.and_then(parse).is_some_and(|(.., filled)| filled == digest_of_slots(slots))
}

fn parse(text: &str) -> Option<(MapDef, &str, &str)> {
    let mut parts = text.split(':');
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (map_type, key_size, value_size) = (number()?, number()?, number()?);
    let (max_entries, flags) = (number()?, number()?);
    let map_extra = parts.next()?.parse().ok()?;
    let def = MapDef { map_type, key_size, value_size, max_entries, flags, map_extra };
    Some((def, parts.next()?, parts.next()?))
}

/// Of what decides whether two layouts are the same: paths and places.
fn digest_of_layout(layout: &MapLayout) -> String {
    digest([&layout.key, &layout.value].into_iter().flat_map(|side| {
        let fields = side.0.iter().map(|field| format!("{} {} {}", field.path, field.offset, field.size));
        fields.chain([String::new()])
    }))
}

fn digest_of_slots(slots: &Slots) -> String {
    digest(slots.iter().map(|(index, name)| format!("{index} {name}")))
}

fn digest(lines: impl Iterator<Item = String>) -> String {
    let text = lines.fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}"); // a String takes everything
        text
    });
    sha256(text)[..2 * DIGEST_LEN].to_owned()
}

#[cfg(test)]
mod tests {
    use xdpd_kernel::map_types::{BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH};

    use super::*;
    use crate::object::{Field, FieldKind, Layout, MapOrigin, Values};

    fn layout(path: &str) -> MapLayout {
        let field =
            Field { path: path.to_owned(), offset: 0, size: 64, kind: FieldKind::Unsigned, element: 64 };
        MapLayout { key: Layout::default(), value: Layout(vec![field]) }
    }

    fn outer(inner: MapDef, layout: Option<MapLayout>, slots: &[(u32, &str)]) -> MapSpec {
        let def = MapDef { map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS, ..inner };
        let inner = Box::new(Inner { def: inner, btf: None, layout, numa_node: 0 });
        let slots = slots.iter().map(|(index, name)| (*index, (*name).to_owned())).collect();
        MapSpec { values: Values::Maps { inner, slots }, ..MapSpec::plain(def, MapOrigin::Declared) }
    }

    const HASH: MapDef = MapDef {
        map_type: BPF_MAP_TYPE_HASH,
        key_size: 4,
        value_size: 8,
        max_entries: 16,
        flags: 1,
        map_extra: 0,
    };

    #[test]
    fn what_was_recorded_is_no_change() {
        let spec = outer(HASH, Some(layout("count")), &[(0, "a"), (2, "b")]);
        let text = recorded(&spec).unwrap();
        assert!(was_filled_so(Some(&text), spec.slots()));
        assert!(!was_filled_so(Some(&text), &Slots::new()) && !was_filled_so(None, spec.slots()));
        assert!(text.len() < 60 && text.starts_with("1:4:8:16:1:0:"), "{text}");
        assert_eq!(changes(Some(&text), &spec), Vec::<String>::new());
        // Without type information there is nothing to compare.
        assert_eq!(changes(Some(&text), &outer(HASH, None, &[(0, "a"), (2, "b")])), Vec::<String>::new());
        assert_eq!(recorded(&MapSpec::plain(HASH, MapOrigin::Declared)), None);
    }

    #[test]
    fn each_change_is_told() {
        let text = recorded(&outer(HASH, Some(layout("count")), &[(0, "a")])).unwrap();
        let changed = |spec: &MapSpec| changes(Some(&text), spec);
        let wider = MapDef { value_size: 16, ..HASH };
        assert_eq!(
            changed(&outer(wider, Some(layout("count")), &[(0, "a")])),
            ["inner maps: value size 8 -> 16"]
        );
        assert_eq!(changed(&outer(HASH, Some(layout("sum")), &[(0, "a")])), ["inner maps: other fields"]);
        for slots in [&[(1, "a")][..], &[(0, "b")], &[(0, "a"), (1, "a")], &[]] {
            assert_eq!(
                changed(&outer(HASH, Some(layout("count")), slots)),
                ["the object fills it otherwise"]
            );
        }
    }

    #[test]
    fn a_record_that_tells_nothing_sound_is_a_change() {
        let spec = outer(HASH, None, &[]);
        for text in [None, Some(""), Some("1:4:8"), Some("1:4:8:x:0:0:-:-")] {
            assert_eq!(changes(text, &spec).len(), 1, "{text:?}");
        }
    }
}
