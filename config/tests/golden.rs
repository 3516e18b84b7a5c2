//! Every folder of `tests/golden` is a file and what is said of it: `config.toml` and `expected.txt`.
//!
//! A file without errors is summed up. `UPDATE_GOLDEN=1` writes what is said now.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use xdpd_config::entries::Cell;
use xdpd_config::{Config, EntriesSource, Entry, EntryValue, Interface, List, Selector};

#[test]
fn every_file_is_answered_as_expected() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    for case in &cases {
        let text = fs::read_to_string(case.join("config.toml")).unwrap();
        let answer = answer(&text);
        let expected = case.join("expected.txt");
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &answer).unwrap();
        } else if fs::read_to_string(&expected).ok().as_ref() != Some(&answer) {
            wrong.push(format!("== {}\n{answer}", case.file_name().unwrap().display()));
        }
    }
    assert!(cases.len() > 40, "only {} cases", cases.len());
    assert!(wrong.is_empty(), "{} answers are not as expected:\n{}", wrong.len(), wrong.join("\n"));
}

fn answer(text: &str) -> String {
    match Config::parse(Path::new("config.toml"), text) {
        Ok(config) => summary(&config),
        Err(errors) => format!("{errors}\n"),
    }
}

fn summary(config: &Config) -> String {
    let mut summary = String::new();
    let here = env::current_dir().unwrap();
    writeln!(summary, "pin_root {}", config.pin_root.display()).unwrap();
    writeln!(summary, "stats {} every {:?}", config.stats.map, config.stats.interval).unwrap();
    if let Some(group) = &config.stats.group {
        writeln!(summary, "readers {:?}", group.value).unwrap();
    }
    for interface in &config.interfaces {
        let program = config.program_of(interface);
        let object = program.object.value.to_string().replace(&format!("{}/", here.display()), "<here>/");
        let function = program.function().unwrap_or("its only function");
        writeln!(summary, "{}", selector(config, interface)).unwrap();
        writeln!(summary, "  runs {function} of {object} ({})", program.name).unwrap();
        for global in &program.globals {
            writeln!(summary, "  global {} = {}", global.name.value, global.value.value).unwrap();
        }
        let modes: Vec<_> = interface.modes.iter().map(ToString::to_string).collect();
        writeln!(summary, "  mode {}", modes.join(", then ")).unwrap();
        writeln!(summary, "  reuse {}", config.reuse_of(interface, program, "any other map")).unwrap();
        if interface.optional {
            writeln!(summary, "  may be absent").unwrap();
        }
        for (map, settings) in &program.maps {
            writeln!(summary, "  reuse {} of {map}", config.reuse_of(interface, program, map)).unwrap();
            for (field, rule) in &settings.merge {
                writeln!(summary, "    of {field} the {}", rule.value).unwrap();
            }
            if settings.lossy {
                writeln!(summary, "    lossy").unwrap();
            }
            let Some(entries) = &settings.entries else { continue };
            match &entries.source {
                EntriesSource::File(path) => {
                    let path =
                        path.value.display().to_string().replace(&format!("{}/", here.display()), "<here>/");
                    writeln!(summary, "  {map} holds the list {path}").unwrap();
                }
                EntriesSource::Inline(entries) => {
                    writeln!(summary, "  {map} holds {} entries", entries.len()).unwrap();
                    summary.extend(entries.iter().map(|entry| format!("    {}\n", entry_text(entry))));
                }
            }
            if let Some(value) = &entries.value {
                writeln!(summary, "    otherwise {}", value.value).unwrap();
            }
        }
    }
    summary
}

/// An entry as it was read.
fn entry_text(entry: &Entry) -> String {
    let cell = |cell: &Cell| {
        format!("{}{:?}", cell.name.iter().fold(String::new(), |_, n| format!("{n}: ")), cell.text.value)
    };
    let value = match &entry.value {
        EntryValue::Default => "-".to_owned(),
        EntryValue::Typed(value) => value.value.to_string(),
        EntryValue::Cells(cells) => cells.iter().map(cell).collect::<Vec<_>>().join(" | "),
    };
    format!("{} => {value}", entry.key.value)
}

/// Every file of `tests/lists` is a list, and beside it `NAME.expected` what is said of it.
#[test]
fn every_list_is_read_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lists");
    let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut lists: Vec<PathBuf> = paths.filter(|path| path.extension().unwrap() != "expected").collect();
    lists.sort();
    let mut wrong = Vec::new();
    for path in &lists {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap();
        let answer = match List::parse(Path::new(name), text.clone()) {
            Ok(list) => {
                let line =
                    |entry: &Entry| format!("{} [{}]\n", entry_text(entry), &text[entry.key.span.clone()]);
                list.entries.iter().map(line).collect::<Vec<_>>().concat()
            }
            Err(errors) => format!("{errors}\n"),
        };
        let expected = folder.join(format!("{}.expected", name.display()));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &answer).unwrap();
        } else if fs::read_to_string(&expected).ok().as_ref() != Some(&answer) {
            wrong.push(format!("== {}\n{answer}", name.display()));
        }
    }
    assert!(lists.len() > 15, "only {} lists", lists.len());
    assert!(wrong.is_empty(), "{} answers are not as expected:\n{}", wrong.len(), wrong.join("\n"));
}

fn selector(config: &Config, interface: &Interface) -> String {
    let netns = interface.netns.as_ref().map(|netns| format!(" in {netns}")).unwrap_or_default();
    match &interface.selector {
        Selector::Device { label, device } => {
            format!(
                "{label}: {device}{netns}, pinned in {}",
                config.pin_root.join(label.file_name()).display()
            )
        }
        Selector::Glob { glob, except } => {
            let label = interface.label_of("DEVICE").unwrap();
            let except = except.iter().map(|except| format!(" but {except}")).collect::<Vec<_>>().concat();
            format!(
                "{glob}: every match{except}{netns}, pinned in {}",
                config.pin_root.join(label.file_name()).display()
            )
        }
    }
}
