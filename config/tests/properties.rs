//! Promises that hold for every text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use xdpd_config::escape::{escape, unescape};
use xdpd_config::terminal::acts_on_terminal;
use xdpd_config::{Config, EntryValue, Label, List, Mode, Record, Reuse, Selector, Value, retired, suggest};

/// Any characters, and often those that mean something to somebody.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        '.', '/', '%', ' ', '\n', '\t', '=', '-', ':', '"', '\0', '\u{1b}', '\u{202e}', '\u{200b}', '2', 'E',
        'é',
    ]);
    vec(prop_oneof![special, any::<char>()], 0..40).prop_map(String::from_iter)
}

/// Something of a list in any format.
fn list_part() -> impl Strategy<Value = String> {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "#",
        "\n",
        "\r\n",
        " ",
        "=",
        "1",
        "-0x1f",
        "1.5",
        "null",
        "true",
        "key",
        "value",
        "\"key\":",
        "\"value\":",
        "entries = ",
        "[[entries]]\n",
        "192.0.2.0/24",
        "\\u",
        "\u{feff}",
    ];
    prop_oneof![3 => prop::sample::select(parts.to_vec()).prop_map(str::to_owned), 1 => text()]
}

/// Every `%` begins an escape, and nothing that bpffs refuses is left.
fn is_spelling(file_name: &str) -> bool {
    let hex = |part: &str| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    !file_name.contains(['.', '/']) && file_name.split('%').skip(1).all(hex)
}

proptest! {
    #[test]
    fn escaping_loses_nothing_and_leaves_nothing_that_bpffs_refuses(name in text()) {
        let spelled = escape(&name);
        prop_assert!(is_spelling(&spelled), "{spelled:?}");
        prop_assert_eq!(unescape(&spelled), Some(name));
    }

    #[test]
    fn only_what_escape_wrote_is_unescaped(spelled in text()) {
        if let Some(name) = unescape(&spelled) {
            prop_assert_eq!(escape(&name), spelled);
        }
    }

    #[test]
    fn a_label_and_its_directory_determine_each_other(name in text()) {
        if let Ok(label) = Label::try_new(&name) {
            let directory = label.file_name();
            prop_assert!(is_spelling(&directory) && !directory.is_empty() && directory.len() <= 255);
            // Our own names in the same directory: `%lock`, `%next-…`, `%old-…`.
            prop_assert!(!["%lock", "%next", "%old"].iter().any(|ours| directory.starts_with(ours)));
            prop_assert_eq!(Label::from_file_name(&directory), Some(label));
        }
        if let Some(label) = Label::from_file_name(&name) {
            prop_assert_eq!(label.file_name(), name);
        }
    }

    #[test]
    fn every_text_is_a_list_or_an_error_that_can_be_shown(parts in vec(list_part(), 0..12)) {
        let text = parts.concat();
        for name in ["list.csv", "list.json", "list.toml"] {
            match List::parse(Path::new(name), text.clone()) {
                Err(errors) => prop_assert!(errors.to_string().contains(name)),
                Ok(list) => {
                    for entry in list.entries {
                        // The place of a key is one in the text.
                        prop_assert!(text.get(entry.key.span.clone()).is_some(), "{name}: {:?}", entry.key.span);
                    }
                }
            }
        }
    }

    #[test]
    fn cells_of_csv_are_what_was_written(rows in vec(vec(text(), 3), 1..6)) {
        let cell = |text: &String| format!("\"{}\"", text.replace(['\n', '"'], "").replace('é', "\"\""));
        let read_back = |text: &String| text.replace(['\n', '"'], "").replace('é', "\"");
        let lines = rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(" , ") + " # more\n");
        let list = List::parse(Path::new("list.csv"), lines.collect()).unwrap();
        let is_header = read_back(&rows[0][0]) == "key";
        prop_assume!(!is_header);
        let read: Vec<Vec<String>> = list
            .entries
            .into_iter()
            .map(|entry| {
                let (Value::String(key), EntryValue::Cells(cells)) = (entry.key.value, entry.value) else {
                    panic!("a key and two cells");
                };
                std::iter::once(key).chain(cells.into_iter().map(|cell| cell.text.value)).collect()
            })
            .collect();
        let written: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(read_back).collect()).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_retired_map_is_known_by_its_name(map in text(), generation: u64, id: u32) {
        let name = retired::name(&map, generation, id);
        let parsed = retired::parse(&name);
        prop_assert_eq!(parsed, (!map.is_empty()).then_some((map, generation, id)));
    }

    #[test]
    fn no_other_name_is_taken_for_a_retired_maps(name in text()) {
        if let Some((map, generation, id)) = retired::parse(&name) {
            prop_assert_eq!(retired::name(&map, generation, id), name);
        }
    }

    #[test]
    fn suggestions_come_from_the_candidates(found in text(), candidates in vec(text(), 0..8)) {
        if let Some(near) = suggest(&found, candidates.iter().map(String::as_str)) {
            prop_assert!(candidates.contains(&near));
        }
    }
}

