//! The reader: waits for ticks, signals and edits of the config, looks at what there is, and writes what follows from it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use xdpd_config::{Config, Interface, LoadError};
use xdpd_kernel::IfIndex;
use xdpd_kernel::clock::monotonic_ns;

use crate::clock::{Ticker, TimeOfDay};
use crate::delta::{self, Ledger, Observation, Sight};
use crate::devices::Devices;
use crate::follow::{Follower, News};
use crate::output::{Output, Stopped, say};
use crate::pins::{Buffers, Changes, Pin, Pins, Root};
use crate::record::{Event, Facts, Notice, Subject};
use crate::targets::{self, Choice, Target};
use crate::waiter::{Waiter, Woken};

/// How many interfaces of patterns are remembered that have neither device nor pins any more.
const DORMANT: usize = 1024;

/// How much time passes from one verification to the next, in nanoseconds.
const VERIFY: u64 = 900_000_000;

/// For how long network namespaces are held open from one tick to the next.
const HOLD: Duration = Duration::from_secs(5);

/// How to read, beside what the config says.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Instead of the config's.
    pub(crate) interval: Option<Duration>,
    pub(crate) count: Option<u64>,
    pub(crate) choice: Choice,
}

/// Everything that is read and remembered.
#[derive(Debug)]
pub(crate) struct Reader {
    config: Config,
    options: Options,
    root: Root,
    devices: Devices,
    followed: Vec<Followed>,
    output: Output,
    /// Readable when the reader shall end.
    signals: OwnedFd,
    time: TimeOfDay,
    /// When the last tick was; 0 before the first.
    looked: u64,
    /// When something was verified last, and which interface is next, see [`Reader::verify`].
    verified: u64,
    turn: usize,
    /// `None`: what there is to wait for has changed, or has told something.
    waiter: Option<Waiter>,
    /// What was last said about the pin root.
    trouble: Option<String>,
    /// Memory that is used again at every tick.
    buffers: Buffers,
    events: Vec<Event>,
}

/// An interface that is followed.
#[derive(Debug)]
struct Followed {
    target: Target,
    ledger: Ledger,
    pins: Pins,
    sight: Sight,
    subject: Subject,
    /// What was last said about its record.
    bad_record: Option<String>,
}

impl Reader {
    pub(crate) fn new(config: Config, options: Options, output: Output, signals: OwnedFd) -> Self {
        let root = Root::new(config.pin_root.clone());
        let mut devices = Devices::default();
        devices.retain(&namespaces(&config));
        Self {
            config,
            options,
            root,
            devices,
            followed: Vec::new(),
            output,
            signals,
            time: TimeOfDay::now(),
            looked: 0,
            verified: 0,
            turn: 0,
            waiter: None,
            trouble: None,
            buffers: Buffers::default(),
            events: Vec::new(),
        }
    }

    /// Reads once. True when every interface has a map.
    pub(crate) fn once(&mut self) -> Result<bool, Stopped> {
        self.tick()?;
        if self.followed.is_empty() {
            say(format_args!("there is no interface to read"));
        }
        Ok(self.followed.iter().all(|followed| followed.ledger.is_following()))
    }

    /// Reads until something ends it; with a count that is an end too.
    pub(crate) fn run(&mut self, follower: &mut Follower) -> Result<(), Stopped> {
        let mut ticker = Ticker::new(monotonic_ns(), self.interval());
        self.tick()?;
        let mut ticks = 0;
        while self.options.count.is_none_or(|count| ticks < count) {
            self.wait(ticker.next(), follower)?;
            let now = monotonic_ns();
            if follower.due().is_some_and(|due| due <= now)
                && let Some(news) = follower.news(&self.config)
            {
                self.reload(news)?;
                ticker.set_interval(self.interval());
            }
            if ticker.next() <= now {
                ticker.advance(now);
                self.verify(now, follower);
                self.tick()?;
                ticks += 1;
            }
        }
        Ok(())
    }

    fn interval(&self) -> Duration {
        self.options.interval.unwrap_or(self.config.stats.interval)
    }

    /// Waits for the tick, or until the config is to be read. What is told about pins and devices meanwhile is only
    /// noted.
    fn wait(&mut self, tick: u64, follower: &mut Follower) -> Result<(), Stopped> {
        let waiter = match &mut self.waiter {
            Some(waiter) => waiter,
            none => {
                let sources = descriptors(&self.root, &self.devices);
                let output = self.output.descriptor();
                let waiter = Waiter::new(self.signals.as_fd(), output, follower.descriptor(), sources);
                none.insert(waiter.map_err(Stopped::Failed)?)
            }
        };
        loop {
            let deadline = follower.due().map_or(tick, |due| due.min(tick));
            let left = Duration::from_nanos(deadline.saturating_sub(monotonic_ns()));
            match waiter.wait(left).map_err(Stopped::Failed)? {
                Woken::Timeout => return Ok(()),
                Woken::Signal => return Err(Stopped::Signalled),
                Woken::Closed => return Err(Stopped::Closed),
                Woken::Config => {
                    follower.notice();
                    // However much happens to the file, the time has come.
                    if left.is_zero() {
                        return Ok(());
                    }
                }
                Woken::Told => {}
            }
        }
    }

