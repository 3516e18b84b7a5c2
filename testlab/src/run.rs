//! Runs the two programs as a user would: the built binaries, with their output and exit code.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::netns::{Netns, run_in};
use crate::wait::DEADLINE;

/// An `xdpd` command line to be.
pub fn xdpd() -> Invocation {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Invocation::of(PATH.get_or_init(|| binary("xdpd")))
}

/// An `xdp-stats` command line to be. For one that keeps running see [`crate::Stats`].
pub fn xdp_stats() -> Invocation {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Invocation::of(PATH.get_or_init(|| binary("xdp-stats")))
}

/// A program with its arguments, and where it is to run.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    netns: Option<PathBuf>,
    deadline: Duration,
}

/// What a program left: exit code, stdout and stderr.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    command: String,
}

impl Invocation {
    /// Any program, under the same rules. The caller's own choice of a configuration or of colours is kept
    /// from it.
    pub fn of(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in ["XDPD_CONFIG", "NO_COLOR", "RUST_LOG", "SUDO_UID", "SUDO_GID"] {
            command.env_remove(variable);
        }
        Self { command, netns: None, deadline: DEADLINE }
    }

    /// The program's path, for a shell line.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.command.get_program().into()
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs with this working directory.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs in this namespace, like `nsenter --net=`: only the network differs, mounts stay.
    #[must_use]
    pub fn netns(mut self, netns: &Netns) -> Self {
        self.netns = Some(netns.path());
        self
    }

    /// Runs where sysfs says this of the CPUs, as in a container that has mounted its own text over the kernel's. For the
    /// program alone: in a mount namespace of its own. To be called when all but further arguments is set.
    #[must_use]
    pub fn cpus_by_sysfs(mut self, text: &str) -> Self {
        const SCRIPT: &str = "f=$(mktemp) && printf '%s\\n' \"$1\" >\"$f\" && chmod 644 \"$f\" || exit 99
            for text in possible present online; do mount --bind \"$f\" /sys/devices/system/cpu/$text || exit 99; done
            rm -f \"$f\"; shift; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.args(["--mount", "sh", "-c", SCRIPT, "sh", text]);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        self.command = command;
        self
    }

    /// Gives the program another time to end than [`DEADLINE`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The configured command, for a caller that drives the process itself.
    pub fn spawn(self) -> Child {
        let Self { mut command, netns, .. } = self;
        start(&mut command, netns.as_deref())
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it does not end within the deadline; it is killed then.
    #[track_caller]
    pub fn run(self) -> Output {
        let Self { mut command, netns, deadline } = self;
        let mut child = start(&mut command, netns.as_deref());
        // Both pipes are drained by threads of their own: a program that fills one must not wait for the
        // other.
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        let status = wait(&mut child, deadline);
        let text = |drained: Option<std::thread::JoinHandle<String>>| {
            drained.map_or_else(String::new, |thread| thread.join().expect("a reader of a pipe"))
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        let command = line(&command);
        let status = status.unwrap_or_else(|| {
            panic!("not within {deadline:?}: the end of {command}\nstdout: {stdout}\nstderr: {stderr}")
        });
        Output { status, stdout, stderr, command }
    }
}

impl Output {
    /// The exit code, `None` when a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The output again, once it is sure that the program ended with `code`.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use)] // an assertion: most callers want no more
    pub fn expect_code(self, code: i32) -> Self {
        assert!(self.status.code() == Some(code), "exit code {code} was expected of {self}");
        self
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is no JSON ({e}): {self}"))
    }

    /// Stdout as one JSON document per line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}\nof {self}"));
        self.stdout.lines().map(parse).collect()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, stdout, stderr, command } = self;
        write!(f, "{command}: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// Starts the program, born in `netns`: the namespace belongs to the thread that starts it.
fn start(command: &mut Command, netns: Option<&Path>) -> Child {
    let spawned = match netns {
        Some(path) => run_in(path, || command.spawn()),
        None => command.spawn(),
    };
    spawned.unwrap_or_else(|e| panic!("cannot run {}: {e}", command.get_program().display()))
}

/// The command line as a shell prompt shows it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe that can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end of a child; kills it and returns `None` when it lasts longer than `deadline`.
pub(crate) fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    // A child that was not waited for keeps its process id, so the descriptor is surely the child's.
    let pidfd =
        rustix::process::pidfd_open(pid(child), PidfdFlags::empty()).expect("a descriptor of the child");
    let timeout = Timespec::try_from(deadline).expect("a deadline within centuries");
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = loop {
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(count) => break count == 1,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("cannot wait for the end of a program: {errno}"),
        }
    };
    if !ended {
        child.kill().expect("a child that can be killed");
    }
    let status = child.wait().expect("the status of a child");
    ended.then_some(status)
}

/// Sends a signal to one child, by its process id.
pub(crate) fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(pid(child), signal).expect("a child that takes signals");
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a process id")
}

