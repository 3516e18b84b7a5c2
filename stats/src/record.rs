//! What `xdp-stats` says: the events of an interface and of the config, as plain types.

use std::path::Path;

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

/// What there is to say about the config, or about the reader as a whole.
#[derive(Debug)]
pub(crate) enum Notice<'a> {
    ConfigReloaded { config: &'a Path, sha256: &'a str, interval: u64, added: &'a [String], removed: &'a [String] },
    ConfigRejected { config: &'a Path, line: Option<usize>, column: Option<usize>, message: &'a str, errors: usize },
    Error { message: &'a str },
}
