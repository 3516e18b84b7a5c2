//! Records for people: a table per interface and tick, in the order and the units of the XDP tutorial's reader, and one
//! line for everything else. Nothing is wider than 80 columns but long names and messages.

use std::io::Write as _;

use crate::clock::{Stamp, TimeOfDay};
use crate::record::{ACTIONS, Counter, Event, Facts, Notice, Sample};

/// The actions as the tutorial names them.
const NAMES: [&str; ACTIONS.len()] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];

/// Writes tables into a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct Table {
    text: Vec<u8>,
    stamp: Stamp,
}

impl Table {
    /// The lines about an event of an interface.
    pub(crate) fn event(&mut self, time: TimeOfDay, at: u64, facts: &Facts, event: &Event) -> &[u8] {
        self.text.clear();
        match event {
            Event::Sample(sample) if sample.partial => self.partial(facts, sample),
            Event::Sample(sample) => {
                self.title(time, sample.at, facts, sample.map.0);
                let period = seconds(sample.interval);
                for (name, count) in NAMES.iter().zip(sample.actions) {
                    let pps = sample.per_second(count.delta.packets).unwrap_or_default();
                    let mbits = sample.per_second(count.delta.bytes).unwrap_or_default() * 8.0 / 1e6;
                    self.row(name, count.total, &format!("{pps:.0}"), &format!("{mbits:.0}"), &period);
                }
                self.line(format_args!(""));
            }
            Event::Baseline { map, at, actions } => {
                self.title(time, *at, facts, map.0);
                for (name, total) in NAMES.iter().zip(actions) {
                    self.row(name, *total, "-", "-", "-");
                }
                self.line(format_args!(""));
            }
            other => self.note(time, at, facts, other),
        }
        &self.text
    }

    /// The line about something that concerns no interface.
    pub(crate) fn notice(&mut self, time: TimeOfDay, at: u64, notice: &Notice<'_>) -> &[u8] {
        self.text.clear();
        self.time(time, at);
        match notice {
            Notice::ConfigReloaded { config, added, removed, .. } => {
                let changes = added.iter().map(|key| format!(" +{key}"));
                let changes: String = changes.chain(removed.iter().map(|key| format!(" -{key}"))).collect();
                self.line(format_args!("{}: reloaded{changes}", config.display()));
            }
            Notice::ConfigRejected { config, line: Some(line), column: Some(column), message, .. } => {
                self.line(format_args!("{}:{line}:{column}: rejected: {message}", config.display()));
            }
            Notice::ConfigRejected { message, .. } => self.line(format_args!("config rejected: {message}")),
        }
        &self.text
    }

    fn note(&mut self, time: TimeOfDay, at: u64, facts: &Facts, event: &Event) {
        self.time(time, at);
        let label = &facts.interface;
        match event {
            Event::MapReplaced { old, new, .. } => {
                self.line(format_args!("{label}: map {old} was replaced by map {new}"));
            }
            Event::CounterReset { map, slots } => {
                let mut actions: Vec<&str> = slots.iter().map(|(action, _)| NAMES[*action]).collect();
                actions.dedup();
                self.line(format_args!("{label}: counters of map {map} were reset: {}", actions.join(", ")));
            }
            Event::InterfaceUp(ifindex) => {
                self.line(format_args!("{label}: the device is back, ifindex {ifindex}"));
            }
            Event::InterfaceGone(ifindex) => {
                self.line(format_args!("{label}: the device is gone, ifindex {ifindex}"));
            }
            Event::Waiting(reason) => self.line(format_args!("{label}: waiting: {reason}")),
            Event::Gap { maps: Some(maps), reason, .. } => {
                self.line(format_args!("{label}: gap of {maps} maps: {reason}"));
            }
            Event::Gap { maps: None, reason, .. } => self.line(format_args!("{label}: gap: {reason}")),
            Event::Error { message, .. } => self.line(format_args!("{label}: error: {message}")),
            Event::Sample(_) | Event::Baseline { .. } => {}
        }
    }

    /// What was still counted in a map that is not the current one any more.
    fn partial(&mut self, facts: &Facts, sample: &Sample) {
        for (name, count) in NAMES.iter().zip(sample.actions) {
            let Counter { packets, bytes } = count.delta;
            if count.delta != Counter::default() {
                let (label, map) = (&facts.interface, sample.map);
                self.line(format_args!(
                    "{label}: {packets} packets, {bytes} bytes more in map {map}: {name}"
                ));
            }
        }
    }

    fn title(&mut self, time: TimeOfDay, at: u64, facts: &Facts, map: u32) {
        self.time(time, at);
        let ifindex = facts.ifindex.map_or_else(String::new, |ifindex| format!(", ifindex {ifindex}"));
        self.line(format_args!("{}: map {map}{ifindex}", facts.interface));
        self.line(format_args!(
            "{:<12}{:>16}{:>13}{:>15}{:>12}{:>10}",
            "XDP-action", "packets", "pps", "Kbytes", "Mbits/s", "period"
        ));
    }

    fn row(&mut self, name: &str, total: Counter, pps: &str, mbits: &str, period: &str) {
        let Counter { packets, bytes } = total;
        let kbytes = bytes / 1000;
        self.line(format_args!("{name:<12}{packets:>16}{pps:>13}{kbytes:>15}{mbits:>12}{period:>10}"));
    }

    fn time(&mut self, time: TimeOfDay, at: u64) {
        self.stamp.write(&mut self.text, time, at);
        self.text.push(b' ');
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A Vec takes all that is written to it.
        let _ = writeln!(self.text, "{line}");
    }
}

fn seconds(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
