//! From the text of a file to a [`Config`]: every key, what it may say, and every error at once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use toml::de::{DeTable, DeValue};

use crate::config::two_claims;
use crate::diagnostic::{Source, quoted};
use crate::reader::{Errors, Key, Shape, Value, did_you_mean, found, one_of};
use crate::syntax::Document;
use crate::{
    BUILTIN_FUNCTIONS, Config, DEFAULT_PIN_ROOT, Diagnostic, Diagnostics, Entries, EntriesSource, Glob,
    Global, Group, Interface, Label, Located, MapSettings, Merge, Mode, ObjectRef, Program, Reuse, Selector,
    Stats, suggest,
};
use crate::{entries, names, value};

/// The shortest time from one reading to the next that can be asked for.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// The longest.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

const FILE: Shape = Shape {
    place: "at the top level",
    keys: &["version", "pin_root", "reuse", "programs", "interfaces", "stats"],
};
const PROGRAM: Shape =
    Shape { place: "in [programs.NAME]", keys: &["object", "function", "globals", "maps"] };
const MAP: Shape =
    Shape { place: "in [programs.NAME.maps.MAP]", keys: &["reuse", "entries", "value", "merge", "lossy"] };
const INTERFACE: Shape =
    Shape { place: "in [interfaces.NAME]", keys: &["program", "mode", "reuse", "name", "netns", "optional"] };
const STATS: Shape = Shape { place: "in [stats]", keys: &["map", "interval", "group"] };
const SHAPES: [&Shape; 5] = [&FILE, &PROGRAM, &MAP, &INTERFACE, &STATS];

pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, Diagnostics> {
    let source = Arc::new(Source::new(path, text.to_owned()));
    let whole = |error| Diagnostics::new(Arc::clone(&source), vec![error]);
    let path = crate::load::absolute_path(path)
        .map_err(|e| whole(Diagnostic::new(format!("the path of the file cannot be made absolute: {e}"))))?;

    let document = Document::parse(&source);
    if document.root.is_empty() && document.errors.is_empty() {
        return Err(whole(Diagnostic::new("the file holds no key").help(
            "[interfaces.eth0] alone is a complete file; to remove everything there is `xdpd detach`",
        )));
    }
    let mut reader = Reader::new(path.parent().unwrap_or(Path::new("/")));
    let File { pin_root, reuse, programs, interfaces, stats } = reader.file(&document.root);
    let is_toml = document.errors.is_empty();
    let unsound = std::mem::take(&mut reader.unsound);
    let errors = document.all_errors(reader.errors);
    let sha256 = Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}"); // a String takes everything
        digits
    });
    let mut config =
        Config { path, sha256, pin_root, reuse, programs, interfaces, stats, source: Arc::clone(&source) };
    if errors.is_empty() {
        return Ok(config);
    }
    config.programs.retain(|name, _| !unsound.contains(name));
    let diagnostics = Diagnostics::new(source, errors);
    Err(if is_toml { diagnostics.with_rest(config) } else { diagnostics })
}

/// What a file says of `pin_root`, whatever else is wrong with what it says.
pub(crate) fn parse_pin_root(path: &Path, text: &str) -> Result<PathBuf, Diagnostics> {
    let source = Arc::new(Source::new(path, text.to_owned()));
    let document = Document::parse(&source);
    let mut reader = Reader::new(Path::new("/"));
    let pin_root = document.root.get("pin_root").and_then(|value| reader.pin_root(value));
    let errors = document.all_errors(reader.errors);
    if errors.is_empty() {
        Ok(pin_root.unwrap_or_else(|| DEFAULT_PIN_ROOT.into()))
    } else {
        Err(Diagnostics::new(Arc::clone(&source), errors))
    }
}

/// Reads the time from one reading to the next, as the file and a command line spell it: `1s`, `500ms`,
/// `1m 30s`; from 1 ms to 24 h. The error is one line that quotes `text`.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let found = quoted(text);
    let interval = humantime::parse_duration(text).map_err(|e| format!("{found} is no duration: {e}"))?;
    if interval < SHORTEST_INTERVAL {
        return Err(format!("{found} is too short an interval, the shortest is 1ms"));
    }
    if interval > LONGEST_INTERVAL {
        return Err(format!("{found} is too long an interval, the longest is 24h"));
    }
    Ok(interval)
}

/// What the tables of a file say, with a default in the place of whatever is wrong.
struct File {
    pin_root: PathBuf,
    reuse: Reuse,
    programs: BTreeMap<String, Program>,
    interfaces: Vec<Interface>,
    stats: Stats,
}

