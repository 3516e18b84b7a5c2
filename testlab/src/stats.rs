//! A running `xdp-stats --json` whose records a test waits for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{self, Invocation};
use crate::wait::DEADLINE;

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// A reader in the background; killed on drop.
#[derive(Debug)]
pub struct Stats {
    child: Child,
    log: Arc<Log>,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
}

/// What a stopped reader left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Every record, in order.
    pub records: Vec<Value>,
    /// All of stderr.
    pub stderr: String,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Value>,
    broken: Option<String>,
    closed: bool,
}

impl Stats {
    /// Starts `xdp_stats()...` with `--json` added.
    pub fn spawn(invocation: Invocation) -> Self {
        let mut child = invocation.arg("--json").spawn();
        let log = Arc::new(Log::default());
        let stdout = child.stdout.take().expect("a pipe");
        let mut stderr = child.stderr.take().expect("a pipe");
        let reader = Arc::clone(&log);
        Self {
            child,
            log,
            stdout: Some(std::thread::spawn(move || reader.fill(stdout))),
            stderr: Some(std::thread::spawn(move || {
                let mut text = String::new();
                // What is not text is not worth a second failure.
                let _ = stderr.read_to_string(&mut text);
                text
            })),
        }
    }

    /// The process, for tests that look at it in `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every record so far, in order.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        self.log.healthy().records.clone()
    }

    /// How many records there are: a mark for [`Stats::wait_after`].
    #[track_caller]
    pub fn mark(&self) -> usize {
        self.log.healthy().records.len()
    }

    /// The first record of the run that `matches`, waiting for it when it has not come yet.
    #[track_caller]
    pub fn wait(&self, what: &str, matches: impl FnMut(&Value) -> bool) -> Value {
        self.wait_after(0, what, matches)
    }

    /// The first record after the first `mark` ones that `matches`, waiting for it when it has not come yet.
    #[track_caller]
    pub fn wait_after(&self, mark: usize, what: &str, mut matches: impl FnMut(&Value) -> bool) -> Value {
        let mut seen = mark;
        self.wait_state(what, |state| {
            let new = state.records.get(seen..).unwrap_or_default();
            seen = seen.max(state.records.len());
            new.iter().find(|record| matches(record)).cloned()
        })
    }

    /// The first record of the run with this `event` of this interface.
    #[track_caller]
    pub fn wait_event(&self, interface: &str, event: &str) -> Value {
        self.wait(&format!("{event} of {interface}"), |r| r["event"] == event && r["interface"] == interface)
    }

    /// Waits until all deltas of an interface add up to `packets`. More than that fails at once: it never
    /// gets less.
    #[track_caller]
    pub fn wait_packets(&self, interface: &str, packets: u64) {
        self.wait_state(&format!("deltas of {interface} that add up to {packets} packets"), |state| {
            let sum = sum(&state.records, interface).values().map(|counts| counts.packets).sum::<u64>();
            assert!(sum <= packets, "the deltas of {interface} add up to {sum} packets, sent were {packets}");
            (sum == packets).then_some(())
        });
    }

    /// The deltas of an interface so far, added up per action.
    #[track_caller]
    pub fn sum(&self, interface: &str) -> BTreeMap<String, Counts> {
        sum(&self.log.healthy().records, interface)
    }

    /// Ends the reader as ctrl-C does, and returns what it wrote.
    #[track_caller]
    pub fn stop(mut self) -> Finished {
        run::signal(&self.child, Signal::INT);
        self.finish()
    }

    /// Waits for the reader to end by itself, as with `--count`.
    #[track_caller]
    pub fn finish(&mut self) -> Finished {
        let status = run::wait(&mut self.child, DEADLINE);
        self.stdout.take().map(JoinHandle::join);
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let status = status.unwrap_or_else(|| panic!("xdp-stats did not end; stderr: {stderr}"));
        Finished { status, records: self.records(), stderr }
    }

    #[track_caller]
    fn wait_state<T>(&self, what: &str, mut probe: impl FnMut(&State) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut state = self.log.healthy();
        loop {
            if let Some(value) = probe(&state) {
                return value;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !state.closed && !left.is_zero(),
                "{}: {what}; the last records:\n{}",
                if state.closed { "xdp-stats ended before" } else { "not in time" },
                tail(&state.records)
            );
            state = self.log.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.assert_healthy();
        }
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        // Already ended: then both fail, and that is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn fill(&self, stdout: ChildStdout) {
        for line in BufReader::new(stdout).lines() {
            let mut state = self.state();
            match line
                .map_err(|e| e.to_string())
                .and_then(|l| serde_json::from_str(&l).map_err(|e| format!("{e}: {l}")))
            {
                Ok(record) => state.records.push(record),
                Err(why) => state.broken = state.broken.take().or(Some(why)),
            }
            self.grown.notify_all();
        }
        self.state().closed = true;
        self.grown.notify_all();
    }

    #[track_caller]
    fn healthy(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        state.assert_healthy();
        state
    }

    /// A test that fails while it looks poisons the lock, but records are only ever added whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[track_caller]
    fn assert_healthy(&self) {
        assert!(self.broken.is_none(), "xdp-stats wrote a line that is no JSON: {:?}", self.broken);
    }
}

