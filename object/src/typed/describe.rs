//! The name of a type, as C would write it.

use std::fmt::Write as _;

use super::super::btf::{Btf, Shape, StructMember};
use super::MAX_DEPTH;

/// As many members or enumerators are told.
const MOST: usize = 16;

/// The name of a type for people: `__u32`, `char[16]`, `struct lpm_key { __u32 prefixlen; __u8 addr[4]; }`. Of large
/// types, the first parts.
pub fn describe(btf: &Btf, type_id: u32) -> String {
    let (name, dimensions) = parts(btf, type_id, MAX_DEPTH);
    let body = match btf.shape(type_id) {
        Some(Shape::Struct(members)) => body(btf, &members),
        Some(Shape::Enum { values, .. }) => {
            let names: Vec<&str> = values.iter().take(MOST).map(|(name, _)| name).collect();
            let more = if values.iter().len() > MOST { ", …" } else { "" };
            format!(" {{ {}{more} }}", names.join(", "))
        }
        _ => String::new(),
    };
    format!("{name}{dimensions}{body}")
}

fn body(btf: &Btf, members: &[StructMember<'_>]) -> String {
    let mut body = " {".to_owned();
    for member in members.iter().take(MOST) {
        let (name, dimensions) = parts(btf, member.type_id, MAX_DEPTH);
        let space = if member.name.is_empty() { "" } else { " " };
        let _ = write!(body, " {name}{space}{}{dimensions};", member.name); // a String takes everything
    }
    body + if members.len() > MOST { " … }" } else { " }" }
}

/// What stands before and after the name of a variable.
fn parts(btf: &Btf, id: u32, depth: usize) -> (String, String) {
    let names = btf.names(id);
    let own = names.first().copied();
    let tagged = |tag: &str| match own {
        // The only name is the tag's; otherwise it is a typedef's.
        Some(name) if names.len() == 1 && !name.is_empty() => format!("{tag} {name}"),
        Some(name) => name.to_owned(),
        None => tag.to_owned(),
    };
    let deeper = |id: u32| match depth.checked_sub(1) {
        Some(depth) => parts(btf, id, depth),
        None => ("…".to_owned(), String::new()),
    };
    match btf.shape(id) {
        Some(Shape::Array { element, len }) if own.is_none() => {
            let (name, inner) = deeper(element);
            (name, format!("[{len}]{inner}"))
        }
        Some(Shape::Pointer(target)) if own.is_none() => (format!("{} *", deeper(target).0), String::new()),
        Some(Shape::Struct(_)) => (tagged("struct"), String::new()),
        Some(Shape::Union) => (tagged("union"), String::new()),
        Some(Shape::Enum { .. }) => (tagged("enum"), String::new()),
        _ => (own.unwrap_or(if id == 0 { "void" } else { "?" }).to_owned(), String::new()),
    }
}