/// The path of a workspace program beside the running test's own, built anew when its sources are newer.
///
/// `cargo test -p xdp-stats` does not build `xdpd`, and an old one would test yesterday's program. Where
/// everything is fresh, as after `cargo test --workspace`, cargo is not run at all.
fn binary(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("the path of the running program");
    let dir = executable.parent().expect("a directory");
    // Tests lie in <target>/<profile>/deps, programs in <target>/<profile>.
    let dir = if dir.ends_with("deps") { dir.parent().expect("a directory") } else { dir };
    let path = dir.join(name);
    if !is_fresh(&path) {
        build(name, dir);
    }
    path
}

fn build(name: &str, dir: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = match dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", name, "--bin", name, "--profile", profile]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command.arg("--target-dir").arg(dir.parent().expect("a directory"));
    let output = command.output().unwrap_or_else(|e| panic!("cannot run cargo: {e}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether no source is newer than the program, by the list that cargo leaves beside it (`<program>.d`).
fn is_fresh(path: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let (Some(built), Ok(rule)) = (modified(path), std::fs::read_to_string(path.with_extension("d"))) else {
        return false;
    };
    sources(&rule).iter().all(|source| modified(source).is_some_and(|changed| changed <= built))
}

/// The prerequisites of a make rule on one line; a space within a name is written `\ `.
fn sources(rule: &str) -> Vec<PathBuf> {
    let Some((_, list)) = rule.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let joined = list.replace("\\ ", "\0");
    joined.split_whitespace().map(|name| PathBuf::from(name.replace('\0', " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_and_both_outputs_are_captured() {
        let output = Invocation::of("sh")
            .args(["-c", "echo '{\"a\":1}'; echo trouble >&2; exit 3"])
            .run()
            .expect_code(3);
        assert_eq!(output.json()["a"], 1);
        assert_eq!(output.stderr, "trouble\n");
    }

    #[test]
    #[should_panic(expected = "not within 10ms: the end of sleep 3600")]
    fn a_program_that_does_not_end_fails_the_test() {
        Invocation::of("sleep").arg("3600").deadline(Duration::from_millis(10)).run();
    }

    #[test]
    fn much_output_on_both_pipes_does_not_block() {
        let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero";
        let output = Invocation::of("sh").args(["-c", script]).run().expect_code(0);
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));
    }

    #[test]
    fn the_caller_s_choice_of_a_configuration_is_kept_away() {
        let output = Invocation::of("env").env("NO_COLOR", "1").run().expect_code(0);
        assert!(!output.stdout.contains("XDPD_CONFIG") && output.stdout.contains("NO_COLOR=1"));
    }

    #[test]
    fn a_program_is_stale_when_missing_or_older_than_a_source() {
        let dir = tempfile::tempdir().unwrap();
        let [program, source, rule] =
            ["program", "a source.rs", "program.d"].map(|name| dir.path().join(name));
        assert!(!is_fresh(&program));
        std::fs::write(&source, "").unwrap();
        let escaped = source.display().to_string().replace(' ', "\\ ");
        std::fs::write(&rule, format!("{}: {escaped}\n", program.display())).unwrap();
        std::fs::write(&program, "").unwrap();
        assert!(is_fresh(&program));
        let later = std::time::SystemTime::now() + Duration::from_mins(1);
        std::fs::File::options().write(true).open(&source).unwrap().set_modified(later).unwrap();
        assert!(!is_fresh(&program));
        std::fs::remove_file(&source).unwrap();
        assert!(!is_fresh(&program));
    }
}
