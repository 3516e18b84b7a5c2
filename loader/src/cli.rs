//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Makes the XDP programs of a host match one TOML file.
#[derive(Debug, Parser)]
#[command(name = "xdpd", version, max_term_width = 80, after_help = after_help())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const SEARCH: &str =
    "CONFIG is looked for in $XDPD_CONFIG, ./config.toml and /etc/xdpd/config.toml when it is not given.";

const FILE: &str = "The TOML file [default: $XDPD_CONFIG, ./config.toml or /etc/xdpd/config.toml]";

/// The exit codes and what they mean.
pub const EXIT_CODES: [(u8, &str); 5] = [
    (0, "as wished (diff: no difference)"),
    (1, "differences found (only diff and apply --dry-run)"),
    (2, "trouble before anything was changed"),
    (3, "failed or interrupted later, and the previous state was restored"),
    (4, "failed, and something could not be restored (it is listed)"),
];

/// Commands to begin with, and what each is for.
pub const EXAMPLES: [(&str, &str); 6] = [
    ("xdpd check edge.toml", "is the file sound? needs no privileges"),
    ("xdpd check edge.o", "what does this object hold?"),
    ("xdpd diff edge.toml", "what would apply change?"),
    ("xdpd apply edge.toml", "make it so"),
    ("xdpd status", "what is attached and pinned"),
    ("xdp-stats --config edge.toml", "read the counters"),
];

fn after_help() -> String {
    let codes = EXIT_CODES.map(|(code, meaning)| format!("  {code}  {meaning}\n")).concat();
    let examples = EXAMPLES.map(|(command, what)| format!("  {command:<30}{what}\n")).concat();
    format!("{SEARCH}\n\nExit codes:\n{codes}\nExamples:\n{}", examples.trim_end())
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the file and explain its objects; offline, without privileges
    Check {
        /// The TOML file, or an object to explain
        #[arg(value_name = "CONFIG")]
        file: Option<PathBuf>,
        /// One line of JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show what apply would change; changes nothing
    Diff {
        /// The file.
        #[command(flatten)]
        config: ConfigArg,
        /// One line of JSON instead of text
        #[arg(long)]
        json: bool,
        /// Plan as if interfaces of another config were taken over
        #[arg(long)]
        adopt: bool,
        /// Plan as if programs of others that are attached through netlink were replaced
        #[arg(long)]
        takeover: bool,
    },
    /// Make the kernel match the file, or leave it as it was
    Apply {
        /// The file.
        #[command(flatten)]
        config: ConfigArg,
        /// One line of JSON instead of text
        #[arg(long)]
        json: bool,
        /// Only show the plan, like diff
        #[arg(long)]
        dry_run: bool,
        /// Take over interfaces that belong to another config
        #[arg(long)]
        adopt: bool,
        /// Replace programs of others that are attached through netlink, never those that a link holds
        #[arg(long)]
        takeover: bool,
        /// How long to wait for another run to end, like 10s
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
        lock_timeout: Duration,
        /// Restore the previous state unless `xdpd confirm` comes in time, like 30s
        #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "dry_run")]
        confirm_timeout: Option<Duration>,
    },
    /// Keep what an apply with --confirm-timeout has done
    Confirm(ConfigArg),
    /// Show what is attached and pinned
    Status {
        /// The file.
        #[command(flatten)]
        config: ConfigArg,
        /// One line of JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Stay, and keep the kernel as the file says: after edits, new devices, drift
    Watch {
        /// The file.
        #[command(flatten)]
        config: ConfigArg,
        /// One line of JSON per apply instead of text
        #[arg(long)]
        json: bool,
    },
    /// Detach programs and remove their pins
    Detach(Detach),
    /// Print the JSON Schema of the file, for editors
    Schema,
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Which file.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The file.
    #[arg(value_name = "CONFIG", help = FILE)]
    pub config: Option<PathBuf>,
}

/// What to detach.
#[derive(Debug, Args)]
pub struct Detach {
    /// The file; of it, only its path and `pin_root` matter
    #[arg(value_name = "CONFIG", conflicts_with = "pin_root")]
    pub config: Option<PathBuf>,
    /// Detach everything of xdpd's under this directory, of whichever config
    #[arg(long, value_name = "PATH")]
    pub pin_root: Option<PathBuf>,
    /// Only this interface; may be given several times
    #[arg(long = "interface", value_name = "LABEL")]
    pub interfaces: Vec<String>,
    /// How long to wait for another run to end, like 10s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub lock_timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; a duration is like 500ms, 10s or 2m"))
}
