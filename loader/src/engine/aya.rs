//! Loads one program that follows libbpf's conventions, inside of the loader process.
//!
//! Of aya this uses the half that makes no system calls (`aya-obj`): it parses the object, resolves references to
//! maps, functions and types of the kernel, and leaves instructions. Its other half would make maps, write the initial
//! content into those that are reused, read the kernel's types (50 ms) whether they are needed or not, and fix what
//! the program declares about its use. Here the maps are given, and the kernel crate loads the program.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya_obj::btf::{Btf, BtfFeatures};
use aya_obj::generated::bpf_insn;
use aya_obj::maps::Map;
use aya_obj::{EbpfSectionKind, Function, Object};
use xdpd_kernel::program::{DebugInfo, Insn, XdpLoad};
use xdpd_kernel::{Access, Btf as KernelBtf, Dir, Map as KernelMap, MapDef, Program};

use super::protocol::{MapPin, Reply, Request};

/// The kernel's types, for objects that refer to them.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Reply {
    move |e| Reply::Failed(format!("{what}: {e}"))
}

/// The whole chain of an error of aya's: the outer ones say little.
fn aya<E: std::error::Error>(what: &str) -> impl FnOnce(E) -> Reply {
    move |e| {
        let mut text = format!("aya: {what}: {e}");
        let mut source = e.source();
        while let Some(e) = source {
            text = format!("{text}: {e}");
            source = e.source();
        }
        Reply::Failed(text)
    }
}

/// Loads `request.function` of the object with the maps pinned in `maps`.
pub(super) fn load(bytes: &[u8], request: &Request, maps: &Dir) -> Result<OwnedFd, Reply> {
    let mut object = Object::parse(bytes).map_err(aya("cannot parse the object"))?;
    // Every kernel that xdpd runs on knows all of BTF, so nothing is taken out of it.
    let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
    let btf = object.fixup_and_sanitize_btf(&features).map_err(aya("cannot complete the BTF"))?;
    // Without BTF most programs load all the same; for the others the verifier says what it misses.
    let btf = btf.map(|btf| KernelBtf::load_if_accepted(&btf.to_bytes())).transpose();
    let btf = btf.map_err(failed("cannot load the types of the object"))?.flatten();
    if object.has_btf_relocations() {
        let kernel = Btf::parse_file(KERNEL_TYPES, object.endianness).map_err(aya(&format!(
            "the object refers to types of the kernel, which {KERNEL_TYPES} does not tell"
        )))?;
        object.relocate_btf(&kernel).map_err(aya("cannot resolve references to types of the kernel"))?;
    }
    // Others may refer to what nothing can resolve.
    object.programs.retain(|name, _| *name == request.function);
    object.functions.retain(|at, _| request.functions.contains(at));
    let given = given_maps(&object, request, maps)?;
    let code: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let numbers: Vec<(String, i32, Map)> = given
        .iter()
        .filter_map(|(name, fd)| Some((name.clone(), fd.as_fd().as_raw_fd(), object.maps.get(name)?.clone())))
        .collect();
    object
        .relocate_maps(numbers.iter().map(|(name, fd, map)| (&**name, *fd, map)), &code)
        .map_err(aya("cannot resolve references to maps"))?;
    object.relocate_calls(&code).map_err(aya("cannot link functions"))?;
    let function = object
        .programs
        .get(&request.function)
        .and_then(|program| object.functions.get(&program.function_key()))
        .ok_or_else(|| Reply::Failed(format!("aya finds no XDP program `{}`", request.function)))?;
    verify(function, request, btf.as_ref())
}

/// The maps of the object: pinned ones as they are, constants made here.
fn given_maps(object: &Object, request: &Request, pins: &Dir) -> Result<HashMap<String, KernelMap>, Reply> {
    let mut given = HashMap::new();
    for MapPin { name, pin } in request.maps.iter().chain(&request.data) {
        let map = pins.open_map(pin, Access::ReadWrite).map_err(failed("cannot open a map's pin"))?;
        given.insert(name.clone(), map);
    }
    for (name, map) in &object.maps {
        if map.section_kind() == EbpfSectionKind::Rodata && !map.data().is_empty() {
            let constants = constants(name, map).map_err(failed("cannot make the map of constants"))?;
            given.insert(name.clone(), constants);
        }
    }
    Ok(given)
}

/// A map of constants. Frozen before the program is verified: then the verifier knows their values, and leaves out the
/// code that they rule out.
fn constants(name: &str, map: &Map) -> xdpd_kernel::Result<KernelMap> {
    let def = MapDef {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        map_extra: 0,
    };
    let made = KernelMap::create(name, &def, None)?;
    made.update(&0u32.to_ne_bytes(), map.data(), 0)?;
    made.freeze()?;
    Ok(made)
}

fn verify(function: &Function, request: &Request, btf: Option<&KernelBtf>) -> Result<OwnedFd, Reply> {
    let insns: Vec<Insn> = function.instructions.iter().copied().map(insn).collect();
    let license = CString::new(&*request.license).map_err(failed("the license"))?;
    let (functions, lines) = (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
    let size =
        |records: &[u8], size: usize| if records.is_empty() { 0 } else { u32::try_from(size).unwrap_or(0) };
    let program = XdpLoad {
        name: &request.function,
        insns: &insns,
        license: &license,
        frags: request.frags,
        attach_type: request.attach_type,
        debug: btf.map(|btf| DebugInfo {
            btf,
            function_size: size(&functions, function.func_info_rec_size),
            functions: &functions,
            line_size: size(&lines, function.line_info_rec_size),
            lines: &lines,
        }),
    };
    program
        .load_or_explain()
        .map(Program::into)
        .map_err(|refusal| Reply::Rejected { errno: refusal.error.reason(), log: refusal.log })
}

fn insn(raw: bpf_insn) -> Insn {
    Insn::new(raw.code, raw.dst_reg(), raw.src_reg(), raw.off, raw.imm)
}
