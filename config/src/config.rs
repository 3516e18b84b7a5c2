//! What a valid file says, as plain types.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::diagnostic::{Source, quoted};
use crate::{
    BUILTIN_FUNCTIONS, Diagnostic, Diagnostics, Entries, Glob, Label, LabelError, Located, Merge, Mode,
    Reuse, Span, Value,
};

/// A valid file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the file is: absolute, symbolic links not resolved (see [`find`](crate::find)). This is the name
    /// under which the file owns interfaces.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The directory of all pins: absolute, without `.`, `..`, doubled or trailing slashes.
    pub pin_root: PathBuf,
    /// The policy where neither map nor interface has one.
    pub reuse: Reuse,
    /// `[programs.NAME]`, by name.
    pub programs: BTreeMap<String, Program>,
    /// `[interfaces.KEY]`, in the order of the file.
    pub interfaces: Vec<Interface>,
    /// `[stats]`.
    pub stats: Stats,
    pub(crate) source: Arc<Source>,
}

/// A program that interfaces may run: a function of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name in the file; `builtin` for the one that runs when an interface names none.
    pub name: String,
    /// What holds it.
    pub object: Located<ObjectRef>,
    /// The function's name in the object. `None`: the object's only XDP program, or
    /// [`BUILTIN_FUNCTIONS`]`[0]`.
    pub function: Option<Located<String>>,
    /// `globals`: values for the object's global variables, in the order of the file.
    pub globals: Vec<Global>,
    /// `[programs.NAME.maps.MAP]`, by the map's name. Maps that are not mentioned have no settings.
    pub maps: BTreeMap<String, MapSettings>,
    /// The key that names the program.
    pub span: Span,
}

/// Where a program's code comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObjectRef {
    /// The object embedded in `xdpd`.
    Builtin,
    /// An ELF file, by its absolute path: a relative one is joined to the directory of the file that names
    /// it.
    File(PathBuf),
}

/// A value for a global variable of an object. Whether the variable is there, and whether it takes the value, is known
/// from the object only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The variable's name.
    pub name: Located<String>,
    /// Its value.
    pub value: Located<Value>,
}

/// What the file says of one map of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSettings {
    /// The policy of this map, before that of the interface and of the file.
    pub reuse: Option<Located<Reuse>>,
    /// What becomes of fields that change on both sides while entries are carried over, by the field's path.
    pub merge: BTreeMap<String, Located<Merge>>,
    /// Entries are carried over even where some, or a part of each, have no room in the new map.
    pub lossy: bool,
    /// What the map holds; `None`: that is not the file's business.
    pub entries: Option<Entries>,
    /// The key that names the map.
    pub span: Span,
}

/// An entry of `[interfaces]`: one device, or every device that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Which device or devices.
    pub selector: Selector,
    /// The network namespace as it is written, a name below `/run/netns` or an absolute path; `None`: the
    /// caller's own.
    pub netns: Option<String>,
    /// The program's name in [`Config::programs`]; `None`: the builtin counting program.
    pub program: Option<Located<String>>,
    /// The modes to try, in this order; never empty, each at most once.
    pub modes: Vec<Mode>,
    /// The policy of this interface, before that of the file.
    pub reuse: Option<Reuse>,
    /// That the device is absent is no error. Always so of a pattern, whatever this says.
    pub optional: bool,
    /// The key of the entry.
    pub span: Span,
}

/// Which device or devices an entry of `[interfaces]` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// One device.
    Device {
        /// The entry's key.
        label: Label,
        /// The device's name in its network namespace, or one of its alternative names there.
        device: String,
    },
    /// Every matching device that no entry of its own names.
    Glob {
        /// The entry's key, for the names of devices.
        glob: Glob,
        /// `except`: patterns for the names and alternative names of devices that are left out.
        except: Vec<Glob>,
    },
}

impl Selector {
    /// Whether it is a pattern that stands for the device with this name and these alternative names, as far as no entry
    /// of its own names that device.
    pub fn is_pattern_for(&self, name: &str, alt_names: &[impl AsRef<str>]) -> bool {
        let Self::Glob { glob, except } = self else { return false };
        let is_left_out = |name: &str| except.iter().any(|except| except.matches(name));
        glob.matches(name) && !is_left_out(name) && !alt_names.iter().any(|name| is_left_out(name.as_ref()))
    }
}

/// `[stats]`: what `xdp-stats` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The name of the map to read in every pin directory.
    pub map: String,
    /// The time from one reading to the next.
    pub interval: Duration,
    /// Who may read besides root.
    pub group: Option<Located<Group>>,
}

/// A group of users, as the file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// By its name; whether there is such a group is known on the machine only.
    Name(String),
    /// By its number.
    Id(u32),
}

