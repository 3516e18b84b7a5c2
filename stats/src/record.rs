//! What `xdp-stats` says: the events of an interface and of the config, as plain types.

use std::path::Path;

use serde::Serialize;
use xdpd_config::terminal::printable_json;
use xdpd_kernel::{IfIndex, MapId};

/// The XDP actions in the order of their numbers, which are the keys of a stats map.
pub(crate) const ACTIONS: [&str; 5] = ["aborted", "drop", "pass", "tx", "redirect"];

/// Packets and bytes, as a stats map holds them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Counter {
    /// The sum, at most `u64::MAX`: what is in a map can be anything, and a wrapped sum would look like a real one.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What came since it was `old`; `None` when it went back, in packets or in bytes.
    pub(crate) fn since(self, old: Self) -> Option<Self> {
        Some(Self {
            packets: self.packets.checked_sub(old.packets)?,
            bytes: self.bytes.checked_sub(old.bytes)?,
        })
    }
}

/// One action of a sample: what came since the map was last read, and what the map holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) delta: Counter,
    pub(crate) total: Counter,
}

/// The packets of one map since it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) map: MapId,
    /// When the map was read, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) at: u64,
    /// The time in which these packets came, in nanoseconds.
    pub(crate) interval: u64,
    /// The map is no longer the interface's current one, and its packets came in an unknown part of the interval.
    pub(crate) partial: bool,
    pub(crate) actions: [Count; ACTIONS.len()],
}

impl Sample {
    /// How many per second `count` are over the measured interval. A part of an interval has no rate.
    #[allow(clippy::cast_precision_loss, reason = "a rate is an approximation")]
    pub(crate) fn per_second(&self, count: u64) -> Option<f64> {
        const SECOND: f64 = 1e9;
        match (self.partial, self.interval) {
            (true, _) => None,
            (false, 0) => Some(0.0),
            (false, interval) => Some(count as f64 * SECOND / interval as f64),
        }
    }
}

/// What there is to say about one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Sample(Sample),
    /// What the map held when this reader first saw it; none of it is in a delta.
    Baseline {
        map: MapId,
        at: u64,
        actions: [Counter; ACTIONS.len()],
    },
    MapReplaced {
        old: MapId,
        new: MapId,
        generation: Option<u64>,
    },
    /// Counters went back in the same map: `slots` are the actions and CPUs, each at least once.
    CounterReset {
        map: MapId,
        slots: Vec<(usize, usize)>,
    },
    InterfaceUp(IfIndex),
    InterfaceGone(IfIndex),
    /// There is no pin, and why.
    Waiting(String),
    /// Packets were counted where this reader could not read them.
    Gap {
        map: Option<MapId>,
        /// The number of maps that came and went unread; `None` when that is unknown too.
        maps: Option<u64>,
        reason: &'static str,
    },
    /// There is a pin, but nothing that can be read.
    Error {
        map: Option<MapId>,
        message: String,
    },
}

/// What there is to say about the config.
#[derive(Debug)]
pub(crate) enum Notice<'a> {
    ConfigReloaded {
        config: &'a Path,
        sha256: &'a str,
        /// The interval that holds from now on, in nanoseconds.
        interval: u64,
        /// Keys of `[interfaces]` that were not in the file before.
        added: &'a [String],
        /// Keys of `[interfaces]` that are not in the file any more.
        removed: &'a [String],
    },
    ConfigRejected {
        config: &'a Path,
        /// Where the first error is; `None` when the file cannot be read at all.
        line: Option<usize>,
        column: Option<usize>,
        message: &'a str,
        /// How many errors there are.
        errors: usize,
    },
}

/// The interface that a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    facts: Facts,
    json: Vec<u8>,
}

/// The facts as they stand in a record, in this order.
#[derive(Serialize)]
struct Fields<'f> {
    interface: &'f str,
    device: Option<&'f str>,
    netns: Option<&'f str>,
    ifindex: Option<u32>,
    map: &'f str,
}

/// What is known of an interface and belongs into each of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The label.
    pub(crate) interface: String,
    /// The name of its device.
    pub(crate) device: Option<String>,
    /// The network namespace as the config names it.
    pub(crate) netns: Option<String>,
    pub(crate) ifindex: Option<IfIndex>,
    /// The name of the stats map.
    pub(crate) map: String,
}

impl Subject {
    pub(crate) fn new(facts: Facts) -> Self {
        let Facts { interface, device, netns, ifindex, map } = &facts;
        let ifindex = ifindex.map(|ifindex| ifindex.0);
        let fields = Fields { interface, device: device.as_deref(), netns: netns.as_deref(), ifindex, map };
        // Texts and numbers can always be written.
        let object = serde_json::to_string(&fields).unwrap_or_default();
        let members = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        let json = printable_json(members).into_owned().into_bytes();
        Self { facts, json }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The facts as a part of a JSON object.
    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }
}
