//! Tables of programs, with what they say of maps and global variables.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::{MAP, PROGRAM, Reader, SHAPES};
use crate::diagnostic::quoted;
use crate::reader::{Key, Value, found};
use crate::{
    BUILTIN_FUNCTIONS, Diagnostic, Entries, EntriesSource, Global, Located, MapSettings, Merge, ObjectRef,
    Program, suggest,
};
use crate::{entries, names, value};

impl Reader<'_> {
    pub(super) fn program(&mut self, key: &Key<'_>, table: &DeTable<'_>) -> Program {
        let name: &str = key.get_ref();
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
        let lossy = table.get("lossy").and_then(|value| self.boolean("lossy", value)).unwrap_or_default();
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
}
