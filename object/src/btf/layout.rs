//! Layouts of map keys and values: their fields, and what each of them is.

use super::{Btf, Kind, MAX_DEPTH};

/// Visits of types while one layout is told: bounds the work that mangled BTF can cause.
const MAX_VISITS: usize = 16 * 1024;
/// Bytes of the paths of one layout: likewise.
const MAX_PATHS: usize = 1 << 20;

/// One leaf of a key or value: a number, a pointer or an array of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field {
    /// Path from the outermost struct, `a.b[3].c`; empty where the type itself is a number.
    pub path: String,
    /// Bits from the start.
    pub offset: u32,
    /// Bits.
    pub size: u32,
    /// What it is, of an array what each element is.
    pub kind: FieldKind,
    /// Bits of each element; of what is no array its size.
    pub element: u32,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldKind {
    /// A number that is never negative.
    Unsigned,
    /// A number that may be.
    Signed,
    /// One of a few values.
    Enum,
    /// `bool`.
    Bool,
    /// A floating-point number.
    Float,
    /// An address.
    Pointer,
    /// A number in an order of bytes that its type names, such as `__be32`: an address or a port, nothing to count with.
    Ordered,
    /// Something that the kernel keeps in a value: a lock, a timer, the head of a list.
    Kernel,
}

/// Structs that the kernel knows in values (`btf_parse_fields` in kernel/bpf/btf.c): user space neither reads nor writes
/// them.
const KERNEL_STRUCTS: [&str; 11] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_timer",
    "bpf_wq",
    "bpf_task_work",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_root",
    "bpf_rb_node",
    "bpf_refcount",
    "bpf_dynptr",
];

/// The fields of a key or value in order of their offset: what "the same layout" compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Layout(pub Vec<Field>);

/// What a walk over a type has found, how many types it may still visit, and how long their paths may still be.
struct Collected {
    fields: Vec<Field>,
    visits: usize,
    paths: usize,
}

impl Btf {
    /// The layout of the type `id`; `None` where it cannot be told (a dangling id, a cycle, too many fields).
    pub fn layout(&self, id: u32) -> Option<Layout> {
        let mut out = Collected { fields: Vec::new(), visits: MAX_VISITS, paths: MAX_PATHS };
        self.collect(id, "", 0, None, MAX_DEPTH, &mut out)?;
        Some(Layout(out.fields))
    }

    fn collect(
        &self,
        id: u32,
        path: &str,
        offset: u32,
        width: Option<u32>,
        depth: usize,
        out: &mut Collected,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        out.visits = out.visits.checked_sub(1)?;
        out.paths = out.paths.checked_sub(path.len())?;
        let mut leaf = |bits: u32, kind: FieldKind| {
            let size = width.unwrap_or(bits);
            out.fields.push(Field { path: path.to_owned(), offset, size, kind, element: size });
            Some(())
        };
        let found = self.get(id)?;
        match &found.kind {
            Kind::Int { .. } | Kind::Enum { .. } | Kind::Float { .. } | Kind::Ptr(_) => {
                let (bits, kind) = self.scalar(id, MAX_DEPTH)?;
                leaf(bits, kind)
            }
            Kind::Alias { .. } if is_ordered(self.name(found.name)) => {
                leaf(self.size_bits(id, MAX_DEPTH)?, FieldKind::Ordered)
            }
            Kind::Alias { target, .. } => self.collect(*target, path, offset, width, depth, out),
            Kind::Array { element, len } => {
                let size = self.size_bits(*element, MAX_DEPTH)?;
                if let Some((_, kind)) = self.scalar(*element, MAX_DEPTH) {
                    let total = size.checked_mul(*len)?;
                    let path = format!("{path}[{len}]");
                    out.fields.push(Field { path, offset, size: total, kind, element: size });
                    return Some(());
                }
                for n in 0..*len {
                    let at = offset.checked_add(size.checked_mul(n)?)?;
                    self.collect(*element, &format!("{path}[{n}]"), at, None, depth, out)?;
                }
                Some(())
            }
            Kind::Struct { size, .. } if KERNEL_STRUCTS.contains(&self.name(found.name)) => {
                leaf(size.checked_mul(8)?, FieldKind::Kernel)
            }
            Kind::Struct { members, bitfields, .. } => {
                for member in members {
                    let (at, width) = if *bitfields {
                        let width = member.offset >> 24;
                        (member.offset & 0x00ff_ffff, (width > 0).then_some(width))
                    } else {
                        (member.offset, None)
                    };
                    let name = self.name(member.name);
                    let inner = match (path.is_empty(), name.is_empty()) {
                        (true, _) => name.to_owned(),
                        (false, true) => path.to_owned(),
                        (false, false) => format!("{path}.{name}"),
                    };
                    self.collect(member.type_id, &inner, offset.checked_add(at)?, width, depth, out)?;
                }
                Some(())
            }
            Kind::Var(target) => self.collect(*target, path, offset, None, depth, out),
            Kind::DataSec { vars, .. } => {
                for var in vars {
                    let name = self.name(self.get(var.type_id)?.name);
                    let at = offset.checked_add(var.offset.checked_mul(8)?)?;
                    self.collect(var.type_id, name, at, None, depth, out)?;
                }
                Some(())
            }
            Kind::Other => None,
        }
    }

    /// Bits and kind of a type that is no struct and no array; `None` for one that is.
    fn scalar(&self, id: u32, depth: usize) -> Option<(u32, FieldKind)> {
        let depth = depth.checked_sub(1)?;
        let found = self.get(id)?;
        Some(match &found.kind {
            Kind::Int { size, bits, signed, boolean, .. } => {
                let kind = match (boolean, signed) {
                    (true, _) => FieldKind::Bool,
                    (false, true) => FieldKind::Signed,
                    (false, false) => FieldKind::Unsigned,
                };
                (if *bits == 0 { size.checked_mul(8)? } else { u32::from(*bits) }, kind)
            }
            Kind::Enum { size, .. } => (size.checked_mul(8)?, FieldKind::Enum),
            Kind::Float { size } => (size.checked_mul(8)?, FieldKind::Float),
            Kind::Ptr(_) => (64, FieldKind::Pointer),
            Kind::Alias { target, .. } => match self.scalar(*target, depth)? {
                (bits, _) if is_ordered(self.name(found.name)) => (bits, FieldKind::Ordered),
                scalar => scalar,
            },
            Kind::Struct { .. } | Kind::Array { .. } | Kind::Var(_) | Kind::DataSec { .. } | Kind::Other => {
                return None;
            }
        })
    }
}

/// linux/types.h has names for numbers in network order, and for checksums.
fn is_ordered(name: &str) -> bool {
    ["__be16", "__be32", "__be64", "__sum16", "__wsum"].contains(&name)
}