    /// Verifies what inotify may not tell of: that the config is the same file, and that the pin root and one of the
    /// interfaces' directories are the same directories. Something may have been mounted over them, or a part of the path
    /// renamed.
    fn verify(&mut self, now: u64, follower: &mut Follower) {
        let is_time = now >= self.verified.saturating_add(VERIFY);
        if is_time || !follower.is_prompt() {
            follower.compare();
        }
        if !is_time {
            return;
        }
        self.verified = now;
        self.root.suspect();
        if let Some(followed) = self.followed.get_mut(self.turn) {
            followed.pins.verify(&self.root);
        }
        self.turn = (self.turn + 1) % self.followed.len().max(1);
    }

    /// Looks at everything and writes what there is to say.
    fn tick(&mut self) -> Result<(), Stopped> {
        self.time = TimeOfDay::now();
        let may_differ = self.look();
        if may_differ || self.looked == 0 {
            self.find_targets(&[]);
        }
        self.observe(0)?;
        if may_differ {
            self.leave_claimed();
        }
        self.output.flush(self.signals.as_fd())?;
        self.looked = monotonic_ns();
        if self.interval() > HOLD {
            self.devices.let_go();
            self.waiter = None;
        }
        Ok(())
    }

    /// Finds out what changed since the last look. True when there may be more interfaces to follow.
    fn look(&mut self) -> bool {
        // Without one waited for, everything may have something to tell.
        let mut told = self.waiter.iter().flat_map(Waiter::told).copied();
        let pins_told = self.root.descriptor().is_some() && told.next().unwrap_or(true);
        let changes = self.root.changes(pins_told);
        let any_told = pins_told || told.clone().any(|told| told);
        let devices_changed = self.devices.refresh(told);
        if any_told || devices_changed || changes.all {
            self.waiter = None;
        }
        self.mention_trouble();
        self.spread(&changes);
        if devices_changed {
            for followed in &mut self.followed {
                followed.see(&self.devices, &self.config);
            }
        }
        let anything = devices_changed || changes.all || !changes.entries.is_empty();
        anything && targets::has_patterns(&self.config)
    }

    /// Tells the interfaces what changed about their pins.
    fn spread(&mut self, changes: &Changes) {
        if changes.all || !changes.entries.is_empty() || !changes.directories.is_empty() {
            for followed in &mut self.followed {
                followed.pins.told(changes);
            }
        }
    }

    /// Says on stderr, once, why there can be no pins at all, or why those of patterns cannot be found.
    fn mention_trouble(&mut self) {
        let trouble = self.root.trouble();
        if trouble != self.trouble.as_deref() {
            self.trouble = trouble.map(str::to_owned);
            if let Some(trouble) = trouble {
                say(format_args!("{trouble}: there is nothing to read yet"));
            }
        }
    }

    /// Adds the interfaces that are there and not followed yet. Those of the entries `added` are new to the config.
    /// Returns the index of the first one that was added.
    fn find_targets(&mut self, added: &[String]) -> usize {
        self.forget_dormant();
        let first = self.followed.len();
        let has_patterns = targets::has_patterns(&self.config);
        let directories = if has_patterns { self.root.labels() } else { Vec::new() };
        self.mention_trouble();
        let devices = |netns: Option<&str>| self.devices.visible(netns);
        for target in targets::resolve(&self.config, &self.options.choice, devices, &directories) {
            if self.followed.iter().any(|followed| followed.target.label == target.label) {
                continue;
            }
            let ledger = if self.looked == 0 || added.contains(&target.entry) {
                Ledger::new()
            } else {
                Ledger::arrived(self.looked)
            };
            self.followed.push(Followed::new(target, ledger, &self.devices, &self.config));
        }
        first
    }

    /// Drops interfaces of patterns that have neither device nor pins any more, but for the newest.
    fn forget_dormant(&mut self) {
        let dormant = self.followed.iter().filter(|followed| followed.is_dormant()).count();
        let mut excess = dormant.saturating_sub(DORMANT);
        let root = &self.root;
        self.followed.retain_mut(|followed| {
            let drop = excess > 0 && followed.is_dormant();
            if drop {
                excess -= 1;
                followed.pins.close(root);
            }
            !drop
        });
    }

