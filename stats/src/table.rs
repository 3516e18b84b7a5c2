//! Records for people: a table per interface and tick, in the order and the units of the XDP tutorial's reader, and one
//! line for everything else. Nothing is wider than 80 columns but long names and messages.

use std::fmt::Display;

use xdpd_config::terminal::printable;

use crate::clock::{Stamp, TimeOfDay};
use crate::record::{ACTIONS, Counter, Event, Facts, Notice, Sample};

/// The actions as the tutorial names them.
const NAMES: [&str; ACTIONS.len()] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];

/// Widths of the columns of rates, and of the time that they are over: a day to the millisecond.
const PPS: usize = 10;
const MBITS: usize = 7;
const PERIOD: usize = 9;

/// Writes tables.
#[derive(Debug, Default)]
pub(crate) struct Table {
    stamp: Stamp,
}

impl Table {
    /// Appends the lines about an event of an interface.
    pub(crate) fn event(
        &mut self,
        text: &mut Vec<u8>,
        time: TimeOfDay,
        at: u64,
        facts: &Facts,
        event: &Event,
    ) {
        match event {
            Event::Sample(sample) if sample.partial => partial(text, facts, sample),
            Event::Sample(sample) => {
                self.title(text, time, sample.at, facts, sample.map.0);
                let period = seconds(sample.interval);
                for (name, count) in NAMES.iter().zip(sample.actions) {
                    let pps = sample.per_second(count.delta.packets).unwrap_or_default();
                    let mbits = sample.per_second(count.delta.bytes).unwrap_or_default() * 8.0 / 1e6;
                    row(text, name, count.total, &[fit(pps, PPS), fit(mbits, MBITS), period.clone()]);
                }
                text.push(b'\n');
            }
            Event::Baseline { map, at, actions } => {
                self.title(text, time, *at, facts, map.0);
                for (name, total) in NAMES.iter().zip(actions) {
                    row(text, name, *total, &["-", "-", "-"]);
                }
                text.push(b'\n');
            }
            other => self.note(text, time, at, facts, other),
        }
    }

    /// Appends the line about something that concerns no interface.
    pub(crate) fn notice(&mut self, text: &mut Vec<u8>, time: TimeOfDay, at: u64, notice: &Notice<'_>) {
        self.time(text, time, at);
        match notice {
            Notice::ConfigReloaded { config, added, removed, .. } => {
                let changes = added.iter().map(|key| format!(" +{key}"));
                let changes: String = changes.chain(removed.iter().map(|key| format!(" -{key}"))).collect();
                line(text, format_args!("{}: reloaded{changes}", config.display()));
            }
            Notice::ConfigRejected { config, line: Some(number), column: Some(column), message, .. } => {
                line(text, format_args!("{}:{number}:{column}: rejected: {message}", config.display()));
            }
            Notice::ConfigRejected { message, .. } => line(text, format_args!("config rejected: {message}")),
        }
    }

    fn note(&mut self, text: &mut Vec<u8>, time: TimeOfDay, at: u64, facts: &Facts, event: &Event) {
        self.time(text, time, at);
        let label = &facts.interface;
        match event {
            Event::MapReplaced { old, new, .. } => {
                line(text, format_args!("{label}: map {old} was replaced by map {new}"));
            }
            Event::CounterReset { map, slots } => {
                let mut actions: Vec<&str> = slots.iter().map(|(action, _)| NAMES[*action]).collect();
                actions.dedup();
                line(text, format_args!("{label}: counters of map {map} were reset: {}", actions.join(", ")));
            }
            Event::InterfaceUp(ifindex) => {
                line(text, format_args!("{label}: the device is back, ifindex {ifindex}"));
            }
            Event::InterfaceGone(ifindex) => {
                line(text, format_args!("{label}: the device is gone, ifindex {ifindex}"));
            }
            Event::Waiting(reason) => line(text, format_args!("{label}: waiting: {reason}")),
            Event::Gap { maps: Some(maps), reason, .. } => {
                let maps = if *maps == 1 { "1 map".to_owned() } else { format!("{maps} maps") };
                line(text, format_args!("{label}: gap of {maps}: {reason}"));
            }
            Event::Gap { maps: None, reason, .. } => line(text, format_args!("{label}: gap: {reason}")),
            Event::Error { message, .. } => line(text, format_args!("{label}: error: {message}")),
            Event::Sample(_) | Event::Baseline { .. } => {}
        }
    }

