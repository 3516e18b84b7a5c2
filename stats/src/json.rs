//! Records as JSON: one object per line, its keys always in the same order. The shapes are in docs/json-stats.md.

use serde::Serialize;
use xdpd_config::terminal::printable_json;

use crate::clock::{Stamp, TimeOfDay};
use crate::record::{ACTIONS, Count, Counter, Event, Notice, Sample, Subject};

/// What is the same in all records of a run.
#[derive(Debug)]
#[allow(clippy::struct_field_names)] // the records' own words
pub(crate) struct Run {
    pub(crate) boot_id: String,
    pub(crate) run_id: String,
    pub(crate) host: String,
}

/// Writes records, one after the other.
#[derive(Debug)]
pub(crate) struct Json {
    /// What is written between `mono_ns` and the value of `seq`.
    run: Vec<u8>,
    /// What is written after the value of `seq`.
    host: Vec<u8>,
    seq: u64,
    stamp: Stamp,
}

impl Json {
    pub(crate) fn new(run: &Run) -> Self {
        let mut before = Vec::new();
        before.text(r#","boot_id":"#).string(&run.boot_id).text(r#","run_id":"#).string(&run.run_id);
        before.text(r#","seq":"#);
        let mut host = Vec::new();
        host.text(r#","host":"#).string(&run.host);
        Self { run: before, host, seq: 0, stamp: Stamp::default() }
    }

    /// Appends the line of an event of an interface.
    pub(crate) fn event(
        &mut self,
        line: &mut Vec<u8>,
        time: TimeOfDay,
        at: u64,
        subject: &Subject,
        event: &Event,
    ) {
        let (name, at) = match event {
            Event::Sample(sample) => ("sample", sample.at),
            Event::Baseline { at, .. } => ("baseline", *at),
            Event::MapReplaced { .. } => ("map_replaced", at),
            Event::CounterReset { .. } => ("counter_reset", at),
            Event::InterfaceUp(_) => ("interface_up", at),
            Event::InterfaceGone(_) => ("interface_gone", at),
            Event::Waiting(_) => ("waiting", at),
            Event::Gap { .. } => ("gap", at),
            Event::Error { .. } => ("error", at),
        };
        self.begin(line, name, time, at);
        line.push(b',');
        line.extend_from_slice(subject.json());
        match event {
            Event::Sample(sample) => self::sample(line, sample),
            Event::Baseline { map, actions, .. } => {
                line.text(r#","map_id":"#).value(map.0);
                baseline(line, actions);
            }
            Event::MapReplaced { old, new, generation } => {
                line.text(r#","old_map_id":"#).value(old.0).text(r#","new_map_id":"#).value(new.0);
                line.text(r#","generation":"#).value(*generation);
            }
            Event::CounterReset { map, slots } => {
                let mut actions: Vec<usize> = slots.iter().map(|(action, _)| *action).collect();
                let mut cpus: Vec<usize> = slots.iter().map(|(_, cpu)| *cpu).collect();
                actions.dedup();
                cpus.sort_unstable();
                cpus.dedup();
                let actions: Vec<&str> = actions.into_iter().map(|action| ACTIONS[action]).collect();
                line.text(r#","map_id":"#).value(map.0).text(r#","actions":"#).value(actions);
                line.text(r#","cpus":"#).value(cpus);
            }
            Event::InterfaceUp(_) | Event::InterfaceGone(_) => {}
            Event::Waiting(reason) => {
                line.text(r#","reason":"#).string(reason);
            }
            Event::Gap { map, maps, reason } => {
                line.text(r#","map_id":"#).value(map.map(|map| map.0)).text(r#","maps":"#).value(*maps);
                line.text(r#","reason":"#).string(reason);
            }
            Event::Error { map, message } => {
                line.text(r#","map_id":"#).value(map.map(|map| map.0)).text(r#","message":"#).string(message);
            }
        }
        line.text("}\n");
    }

    /// Appends the line of something that concerns no interface.
    pub(crate) fn notice(&mut self, line: &mut Vec<u8>, time: TimeOfDay, at: u64, notice: &Notice<'_>) {
        match notice {
            Notice::ConfigReloaded { config, sha256, interval, added, removed } => {
                self.begin(line, "config_reloaded", time, at);
                line.text(r#","config":"#)
                    .string(&config.to_string_lossy())
                    .text(r#","sha256":"#)
                    .string(sha256);
                line.text(r#","interval_ns":"#).value(*interval);
                line.text(r#","added":"#).value(added).text(r#","removed":"#).value(removed);
            }
            Notice::ConfigRejected { config, line: number, column, message, errors } => {
                self.begin(line, "config_rejected", time, at);
                line.text(r#","config":"#).string(&config.to_string_lossy());
                line.text(r#","line":"#).value(*number).text(r#","column":"#).value(*column);
                line.text(r#","message":"#).string(message).text(r#","errors":"#).value(*errors);
            }
        }
        line.text("}\n");
    }

    fn begin(&mut self, line: &mut Vec<u8>, event: &str, time: TimeOfDay, at: u64) {
        self.seq += 1;
        line.text(r#"{"schema":1,"event":""#).text(event).text(r#"","ts":""#);
        self.stamp.write(line, time, at);
        line.text(r#"","mono_ns":"#).value(at);
        line.extend_from_slice(&self.run);
        line.value(self.seq);
        line.extend_from_slice(&self.host);
    }
}

fn sample(line: &mut Vec<u8>, sample: &Sample) {
    line.text(r#","map_id":"#).value(sample.map.0).text(r#","interval_ns":"#).value(sample.interval);
    line.text(r#","partial":"#).text(if sample.partial { "true" } else { "false" });
    let mut totals = Count::default();
    for (index, (name, count)) in ACTIONS.iter().zip(sample.actions).enumerate() {
        line.text(if index == 0 { r#","actions":{""# } else { r#",""# }).text(name).text(r#"":"#);
        counts(line, count, sample);
        totals.delta = totals.delta.plus(count.delta);
        totals.total = totals.total.plus(count.total);
    }
    line.text(r#"},"totals":"#);
    counts(line, totals, sample);
}

fn baseline(line: &mut Vec<u8>, actions: &[Counter; ACTIONS.len()]) {
    let mut totals = Counter::default();
    for (index, (name, counter)) in ACTIONS.iter().zip(actions).enumerate() {
        line.text(if index == 0 { r#","actions":{""# } else { r#",""# }).text(name).text(r#"":"#);
        held(line, *counter);
        totals = totals.plus(*counter);
    }
    line.text(r#"},"totals":"#);
    held(line, totals);
}

/// The six fields of a sample.
fn counts(line: &mut Vec<u8>, count: Count, sample: &Sample) {
    let Count { delta, total } = count;
    if count == Count::default() && !sample.partial {
        // Most actions of most interfaces, at every tick.
        line.text(concat!(
            r#"{"packets":0,"bytes":0,"packets_total":0,"bytes_total":0,"#,
            r#""packets_per_second":0.0,"bits_per_second":0.0}"#
        ));
        return;
    }
    line.text(r#"{"packets":"#).value(delta.packets).text(r#","bytes":"#).value(delta.bytes);
    line.text(r#","packets_total":"#).value(total.packets).text(r#","bytes_total":"#).value(total.bytes);
    line.text(r#","packets_per_second":"#).rate(sample.per_second(delta.packets));
    let bits = sample.per_second(delta.bytes).map(|bytes| bytes * 8.0);
    line.text(r#","bits_per_second":"#).rate(bits).text("}");
}

/// The two fields of a baseline.
fn held(line: &mut Vec<u8>, counter: Counter) {
    line.text(r#"{"packets_total":"#).value(counter.packets);
    line.text(r#","bytes_total":"#).value(counter.bytes).text("}");
}

/// Appending JSON to a buffer, which takes all that is written: the results are of no interest.
trait Append {
    /// Text that is JSON already.
    fn text(&mut self, json: &str) -> &mut Self;
    /// Any value that serde knows.
    fn value(&mut self, value: impl Serialize) -> &mut Self;

    fn string(&mut self, text: &str) -> &mut Self {
        self.value(text)
    }

    fn rate(&mut self, rate: Option<f64>) -> &mut Self {
        match rate {
            None => self.text("null"),
            // By far the most frequent one.
            Some(0.0) => self.text("0.0"),
            Some(rate) => self.value(rate),
        }
    }
}

impl Append for Vec<u8> {
    fn text(&mut self, json: &str) -> &mut Self {
        self.extend_from_slice(json.as_bytes());
        self
    }

    fn value(&mut self, value: impl Serialize) -> &mut Self {
        let start = self.len();
        let _ = serde_json::to_writer(&mut *self, &value);
        // A terminal may be where it goes. By far the most values are numbers, which need no closer look.
        let written = &self[start..];
        if !written.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            let text = String::from_utf8_lossy(written);
            let text = printable_json(&text).into_owned();
            self.truncate(start);
            self.extend_from_slice(text.as_bytes());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;
    use xdpd_kernel::{IfIndex, MapId};

    use super::*;
    use crate::record::Facts;

    const HEAD: &str = r#","boot_id":"b","run_id":"r","seq":1,"host":"h\"1""#;
    const SUBJECT: &str = r#","interface":"t:eth0","device":"eth0","netns":"t","ifindex":6,"map":"m""#;

    fn json() -> Json {
        Json::new(&Run { boot_id: "b".to_owned(), run_id: "r".to_owned(), host: "h\"1".to_owned() })
    }

    /// A line without its beginning, which has the time.
    fn rest(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        let line = std::str::from_utf8(&line).unwrap();
        let _: Value = serde_json::from_str(line).unwrap();
        assert!(line.ends_with("}\n"), "{line:?}");
        let at = line.find(r#","mono_ns":77,"#).unwrap() + r#","mono_ns":77"#.len();
        line[at..].trim_end().to_owned()
    }

    fn event(event: &Event) -> String {
        let facts = Facts {
            interface: "t:eth0".to_owned(),
            device: Some("eth0".to_owned()),
            netns: Some("t".to_owned()),
            ifindex: Some(IfIndex(6)),
            map: "m".to_owned(),
        };
        let mut json = json();
        let line = rest(|line| json.event(line, TimeOfDay::now(), 77, &Subject::new(facts), event));
        line.strip_prefix(HEAD).and_then(|line| line.strip_prefix(SUBJECT)).unwrap().to_owned()
    }

    #[test]
    fn what_happens_to_an_interface_has_the_documented_fields() {
        let map = MapId(25);
        let replaced = Event::MapReplaced { old: map, new: MapId(26), generation: Some(3) };
        assert_eq!(event(&replaced), r#","old_map_id":25,"new_map_id":26,"generation":3}"#);
        let reset = Event::CounterReset { map, slots: vec![(1, 0), (1, 3), (2, 0)] };
        assert_eq!(event(&reset), r#","map_id":25,"actions":["drop","pass"],"cpus":[0,3]}"#);
        assert_eq!(event(&Event::InterfaceUp(IfIndex(6))), "}");
        assert_eq!(event(&Event::Waiting("no \"pin\"".to_owned())), r#","reason":"no \"pin\""}"#);
        let gap = Event::Gap { map: Some(map), maps: None, reason: "why" };
        assert_eq!(event(&gap), r#","map_id":25,"maps":null,"reason":"why"}"#);
        let error = Event::Error { map: None, message: "wrong".to_owned() };
        assert_eq!(event(&error), r#","map_id":null,"message":"wrong"}"#);
    }

    #[test]
    fn names_do_not_act_on_a_terminal_and_stay_the_same() {
        let hostile = "x\u{202e}\u{9b}2Jé".to_owned();
        assert_eq!(event(&Event::Waiting(hostile)), r#","reason":"x\u202e\u009b2Jé"}"#);
    }

    #[test]
    fn a_partial_sample_has_no_rates_and_a_whole_one_those_of_its_interval() {
        let mut actions = [Count::default(); ACTIONS.len()];
        let delta = Counter { packets: 3, bytes: 192 };
        actions[2] = Count { delta, total: Counter { packets: 10, bytes: 640 } };
        let sample = |partial| {
            Event::Sample(Sample { map: MapId(25), at: 77, interval: 500_000_000, partial, actions })
        };
        let parse = |text: String| -> Value { serde_json::from_str(&text.replacen(',', "{", 1)).unwrap() };
        let whole = parse(event(&sample(false)));
        assert_eq!(whole["actions"]["pass"]["packets_per_second"], 6.0);
        assert_eq!(whole["totals"]["bits_per_second"], 192.0 * 8.0 * 2.0);
        assert_eq!(whole["actions"]["drop"]["bits_per_second"], 0.0);
        let partial = parse(event(&sample(true)));
        assert_eq!(partial["partial"], true);
        for counts in [&partial["actions"]["drop"], &partial["totals"]] {
            assert_eq!(
                (&counts["packets_per_second"], &counts["bits_per_second"]),
                (&Value::Null, &Value::Null)
            );
        }
        assert_eq!(partial["totals"]["packets_total"], 10);
    }

    #[test]
    fn what_happens_to_the_config_names_no_interface() {
        let mut json = json();
        let mut notice = |notice: &Notice<'_>, seq: &str| {
            let head = HEAD.replace(r#""seq":1"#, seq);
            let line = rest(|line| json.notice(line, TimeOfDay::now(), 77, notice));
            line.strip_prefix(&head).unwrap().to_owned()
        };
        let config = Path::new("/c");
        let (added, removed) = (&["a".to_owned(), "b".to_owned()][..], &[][..]);
        let reloaded = Notice::ConfigReloaded { config, sha256: "00", interval: 5, added, removed };
        assert_eq!(
            notice(&reloaded, r#""seq":1"#),
            r#","config":"/c","sha256":"00","interval_ns":5,"added":["a","b"],"removed":[]}"#
        );
        let rejected =
            Notice::ConfigRejected { config, line: Some(3), column: None, message: "no", errors: 2 };
        assert_eq!(
            notice(&rejected, r#""seq":2"#),
            r#","config":"/c","line":3,"column":null,"message":"no","errors":2}"#
        );
    }
}
