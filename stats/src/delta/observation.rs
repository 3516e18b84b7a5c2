//! What is seen of an interface at a tick.

use xdpd_kernel::{IfIndex, MapId};

use crate::record::Counter;

/// All counters of one map at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) map: MapId,
    /// The moment, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) at: u64,
    /// `slots[action * cpus + cpu]`; a map that is not per CPU has one slot for each action.
    pub(crate) slots: Vec<Counter>,
}

/// What is seen of one interface at a tick.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    /// The moment, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) at: u64,
    pub(crate) device: Sight,
    pub(crate) pin: Pin<'a>,
    /// The retired maps beside the pin, in the order of their generations.
    pub(crate) retired: &'a [Retired],
    /// The maps that were read beside the current one: all that could be read of those the ledger holds and wants.
    pub(crate) others: &'a [&'a Reading],
}

impl Observation<'_> {
    pub(super) fn current(&self) -> Option<MapId> {
        match &self.pin {
            Pin::Map { current, .. } => Some(current.map),
            _ => None,
        }
    }

    /// The map whose entries were carried over to the current one.
    pub(super) fn base(&self) -> Option<MapId> {
        match &self.pin {
            Pin::Map { base, .. } => *base,
            _ => None,
        }
    }

    /// What was read of a map that is not the current one.
    pub(super) fn reading(&self, map: MapId) -> Option<&Reading> {
        self.others.iter().find(|reading| reading.map == map).copied()
    }

    /// The maps that took over the entries of `map`, and so what that had counted.
    pub(super) fn successors(&self, map: MapId) -> impl Iterator<Item = MapId> {
        let current = match &self.pin {
            Pin::Map { current, base, .. } => Some((current.map, *base)),
            _ => None,
        };
        let retired = self.retired.iter().map(|retired| (retired.map, retired.base));
        retired.chain(current).filter(move |(_, base)| *base == Some(map)).map(|(successor, _)| successor)
    }

    pub(super) fn has_carried(&self, map: MapId) -> bool {
        self.successors(map).next().is_some()
    }
}

/// What is seen of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Whether it exists cannot be seen: its network namespace cannot be entered.
    Hidden,
    Absent,
    Present(IfIndex),
}

/// What the pin of the stats map resolves to.
#[derive(Debug)]
pub(crate) enum Pin<'a> {
    Map {
        current: &'a Reading,
        /// The generation that the record tells; `None` for pins without one, made by other loaders.
        generation: Option<u64>,
        /// The map whose entries were carried over to this one.
        base: Option<MapId>,
    },
    /// Nothing, and why.
    Absent(&'a str),
    /// Something that is no stats map, and what.
    Other(&'a str),
    /// Something that cannot be read now, and why.
    Unreadable(&'a str),
}

/// A retired map that is kept beside the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) map: MapId,
    /// The last generation in which it was current.
    pub(crate) generation: u64,
    /// The map whose entries were carried over to this one.
    pub(crate) base: Option<MapId>,
}