    fn title(&mut self, text: &mut Vec<u8>, time: TimeOfDay, at: u64, facts: &Facts, map: u32) {
        self.time(text, time, at);
        let ifindex = facts.ifindex.map_or_else(String::new, |ifindex| format!(", ifindex {ifindex}"));
        line(text, format_args!("{}: map {map}{ifindex}", facts.interface));
        columns(text, "XDP-action", "packets", "Kbytes", &["pps", "Mbits/s", "period"]);
    }

    fn time(&mut self, text: &mut Vec<u8>, time: TimeOfDay, at: u64) {
        self.stamp.write(text, time, at);
        text.push(b' ');
    }
}

/// What was still counted in a map that is not the current one any more.
fn partial(text: &mut Vec<u8>, facts: &Facts, sample: &Sample) {
    for (name, count) in NAMES.iter().zip(sample.actions) {
        let Counter { packets, bytes } = count.delta;
        if count.delta != Counter::default() {
            let (label, map) = (&facts.interface, sample.map);
            line(text, format_args!("{label}: {packets} packets, {bytes} bytes more in map {map}: {name}"));
        }
    }
}

fn row(text: &mut Vec<u8>, name: &str, total: Counter, rates: &[impl Display; 3]) {
    columns(text, name, total.packets, total.bytes / 1000, rates);
}

/// One line of a table. Every column is as wide as what can be in it, so 80 in all hold a `u64` each.
fn columns(
    text: &mut Vec<u8>,
    name: &str,
    packets: impl Display,
    kbytes: impl Display,
    [pps, mbits, period]: &[impl Display; 3],
) {
    line(
        text,
        format_args!("{name:<12} {packets:>20} {pps:>PPS$} {kbytes:>17} {mbits:>MBITS$} {period:>PERIOD$}"),
    );
}

/// Every line goes through here: whatever is in it, it stays one, and a terminal only shows it.
fn line(text: &mut Vec<u8>, line: std::fmt::Arguments<'_>) {
    text.extend_from_slice(printable(&line.to_string()).as_bytes());
    text.push(b'\n');
}

/// A number without decimals, or a short form where that is wider than its column.
fn fit(number: f64, width: usize) -> String {
    let text = format!("{number:.0}");
    if text.len() <= width { text } else { format!("{number:.1e}") }
}

fn seconds(nanoseconds: u64) -> String {
    let (seconds, milliseconds) = (nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000);
    let text = format!("{seconds}.{milliseconds:03}");
    if text.len() <= PERIOD { text } else { seconds.to_string() }
}

#[cfg(test)]
mod tests {
    use xdpd_kernel::{IfIndex, MapId};

    use super::*;
    use crate::record::Count;

    fn table(event: &Event) -> Vec<String> {
        let facts = Facts {
            interface: "eth0".to_owned(),
            device: None,
            netns: None,
            ifindex: Some(IfIndex(6)),
            map: String::new(),
        };
        let mut text = Vec::new();
        Table::default().event(&mut text, TimeOfDay::now(), 0, &facts, event);
        String::from_utf8(text).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    fn sample(delta: Counter, total: Counter, interval: u64) -> Vec<String> {
        let actions = [Count { delta, total }; ACTIONS.len()];
        table(&Event::Sample(Sample { map: MapId(25), at: 0, interval, partial: false, actions }))
    }

    #[test]
    fn a_table_is_in_the_order_and_the_units_of_the_tutorial() {
        let (delta, total) =
            (Counter { packets: 10_034, bytes: 642_176 }, Counter { packets: 1_200_345, bytes: 76_822_080 });
        let lines = sample(delta, total, 1_000_000_000);
        assert_eq!(
            [&lines[0], &lines[3]],
            [
                "XDP-action                packets        pps            Kbytes Mbits/s    period",
                "XDP_PASS                  1200345      10034             76822       5     1.000",
            ]
        );
        assert_eq!(lines.len(), 1 + ACTIONS.len() + 1);
    }

    #[test]
    fn whatever_a_map_holds_columns_do_not_touch_and_fit_80() {
        let most = Counter { packets: u64::MAX, bytes: u64::MAX };
        let day = 86_400_000_000_000;
        for interval in [1, 1_000_000_000, day, 30 * day] {
            let tables = [
                sample(most, most, interval),
                sample(Counter::default(), most, interval),
                table(&Event::Baseline { map: MapId(25), at: 0, actions: [most; ACTIONS.len()] }),
            ];
            for line in tables.iter().flatten().filter(|line| !line.is_empty()) {
                assert!(line.len() <= 80 && line.split_whitespace().count() == 6, "{line}");
            }
        }
    }
}