impl Default for Stats {
    fn default() -> Self {
        Self { map: crate::DEFAULT_STATS_MAP.to_owned(), interval: Duration::from_secs(1), group: None }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl ObjectRef {
    /// The file, unless it is the one that `xdpd` brings along.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Builtin => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Program {
    /// The function to load, as far as the file alone decides it: `None` is the only XDP program of a file's
    /// object.
    pub fn function(&self) -> Option<&str> {
        match (&self.function, &self.object.value) {
            (Some(function), _) => Some(&function.value),
            (None, ObjectRef::Builtin) => Some(BUILTIN_FUNCTIONS[0]),
            (None, ObjectRef::File(_)) => None,
        }
    }
}

impl Interface {
    /// The entry's key in the file: its label or its pattern.
    pub fn key(&self) -> &str {
        match &self.selector {
            Selector::Device { label, .. } => label.as_str(),
            Selector::Glob { glob, .. } => glob.as_str(),
        }
    }

    /// The label of `device` under this entry: its key, or for a pattern the device's name, after `<netns>:`
    /// where the entry has one. Only a pattern's can fail: by what the device is called, or where `netns` is a long path.
    pub fn label_of(&self, device: &str) -> Result<Label, LabelError> {
        match (&self.selector, &self.netns) {
            (Selector::Device { label, .. }, _) => Ok(label.clone()),
            // Others may have become the same text.
            (Selector::Glob { .. }, _) if device.contains(char::REPLACEMENT_CHARACTER) => {
                Err(LabelError::NotUtf8)
            }
            (Selector::Glob { .. }, None) => Label::try_new(device),
            (Selector::Glob { .. }, Some(netns)) => Label::try_new(&format!("{netns}:{device}")),
        }
    }
}

impl Config {
    /// The program of an interface that names none: the first of the builtin functions.
    pub fn default_program() -> Program {
        Program {
            name: "builtin".to_owned(),
            object: Located { value: ObjectRef::Builtin, span: 0..0 },
            function: Some(Located { value: BUILTIN_FUNCTIONS[0].to_owned(), span: 0..0 }),
            globals: Vec::new(),
            maps: BTreeMap::new(),
            span: 0..0,
        }
    }

    /// The program that `interface`, an entry of this file, runs.
    pub fn program_of(&self, interface: &Interface) -> &Program {
        static DEFAULT: LazyLock<Program> = LazyLock::new(Config::default_program);
        let named = interface.program.as_ref().and_then(|program| self.programs.get(&program.value));
        named.unwrap_or(&DEFAULT)
    }

    /// Every other file that this one names, objects and lists, some perhaps more than once.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.programs.values().flat_map(|program| {
            let lists = program.maps.values().filter_map(|settings| settings.entries.as_ref()?.list());
            lists.chain(program.object.value.path())
        })
    }

    /// The policy for the map called `map` of `program` on `interface`: the map's, else the interface's, else
    /// the file's.
    pub fn reuse_of(&self, interface: &Interface, program: &Program, map: &str) -> Reuse {
        let of_map = program.maps.get(map).and_then(|settings| settings.reuse.as_ref());
        of_map.map(|reuse| reuse.value).or(interface.reuse).unwrap_or(self.reuse)
    }

    /// An error that was found later, as one that points into this file.
    pub fn diagnostic(&self, diagnostic: Diagnostic) -> Diagnostics {
        self.diagnostics(vec![diagnostic])
    }

    /// Errors that were found later, at least one, as errors that point into this file.
    pub fn diagnostics(&self, diagnostics: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics::new(Arc::clone(&self.source), diagnostics)
    }

    /// The error that `a` and `b`, entries of this file, both claim `device`.
    ///
    /// Two entries that name it do so in any file; two patterns, two names of one device, or two namespaces that turn
    /// out to be one, only on a machine where they match.
    pub fn two_claims(&self, device: &str, a: &Interface, b: &Interface) -> Diagnostic {
        two_claims(device, a, b)
    }
}

pub(crate) fn two_claims(device: &str, a: &Interface, b: &Interface) -> Diagnostic {
    let (first, second) = if a.span.start <= b.span.start { (a, b) } else { (b, a) };
    let netns = first.netns.as_deref().or(second.netns.as_deref());
    let place = netns.map(|netns| format!(" in netns {}", quoted(netns))).unwrap_or_default();
    let help = match (&first.selector, &second.selector) {
        (Selector::Glob { .. }, Selector::Glob { .. }) => {
            "an entry that names the device wins over patterns, and `except` takes it out of one".to_owned()
        }
        (Selector::Device { device: a, .. }, Selector::Device { device: b, .. }) if a != b => {
            format!("{} and {} are names of this device: remove one of the two entries", quoted(a), quoted(b))
        }
        _ => "a device has one entry: remove one of the two".to_owned(),
    };
    let (by_first, by_second) = (quoted(first.key()), quoted(second.key()));
    Diagnostic::new(format!(
        "device {}{place} is claimed twice, by {by_first} and by {by_second}",
        quoted(device)
    ))
    .at(second.span.clone())
    .label("the second claim")
    .related(first.span.clone(), "the first claim")
    .help(help)
}
