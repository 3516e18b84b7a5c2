//! What the reader of the counters is told.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::{Reader, SHAPES, STATS};
use crate::diagnostic::quoted;
use crate::reader::Value;
use crate::{Diagnostic, Group, Located, Stats, names};

/// The shortest time from one reading to the next that can be asked for.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// The longest.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

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

impl Reader<'_> {
    pub(super) fn stats(&mut self, table: &DeTable<'_>) -> Stats {
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
