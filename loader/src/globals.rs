//! Values that the file sets for the global variables of an object, checked against the object's types.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use xdpd_config::{Diagnostic, Program, Value, join_some, sha256, suggest};

use crate::object::typed::{decode, encode};
use crate::object::{NoVariable, Object, Store};

/// Records hold this in front of the digest of a value that would be too long itself. No value of TOML begins so.
const DIGEST_MARK: char = '#';
/// As many variables are named to somebody who asks for one that is not there.
const SHOWN: usize = 8;
/// Bytes of a value's digest in a record.
const DIGEST_LEN: usize = 8;

/// The values for one program. Those of constants are part of the program, the others of the maps that hold them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Globals {
    set: BTreeMap<String, Global>,
    /// The variables outside of constants that the file says nothing of, as they are at first.
    unset: BTreeMap<String, Store>,
}

/// A value of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The value in the one form that all its spellings have.
    pub value: Value,
    /// Where it goes.
    pub store: Store,
    /// The variable is a constant.
    pub constant: bool,
}

impl Globals {
    /// Checks what the file says for `program` against its object. Every problem is told where the file has it.
    pub fn resolve(object: &Object, program: &Program) -> Result<Self, Vec<Diagnostic>> {
        let mut globals = Self::default();
        let mut problems = Vec::new();
        for global in &program.globals {
            match set(object, program, global) {
                Ok(set) => drop(globals.set.insert(global.name.value.clone(), set)),
                Err(problem) => problems.push(problem),
            }
        }
        for variable in object.variables() {
            if !variable.constant && !globals.set.contains_key(&variable.name) {
                let store =
                    Store { section: variable.section, offset: variable.offset, bytes: variable.initial };
                globals.unset.insert(variable.name, store);
            }
        }
        if problems.is_empty() { Ok(globals) } else { Err(problems) }
    }

    /// The variables that are set, by name.
    pub fn set(&self) -> &BTreeMap<String, Global> {
        &self.set
    }

    /// What a variable holds at first that is not set and no constant.
    pub fn initial(&self, name: &str) -> Option<&Store> {
        self.unset.get(name)
    }

    /// The values of constants.
    pub fn constants(&self) -> impl Iterator<Item = &Store> {
        self.set.values().filter(|global| global.constant).map(|global| &global.store)
    }

    /// The initial content of the map of a section of `object`; `None` where that is all zeros.
    pub fn content(&self, object: &Object, section: &str) -> Option<Vec<u8>> {
        let mut content = object.data(section).map(<[u8]>::to_vec);
        for Store { offset, bytes, .. } in
            self.set.values().map(|global| &global.store).filter(|store| store.section == section)
        {
            let size = object.maps().get(section)?.def.value_size as usize;
            let content = content.get_or_insert_with(|| vec![0; size]);
            if let Some(place) = content.get_mut(*offset..offset + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        content
    }

    /// Digest of all values; `None` where none is set.
    pub fn digest(&self) -> Option<String> {
        if self.set.is_empty() {
            return None;
        }
        let text = self.set.iter().fold(String::new(), |mut text, (name, global)| {
            let _ = writeln!(text, "{name:?} = {}", global.value); // a String takes everything
            text
        });
        Some(format!("sha256:{}", sha256(text)))
    }

    /// The values as a record holds them.
    pub fn recorded(&self) -> BTreeMap<String, String> {
        self.set.iter().map(|(name, global)| (name.clone(), global.value.to_string())).collect()
    }
}

impl Global {
    /// Whether this is the value that a record tells.
    pub fn is_recorded_as(&self, recorded: &str) -> bool {
        let text = self.value.to_string();
        recorded == text || recorded == digest_of(&text)
    }
}

/// The value that a record tells; `None` where it tells its digest only.
pub fn recorded_value(recorded: &str) -> Option<Value> {
    Value::parse(recorded)
}

/// Replaces the longest of a record's values by its digest; false where that makes none of them shorter.
pub fn shorten(values: &mut BTreeMap<String, String>) -> bool {
    let longest =
        values.values_mut().filter(|text| text.len() > 1 + 2 * DIGEST_LEN).max_by_key(|text| text.len());
    longest.map(|text| *text = digest_of(text)).is_some()
}

fn digest_of(text: &str) -> String {
    format!("{DIGEST_MARK}{}", &sha256(text)[..2 * DIGEST_LEN])
}

fn set(object: &Object, program: &Program, global: &xdpd_config::Global) -> Result<Global, Diagnostic> {
    let name = &global.name.value;
    let variable = object.variable(name).map_err(|why| {
        let message = format!("program `{}`: global variable `{name}` cannot be set: {why}", program.name);
        Diagnostic { help: help(object, name, &why), ..Diagnostic::new(message).at(global.name.span.clone()) }
    })?;
    let what = format!("program `{}`: global variable `{name}`", program.name);
    let btf = object.parsed_btf();
    let encoded = btf.as_ref().map(|btf| encode(btf, variable.type_id, &global.value));
    let (Some(btf), Some(bytes)) = (&btf, encoded.transpose().map_err(|problem| problem.diagnostic(&what))?)
    else {
        return Err(Diagnostic::new(format!("{what}: {}", NoVariable::NoBtf)).at(global.name.span.clone()));
    };
    if bytes.len() != variable.initial.len() {
        let message = format!(
            "{what}: it has {} bytes in the object, and its type has {}",
            variable.initial.len(),
            bytes.len()
        );
        return Err(Diagnostic::new(message).at(global.name.span.clone()));
    }
    Ok(Global {
        value: decode(btf, variable.type_id, &bytes),
        store: Store { section: variable.section, offset: variable.offset, bytes },
        constant: variable.constant,
    })
}

fn help(object: &Object, name: &str, why: &NoVariable) -> Option<String> {
    match why {
        NoVariable::NoBtf => Some("compile it with -g".into()),
        NoVariable::Folded => Some("declare it `const volatile`".into()),
        NoVariable::Section(_) => None,
        NoVariable::Unknown => {
            let variables = object.variables();
            let names = || variables.iter().map(|variable| &*variable.name);
            Some(match (suggest(name, names()), variables.len()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, 0) => "it has none at all".into(),
                (None, _) => format!("it has {}", join_some(names(), SHOWN)),
            })
        }
    }
}
