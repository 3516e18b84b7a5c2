//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  xdp-stats                           a table per second, of ./config.toml or
                                      /etc/xdpd/config.toml
  xdp-stats --json | jq -c 'select(.event == \"sample\")
      | [.ts, .interface, .totals.packets_per_second]'
  xdp-stats --json --once             what the maps hold now
  xdp-stats --interface eth0 --count 10 --interval 500ms

Exit codes:
  0  ended by a signal, by a closed output or by --count; with --once when every
     interface could be read
  2  a bad command line or config, or with --once an interface without a map";

/// Follows the pinned counters of the interfaces in an xdpd config, across reloads, replaced maps and edits of the file.
///
/// The output is a table per tick, or with --json one record per line. Pins are opened read-only: no privileges are
/// needed beyond read permission on them.
#[derive(Debug, Parser)]
#[allow(clippy::doc_markdown, reason = "help is shown as it is written")]
#[command(version, after_help = EXAMPLES, max_term_width = 80)]
pub(crate) struct Arguments {
    /// The config [default: $XDPD_CONFIG, ./config.toml or
    /// /etc/xdpd/config.toml]
    #[arg(long, value_name = "CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Where `xdpd` takes the config, and people put it here, too.
    #[arg(hide = true, value_name = "CONFIG", value_parser = not_here)]
    _config: Option<String>,

    /// Write JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,

    /// Time from one reading to the next, such as 1s or 500ms [default: as in the config]
    #[arg(long, value_name = "DURATION", value_parser = xdpd_config::parse_interval)]
    pub(crate) interval: Option<Duration>,

    /// End after so many readings, not counting the first, which is the baseline
    #[arg(long, value_name = "N", conflicts_with = "once")]
    pub(crate) count: Option<u64>,

    /// Write one record per interface, and end
    #[arg(long)]
    pub(crate) once: bool,

    /// Follow only this interface: a label, or a pattern as it is in the config; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub(crate) interface: Vec<String>,
}

fn not_here(path: &str) -> Result<String, String> {
    Err(format!("the config is named by an option: --config {path}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_fits_80_columns() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }

    #[test]
    fn the_manual_page_has_every_option() {
        let page = include_str!("../xdp-stats.1");
        for long in Arguments::command().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))), "{long}");
        }
    }

    #[test]
    fn a_config_without_its_option_is_told_where_it_belongs() {
        let error = Arguments::try_parse_from(["xdp-stats", "edge.toml"]).unwrap_err().to_string();
        assert!(error.contains("--config edge.toml"), "{error}");
        let mut command = Arguments::command();
        assert!(!command.render_help().to_string().contains("[CONFIG]"), "it is not offered");
    }

    #[test]
    fn an_interval_needs_a_unit() {
        assert!(Arguments::try_parse_from(["xdp-stats", "--interval", "1"]).is_err());
        let arguments = Arguments::try_parse_from(["xdp-stats", "--interval", "1m 30s"]).unwrap();
        assert_eq!(arguments.interval, Some(Duration::from_secs(90)));
    }
}
