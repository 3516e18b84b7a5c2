//! Lints: settings of a file that have no effect where they stand. They are no errors, since policies are inherited, but worth knowing.

use std::collections::BTreeMap;

use xdpd_config::{Config, MapSettings, Program, Reuse, join_some};

use crate::plan::Note;

/// So many interfaces are named.
const NAMED: usize = 3;

/// Everything that a file says of maps and that does nothing.
pub(crate) fn lints(config: &Config) -> Vec<Note> {
    let programs = config.programs.values();
    let maps =
        programs.flat_map(|program| program.maps.iter().map(move |(map, of_map)| (program, map, of_map)));
    maps.flat_map(|(program, map, settings)| of_migration(config, program, map, settings)).collect()
}

/// `merge` and `lossy` where no entries are carried over.
fn of_migration(config: &Config, program: &Program, map: &str, settings: &MapSettings) -> Vec<Note> {
    let keys = match (settings.merge.is_empty(), settings.lossy) {
        (true, false) => return Vec::new(),
        (false, false) => "merge has",
        (true, true) => "lossy has",
        (false, true) => "merge and lossy have",
    };
    let note = |why: String| Note {
        interface: None,
        what: format!("program `{}`, map `{map}`: {keys} no effect {why}", program.name),
    };
    if settings.entries.is_some() {
        return vec![note("beside entries: the map holds what the file says".to_owned())];
    }
    let mut others: BTreeMap<Reuse, Vec<&str>> = BTreeMap::new();
    for interface in config.interfaces.iter().filter(|i| config.program_of(i).name == program.name) {
        others.entry(config.reuse_of(interface, program, map)).or_default().push(interface.key());
    }
    others.remove(&Reuse::Migrate);
    let note = |(reuse, keys): (Reuse, Vec<&str>)| {
        let named = join_some(keys, NAMED);
        note(format!("on {named}, where reuse = \"{reuse}\" and not \"migrate\""))
    };
    others.into_iter().map(note).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The lints of a file that begins with `text` and whose interfaces run its program.
    #[track_caller]
    fn told(text: &str, interfaces: &str) -> Vec<String> {
        let text = format!("{text}\n[programs.p]\nobject = 'p.o'\n{interfaces}");
        let config = Config::parse(Path::new("config.toml"), &text).unwrap();
        lints(&config).iter().map(ToString::to_string).collect()
    }

    fn interfaces(names: &[&str], more: &str) -> String {
        let interface = |name| format!("[interfaces.{name}]\nprogram = 'p'\n{more}\n");
        names.iter().map(interface).collect::<Vec<_>>().concat()
    }

    #[test]
    fn rules_for_a_migration_that_no_policy_asks_for_are_remarked_on() {
        let eth0 = interfaces(&["eth0"], "");
        let merge = "[programs.p.maps.m]\nmerge = { last = 'max' }";
        assert_eq!(
            told(merge, &eth0),
            [
                "program `p`, map `m`: merge has no effect on eth0, where reuse = \"if-compatible\" and not \"migrate\""
            ]
        );
        let both = format!("reuse = 'never'\n{merge}\nlossy = true");
        assert_eq!(
            told(&both, &interfaces(&["a", "b", "c", "d", "e"], "")),
            [
                "program `p`, map `m`: merge and lossy have no effect on a, b, c and 2 more, where reuse = \"never\" \
                 and not \"migrate\""
            ]
        );
    }

    #[test]
    fn the_policy_that_counts_is_that_of_the_map_then_the_interface_then_the_file() {
        let lossy = "[programs.p.maps.m]\nlossy = true";
        let migrate = "reuse = 'migrate'";
        let eth0 = interfaces(&["eth0"], "");
        assert_eq!(told(&format!("{migrate}\n{lossy}"), &eth0), [""; 0]);
        assert_eq!(told(&format!("{lossy}\n{migrate}"), &eth0), [""; 0]);
        assert_eq!(told(lossy, &interfaces(&["eth0"], migrate)), [""; 0]);
        let mixed =
            format!("{}{}", interfaces(&["eth0"], migrate), interfaces(&["eth1"], "reuse = 'require'"));
        assert_eq!(
            told(lossy, &mixed),
            [
                "program `p`, map `m`: lossy has no effect on eth1, where reuse = \"require\" and not \"migrate\""
            ]
        );
        assert_eq!(told(lossy, ""), [""; 0], "a program that nobody runs carries nothing over");
    }

    #[test]
    fn a_map_that_the_file_fills_is_not_migrated() {
        let text = "reuse = 'migrate'\n[programs.p.maps.m]\nlossy = true\nentries = [1]";
        assert_eq!(
            told(text, &interfaces(&["eth0"], "")),
            ["program `p`, map `m`: lossy has no effect beside entries: the map holds what the file says"]
        );
    }
}