    /// Drops interfaces of patterns whose device has got an alternative name since that is excepted, or that has an entry of
    /// its own. While there are pins, packets are counted there.
    fn leave_claimed(&mut self) {
        let Self { followed, root, devices, config, options, .. } = self;
        followed.retain_mut(|followed| {
            let visible = |netns: Option<&str>| devices.visible(netns);
            let label = &followed.target.label;
            let drop = followed.is_of_pattern()
                && matches!(followed.pins.found().pin, Pin::Absent(_))
                && targets::target(config, &options.choice, visible, label.clone()).is_none();
            if drop {
                followed.pins.close(root);
            }
            !drop
        });
    }

    /// Reads the maps of all interfaces from the one with the index `first` on, and writes what follows.
    fn observe(&mut self, first: usize) -> Result<(), Stopped> {
        let Self { followed, root, devices, config, buffers, events, output, signals, time, .. } = self;
        // First all maps, then all records: system calls of one kind in a row are quicker, and closer in time.
        for followed in &mut followed[first..] {
            if followed.pins.is_stale() {
                followed.pins.resolve(root, |map| followed.ledger.wants(map));
                followed.mention_record();
                followed.see(devices, config);
            }
            followed.pins.read(buffers);
        }
        for followed in &mut followed[first..] {
            let at = followed.judge(events);
            for event in events.drain(..) {
                let own;
                let subject = match event {
                    Event::InterfaceUp(ifindex) | Event::InterfaceGone(ifindex) => {
                        own = followed.subject_at(ifindex);
                        &own
                    }
                    _ => &followed.subject,
                };
                output.event(*time, at, subject, &event, signals.as_fd())?;
            }
        }
        Ok(())
    }

    /// Follows what has become of the config.
    fn reload(&mut self, news: News) -> Result<(), Stopped> {
        match news {
            News::Rejected(error) => self.reject(&error)?,
            News::Changed(config) => self.adopt(*config)?,
        }
        self.output.flush(self.signals.as_fd())
    }

    fn reject(&mut self, error: &LoadError) -> Result<(), Stopped> {
        crate::output::say_config_error(error);
        self.time = TimeOfDay::now();
        let text = error.to_string();
        let (line, column, message, errors) = match error {
            LoadError::Invalid(diagnostics) => match diagnostics.iter().next() {
                Some((line, column, first)) => {
                    (Some(line), Some(column), first.message.as_str(), diagnostics.iter().len())
                }
                None => (None, None, text.as_str(), 1),
            },
            _ => (None, None, text.as_str(), 1),
        };
        let notice =
            Notice::ConfigRejected { config: &self.config.path.clone(), line, column, message, errors };
        self.output.notice(self.time, monotonic_ns(), &notice, self.signals.as_fd())
    }

    fn adopt(&mut self, config: Config) -> Result<(), Stopped> {
        let keys = |config: &Config| -> Vec<String> {
            config.interfaces.iter().map(Interface::key).map(str::to_owned).collect()
        };
        let (before, after) = (keys(&self.config), keys(&config));
        // Where all pins are elsewhere, each interface begins anew.
        let moved = config.pin_root != self.config.pin_root || config.stats.map != self.config.stats.map;
        let is_new = |key: &&String| moved || !before.contains(key);
        let is_old = |key: &&String| moved || !after.contains(key);
        let added: Vec<String> = after.iter().filter(is_new).cloned().collect();
        let removed: Vec<String> = before.iter().filter(is_old).cloned().collect();

        self.time = TimeOfDay::now();
        let followed = std::mem::take(&mut self.followed);
        for mut followed in followed {
            let label = followed.target.label.clone();
            let visible = |netns: Option<&str>| self.devices.visible(netns);
            match targets::target(&config, &self.options.choice, visible, label).filter(|_| !moved) {
                Some(target) => {
                    followed.retarget(target);
                    self.followed.push(followed);
                }
                None => self.conclude(followed)?,
            }
        }
        if config.pin_root != self.config.pin_root {
            self.root = Root::new(config.pin_root.clone());
        }
        self.config = config;
        self.devices.retain(&namespaces(&self.config));
        self.waiter = None;
        let interval = u64::try_from(self.interval().as_nanos()).unwrap_or(u64::MAX);
        let Config { path, sha256, .. } = &self.config;
        let (added, removed) = (added.as_slice(), removed.as_slice());
        let notice = Notice::ConfigReloaded { config: path, sha256, interval, added, removed };
        self.output.notice(self.time, monotonic_ns(), &notice, self.signals.as_fd())?;

        // What is new is looked at at once: what it counts from now on is not to be taken for its baseline.
        self.look();
        for followed in &mut self.followed {
            followed.see(&self.devices, &self.config);
        }
        let first = self.find_targets(added);
        self.observe(first)
    }

