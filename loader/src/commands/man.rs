//! `xdpd man`: the manual page, made of the command line's own description.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{Failure, Outcome};
use crate::cli::{Cli, EXAMPLES, EXIT_CODES};
use crate::exit::Exit;
use crate::output;

const DESCRIPTION: [&str; 3] = [
    "An operator describes XDP on a host in one TOML file: the interfaces, the program that each runs, where maps are \
     pinned in bpffs, and what becomes of pinned maps when a program is loaded anew. xdpd makes the kernel match that file.",
    "Programs are replaced in place while packets flow. An apply either happens entirely or not at all. Programs, links, \
     pins and directories of others are reported and left alone.",
    "CONFIG is that file. Where it is not given, it is $XDPD_CONFIG, else ./config.toml, else /etc/xdpd/config.toml, and \
     a file that was found so is named on stderr. What was asked for is written to stdout, everything else to stderr.",
];
const FILES: [(&str, &str); 3] = [
    ("./config.toml", "the file, where neither an argument nor $XDPD_CONFIG names another"),
    ("/etc/xdpd/config.toml", "the file, where there is no ./config.toml"),
    ("/sys/fs/bpf/xdpd", "the pins, unless the file says otherwise with pin_root"),
];
const ENVIRONMENT: [(&str, &str); 3] = [
    ("XDPD_CONFIG", "path of the file, where no argument names one"),
    ("NO_COLOR", "no colours, also on a terminal"),
    ("NOTIFY_SOCKET", "where xdpd watch tells a service manager how it is, see sd_notify(3)"),
];

/// Prints the page in the format of man(7).
pub fn run() -> Outcome {
    output::data(&page(Cli::command())).map_err(Failure::refused)?;
    Ok(Exit::Done)
}

fn page(mut command: Command) -> String {
    command.build();
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = man.render_title(&mut page);
    let _ = man.render_name_section(&mut page);
    let mut rest = Roff::new();
    rest.control("SH", ["SYNOPSIS"]);
    rest.text([
        bold("xdpd"),
        roman(" "),
        italic("COMMAND"),
        roman(" [OPTIONS] ["),
        italic("CONFIG"),
        roman("]"),
    ]);
    rest.control("SH", ["DESCRIPTION"]);
    for paragraph in DESCRIPTION {
        rest.control("PP", []);
        rest.text([roman(paragraph)]);
    }
    rest.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands().filter(|c| c.get_name() != "help") {
        describe(command, &mut rest);
    }
    section(&mut rest, "EXIT STATUS", EXIT_CODES.iter().map(|(code, what)| (code.to_string(), *what)));
    section(&mut rest, "ENVIRONMENT", ENVIRONMENT.iter().map(|(name, what)| ((*name).to_owned(), *what)));
    section(&mut rest, "FILES", FILES.iter().map(|(path, what)| ((*path).to_owned(), *what)));
    section(&mut rest, "EXAMPLES", EXAMPLES.iter().map(|(command, what)| ((*command).to_owned(), *what)));
    rest.control("SH", ["SEE ALSO"]);
    rest.text([
        bold("xdp-stats"),
        roman("(1), "),
        bold("bpftool"),
        roman("(8), "),
        bold("ip-link"),
        roman("(8)"),
    ]);
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page.push_str(&rest.render());
    page
}

/// One command: how it is called, what it does, its options.
fn describe(command: &Command, page: &mut Roff) {
    let usage = command.clone().render_usage().to_string();
    page.control("SS", [usage.trim_start_matches("Usage: ")]);
    if let Some(about) = command.get_about() {
        page.text([roman(format!("{about}."))]);
    }
    for argument in command.get_arguments().filter(|a| a.get_id() != "help" && !a.is_hide_set()) {
        page.control("TP", []);
        let value = argument.get_value_names().unwrap_or_default().join(" ");
        match argument.get_long() {
            Some(long) if argument.get_action().takes_values() => {
                page.text([bold(format!("--{long}")), roman(" "), italic(value)]);
            }
            Some(long) => drop(page.text([bold(format!("--{long}"))])),
            None => drop(page.text([italic(value)])),
        }
        page.text([roman(argument.get_help().map(ToString::to_string).unwrap_or_default())]);
    }
}

/// A section that explains terms.
fn section<'a>(page: &mut Roff, title: &str, terms: impl Iterator<Item = (String, &'a str)>) {
    page.control("SH", [title]);
    for (term, what) in terms {
        page.control("TP", []);
        page.text([bold(term)]);
        page.text([roman(what)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_every_option() {
        let page = page(Cli::command());
        for command in Cli::command().get_subcommands() {
            assert!(page.contains(&format!("xdpd {}", command.get_name())), "{}", command.get_name());
            for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(page.contains(&long.replace('-', "\\-")), "{long}");
            }
        }
    }
}