fn path() -> impl Strategy<Value = PathBuf> {
    let bytes = vec(any::<u8>(), 0..40).prop_map(OsString::from_vec);
    prop_oneof![bytes.prop_map(PathBuf::from), text().prop_map(PathBuf::from)]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Native, Mode::Generic, Mode::Offload])
}

prop_compose! {
    fn record()(
        (generation, config, device, ifindex, netns, netns_name) in
            (any::<u64>(), path(), text(), any::<u32>(), any::<(u64, u64)>(), option::of(text())),
        (mode, object, globals) in (mode(), text(), option::of(text())),
        (function, program, attach_type) in (text(), any::<u32>(), any::<u32>()),
        maps in btree_map(text(), any::<u32>(), 0..4),
        base in btree_map(text(), any::<u32>(), 0..4),
        retired in btree_map(any::<u32>(), any::<u64>(), 0..4),
        values in btree_map(text(), text(), 0..4),
        inner in btree_map(text(), text(), 0..4),
    ) -> Record {
        let version = Record::VERSION;
        Record {
            version, generation, config, device, ifindex, netns, netns_name, mode, object, globals, values,
            function, program, attach_type, maps, inner, base, retired,
        }
    }
}

proptest! {
    #[test]
    fn a_record_is_one_line_and_loses_nothing(record in record()) {
        let text = record.format();
        prop_assert!(!text.contains(|c: char| c.is_control() || (c.is_whitespace() && c != ' ')), "{text:?}");
        prop_assert_eq!(Record::parse(&text), Ok(record));
    }

    #[test]
    fn a_newer_records_keys_do_not_hide_the_known_ones(
        record in record(), key in "[a-z]{12}", value in "[!-<>-~&&[^%]]*",
    ) {
        let text = format!("{key}={value} {} {key}.more=", record.format());
        prop_assert_eq!(Record::parse(&text), Ok(record));
    }

    #[test]
    fn a_record_that_lacks_a_key_is_an_error_that_names_it(record in record(), lacking in 0_usize..10) {
        let required =
            ["v", "gen", "config", "device", "ifindex", "netns", "mode", "object", "function", "program"];
        let lacking = required[lacking];
        let (text, key) = (record.format(), format!("{lacking}="));
        let others: Vec<_> = text.split(' ').filter(|pair| !pair.starts_with(&key)).collect();
        let error = Record::parse(&others.join(" ")).unwrap_err().to_string();
        prop_assert!(error.contains(&format!("`{lacking}`")), "{error}");
    }

    #[test]
    fn no_text_is_too_much_for_a_record(text in text(), record in record(), at: prop::sample::Index) {
        let _ = Record::parse(&text);
        let mut mangled: Vec<char> = record.format().chars().collect();
        mangled.splice(at.index(mangled.len() + 1).., text.chars());
        let _ = Record::parse(&String::from_iter(mangled));
    }
}

/// A file with everything in it.
const VALID: &str = include_str!("golden/valid-everything/config.toml");

/// What is put in by a mutation: parts of files, valid and not.
const PARTS: [&str; 24] = [
    "[",
    "]",
    "[[",
    "\"",
    "'",
    "\"\"\"",
    "=",
    "\n",
    ".",
    ",",
    "{",
    "}",
    "#",
    "\\",
    " ",
    "\r\n",
    "\u{feff}",
    "[interfaces.eth0]\n",
    "reuse = \"migrate\"\n",
    "name = \"veth0\"\n",
    "[stats]\n",
    "é",
    "0x",
    "1979-05-27",
];

