//! What an ELF object holds, told without loading it: programs, maps, licence, dialect.
//!
//! Pure: bytes in, facts or an error out. It is also the gate in front of the engines, whose parsers trust what they
//! read: an object that passes [`Object::inspect`] has every offset, size and reference checked that they rely on.

mod btf;
mod data_references;
pub mod explain;
pub mod features;
mod helpers;
mod libbpf;
mod lines;
pub mod typed;
pub mod values;
mod variables;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use object::elf;
use object::read::elf::{FileHeader, Rel, SectionHeader, SectionTable, Sym, SymbolTable};
use object::{Endianness, SectionIndex, SymbolIndex};
use serde::{Deserialize, Serialize};
use xdpd_config::sha256;

pub use btf::{Btf, BtfError, Field, FieldKind, Layout, Shape};
pub use data_references::DataReference;
pub use lines::SourceLine;
pub use values::{Inner, Slots, Values};
pub use variables::{NoVariable, Store, Variable};
use xdpd_kernel::map::MapDef;
use xdpd_kernel::map_types::{
    BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PROG_ARRAY,
};
use xdpd_kernel::program::ATTACH_TYPE_XDP;

/// Objects above this size are refused: real ones are far below a megabyte.
pub const MAX_OBJECT_SIZE: u64 = 16 << 20;
/// The kernel refuses a program that uses more maps (`MAX_USED_MAPS`, `include/linux/bpf_verifier.h`).
const MAX_MAPS: usize = 64;
/// Sections of an object: real ones have some dozens. What is done per section then takes bounded time.
const MAX_SECTIONS: usize = 4096;
/// Bytes of a symbol's or section's name. Many symbols may share one name, so its length costs as often.
const MAX_NAME: usize = 4096;
/// Size of redbpf's `bpf_map_def`: type, key size, value size, max entries, flags.
const MAP_DEF_LEN: usize = 20;
const INSN_LEN: u64 = 8;
/// `BPF_LD | BPF_DW | BPF_IMM`, the 16-byte load of a 64-bit constant that map references use.
const LD_IMM64: u8 = 0x18;

type Header = elf::FileHeader64<Endianness>;

/// How an object was built, which decides what loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// redbpf-probes: programs in `xdp/NAME`, maps in `maps/NAME`.
    Redbpf,
    /// libbpf: programs in `xdp` and `xdp.frags`, maps in `.maps`.
    Libbpf,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redbpf => "redbpf",
            Self::Libbpf => "libbpf",
        })
    }
}

/// A parsed and checked object.
pub struct Object {
    bytes: Vec<u8>,
    digest: String,
    dialect: Dialect,
    license: String,
    programs: Vec<XdpProgram>,
    maps: BTreeMap<String, MapSpec>,
    btf: Option<ObjectBtf>,
    /// Initial content of data sections and sections of constants; none of those that are all zeros.
    data: BTreeMap<String, Vec<u8>>,
}

/// Bytes of an object that are replaced before an engine sees it.
struct Patch {
    at: usize,
    bytes: Vec<u8>,
}

/// One XDP program of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpProgram {
    /// The name a config gives as `function`.
    pub name: String,
    /// Its ELF section.
    pub section: String,
    /// It takes packets of several buffers, so it can run natively on devices with a large MTU.
    pub frags: bool,
    /// It, or a function that it may call, refers to types of the running kernel by name (CO-RE).
    pub needs_kernel_types: bool,
    /// Number of instructions, with those of the functions that it calls.
    pub instructions: u64,
    /// The maps that it refers to, itself or in functions that it calls.
    pub maps: BTreeSet<String>,
    /// Where its instructions are in the object, function by function, its own first.
    code: Vec<CodeRange>,
    /// It hands addresses of functions to helpers that call them.
    callbacks: bool,
    /// Why it cannot be loaded: it refers to something that nothing can resolve.
    pub defect: Option<String>,
}

/// One function of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CodeRange {
    /// The index of its section.
    section: usize,
    /// Where it starts in the section, in bytes.
    start: u64,
    /// Where it is in the object.
    bytes: Range<usize>,
}