/// The deltas of an interface in `records`, added up per action.
pub fn sum(records: &[Value], interface: &str) -> BTreeMap<String, Counts> {
    let mut sums = BTreeMap::<String, Counts>::new();
    let samples = records.iter().filter(|r| r["event"] == "sample" && r["interface"] == interface);
    for (action, delta) in samples.filter_map(|sample| sample["actions"].as_object()).flatten() {
        let counts = sums.entry(action.clone()).or_default();
        counts.packets += delta["packets"].as_u64().expect("packets of a sample");
        counts.bytes += delta["bytes"].as_u64().expect("bytes of a sample");
    }
    sums
}

fn tail(records: &[Value]) -> String {
    let lines: Vec<_> = records[records.len().saturating_sub(10)..].iter().map(Value::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell cannot trap a signal that was ignored when it started, as SIGINT is where tests run in the background.
    fn reader(script: &str) -> Stats {
        Stats::spawn(Invocation::of("env").args(["--default-signal=INT", "sh", "-c", script]))
    }

    const SAMPLES: &str = r#"
        echo '{"event":"baseline","interface":"eth0","actions":{"pass":{"packets_total":7}}}'
        echo '{"event":"sample","interface":"eth0","actions":{"pass":{"packets":3,"bytes":192}}}'
        echo '{"event":"sample","interface":"eth1","actions":{"pass":{"packets":100,"bytes":100}}}'
        echo '{"event":"sample","interface":"eth0","actions":{"pass":{"packets":1,"bytes":64},"tx":{"packets":2,"bytes":9}}}'
    "#;

    #[test]
    fn deltas_of_one_interface_are_added_up() {
        let mut stats = reader(SAMPLES);
        stats.wait_packets("eth0", 6);
        let finished = stats.finish();
        assert!(finished.status.success());
        let sums = sum(&finished.records, "eth0");
        assert_eq!(sums["pass"], Counts { packets: 4, bytes: 256 });
        assert_eq!(sums["tx"], Counts { packets: 2, bytes: 9 });
    }

    #[test]
    fn a_record_is_waited_for_and_one_before_the_mark_does_not_count() {
        let stats = reader("echo '{\"seq\":1}'; read -r _ < /dev/null; echo '{\"seq\":2}'; exec sleep 3600");
        assert_eq!(stats.wait("two", |r| r["seq"] == 2)["seq"], 2);
        assert_eq!(stats.wait_after(1, "any", |_| true)["seq"], 2);
        assert_eq!(stats.mark(), 2);
    }

    #[test]
    #[should_panic(expected = "ended before: the impossible")]
    fn waiting_ends_with_the_reader() {
        reader("echo '{}'").wait("the impossible", |_| false);
    }

    #[test]
    #[should_panic(expected = "is no JSON")]
    fn a_line_that_is_no_json_fails_the_test() {
        reader("echo '{}'; echo oops; exec sleep 3600").wait("anything", |_| false);
    }

    #[test]
    #[should_panic(expected = "add up to 6 packets, sent were 5")]
    fn more_packets_than_were_sent_fail_at_once() {
        reader(SAMPLES).wait_packets("eth0", 5);
    }

    #[test]
    fn the_reader_is_ended_as_ctrl_c_does() {
        let stats =
            reader("trap 'echo {\\\"last\\\":true}; exit 0' INT; echo '{}'; while :; do sleep 0.01; done");
        stats.wait("the first record", |_| true);
        let finished = stats.stop();
        assert_eq!(finished.status.code(), Some(0));
        assert_eq!(finished.records.last().unwrap()["last"], true);
    }
}
