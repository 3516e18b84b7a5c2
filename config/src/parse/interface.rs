//! Tables of interfaces, and the devices that they claim.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{INTERFACE, Reader, SHAPES};
use crate::config::two_claims;
use crate::diagnostic::quoted;
use crate::reader::{Key, Value, did_you_mean, found, one_of};
use crate::{Diagnostic, Glob, Interface, Label, Located, Mode, Program, Selector, Span, names, suggest};

impl Reader<'_> {
    pub(super) fn interface(
        &mut self,
        key: &Key<'_>,
        table: &DeTable<'_>,
        programs: &BTreeMap<String, Program>,
    ) -> Option<Interface> {
        self.errors.keys(table, &INTERFACE, &SHAPES);
        let selector = self.selector(key, table.get("name"), table.get("except"));
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

    fn selector(
        &mut self,
        key: &Key<'_>,
        name: Option<&Value<'_>>,
        except: Option<&Value<'_>>,
    ) -> Option<Selector> {
        let text: &str = key.get_ref();
        if Glob::is_glob(text) {
            if let Some(name) = name {
                let message = format!("`name` has no place beside the pattern {}", quoted(text));
                let help = "remove `name`, or give the entry a label without `*`, `?` and `[`";
                let error = Diagnostic::new(message).at(name.span()).label("expected no `name`");
                self.errors.found.push(error.related(key.span(), "the pattern").help(help));
            }
            let glob = self.glob(text, key.span());
            let except = except.map(|value| self.except(value)).unwrap_or_default();
            return Some(Selector::Glob { glob: glob?, except });
        }
        if let Some(except) = except {
            let message = format!("`except` has no place beside the label {}", quoted(text));
            let help = "remove `except`: it leaves out devices that a pattern matches";
            let error = Diagnostic::new(message).at(except.span()).label("expected no `except`");
            self.errors.found.push(error.related(key.span(), "the label of one device").help(help));
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

    /// The patterns of `except`.
    fn except(&mut self, value: &Value<'_>) -> Vec<Glob> {
        let mut except = Vec::new();
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                let error = Diagnostic::new("`except` names no device").at(value.span());
                let error = error.label("expected at least one pattern").help("remove `except`");
                self.errors.found.push(error);
            }
            DeValue::Array(list) => {
                for value in list {
                    let Some(text) = self.errors.string("except", value) else { continue };
                    if text.is_empty() {
                        let label = found(text, "it is empty");
                        self.errors.add(value.span(), "`except` must name devices", label);
                        continue;
                    }
                    match self.glob(text, value.span()) {
                        Some(glob) if except.contains(&glob) => {
                            let message = format!("{} is in the list twice", quoted(text));
                            self.errors.add(value.span(), message, "expected each pattern once");
                        }
                        glob => except.extend(glob),
                    }
                }
            }
            _ => self.errors.wrong_type("except", value, "an array of strings"),
        }
        except
    }

    /// A pattern, written at `place`.
    fn glob(&mut self, text: &str, place: Span) -> Option<Glob> {
        Glob::try_new(text)
            .map_err(|error| {
                // In quotes and without escapes, the place in the pattern is a place in the file.
                let quotes = place.len() == text.len() + 2;
                let at = text.char_indices().nth(error.position).filter(|_| quotes);
                let span = at.map_or(place.clone(), |(at, c)| {
                    let start = place.start + 1 + at;
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

    /// Every device that two entries name.
    pub(super) fn claims(&mut self, interfaces: &[Interface]) {
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
}

/// A network namespace's file, as far as the text alone tells which it is.
fn netns_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name).components().collect()
}