/// A map as the object defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSpec {
    /// Type, sizes and flags.
    pub def: MapDef,
    /// BTF type ids of key and value in the object's BTF.
    pub btf: Option<(u32, u32)>,
    /// Layout of key and value, where BTF tells it.
    pub layout: Option<MapLayout>,
    /// Where its bytes come from.
    pub origin: MapOrigin,
    /// What its values are, where they are no bytes.
    pub values: Values,
    /// The memory node that it is made on, where its flags have `BPF_F_NUMA_NODE`. The kernel does not tell it.
    pub numa_node: u32,
}

/// Where a map of an object comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOrigin {
    /// A map that the program declares.
    Declared,
    /// Global variables: `.data*`, `.bss*`.
    Data,
    /// Constants: `.rodata*`. Neither pinned nor reused.
    ReadOnlyData,
}

/// Layout of the two sides of a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MapLayout {
    /// Of the key.
    pub key: Layout,
    /// Of the value.
    pub value: Layout,
}

struct ObjectBtf {
    /// The object's `.BTF`, completed so that the kernel takes it.
    raw: Vec<u8>,
    /// Where the section starts in the object.
    at: usize,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("digest", &self.digest)
            .field("dialect", &self.dialect)
            .field("programs", &self.programs)
            .field("maps", &self.maps)
            .finish_non_exhaustive()
    }
}

/// Why an object is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Not an ELF file at all.
    #[error("not an ELF object ({0})")]
    NotElf(String),
    /// An ELF file for another machine.
    #[error("an ELF file, but not a BPF object: {0}")]
    NotBpf(String),
    /// Offsets, sizes or references that make no sense.
    #[error("corrupt or truncated object: {0}")]
    Corrupt(String),
    /// A sound object that nothing here can load.
    #[error("{0}")]
    Unsupported(String),
    /// The function asked for is not there.
    #[error("no XDP program `{wanted}` in the object; it has {}", list(.have))]
    NoSuchFunction {
        /// What was asked for.
        wanted: String,
        /// What there is.
        have: Vec<String>,
    },
    /// Several programs, and none was chosen.
    #[error("the object holds {} XDP programs ({}): choose one with `function`", .0.len(), list(.0))]
    Ambiguous(Vec<String>),
}

