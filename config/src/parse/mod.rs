//! From the text of a file to a [`Config`]: every key, what it may say, and every error at once.

mod interface;
mod program;
mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Source, quoted};
use crate::digest::sha256;
use crate::file::absolute_path;
use crate::names;
use crate::reader::{Errors, Shape, Value};
use crate::syntax::Document;
use crate::{
    Config, DEFAULT_PIN_ROOT, Diagnostic, Diagnostics, Interface, Located, Program, Reuse, Stats, suggest,
};

pub use stats::parse_interval;

const FILE: Shape = Shape {
    place: "at the top level",
    keys: &["version", "pin_root", "reuse", "programs", "interfaces", "stats"],
};
const PROGRAM: Shape =
    Shape { place: "in [programs.NAME]", keys: &["object", "function", "globals", "maps"] };
const MAP: Shape =
    Shape { place: "in [programs.NAME.maps.MAP]", keys: &["reuse", "entries", "value", "merge", "lossy"] };
const INTERFACE: Shape = Shape {
    place: "in [interfaces.NAME]",
    keys: &["program", "mode", "reuse", "name", "netns", "optional", "except"],
};
const STATS: Shape = Shape { place: "in [stats]", keys: &["map", "interval", "group"] };
const SHAPES: [&Shape; 5] = [&FILE, &PROGRAM, &MAP, &INTERFACE, &STATS];

/// The file, or what is wrong with it, and the file without that where it is TOML at least.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, (Diagnostics, Option<Box<Config>>)> {
    let source = Arc::new(Source::new(path, text.to_owned()));
    let whole = |error| (Diagnostics::new(Arc::clone(&source), vec![error]), None);
    let path = absolute_path(path)
        .map_err(|e| whole(Diagnostic::new(format!("the path of the file cannot be made absolute: {e}"))))?;

    let document = Document::parse(&source);
    if document.root.is_empty() && document.errors.is_empty() {
        return Err(whole(Diagnostic::new("the file holds no key").help(
            "[interfaces.eth0] alone is a complete file; to remove everything there is `xdpd detach`",
        )));
    }
    let mut reader = Reader { directory: path.parent().unwrap_or(Path::new("/")), errors: Errors::default() };
    let File { pin_root, reuse, programs, unsound, interfaces, stats } = reader.file(&document.root);
    let is_toml = document.errors.is_empty();
    let errors = document.all_errors(reader.errors);
    let sha256 = sha256(text);
    let mut config =
        Config { path, sha256, pin_root, reuse, programs, interfaces, stats, source: Arc::clone(&source) };
    if errors.is_empty() {
        return Ok(config);
    }
    config.programs.retain(|name, _| !unsound.contains(name));
    Err((Diagnostics::new(source, errors), is_toml.then(|| Box::new(config))))
}

/// What a file says of `pin_root`, whatever else is wrong with what it says.
pub(crate) fn parse_pin_root(path: &Path, text: &str) -> Result<PathBuf, Diagnostics> {
    let source = Arc::new(Source::new(path, text.to_owned()));
    let document = Document::parse(&source);
    let mut reader = Reader { directory: Path::new("/"), errors: Errors::default() };
    let pin_root = document.root.get("pin_root").and_then(|value| reader.pin_root(value));
    let errors = document.all_errors(reader.errors);
    if errors.is_empty() {
        Ok(pin_root.unwrap_or_else(|| DEFAULT_PIN_ROOT.into()))
    } else {
        Err(Diagnostics::new(Arc::clone(&source), errors))
    }
}

/// What the tables of a file say, with a default in the place of whatever is wrong.
struct File {
    pin_root: PathBuf,
    reuse: Reuse,
    programs: BTreeMap<String, Program>,
    /// The programs that have errors.
    unsound: BTreeSet<String>,
    interfaces: Vec<Interface>,
    stats: Stats,
}

/// Reads tables and collects what is wrong with them.
struct Reader<'a> {
    /// The directory that relative paths start from.
    directory: &'a Path,
    errors: Errors,
}

impl Reader<'_> {
    fn file(&mut self, root: &DeTable<'_>) -> File {
        self.errors.keys(root, &FILE, &SHAPES);
        if let Some(version) = root.get("version") {
            self.version(version);
        }
        let pin_root = root.get("pin_root").and_then(|value| self.pin_root(value));
        let reuse = self.reuse(root);
        let (mut programs, mut unsound) = (BTreeMap::new(), BTreeSet::new());
        for (key, table) in self.errors.tables(root, "programs") {
            let before = self.errors.count();
            let program = self.program(key, table);
            if self.errors.count() > before {
                unsound.insert(program.name.clone());
            }
            programs.insert(program.name.clone(), program);
        }
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
            unsound,
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