    /// Reads an interface a last time.
    fn conclude(&mut self, mut followed: Followed) -> Result<(), Stopped> {
        followed.pins.close(&self.root);
        followed.pins.release();
        followed.pins.read(&mut self.buffers);
        followed.ledger.conclude(&followed.pins.others(), &mut self.events);
        for event in self.events.drain(..) {
            self.output.event(self.time, monotonic_ns(), &followed.subject, &event, self.signals.as_fd())?;
        }
        Ok(())
    }
}

/// What tells of changes: of the pins, and of the devices of each network namespace.
fn descriptors<'a>(root: &'a Root, devices: &'a Devices) -> impl Iterator<Item = BorrowedFd<'a>> {
    root.descriptor().into_iter().chain(devices.descriptors())
}

/// The network namespaces that a config names.
fn namespaces(config: &Config) -> Vec<Option<&str>> {
    let mut names: Vec<_> = config.interfaces.iter().map(|entry| entry.netns.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Followed {
    fn new(target: Target, ledger: Ledger, devices: &Devices, config: &Config) -> Self {
        let map = config.stats.map.clone();
        let facts =
            Facts { interface: target.label.to_string(), device: None, netns: None, ifindex: None, map };
        let pins = Pins::new(&target.label, &config.stats.map);
        let subject = Subject::new(facts);
        let mut followed = Self { target, ledger, pins, sight: Sight::Hidden, subject, bad_record: None };
        followed.see(devices, config);
        followed
    }

    /// Takes note of the device: the live one where it is visible, else the one in the record.
    fn see(&mut self, devices: &Devices, config: &Config) {
        let Target { label, device, netns, .. } = &self.target;
        self.sight = devices.sight(netns.as_deref(), device);
        let recorded = self.pins.found().device.as_ref();
        let (device, ifindex) = match self.sight {
            Sight::Present(ifindex) => (Some(device.clone()), Some(ifindex)),
            _ => (recorded.map(|d| d.name.clone()), recorded.map(|d| IfIndex(d.ifindex))),
        };
        let (interface, map) = (label.to_string(), config.stats.map.clone());
        let facts = Facts { interface, device, netns: netns.clone(), ifindex, map };
        if *self.subject.facts() != facts {
            self.subject = Subject::new(facts);
        }
    }

    /// The same interface with another ifindex.
    fn subject_at(&self, ifindex: IfIndex) -> Subject {
        let device = Some(self.target.device.clone());
        Subject::new(Facts { device, ifindex: Some(ifindex), ..self.subject.facts().clone() })
    }

    fn retarget(&mut self, target: Target) {
        if (&target.device, &target.netns) != (&self.target.device, &self.target.netns) {
            self.ledger.forget_device();
        }
        self.target = target;
    }

    /// Says on stderr, once, what is wrong with the record.
    fn mention_record(&mut self) {
        let bad = &self.pins.found().bad_record;
        if *bad != self.bad_record {
            self.bad_record.clone_from(bad);
            if let Some(reason) = bad {
                say(format_args!("{reason}; its maps are read without it"));
            }
        }
    }

    fn is_of_pattern(&self) -> bool {
        self.target.entry != self.target.label.as_str()
    }

    /// Whether it is one of a pattern, and there is nothing of it.
    fn is_dormant(&self) -> bool {
        let has_device = matches!(self.sight, Sight::Present(_));
        self.is_of_pattern() && !has_device && matches!(self.pins.found().pin, Pin::Absent(_))
    }

    /// Judges what was read, appends what there is to say about it, and returns when that was.
    fn judge(&mut self, events: &mut Vec<Event>) -> u64 {
        let found = self.pins.found();
        let mut at = 0;
        let mut failed = false;
        let pin = match &found.pin {
            Pin::Map { generation, base } => match self.pins.current() {
                Some(Ok(current)) => {
                    at = current.at;
                    delta::Pin::Map { current, generation: *generation, base: *base }
                }
                Some(Err(reason)) => {
                    failed = true;
                    delta::Pin::Unreadable(reason)
                }
                // It is held for as long as the pin holds it.
                None => delta::Pin::Unreadable("the map is not open"),
            },
            Pin::Absent(reason) => delta::Pin::Absent(reason),
            Pin::Other(reason) => delta::Pin::Other(reason),
            Pin::Unreadable(reason) => delta::Pin::Unreadable(reason),
        };
        if at == 0 {
            at = monotonic_ns();
        }
        let others = self.pins.others();
        let seen = Observation { at, device: self.sight, pin, retired: &found.retired, others: &others };
        self.ledger.observe(&seen, events);
        if failed {
            self.pins.suspect();
        }
        let ledger = &self.ledger;
        self.pins.keep(|map| ledger.holds(map));
        at
    }
}