fn list(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn corrupt(what: impl fmt::Display) -> ObjectError {
    ObjectError::Corrupt(what.to_string())
}

impl Object {
    /// Parses and checks an object.
    pub fn inspect(bytes: Vec<u8>) -> Result<Self, ObjectError> {
        let parsed = Elf::parse(&bytes)?.inspect()?;
        let digest = sha256(&bytes);
        let Parsed { dialect, license, programs, maps, btf, data } = parsed;
        Ok(Self { bytes, digest, dialect, license, programs, maps, btf, data })
    }

    /// SHA-256 of the file, lowercase hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What loads it.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The licence it declares to the kernel; empty where it declares none.
    pub fn license(&self) -> &str {
        &self.license
    }

    /// Its XDP programs, in file order.
    pub fn programs(&self) -> &[XdpProgram] {
        &self.programs
    }

    /// All its maps, by name.
    pub fn maps(&self) -> &BTreeMap<String, MapSpec> {
        &self.maps
    }

    /// Its BTF in the form that the kernel accepts.
    pub fn btf(&self) -> Option<&[u8]> {
        self.btf.as_ref().map(|b| &*b.raw)
    }

    /// What the program declares to the kernel to be for (`expected_attach_type`).
    ///
    /// redbpf declares nothing (0), and a link takes only programs that declare what the running one does. So others
    /// declare nothing either, and any program replaces any in place. The exception are programs with tail calls: a
    /// program array takes only programs that declare the same (Linux 6.18, `__bpf_prog_map_compatible`), and those
    /// that other tools put there declare it.
    pub fn attach_type(&self, program: &XdpProgram) -> u32 {
        let tail_calls = |map: &String| {
            self.maps.get(map).is_some_and(|spec| spec.def.map_type == BPF_MAP_TYPE_PROG_ARRAY)
        };
        let declares = self.dialect == Dialect::Libbpf && program.maps.iter().any(tail_calls);
        if declares { ATTACH_TYPE_XDP } else { 0 }
    }

    /// The initial content of a section of global variables or constants; `None` where that is all zeros.
    pub fn data(&self, map: &str) -> Option<&[u8]> {
        self.data.get(map).map(|d| &**d)
    }

    /// The program called `function`, or the only one.
    pub fn program(&self, function: Option<&str>) -> Result<&XdpProgram, ObjectError> {
        let names = || self.programs.iter().map(|p| p.name.clone()).collect();
        let program = match (function, &*self.programs) {
            (Some(wanted), programs) => programs
                .iter()
                .find(|p| p.name == wanted)
                .ok_or_else(|| ObjectError::NoSuchFunction { wanted: wanted.to_owned(), have: names() }),
            (None, [only]) => Ok(only),
            (None, _) => Err(ObjectError::Ambiguous(names())),
        }?;
        match &program.defect {
            Some(why) => Err(ObjectError::Unsupported(why.clone())),
            None => Ok(program),
        }
    }

    /// The functions that `program` consists of: the index of the section, and the address in it.
    pub fn functions<'a>(&self, program: &'a XdpProgram) -> impl Iterator<Item = (usize, u64)> + use<'a> {
        program.code.iter().map(|range| (range.section, range.start))
    }

    /// The bytes to hand to the engine that loads `program`.
    ///
    /// `constants` take the place of what the object says they are.
    ///
    /// redbpf gets no BTF: newer kinds make it panic, and it would load it into the kernel a second time, while the maps
    /// are made by us and carry it already. Nor does it get global variables, see [`data_references`](Self::data_references).
    /// aya gets BTF that is completed. Neither gets the other programs' sections.
    pub fn engine_bytes<'a>(
        &self,
        program: &XdpProgram,
        constants: impl IntoIterator<Item = &'a Store>,
    ) -> Result<Vec<u8>, ObjectError> {
        let mut bytes = self.bytes.clone();
        let mut put = |at: usize, new: &[u8]| {
            if let Some(old) = at.checked_add(new.len()).and_then(|end| bytes.get_mut(at..end)) {
                old.copy_from_slice(new);
            }
        };
        match (&self.btf, self.dialect) {
            (Some(btf), Dialect::Redbpf) => put(btf.at, &vec![0; btf.raw.len()]),
            (Some(btf), Dialect::Libbpf) => put(btf.at, &btf.raw),
            (None, _) => {}
        }
        let elf = Elf::parse(&self.bytes)?;
        for constant in constants {
            put(elf.section_at(&constant.section)? + constant.offset, &constant.bytes);
        }
        let patches = match self.dialect {
            Dialect::Redbpf => {
                let mut patches = elf.hide_other_programs(program)?;
                patches.extend(elf.resolve_data_references(program)?);
                patches
            }
            Dialect::Libbpf => libbpf::patches(&elf, self.btf.as_ref(), &program.section)?,
        };
        for patch in patches {
            put(patch.at, &patch.bytes);
        }
        Ok(bytes)
    }
}

impl Patch {
    /// Of some bytes of a section's header.
    fn of_header(elf: &Elf<'_>, index: SectionIndex, field: u64, bytes: Vec<u8>) -> Self {
        let headers = elf.header.e_shoff(LE) + index.0 as u64 * u64::from(elf.header.e_shentsize(LE));
        Self { at: usize::try_from(headers + field).unwrap_or(usize::MAX), bytes }
    }
}

struct Parsed {
    dialect: Dialect,
    license: String,
    programs: Vec<XdpProgram>,
    maps: BTreeMap<String, MapSpec>,
    btf: Option<ObjectBtf>,
    data: BTreeMap<String, Vec<u8>>,
}

