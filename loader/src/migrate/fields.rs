//! Which field of a value becomes which of another: by name and type.

use std::collections::BTreeMap;

use xdpd_config::{Merge, suggest};

use super::{Mapping, Part, Settings, Shape};
use crate::object::{Field, FieldKind, Layout};

/// How the file names the only field of a value that is a plain number.
const PLAIN: &str = "value";

/// One thing in a value that is carried, or not, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit<'a> {
    /// Bytes from the start.
    at: usize,
    /// Bytes.
    len: usize,
    what: What<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What<'a> {
    /// Numbers or other values, all alike.
    Row {
        kind: FieldKind,
        /// Bytes of each.
        size: usize,
        count: usize,
        array: bool,
    },
    /// Bit fields, or members of a union: fields that have bytes in common.
    Together(Vec<Place<'a>>),
}

/// Where a field is among those that it shares bytes with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place<'a> {
    path: &'a str,
    /// Bits from the start of the first.
    offset: u32,
    /// Bits.
    size: u32,
}

/// Matches the fields of two values.
pub(super) fn between(old: &Layout, new: &Layout, settings: &Settings) -> Result<Mapping, String> {
    let (old, new) = (units(old), units(new));
    let mut mapping = Mapping { parts: Vec::new(), notes: Vec::new() };
    let mut losses = Vec::new();
    for (name, from) in &old {
        let Some(to) = new.get(name) else {
            if from.is_content() {
                mapping.notes.push(format!("field `{name}` is gone and its content lost"));
            }
            continue;
        };
        match (&from.what, &to.what) {
            (What::Row { kind: FieldKind::Pointer | FieldKind::Kernel, .. }, _)
            | (_, What::Row { kind: FieldKind::Pointer | FieldKind::Kernel, .. }) => {
                mapping.notes.push(format!(
                    "field `{name}` is an address or something of the kernel's, which starts anew"
                ));
            }
            (
                What::Row { kind: old, size: from_size, count: from_count, array: from_array },
                What::Row { kind: new, size: to_size, count: to_count, array: to_array },
            ) if from_array == to_array && converts((*old, *from_size), (*new, *to_size)) => {
                if from_size < to_size {
                    mapping.notes.push(format!(
                        "field `{name}` widened {} -> {} bits",
                        from_size * 8,
                        to_size * 8
                    ));
                }
                if from_size > to_size {
                    losses.push(format!(
                        "field `{name}` narrowed {} -> {} bits, which keeps the low bits only",
                        from_size * 8,
                        to_size * 8
                    ));
                }
                if (*old == FieldKind::Signed) != (*new == FieldKind::Signed) {
                    let now = if *new == FieldKind::Signed { "signed" } else { "unsigned" };
                    mapping.notes.push(format!("field `{name}` is {now} now"));
                }
                if from_count < to_count {
                    mapping
                        .notes
                        .push(format!("field `{name}` has {to_count} elements instead of {from_count}"));
                }
                if from_count > to_count {
                    losses.push(format!(
                        "field `{name}` has {to_count} elements instead of {from_count}, and the last are lost"
                    ));
                }
                let count = *from_count.min(to_count);
                let merge = settings.merge.get(&**name).copied();
                let merge = merge.unwrap_or_else(|| default_rule(*old, *new, *from_size, *from_array));
                let shape =
                    if is_number(*old) && !(merge == Merge::New && *from_array && from_size == to_size) {
                        let signed = *old == FieldKind::Signed;
                        Shape::Numbers { from: *from_size, to: *to_size, signed, count }
                    } else {
                        Shape::Bytes(count * from_size)
                    };
                mapping.parts.push(Part { from: from.at, to: to.at, shape, merge });
            }
            (What::Together(old), What::Together(new)) if old == new && from.len == to.len => {
                let merge = settings.merge.get(&**name).copied().unwrap_or(Merge::New);
                mapping.parts.push(Part { from: from.at, to: to.at, shape: Shape::Bytes(from.len), merge });
            }
            _ => losses.push(format!("field `{name}` has another type, and its content is lost")),
        }
    }
    mapping.notes.extend(
        new.keys().filter(|name| !old.contains_key(*name)).map(|name| format!("field `{name}` is new")),
    );
    if !losses.is_empty() && !settings.lossy {
        return Err(format!("{}; allow that for this map with lossy = true", losses.join(", ")));
    }
    mapping.notes.extend(losses);
    Ok(mapping)
}

