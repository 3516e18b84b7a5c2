//! `xdpd`: makes the XDP programs of a host match one TOML file.

use std::process::ExitCode;

use clap::Parser;
use xdpd::cli::{Cli, Command};
use xdpd::commands::{apply, check, completions, confirm, detach, diff, man, schema, status, watch};
use xdpd::engine;
use xdpd::exit::Exit;
use xdpd::output;
use xdpd::plan::Allow;
use xdpd::privileges::{self, Scope};
use xdpd_config::terminal::parse_arguments;
use xdpd_kernel::open_files;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == engine::WORKER_ARG) {
        return match engine::run_worker() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let command =
        parse_arguments(std::env::args_os(), Cli::try_parse_from).unwrap_or_else(|e| e.exit()).command;
    privileges::start(scope(&command));
    // Where that fails the limit is as it was, and whether it is enough is found before anything is changed.
    _ = open_files::raise_limit();
    let outcome = match command {
        Command::Check { file, json } => check::run(file.as_deref(), json),
        Command::Diff { config, json, adopt, takeover } => {
            diff::run(&config, json, Allow { adopt, takeover })
        }
        Command::Apply { config, json, dry_run, adopt, takeover, lock_timeout, confirm_timeout } => {
            apply::run(
                &config,
                apply::Options {
                    json,
                    dry_run,
                    allow: Allow { adopt, takeover },
                    lock_timeout,
                    confirm_timeout,
                },
            )
        }
        Command::Confirm(config) => confirm::run(&config),
        Command::Status { config, json } => status::run(&config, json),
        Command::Watch { config, json } => watch::run(&config, json),
        Command::Detach(args) => detach::run(&args),
        Command::Completions { shell } => completions::run(shell),
        Command::Schema => schema::run(),
        Command::Man => man::run(),
    };
    let exit: Exit = outcome.unwrap_or_else(|failure| {
        output::say_error(&failure.error);
        failure.exit
    });
    exit.into()
}

/// What a command may have to do with.
fn scope(command: &Command) -> Scope {
    match command {
        Command::Diff { .. } | Command::Apply { .. } | Command::Status { .. } => Scope::File,
        Command::Watch { .. } | Command::Detach(_) => Scope::AnyFile,
        Command::Check { .. }
        | Command::Confirm(_)
        | Command::Completions { .. }
        | Command::Schema
        | Command::Man => Scope::Files,
    }
}