struct Elf<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    sections: SectionTable<'a, Header>,
    symbols: SymbolTable<'a, Header>,
}

const LE: Endianness = Endianness::Little;

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        if !bytes.starts_with(b"\x7fELF") {
            let what = match bytes {
                [] => "the file is empty".to_owned(),
                _ if bytes.len() < 4 => format!("{} bytes", bytes.len()),
                _ => "its first bytes are not \\x7fELF".to_owned(),
            };
            return Err(ObjectError::NotElf(what));
        }
        if bytes.get(4) != Some(&2) || bytes.get(5) != Some(&1) {
            return Err(ObjectError::NotBpf("a BPF object for this host is 64-bit little-endian".into()));
        }
        let header = Header::parse(bytes).map_err(corrupt)?;
        if header.e_machine(LE) != elf::EM_BPF {
            return Err(ObjectError::NotBpf(format!("its machine is {}, BPF is 247", header.e_machine(LE))));
        }
        if header.e_type(LE) != elf::ET_REL {
            return Err(ObjectError::NotBpf("it is not relocatable".into()));
        }
        let sections = header.sections(LE, bytes).map_err(corrupt)?;
        if sections.len() > MAX_SECTIONS {
            return Err(corrupt(format!("{} sections, at most {MAX_SECTIONS} are read", sections.len())));
        }
        let symbols = sections.symbols(LE, bytes, elf::SHT_SYMTAB).map_err(corrupt)?;
        let elf = Self { bytes, header, sections, symbols };
        elf.check_names()?;
        let mut total = 0;
        for (index, section) in elf.sections.iter().enumerate() {
            elf.check_section(SectionIndex(index), section)?;
            total += elf.data(section)?.len();
        }
        // Sections that share their bytes would make a small file as large as somebody likes.
        if total > bytes.len() {
            return Err(corrupt("its sections overlap"));
        }
        Ok(elf)
    }

    /// The two tables of names hold none that is too long.
    fn check_names(&self) -> Result<(), ObjectError> {
        let of_sections = self.header.shstrndx(LE, self.bytes).map_err(corrupt)?;
        for index in [SectionIndex(of_sections as usize), self.symbols.string_section()] {
            if index.0 == 0 {
                continue;
            }
            let names = self.data(self.sections.section(index).map_err(corrupt)?)?;
            if names.split(|byte| *byte == 0).any(|name| name.len() > MAX_NAME) {
                return Err(corrupt(format!("a name of more than {MAX_NAME} bytes")));
            }
        }
        Ok(())
    }

    /// Every section lies within the file and has a readable name: the engines' parsers index without asking.
    fn check_section(
        &self,
        index: SectionIndex,
        section: &'a elf::SectionHeader64<Endianness>,
    ) -> Result<(), ObjectError> {
        let name = self.name(section)?;
        section.data(LE, self.bytes).map_err(|e| corrupt(format!("section {} `{name}`: {e}", index.0)))?;
        Ok(())
    }

    fn name(&self, section: &'a elf::SectionHeader64<Endianness>) -> Result<&'a str, ObjectError> {
        let raw = self.sections.section_name(LE, section).map_err(corrupt)?;
        std::str::from_utf8(raw).map_err(|_| corrupt("a section's name is not UTF-8"))
    }

    /// Where the only section of this name starts in the file.
    fn section_at(&self, name: &str) -> Result<usize, ObjectError> {
        let mut found = Vec::new();
        for section in self.sections.iter() {
            if self.name(section)? == name {
                found.push(section.sh_offset(LE));
            }
        }
        match &*found {
            [only] => usize::try_from(*only).map_err(corrupt),
            _ => Err(corrupt(format!("{} sections are called `{}`", found.len(), name.escape_debug()))),
        }
    }

    fn data(&self, section: &'a elf::SectionHeader64<Endianness>) -> Result<&'a [u8], ObjectError> {
        section.data(LE, self.bytes).map_err(corrupt)
    }

    fn symbol_name(&self, symbol: &'a elf::Sym64<Endianness>) -> Result<&'a str, ObjectError> {
        let raw = self.symbols.symbol_name(LE, symbol).map_err(corrupt)?;
        std::str::from_utf8(raw).map_err(|_| corrupt("a symbol's name is not UTF-8"))
    }

    fn inspect(&self) -> Result<Parsed, ObjectError> {
        match self.dialect()? {
            Dialect::Redbpf => self.inspect_redbpf(),
            Dialect::Libbpf => libbpf::inspect(self),
        }
    }

    /// The dialect, by the names of the sections. Programs in `xdp/NAME` alone may be of either; then it is redbpf's.
    fn dialect(&self) -> Result<Dialect, ObjectError> {
        let (mut redbpf, mut libbpf, mut either) = (None, None, None);
        for section in self.sections.iter().filter(|s| s.sh_type(LE) == elf::SHT_PROGBITS) {
            let name = self.name(section)?;
            let code = is_code(section);
            if name == "maps" {
                return Err(ObjectError::Unsupported(
                    "section `maps`: maps must be in `.maps` (libbpf), or each in a section `maps/NAME` \
                     (redbpf-probes)"
                        .into(),
                ));
            } else if name.starts_with("maps/") {
                redbpf = Some(name);
            } else if name == ".maps" || (code && (name == "xdp" || name.starts_with("xdp.frags"))) {
                libbpf = Some(name);
            } else if name.starts_with("xdp/") && name != "xdp/devmap" && name != "xdp/cpumap" {
                either = Some(name);
            }
        }
        match (redbpf, libbpf, either) {
            (Some(one), Some(other), _) => Err(ObjectError::Unsupported(format!(
                "the object mixes two conventions: section `{}` is redbpf-probes', `{}` is libbpf's",
                one.escape_debug(),
                other.escape_debug()
            ))),
            (Some(_), None, _) | (None, None, Some(_)) => Ok(Dialect::Redbpf),
            (None, _, _) => Ok(Dialect::Libbpf),
        }
    }

    fn inspect_redbpf(&self) -> Result<Parsed, ObjectError> {
        let mut license = None;
        let mut programs = BTreeMap::new();
        let mut maps_by_section = BTreeMap::new();
        let mut maps = BTreeMap::new();
        let mut symbols = BTreeMap::new();
        let mut contents = BTreeMap::new();
        for (index, section) in self.sections.enumerate() {
            let name = self.name(section)?;
            if section.sh_type(LE) != elf::SHT_PROGBITS {
                continue;
            }
            let data = self.data(section)?;
            if name == "license" {
                license = Some(license_text(data)?);
            } else if name == "version" {
                if data.len() < 4 {
                    return Err(corrupt("section `version` is shorter than 4 bytes"));
                }
            } else if let Some(program) = name.strip_prefix("xdp/") {
                programs.insert(index.0, self.xdp_program(index, program, name, section)?);
            } else if let Some(map) = name.strip_prefix("maps/") {
                too_many_maps(maps.len() + 1)?;
                let (spec, symbol) = self.declared_map(index, map, data)?;
                symbols.insert(map.to_owned(), symbol);
                maps_by_section.insert(index.0, map.to_owned());
                if maps.insert(map.to_owned(), spec).is_some() {
                    return Err(corrupt(format!("two maps are called `{map}`")));
                }
            } else if (name == ".data" || name.starts_with(".data.") || name.starts_with(".rodata"))
                && let Some(spec) = data_map(name, data.len() as u64)
            {
                contents.insert(name.to_owned(), data.to_vec());
                maps_by_section.insert(index.0, name.to_owned());
                maps.insert(name.to_owned(), spec);
            }
        }
        if programs.is_empty() {
            return Err(ObjectError::Unsupported(
                "the object holds no XDP program: no section is called `xdp/NAME`".into(),
            ));
        }
        too_many_maps(maps.len())?;
        self.relocations(&mut programs, &maps_by_section)?;
        let license =
            license.ok_or_else(|| ObjectError::Unsupported("the object has no `license` section".into()))?;
        let btf = self.btf(&mut maps, &symbols)?;
        Ok(Parsed {
            dialect: Dialect::Redbpf,
            license,
            programs: programs.into_values().collect(),
            maps,
            btf,
            data: contents,
        })
    }

    /// The program of a section `xdp/NAME`, which it fills.
    fn xdp_program(
        &self,
        index: SectionIndex,
        name: &str,
        section: &str,
        header: &'a elf::SectionHeader64<Endianness>,
    ) -> Result<XdpProgram, ObjectError> {
        let len = self.data(header)?.len() as u64;
        if name.is_empty() || len == 0 || !len.is_multiple_of(INSN_LEN) {
            return Err(corrupt(format!("program section `{}` of {len} bytes", section.escape_debug())));
        }
        check_name("program", name)?;
        Ok(XdpProgram {
            name: name.to_owned(),
            section: section.to_owned(),
            frags: false,
            needs_kernel_types: false,
            instructions: len / INSN_LEN,
            maps: BTreeSet::new(),
            code: vec![self.code_range(index.0, 0, len)?],
            callbacks: false,
            defect: None,
        })
    }

    /// Where the instructions of a function are, which lie within its section.
    fn code_range(&self, section: usize, start: u64, len: u64) -> Result<CodeRange, ObjectError> {
        let header = self.sections.section(SectionIndex(section)).map_err(corrupt)?;
        let at = header.sh_offset(LE).checked_add(start).and_then(|at| usize::try_from(at).ok());
        let end = at.and_then(|at| at.checked_add(usize::try_from(len).ok()?));
        let (at, end) = at.zip(end).ok_or_else(|| corrupt("code outside of the file"))?;
        Ok(CodeRange { section, start, bytes: at..end })
    }

    /// The map of a `maps/NAME` section, and the name of its symbol, which its BTF goes by.
    fn declared_map(
        &self,
        section: SectionIndex,
        name: &str,
        data: &[u8],
    ) -> Result<(MapSpec, String), ObjectError> {
        check_name("map", name)?;
        if data.len() < MAP_DEF_LEN {
            return Err(corrupt(format!(
                "map `{name}`: its definition has {} bytes, redbpf's has {MAP_DEF_LEN}",
                data.len()
            )));
        }
        let symbols: Vec<_> = self
            .symbols
            .iter()
            .filter(|s| section_of(s) == section.0 && s.st_type() != elf::STT_SECTION)
            .collect();
        let symbol = match &*symbols {
            [only] => self.symbol_name(only)?.to_owned(),
            _ => {
                return Err(corrupt(format!(
                    "section `maps/{name}` holds {} symbols, one map is expected",
                    symbols.len()
                )));
            }
        };
        let word = |n: usize| {
            data.get(n * 4..n * 4 + 4)
                .and_then(|w| w.try_into().ok())
                .map(u32::from_le_bytes)
                .unwrap_or_default()
        };
        let def = MapDef {
            map_type: word(0),
            key_size: word(1),
            value_size: word(2),
            max_entries: word(3),
            flags: word(4),
            map_extra: 0,
        };
        Ok((MapSpec::plain(def, MapOrigin::Declared), symbol))
    }

    /// Every relocation of a program names an instruction of it that loads the address of a map.
    fn relocations(
        &self,
        programs: &mut BTreeMap<usize, XdpProgram>,
        maps: &BTreeMap<usize, String>,
    ) -> Result<(), ObjectError> {
        for (_, section) in self.sections.enumerate() {
            if section.sh_type(LE) != elf::SHT_REL && section.sh_type(LE) != elf::SHT_RELA {
                continue;
            }
            let target = SectionIndex(section.sh_info(LE) as usize);
            let Some((rels, _)) = section.rel(LE, self.bytes).map_err(corrupt)? else {
                if programs.contains_key(&target.0) {
                    return Err(ObjectError::Unsupported(
                        "relocations with addends (RELA) are none of BPF's".into(),
                    ));
                }
                continue;
            };
            let code = self.data(self.sections.section(target).map_err(corrupt)?)?;
            for rel in rels {
                let symbol = self.symbols.symbol(SymbolIndex(rel.r_sym(LE) as usize)).map_err(corrupt)?;
                let Some(program) = programs.get_mut(&target.0) else { continue };
                let at = rel.r_offset(LE);
                let Some(map) = maps.get(&section_of(symbol)) else {
                    if program.defect.is_none() {
                        program.defect = Some(self.unresolved(&program.name, symbol)?);
                    }
                    continue;
                };
                let is_load = at.is_multiple_of(INSN_LEN)
                    && at.checked_add(2 * INSN_LEN).is_some_and(|end| end <= code.len() as u64)
                    && usize::try_from(at).ok().and_then(|at| code.get(at)) == Some(&LD_IMM64);
                if !is_load {
                    return Err(corrupt(format!(
                        "program `{}`: the reference to `{map}` at byte {at} is not in a 64-bit load",
                        program.name
                    )));
                }
                program.maps.insert(map.clone());
            }
        }
        Ok(())
    }

    fn unresolved(&self, program: &str, symbol: &'a elf::Sym64<Endianness>) -> Result<String, ObjectError> {
        let name = self.symbol_name(symbol)?.escape_debug();
        let section = self
            .sections
            .section(SectionIndex(section_of(symbol)))
            .ok()
            .map(|s| self.name(s))
            .transpose()?
            .unwrap_or("");
        let why = match section {
            ".text" => {
                "redbpf cannot call functions that are not inlined; mark it #[inline(always)]".to_owned()
            }
            s if s.starts_with(".bss") => {
                "redbpf has no zero-initialised global variables; give it a value, or use a map".to_owned()
            }
            "" => "it is not defined in the object".to_owned(),
            other => format!("section `{}` is neither a map nor data", other.escape_debug()),
        };
        Ok(format!("program `{program}` refers to `{name}`: {why}"))
    }

    /// What redbpf gets to see differently when it loads one program: it would fail over references of the others.
    fn hide_other_programs(&self, program: &XdpProgram) -> Result<Vec<Patch>, ObjectError> {
        /// Where `sh_type` is in a section header.
        const SH_TYPE: u64 = 4;
        let mut patches = Vec::new();
        for (index, section) in self.sections.enumerate() {
            let name = self.name(section)?;
            if name.starts_with("xdp/") && name != program.section {
                patches.push(Patch::of_header(self, index, SH_TYPE, vec![0; 4]));
            }
        }
        Ok(patches)
    }

    /// The object's BTF, completed for the kernel.
    fn raw_btf(&self) -> Result<Option<ObjectBtf>, ObjectError> {
        let Some((_, section)) = self.sections.section_by_name(LE, b".BTF") else { return Ok(None) };
        if section.sh_type(LE) != elf::SHT_PROGBITS {
            return Ok(None);
        }
        let at = usize::try_from(section.sh_offset(LE)).map_err(corrupt)?;
        let mut raw = self.data(section)?.to_vec();
        let sizes = self
            .sections
            .iter()
            .filter_map(|s| Some((self.name(s).ok()?, u32::try_from(s.sh_size(LE)).ok()?)));
        let offsets = self
            .symbols
            .iter()
            .filter(|s| s.st_type() == elf::STT_OBJECT)
            .filter_map(|s| Some((self.symbol_name(s).ok()?, u32::try_from(s.st_value(LE)).ok()?)));
        let (sizes, offsets): (HashMap<_, _>, HashMap<_, _>) = (sizes.collect(), offsets.collect());
        btf::make_loadable(&mut raw, |name| sizes.get(name).copied(), |name| offsets.get(name).copied())
            .map_err(corrupt)?;
        Ok(Some(ObjectBtf { raw, at }))
    }

    /// The object's BTF, and the types of the maps noted. Malformed BTF is no reason to refuse: programs of redbpf run
    /// without it.
    fn btf(
        &self,
        maps: &mut BTreeMap<String, MapSpec>,
        symbols: &BTreeMap<String, String>,
    ) -> Result<Option<ObjectBtf>, ObjectError> {
        let btf = match self.raw_btf() {
            Ok(Some(btf)) => btf,
            Ok(None) | Err(ObjectError::Corrupt(_)) => return Ok(None),
            Err(other) => return Err(other),
        };
        let Ok(parsed) = Btf::parse(&btf.raw) else { return Ok(None) };
        data_types(&parsed, maps);
        for (name, spec) in maps.iter_mut() {
            // redbpf's #[map] leaves a variable whose struct has the key and the value as members.
            let Some(symbol) = symbols.get(name) else { continue };
            let types = parsed
                .variable(&format!("MAP_BTF_{symbol}"))
                .and_then(|map| Some((parsed.member(map, "key_type")?, parsed.member(map, "value_type")?)));
            spec.btf = types;
            spec.layout = types.and_then(|(key, value)| map_layout(&parsed, key, value));
        }
        Ok(Some(btf))
    }
}

fn license_text(data: &[u8]) -> Result<String, ObjectError> {
    let text = data.strip_suffix(b"\0").unwrap_or(&[]);
    if text.is_empty() || text.len() >= 128 || !text.iter().all(|b| (b' '..=b'~').contains(b)) {
        return Err(corrupt("section `license` is not a short text that ends with NUL"));
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The kernel's limit is per program; objects come near it neither.
fn too_many_maps(count: usize) -> Result<(), ObjectError> {
    if count <= MAX_MAPS {
        return Ok(());
    }
    Err(ObjectError::Unsupported(format!(
        "more than {MAX_MAPS} maps, which is what the kernel takes per program"
    )))
}

/// The kernel takes few characters in the names of maps and programs.
fn check_name(kind: &str, name: &str) -> Result<(), ObjectError> {
    // As long as the name of a pin may be.
    if name.len() > 255 {
        return Err(ObjectError::Unsupported(format!("a {kind}'s name has more than 255 bytes")));
    }
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
        return Ok(());
    }
    Err(ObjectError::Unsupported(format!(
        "{kind} `{}`: the kernel takes letters, digits, `_` and `.` in a {kind}'s name",
        name.escape_debug()
    )))
}

/// The section holds instructions.
fn is_code(section: &elf::SectionHeader64<Endianness>) -> bool {
    section.sh_flags(LE) & u64::from(elf::SHF_EXECINSTR) != 0
}

/// The index of the section that a symbol is defined in.
fn section_of(symbol: &elf::Sym64<Endianness>) -> usize {
    usize::from(symbol.st_shndx(LE))
}

/// The layouts of a map's key and value. Maps of data sections have no type for their key (`void`, 0).
pub fn map_layout(btf: &Btf, key: u32, value: u32) -> Option<MapLayout> {
    let key = if key == 0 { Layout::default() } else { btf.layout(key)? };
    Some(MapLayout { key, value: btf.layout(value)? })
}

/// The types of the maps that hold global variables: BTF has a struct-like type for each section.
fn data_types(btf: &Btf, maps: &mut BTreeMap<String, MapSpec>) {
    for (name, spec) in maps.iter_mut().filter(|(_, spec)| spec.origin == MapOrigin::Data) {
        let Some(id) = btf.data_section(name) else { continue };
        if btf.size(id) == Some(spec.def.value_size) {
            spec.btf = Some((0, id));
            spec.layout = map_layout(btf, 0, id);
        }
    }
}

/// The map of a data section; none for an empty one.
fn data_map(name: &str, size: u64) -> Option<MapSpec> {
    let value_size = u32::try_from(size).ok().filter(|len| *len > 0)?;
    let read_only = name.starts_with(".rodata");
    let def = MapDef {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags: if read_only { BPF_F_RDONLY_PROG } else { BPF_F_MMAPABLE },
        map_extra: 0,
    };
    Some(MapSpec::plain(def, if read_only { MapOrigin::ReadOnlyData } else { MapOrigin::Data }))
}