#[derive(Debug, Clone)]
enum Edit {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(PARTS.to_vec()).prop_map(str::to_owned), text()]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<prop::sample::Index>(), 1_usize..20).prop_map(|(at, length)| Edit::Delete(at, length)),
        (any::<prop::sample::Index>(), part()).prop_map(|(at, part)| Edit::Insert(at, part)),
        any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(from, to)| Edit::Repeat(from, to)),
    ]
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for edit in edits {
        match edit {
            Edit::Delete(at, length) => {
                let start = at.index(text.len() + 1);
                text.drain(start..text.len().min(start + length));
            }
            Edit::Insert(at, part) => {
                let at = at.index(text.len() + 1);
                text.splice(at..at, part.chars());
            }
            Edit::Repeat(from, to) => {
                let lines: Vec<String> =
                    String::from_iter(&text).split_inclusive('\n').map(str::to_owned).collect();
                let Some(line) = (!lines.is_empty()).then(|| lines[from.index(lines.len())].clone()) else {
                    continue;
                };
                let at = to.index(text.len() + 1);
                text.splice(at..at, line.chars());
            }
        }
    }
    String::from_iter(text)
}

/// What holds of the answer to any text.
fn check_answer(text: &str) {
    let Err(errors) = Config::parse(Path::new("config.toml"), text) else { return };
    let places: Vec<_> = errors.iter().map(|(line, column, _)| (line, column)).collect();
    assert!(!places.is_empty());
    assert!(places.is_sorted(), "{places:?}");
    for (line, column) in places {
        let lines: Vec<_> = text.split('\n').collect();
        assert!(line >= 1 && line <= lines.len() && column >= 1, "{line}:{column}");
        assert!(column <= lines[line - 1].chars().count() + 1, "{line}:{column}");
    }
    for (_, _, error) in errors.iter() {
        assert!(!error.to_string().contains(acts_on_terminal), "{error}");
    }
    let acts = |c: char| c != '\n' && acts_on_terminal(c);
    let plain = errors.render(false);
    assert!(!plain.contains(acts), "{plain:?}");
    let mut coloured = errors.render(true).split('\u{1b}').map(str::to_owned).collect::<Vec<_>>().into_iter();
    assert!(!coloured.next().unwrap_or_default().contains(acts));
    for part in coloured {
        let (sequence, shown) = part.split_once('m').expect("only colours are set");
        assert!(
            sequence.starts_with('[') && sequence[1..].chars().all(|c| c.is_ascii_digit() || c == ';'),
            "{part:?}"
        );
        assert!(!shown.contains(acts), "{part:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_too_much_for_the_parser(text in vec(part(), 0..20)) {
        check_answer(&text.concat());
    }

    #[test]
    fn no_mutation_of_a_valid_file_is_too_much_for_the_parser(edits in vec(edit(), 1..6)) {
        check_answer(&apply(VALID, &edits));
    }
}

/// A file as a program would write it.
#[derive(Debug, serde::Serialize)]
struct Written {
    version: u32,
    reuse: Reuse,
    interfaces: BTreeMap<String, WrittenInterface>,
    stats: WrittenStats,
}

#[derive(Debug, serde::Serialize)]
struct WrittenInterface {
    name: String,
    netns: String,
    mode: Vec<Mode>,
}

#[derive(Debug, serde::Serialize)]
struct WrittenStats {
    interval: String,
}

prop_compose! {
    fn written()(
        reuse in prop::sample::select(vec![Reuse::IfCompatible, Reuse::Require, Reuse::Never]),
        interfaces in btree_map(
            "[^*?\\[\\p{Cc}]{1,20}",
            (
                "[a-z][a-z0-9.@_-]{0,14}",
                prop::sample::subsequence(vec![Mode::Generic, Mode::Native, Mode::Offload], 1..=3),
            ),
            0..6,
        ),
        millis in 1_u64..86_400_000,
    ) -> Written {
        let interfaces = interfaces.into_iter().enumerate().map(|(number, (label, (name, mode)))| {
            (label, WrittenInterface { name, netns: format!("netns {number}"), mode })
        });
        let interval = humantime::format_duration(Duration::from_millis(millis)).to_string();
        Written { version: 1, reuse, interfaces: interfaces.collect(), stats: WrittenStats { interval } }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(written in written()) {
        let config = Config::parse(Path::new("/config.toml"), &toml::to_string(&written).unwrap()).unwrap();
        prop_assert_eq!(config.reuse, written.reuse);
        let interval = humantime::format_duration(config.stats.interval).to_string();
        prop_assert_eq!(interval, written.stats.interval);
        prop_assert_eq!(config.interfaces.len(), written.interfaces.len());
        for interface in &config.interfaces {
            let written = &written.interfaces[interface.key()];
            let label = Label::try_new(interface.key()).unwrap();
            prop_assert_eq!(&interface.selector, &Selector::Device { label, device: written.name.clone() });
            prop_assert_eq!(&interface.modes, &written.mode);
            prop_assert_eq!(interface.netns.as_ref(), Some(&written.netns));
        }
    }
}