/// Reads tables and collects what is wrong with them.
struct Reader<'a> {
    /// The directory that relative paths start from.
    directory: &'a Path,
    errors: Errors,
    /// The programs that have errors.
    unsound: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn new(directory: &'a Path) -> Self {
        Self { directory, errors: Errors::default(), unsound: BTreeSet::new() }
    }
}

impl Reader<'_> {
    fn file(&mut self, root: &DeTable<'_>) -> File {
        self.errors.keys(root, &FILE, &SHAPES);
        if let Some(version) = root.get("version") {
            self.version(version);
        }
        let pin_root = root.get("pin_root").and_then(|value| self.pin_root(value));
        let reuse = self.reuse(root);
        let programs = self.errors.tables(root, "programs");
        let programs: BTreeMap<_, _> = programs
            .into_iter()
            .map(|(key, table)| (key.get_ref().to_string(), self.program(key, table)))
            .collect();
        let interfaces = self.errors.tables(root, "interfaces");
        let mut interfaces: Vec<_> =
            interfaces.into_iter().filter_map(|(key, table)| self.interface(key, table, &programs)).collect();
        interfaces.sort_by_key(|interface| interface.span.start);
        self.claims(&interfaces);
        let stats = root.get("stats").and_then(|value| self.errors.table("stats", value));
        File {
            pin_root: pin_root.unwrap_or_else(|| DEFAULT_PIN_ROOT.into()),
            reuse: reuse.map(|reuse| reuse.value).unwrap_or_default(),
            programs,
            interfaces,
            stats: stats.map(|table| self.stats(table)).unwrap_or_default(),
        }
    }

    fn version(&mut self, value: &Value<'_>) {
        match value.get_ref() {
            DeValue::Integer(version) => {
                if i64::from_str_radix(version.as_str(), version.radix()) != Ok(1) {
                    let message =
                        format!("unknown version {} of the file's format", quoted(&version.to_string()));
                    self.errors.add(value.span(), message, "expected 1");
                }
            }
            _ => self.errors.wrong_type("version", value, "the integer 1"),
        }
    }

    fn pin_root(&mut self, value: &Value<'_>) -> Option<PathBuf> {
        let path = self.errors.name("pin_root", value, "an absolute path", |path| {
            names::word(path)?;
            let path = Path::new(path);
            if !path.is_absolute() {
                Err("it is a relative path")
            } else if path.components().any(|part| part == Component::ParentDir) {
                Err("it holds `..`")
            } else {
                Ok(())
            }
        });
        path.map(|path| Path::new(path).components().collect())
    }

    fn program(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> Program {
        let name: &str = key.get_ref();
        let errors = self.errors.count();
        self.errors.keys(table, &PROGRAM, &SHAPES);
        if let Err(reason) = names::word(name) {
            self.errors.add(key.span(), "the key must be the name of a program", found(name, reason));
        }
        let object = table.get("object").and_then(|value| self.object(value));
        if !table.contains_key("object") {
            let error = Diagnostic::new(format!("program {} has no `object`", quoted(name))).at(key.span());
            let help = "set `object` to \"builtin\" or to the path of an ELF file";
            self.errors.missing.push(error.label("expected the key `object` in this table").help(help));
        }
        let function = table.get("function").and_then(|value| self.function(value, object.as_ref()));
        let globals = table.get("globals").map(|value| self.globals(value)).unwrap_or_default();
        let mut maps = BTreeMap::new();
        for (key, table) in self.errors.tables(table, "maps") {
            let name: &str = key.get_ref();
            if let Err(reason) = names::map(name) {
                self.errors.add(key.span(), "the key must be the name of a map", found(name, reason));
            }
            maps.insert(name.to_owned(), self.map(key, table));
        }
        let object = object.unwrap_or(Located { value: ObjectRef::Builtin, span: key.span() });
        if self.errors.count() > errors {
            self.unsound.insert(name.to_owned());
        }
        Program { name: name.to_owned(), object, function, globals, maps, span: key.span() }
    }

    fn globals(&mut self, value: &Value<'_>) -> Vec<Global> {
        let mut globals = Vec::new();
        for (key, value) in self.errors.table("globals", value).into_iter().flatten() {
            let name: &str = key.get_ref();
            if let Err(reason) = names::word(name) {
                self.errors.add(
                    key.span(),
                    "the key must be the name of a global variable",
                    found(name, reason),
                );
            }
            let value = value::read(value, &mut self.errors);
            let name = Located { value: name.to_owned(), span: key.span() };
            globals.extend(value.map(|value| Global { name, value }));
        }
        globals.sort_by_key(|global| global.name.span.start);
        globals
    }

    fn map(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> MapSettings {
        self.errors.keys(table, &MAP, &SHAPES);
        let mut merge = BTreeMap::new();
        if let Some(rules) = table.get("merge").and_then(|value| self.errors.table("merge", value)) {
            self.merge("", rules, &mut merge);
        }
        let lossy = table.get("lossy").is_some_and(|value| {
            let lossy = value.get_ref().as_bool();
            if lossy.is_none() {
                self.errors.wrong_type("lossy", value, "a boolean");
            }
            lossy.unwrap_or(false)
        });
        let (reuse, entries) = (self.reuse(table), self.entries(table));
        MapSettings { reuse, merge, lossy, entries, span: key.span() }
    }

    /// Rules by the path of a field: `a.b` is a table in a table, or one key in quotes.
    fn merge(&mut self, prefix: &str, table: &DeTable<'_>, merge: &mut BTreeMap<String, Located<Merge>>) {
        for (key, value) in table {
            let field = format!("{prefix}{}", key.get_ref());
            if let Some(inner) = value.get_ref().as_table() {
                self.merge(&format!("{field}."), inner, merge);
                continue;
            }
            let Some(name) = self.errors.string(&field, value) else { continue };
            let known = Merge::ALL.map(Merge::as_str);
            match name.parse() {
                Ok(rule) if merge.contains_key(&field) => {
                    let message = format!("two rules for the field {}", quoted(&field));
                    self.errors.add(value.span(), message, format!("expected no second one, `{rule}`"));
                }
                Ok(rule) => drop(merge.insert(field, Located { value: rule, span: value.span() })),
                Err(_) => {
                    let near = suggest(name, known);
                    self.errors.unknown(value.span(), "merge rule", name, &known, near);
                }
            }
        }
    }

    /// What a map is to hold.
    fn entries(&mut self, table: &DeTable<'_>) -> Option<Entries> {
        let default = table.get_key_value("value");
        let default_value = default.and_then(|(_, written)| value::read(written, &mut self.errors));
        let Some((key, written)) = table.get_key_value("entries") else {
            if let Some((key, _)) = default {
                let error = Diagnostic::new("`value` is that of `entries`, of which there are none");
                self.errors.missing.push(error.at(key.span()).label("expected `entries` in this table"));
            }
            return None;
        };
        let source = match written.get_ref() {
            DeValue::String(_) => {
                let path = self.errors.name("entries", written, "the path of a list", entries::list_name)?;
                let path = self.directory.join(path);
                EntriesSource::File(Located { value: path, span: written.span() })
            }
            _ => EntriesSource::Inline(entries::read(written, &mut self.errors)),
        };
        Some(Entries { source, value: default_value, span: key.span() })
    }

    fn object(&mut self, value: &Value<'_>) -> Option<Located<ObjectRef>> {
        let object = match self.errors.name("object", value, "\"builtin\" or a path", names::word)? {
            "builtin" => ObjectRef::Builtin,
            path => ObjectRef::File(self.directory.join(path)),
        };
        Some(Located { value: object, span: value.span() })
    }

    fn function(
        &mut self,
        value: &Value<'_>,
        object: Option<&Located<ObjectRef>>,
    ) -> Option<Located<String>> {
        let name = self.errors.name("function", value, "the name of a function", names::word)?;
        let is_builtin = object.is_some_and(|object| object.value == ObjectRef::Builtin);
        if is_builtin && !BUILTIN_FUNCTIONS.contains(&name) {
            let near = suggest(name, BUILTIN_FUNCTIONS);
            self.errors.unknown(value.span(), "builtin function", name, &BUILTIN_FUNCTIONS, near);
        }
        Some(Located { value: name.to_owned(), span: value.span() })
    }

    fn interface(
        &mut self,
        key: &Key<'_>,
        table: &DeTable<'_>,
        programs: &BTreeMap<String, Program>,
    ) -> Option<Interface> {
        self.errors.keys(table, &INTERFACE, &SHAPES);
        let selector = self.selector(key, table.get("name"));
        let netns = table.get("netns").and_then(|value| {
            self.errors.name("netns", value, "a name below /run/netns or an absolute path", names::netns)
        });
        let program = table.get("program").and_then(|value| self.program_name(value, programs));
        let modes = table.get("mode").and_then(|value| self.modes(value));
        let reuse = self.reuse(table);
        let optional = table.get("optional").and_then(|value| self.boolean("optional", value));
        Some(Interface {
            selector: selector?,
            netns: netns.map(str::to_owned),
            program,
            modes: modes.unwrap_or_else(|| vec![Mode::default()]),
            reuse: reuse.map(|reuse| reuse.value),
            optional: optional.unwrap_or_default(),
            span: key.span(),
        })
    }

    fn selector(&mut self, key: &Key<'_>, name: Option<&Value<'_>>) -> Option<Selector> {
        let text: &str = key.get_ref();
        if Glob::is_glob(text) {
            if let Some(name) = name {
                let message = format!("`name` has no place beside the pattern {}", quoted(text));
                let help = "remove `name`, or give the entry a label without `*`, `?` and `[`";
                let error = Diagnostic::new(message).at(name.span()).label("expected no `name`");
                self.errors.found.push(error.related(key.span(), "the pattern").help(help));
            }
            return self.glob(key).map(Selector::Glob);
        }
        let label = match Label::try_new(text) {
            Ok(label) => Some(label),
            Err(reason) => {
                self.errors.add(key.span(), "the key must be a label", found(text, &reason.to_string()));
                None
            }
        };
        if let (None, Some(_), Err(reason)) = (name, &label, names::device(text)) {
            let error = Diagnostic::new("the key must be the name of a network device, as `name` is not set");
            let help = "set `name` to the device; the key may then be any label";
            self.errors.found.push(error.at(key.span()).label(found(text, reason)).help(help));
        }
        let device = match name {
            Some(name) => self.errors.name("name", name, "the name of a network device", names::device)?,
            None => text,
        };
        Some(Selector::Device { label: label?, device: device.to_owned() })
    }

    fn glob(&mut self, key: &Key<'_>) -> Option<Glob> {
        let text: &str = key.get_ref();
        Glob::try_new(text)
            .map_err(|error| {
                // In quotes and without escapes, the place in the pattern is a place in the file.
                let quotes = key.span().len() == text.len() + 2;
                let at = text.char_indices().nth(error.position).filter(|_| quotes);
                let span = at.map_or(key.span(), |(at, c)| {
                    let start = key.span().start + 1 + at;
                    start..start + c.len_utf8()
                });
                self.errors.add(span, format!("{} is not a valid pattern", quoted(text)), error.message);
            })
            .ok()
    }

    fn program_name(
        &mut self,
        value: &Value<'_>,
        programs: &BTreeMap<String, Program>,
    ) -> Option<Located<String>> {
        let name = self.errors.string("program", value)?;
        if !programs.contains_key(name) {
            let known: Vec<_> = programs.keys().map(String::as_str).collect();
            let label = match known.len() {
                0 => "the file has no [programs.NAME] table".to_owned(),
                1..=5 => format!("expected {}", one_of(&known)),
                _ => "expected the name of a [programs.NAME] table".to_owned(),
            };
            let error =
                Diagnostic::new(format!("unknown program {}", quoted(name))).at(value.span()).label(label);
            let near = suggest(name, known);
            self.errors.missing.push(match near {
                None if name == "builtin" => {
                    error.help("the builtin counting program runs where `program` is left out")
                }
                near => did_you_mean(error, near),
            });
        }
        Some(Located { value: name.to_owned(), span: value.span() })
    }

    fn modes(&mut self, value: &Value<'_>) -> Option<Vec<Mode>> {
        let mut modes = Vec::new();
        match value.get_ref() {
            DeValue::String(_) => modes.extend(self.mode(value)),
            DeValue::Array(list) if list.is_empty() => {
                self.errors.add(
                    value.span(),
                    "`mode` names no mode",
                    format!("expected {}", one_of(&Mode::ALL.map(Mode::as_str))),
                );
            }
            DeValue::Array(list) => {
                for value in list {
                    match self.mode(value) {
                        Some(mode) if modes.contains(&mode) => {
                            self.errors.add(
                                value.span(),
                                format!("`{mode}` is in the list twice"),
                                "expected each mode once",
                            );
                        }
                        mode => modes.extend(mode),
                    }
                }
            }
            _ => self.errors.wrong_type("mode", value, "a string or an array of strings"),
        }
        (!modes.is_empty()).then_some(modes)
    }

    fn mode(&mut self, value: &Value<'_>) -> Option<Mode> {
        let name = self.errors.string("mode", value)?;
        let mode = name.parse().ok();
        if mode.is_none() {
            let known = Mode::ALL.map(Mode::as_str);
            // What other tools call them is no near miss of the letters, and still what people type.
            let near = match name {
                "skb" | "xdpgeneric" => Some(Mode::Generic.to_string()),
                "drv" | "driver" | "xdp" | "xdpdrv" => Some(Mode::Native.to_string()),
                "hw" | "hardware" | "xdpoffload" => Some(Mode::Offload.to_string()),
                name => suggest(name, known),
            };
            self.errors.unknown(value.span(), "mode", name, &known, near);
        }
        mode
    }

    /// The policy that a table sets, at whichever level it is.
    fn reuse(&mut self, table: &DeTable<'_>) -> Option<Located<Reuse>> {
        let value = table.get("reuse")?;
        let name = self.errors.string("reuse", value)?;
        let known = Reuse::ALL.map(Reuse::as_str);
        let reuse = name.parse().ok();
        if reuse.is_none() {
            let near = suggest(name, known);
            self.errors.unknown(value.span(), "reuse policy", name, &known, near);
        }
        reuse.map(|reuse| Located { value: reuse, span: value.span() })
    }

    fn boolean(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.errors.wrong_type(key, value, "a boolean");
        }
        boolean
    }

    /// Every device that two entries name.
    fn claims(&mut self, interfaces: &[Interface]) {
        let mut claims: HashMap<_, &Interface> = HashMap::new();
        for interface in interfaces {
            let Selector::Device { device, .. } = &interface.selector else { continue };
            let netns = interface.netns.as_deref().map(netns_path);
            match claims.entry((netns, device)) {
                Entry::Occupied(first) => {
                    self.errors.found.push(two_claims(device, first.get(), interface));
                }
                Entry::Vacant(unclaimed) => {
                    unclaimed.insert(interface);
                }
            }
        }
    }

    fn stats(&mut self, table: &DeTable<'_>) -> Stats {
        let mut stats = Stats::default();
        self.errors.keys(table, &STATS, &SHAPES);
        if let Some(map) =
            table.get("map").and_then(|value| self.errors.name("map", value, "the name of a map", names::map))
        {
            map.clone_into(&mut stats.map);
        }
        if let Some(interval) = table.get("interval").and_then(|value| self.interval(value)) {
            stats.interval = interval;
        }
        stats.group = table.get("group").and_then(|value| self.group(value));
        stats
    }

    fn group(&mut self, value: &Value<'_>) -> Option<Located<Group>> {
        let group = match value.get_ref() {
            DeValue::String(_) => {
                let name = self.errors.name("group", value, "the name of a group", names::group)?;
                Group::Name(name.to_owned())
            }
            DeValue::Integer(number) => {
                // The last number stands for "no group" in the kernel's calls.
                let id =
                    u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|id| *id != u32::MAX);
                if id.is_none() {
                    let message = format!("{} is no group id", quoted(&number.to_string()));
                    self.errors.add(value.span(), message, format!("expected 0 to {}", u32::MAX - 1));
                }
                Group::Id(id?)
            }
            _ => {
                self.errors.wrong_type("group", value, "the name or the number of a group");
                return None;
            }
        };
        Some(Located { value: group, span: value.span() })
    }

    fn interval(&mut self, value: &Value<'_>) -> Option<Duration> {
        let error = match value.get_ref() {
            DeValue::String(text) => match parse_interval(text) {
                Ok(interval) => return Some(interval),
                Err(message) => {
                    Diagnostic::new(message).label("expected a duration like \"1s\" or \"500ms\"")
                }
            },
            DeValue::Integer(number) => Diagnostic::new("`interval` must be a string with a unit")
                .label("found an integer")
                .help(format!("did you mean \"{number}s\"?")),
            DeValue::Float(_) => Diagnostic::new("`interval` must be a string with a unit")
                .label("found a float")
                .help("a part of a second is written like \"500ms\""),
            _ => {
                self.errors.wrong_type("interval", value, "a string");
                return None;
            }
        };
        self.errors.found.push(error.at(value.span()));
        None
    }
}

/// A network namespace's file, as far as the text alone tells which it is.
fn netns_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name).components().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn the_schema_has_every_key_and_no_other() {
        let schema: Json = serde_json::from_str(crate::SCHEMA).unwrap();
        for (shape, place) in [
            (&FILE, ""),
            (&PROGRAM, "/$defs/program"),
            (&MAP, "/$defs/map"),
            (&INTERFACE, "/$defs/interface"),
            (&STATS, "/properties/stats"),
        ] {
            let known = schema.pointer(place).unwrap()["properties"].as_object().unwrap();
            let mut known: Vec<_> = known.keys().map(String::as_str).collect();
            let mut keys = shape.keys.to_vec();
            known.sort_unstable();
            keys.sort_unstable();
            assert_eq!(known, keys, "config/schema.json {}", shape.place);
        }
    }
}
