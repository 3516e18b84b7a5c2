//! Every folder of `tests/golden` is a file and what is said of it: `config.toml` and `expected.txt`.
//!
//! A file without errors is summed up. `UPDATE_GOLDEN=1` writes what is said now.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use xdpd_config::{Config, Interface, Selector};

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
    for interface in &config.interfaces {
        let program = config.program_of(interface);
        let object = program.object.value.to_string().replace(&format!("{}/", here.display()), "<here>/");
        let function = program.function().unwrap_or("its only function");
        writeln!(summary, "{}", selector(config, interface)).unwrap();
        writeln!(summary, "  runs {function} of {object} ({})", program.name).unwrap();
        let modes: Vec<_> = interface.modes.iter().map(ToString::to_string).collect();
        writeln!(summary, "  mode {}", modes.join(", then ")).unwrap();
        writeln!(summary, "  reuse {}", config.reuse_of(interface, program, "any other map")).unwrap();
        for (map, settings) in &program.maps {
            writeln!(summary, "  reuse {} of {map}", config.reuse_of(interface, program, map)).unwrap();
            for (field, rule) in &settings.merge {
                writeln!(summary, "    of {field} the {}", rule.value).unwrap();
            }
            if settings.lossy {
                writeln!(summary, "    lossy").unwrap();
            }
        }
    }
    summary
}

fn selector(config: &Config, interface: &Interface) -> String {
    let netns = interface.netns.as_ref().map(|netns| format!(" in {netns}")).unwrap_or_default();
    match &interface.selector {
        Selector::Device { label, device } => {
            format!("{label}: {device}{netns}, pinned in {}", config.pin_dir(label).display())
        }
        Selector::Glob(glob) => {
            let label = interface.label_of("DEVICE").unwrap();
            format!("{glob}: every match{netns}, pinned in {}", config.pin_dir(&label).display())
        }
    }
}
