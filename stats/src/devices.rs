//! Which devices there are, in our own network namespace and in those that the config names.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xdpd_kernel::netlink::{self, Events, LinkMonitor};
use xdpd_kernel::netns::NAMED_DIR;
use xdpd_kernel::{Device, Entrance, Error, NetNs};

use crate::delta::Sight;
use crate::denied::unless_denied;

/// The devices of all network namespaces that are of interest.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    namespaces: Vec<Namespace>,
}

/// One network namespace.
#[derive(Debug)]
struct Namespace {
    /// As the config names it; `None`: our own.
    name: Option<String>,
    state: State,
    /// Device and inode of what the name led to when it was last looked at.
    seen: Option<(u64, u64)>,
    /// It is to be opened at the next refresh, also if the name leads to the same one.
    closed: bool,
}

#[derive(Debug)]
enum State {
    Open {
        netns: Option<NetNs>,
        /// Tells of changes; `None`: nothing does, and all devices are looked at at every tick.
        monitor: Option<LinkMonitor>,
        devices: Vec<Device>,
        stale: bool,
    },
    /// There is no such namespace, and so no device in it.
    Absent,
    /// It is there, but cannot be looked into.
    Hidden,
}

impl Devices {
    /// From now on these namespaces are of interest.
    pub(crate) fn retain(&mut self, names: &[Option<&str>]) {
        self.namespaces.retain(|namespace| names.contains(&namespace.name.as_deref()));
        for name in names {
            if self.find(*name).is_none() {
                let name = name.map(str::to_owned);
                self.namespaces.push(Namespace { name, state: State::Absent, seen: None, closed: true });
            }
        }
    }

    /// Each becomes readable when there is something to tell, in the order that [`Devices::refresh`] expects.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.namespaces.iter().filter_map(|namespace| match &namespace.state {
            State::Open { monitor, .. } => monitor.as_ref().map(AsFd::as_fd),
            _ => None,
        })
    }

    /// Brings all up to date; true when anything changed. `told`: for each descriptor whether it is readable.
    pub(crate) fn refresh(&mut self, mut told: impl Iterator<Item = bool>) -> bool {
        let mut changed = false;
        for namespace in &mut self.namespaces {
            if let State::Open { monitor: Some(monitor), stale, .. } = &mut namespace.state
                && told.next().unwrap_or(true)
            {
                *stale |= match monitor.drain() {
                    Ok(Events::Changed(events)) => !events.is_empty(),
                    Ok(Events::Overflow) | Err(_) => true,
                };
            }
            changed |= namespace.refresh();
        }
        changed
    }

    /// Lets go of all namespaces but our own until the next refresh. One that is held open outlives its deletion, with
    /// its devices: for a tick that does not matter, for hours it would.
    pub(crate) fn let_go(&mut self) {
        for namespace in self.namespaces.iter_mut().filter(|namespace| namespace.name.is_some()) {
            if let State::Open { netns, monitor, .. } = &mut namespace.state {
                (*netns, *monitor) = (None, None);
                namespace.closed = true;
            }
        }
    }

    /// What is seen of a device, by its name or an alternative name.
    pub(crate) fn sight(&self, netns: Option<&str>, device: &str) -> Sight {
        match self.find(netns).map(|namespace| &namespace.state) {
            Some(State::Open { devices, .. }) => match netlink::called(devices, device) {
                Some(found) => Sight::Present(found.ifindex),
                None => Sight::Absent,
            },
            Some(State::Absent) => Sight::Absent,
            Some(State::Hidden) | None => Sight::Hidden,
        }
    }

    /// The devices that are visible in a namespace.
    pub(crate) fn visible(&self, netns: Option<&str>) -> &[Device] {
        match self.find(netns).map(|namespace| &namespace.state) {
            Some(State::Open { devices, .. }) => devices,
            _ => &[],
        }
    }

    fn find(&self, netns: Option<&str>) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.name.as_deref() == netns)
    }
}

impl Namespace {
    /// True when anything changed.
    fn refresh(&mut self) -> bool {
        let mut changed = false;
        // A namespace that was deleted and made anew has the same name, and the old one lives on while we hold it.
        let identity = self.name.as_deref().and_then(identity);
        if identity != self.seen || self.closed {
            let before = std::mem::discriminant(&self.state);
            self.seen = identity;
            (self.state, self.closed) = match unless_denied(|| Self::open(self.name.as_deref())) {
                Ok(Some(state)) => (state, false),
                // What is not permitted is not tried at every tick: it takes a thread each time.
                Ok(None) => (State::Hidden, false),
                Err(_) => (State::Hidden, true),
            };
            let is_open = matches!(self.state, State::Open { .. });
            changed = is_open || before != std::mem::discriminant(&self.state);
        }
        let State::Open { netns, monitor, devices, stale } = &mut self.state else { return changed };
        if !*stale && monitor.is_some() {
            return changed;
        }
        let found = match netns {
            Some(netns) => netns.run(netlink::devices),
            None => Ok(netlink::devices()),
        };
        match found {
            Ok(Ok(found)) => {
                changed |= *devices != found;
                *devices = found;
                *stale = false;
            }
            // Devices kept coming and going: they are looked at again at the next tick.
            Ok(Err(_)) => {}
            Err(_) => (self.state, self.closed) = (State::Hidden, true),
        }
        changed
    }

    /// The error is why it cannot be looked into.
    fn open(name: Option<&str>) -> Result<State, Error> {
        let (netns, monitor) = match name {
            None => (None, LinkMonitor::open()),
            Some(name) => {
                let netns = match NetNs::find(name)? {
                    Entrance::Open(netns) => netns,
                    // Also a name without a namespace behind it: `ip netns add` makes it in two steps.
                    Entrance::Absent(_) => return Ok(State::Absent),
                };
                let monitor = netns.run(LinkMonitor::open)?;
                (Some(netns), monitor)
            }
        };
        // The monitor listens before the first look: nothing falls in between.
        Ok(State::Open { netns, monitor: monitor.ok(), devices: Vec::new(), stale: true })
    }
}

/// Device and inode of the file that stands for a namespace.
fn identity(name: &str) -> Option<(u64, u64)> {
    let path = if name.contains('/') { name.into() } else { Path::new(NAMED_DIR).join(name) };
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