/// What is wrong with a rule for a field of a map's values; with a near miss, if there is one.
pub fn check_rule(value: Option<&Layout>, field: &str, rule: Merge) -> Result<(), (String, Option<String>)> {
    let Some(value) = value else {
        return Err(("it has no type information (BTF), so its fields have no names".into(), None));
    };
    let units = units(value);
    let Some(unit) = units.get(field) else {
        let names: Vec<&str> = units.keys().map(String::as_str).collect();
        let have = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let near = suggest(field, names.iter().copied());
        return Err((format!("its values have no field `{field}`; they have {have}"), near));
    };
    let is_number = matches!(unit.what, What::Row { kind, .. } if is_number(kind));
    if !is_number && matches!(rule, Merge::Max | Merge::Sum) {
        return Err((format!("`{rule}` is for whole numbers, and `{field}` is something else"), None));
    }
    Ok(())
}

impl Unit<'_> {
    /// Whether there is anything in it that could get lost.
    fn is_content(&self) -> bool {
        !matches!(self.what, What::Row { kind: FieldKind::Pointer | FieldKind::Kernel, .. })
    }
}

/// Numbers become numbers of another size; everything else stays what it is.
fn converts(old: (FieldKind, usize), new: (FieldKind, usize)) -> bool {
    old == new || (is_number(old.0) && is_number(new.0) && fits_register(old.1) && fits_register(new.1))
}

fn is_number(kind: FieldKind) -> bool {
    matches!(kind, FieldKind::Unsigned | FieldKind::Signed | FieldKind::Enum)
}

fn fits_register(size: usize) -> bool {
    matches!(size, 1 | 2 | 4 | 8)
}

/// Unsigned numbers count; a row of small ones is an address, a name or the like.
fn default_rule(old: FieldKind, new: FieldKind, size: usize, array: bool) -> Merge {
    let counts = old == FieldKind::Unsigned && new == FieldKind::Unsigned && (!array || size >= 4);
    if counts && fits_register(size) { Merge::Sum } else { Merge::New }
}

/// What a value consists of, by name.
fn units(layout: &Layout) -> BTreeMap<String, Unit<'_>> {
    let mut fields: Vec<&Field> = layout.0.iter().filter(|field| field.size > 0).collect();
    fields.sort_by_key(|field| field.offset);
    let mut units = BTreeMap::new();
    let mut rest = &fields[..];
    while let Some(first) = rest.first() {
        // All whose bytes meet, one after the other.
        let mut end = last_byte(first);
        let mut count = 1;
        while let Some(next) = rest.get(count).filter(|next| next.offset / 8 < end) {
            end = end.max(last_byte(next));
            count += 1;
        }
        let (together, others) = rest.split_at(count);
        rest = others;
        let at = (first.offset / 8) as usize;
        let len = end as usize - at;
        let (name, what) = match together {
            [only] if is_whole(only) => row(only),
            several => {
                let place = |field: &&'_ Field| (field.offset - first.offset / 8 * 8, field.size);
                let places = several.iter().map(|field| {
                    let (offset, size) = place(field);
                    Place { path: &field.path, offset, size }
                });
                let names: Vec<&str> = several.iter().map(|field| &*field.path).collect();
                (names.join("/"), What::Together(places.collect()))
            }
        };
        units.insert(name, Unit { at, len, what });
    }
    units
}

/// The byte after the last of a field.
fn last_byte(field: &Field) -> u32 {
    field.offset.saturating_add(field.size).div_ceil(8)
}

fn is_whole(field: &Field) -> bool {
    [field.offset, field.size, field.element].iter().all(|bits| bits.is_multiple_of(8)) && field.element > 0
}

/// A field that shares no byte; an array's name is without its length.
fn row(field: &Field) -> (String, What<'_>) {
    let count = (field.size / field.element) as usize;
    let length = format!("[{count}]");
    let base = field.path.strip_suffix(&length);
    let name = base.unwrap_or(&field.path);
    let name = if name.is_empty() { PLAIN } else { name };
    let size = (field.element / 8) as usize;
    (name.to_owned(), What::Row { kind: field.kind, size, count, array: base.is_some() })
}
