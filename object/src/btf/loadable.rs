//! Makes an object's BTF acceptable to the kernel, by patching its bytes.

use std::collections::BTreeSet;

use super::parse::sections;
use super::{Btf, BtfError, Kind, Type, kind};

/// Makes an object's BTF acceptable to the kernel.
///
/// Compilers leave the size of a data section and the offsets of its variables at zero, since only the linker or loader
/// knows them: `section_size` and `symbol_offset` look them up by name. And the kernel takes identifiers as names
/// (`btf_name_valid_identifier` in kernel/bpf/btf.c), while Rust's generic types and redbpf's sections have others:
/// every other character becomes `_`, except in the names of numbers, which may be any.
pub(crate) fn make_loadable(
    raw: &mut [u8],
    section_size: impl Fn(&str) -> Option<u32>,
    symbol_offset: impl Fn(&str) -> Option<u32>,
) -> Result<(), BtfError> {
    let btf = Btf::parse(raw)?;
    let (type_range, string_range) = sections(raw)?;
    hide_externs(&btf, &mut raw[type_range.clone()], &section_size)?;
    let btf = Btf::parse(raw)?;
    let mut put = |at: usize, value: u32| {
        if let Some(word) = raw.get_mut(type_range.start + at..type_range.start + at + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    };
    for t in &btf.types {
        let Kind::DataSec { size, vars } = &t.kind else { continue };
        if *size == 0 {
            let size = section_size(btf.name(t.name)).ok_or(BtfError("a data section has no section"))?;
            put(t.at + 8, size);
        }
        let mut placed: Vec<(u32, u32, u32)> = vars
            .iter()
            .map(|var| {
                let name = btf.get(var.type_id).map(|v| btf.name(v.name)).unwrap_or_default();
                (symbol_offset(name).unwrap_or(var.offset), var.type_id, var.size)
            })
            .collect();
        // The kernel takes them in the order of their offsets only.
        placed.sort_unstable();
        for (var, (offset, type_id, size)) in vars.iter().zip(placed) {
            put(var.at, type_id);
            put(var.at + 4, offset);
            put(var.at + 8, size);
        }
    }
    // Names may share their ends, and each byte is looked at once.
    let names: BTreeSet<u32> = btf.types.iter().filter(|t| !t.is_number()).flat_map(Type::names).collect();
    let strings = &mut raw[string_range];
    let mut done = 0;
    for name in names {
        let name = name as usize;
        if name < done {
            continue;
        }
        done = name;
        for byte in strings.iter_mut().skip(name).take_while(|b| **b != 0) {
            if !byte.is_ascii_alphanumeric() && *byte != b'.' {
                *byte = b'_';
            }
            done += 1;
        }
    }
    Ok(())
}

/// Rewrites what tells of things outside of the object, `.kconfig`, `.ksyms` and what is in them: the kernel refuses
/// BTF with such. What refers to those things cannot be loaded anyway, but other programs of the object can.
///
/// Their sections become structs of so many numbers, which take the same space; functions become other names of their
/// types.
fn hide_externs(
    btf: &Btf,
    types: &mut [u8],
    section_size: impl Fn(&str) -> Option<u32>,
) -> Result<(), BtfError> {
    /// `BTF_VAR_GLOBAL_EXTERN` and `BTF_FUNC_EXTERN`.
    const EXTERN: u32 = 2;
    let mut put = |at: usize, value: u32| {
        if let Some(word) = types.get_mut(at..at + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    };
    let number = btf.types.iter().zip(1..).find_map(|(t, id)| match t.kind {
        Kind::Int { size, .. } => Some((id, size)),
        _ => None,
    });
    for t in &btf.types {
        match (&t.kind, t.number) {
            (Kind::Var(_), _) if t.linkage == EXTERN => put(t.at + 12, 1),
            (_, kind::FUNC) if t.linkage == EXTERN => put(t.at + 4, u32::from(kind::TYPEDEF) << 24),
            (Kind::DataSec { size: 0, vars }, _) if section_size(btf.name(t.name)).is_none() => {
                let (id, size) = number.ok_or(BtfError("a data section has no section"))?;
                put(t.at, 0);
                put(t.at + 4, u32::from(kind::STRUCT) << 24 | u32::try_from(vars.len()).unwrap_or(0));
                put(t.at + 8, size);
                for var in vars {
                    put(var.at, 0);
                    put(var.at + 4, id);
                    put(var.at + 8, 0);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Type {
    /// Names of numbers may hold spaces: `unsigned int`.
    fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Int { .. } | Kind::Float { .. })
    }

    /// The offsets of its own name and of its members' names.
    fn names(&self) -> impl Iterator<Item = u32> {
        let members = match &self.kind {
            Kind::Struct { members, .. } => &**members,
            _ => &[],
        };
        std::iter::once(self.name).chain(members.iter().map(|m| m.name))
    }
}
