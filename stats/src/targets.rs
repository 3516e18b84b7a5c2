//! Which interfaces are followed: the entries of the config, their patterns resolved. Pure.

use std::collections::BTreeSet;

use xdpd_config::{Config, Glob, Interface, Label, Selector, join_some};
use xdpd_kernel::{Device, netlink};

/// An interface to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) label: Label,
    /// The name of its device: the one in the config, which may be an alternative name, or the one that a pattern matched.
    pub(crate) device: String,
    /// The network namespace of its device as the config names it; `None`: our own.
    pub(crate) netns: Option<String>,
    /// The key of the config's entry for it: its label or a pattern.
    pub(crate) entry: String,
}

/// The interfaces that `--interface` asks for; none means all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice(Vec<String>);

impl Choice {
    pub(crate) fn new(labels: Vec<String>) -> Self {
        Self(labels)
    }

    /// The first label that names no interface of `config`, with what may have been meant.
    pub(crate) fn unknown(&self, config: &Config) -> Option<String> {
        let unknown = self.0.iter().find(|label| {
            let names =
                |entry: &Interface| entry.key() == label.as_str() || device_of(entry, label).is_some();
            !config.interfaces.iter().any(names)
        })?;
        let keys = config.interfaces.iter().map(Interface::key);
        let hint = match xdpd_config::suggest(unknown, keys) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("{} has {}", config.path.display(), list(config)),
        };
        Some(format!("--interface {unknown:?} names no interface of the config; {hint}"))
    }

    fn admits(&self, entry: &Interface, label: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|chosen| chosen == label || chosen == entry.key())
    }
}

/// The keys of the config's interfaces, as many as are of use in a message.
fn list(config: &Config) -> String {
    const SHOWN: usize = 8;
    if config.interfaces.is_empty() {
        return "no interfaces".to_owned();
    }
    join_some(config.interfaces.iter().map(|entry| format!("{:?}", entry.key())), SHOWN)
}

/// Whether following `config` takes knowing the devices and the pin directories that there are.
pub(crate) fn has_patterns(config: &Config) -> bool {
    config.interfaces.iter().any(|entry| matches!(entry.selector, Selector::Glob { .. }))
}

/// The interfaces to follow, each label once: in the order of the file, then those that only have a pin directory.
///
/// `devices` gives the devices that are visible in a network namespace, `directories` are the labels that have a pin
/// directory. A device whose name makes no label is left out, as `xdpd` does and tells.
pub(crate) fn resolve<'a>(
    config: &Config,
    choice: &Choice,
    devices: impl Fn(Option<&str>) -> &'a [Device],
    directories: &[Label],
) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut labels = BTreeSet::new();
    let mut candidates: Vec<Label> = Vec::new();
    for entry in &config.interfaces {
        match &entry.selector {
            Selector::Device { label, .. } => candidates.push(label.clone()),
            Selector::Glob { .. } => {
                let visible = devices(entry.netns.as_deref()).iter();
                candidates.extend(visible.filter_map(|device| entry.label_of(&device.name).ok()));
            }
        }
    }
    candidates.extend(directories.iter().cloned());
    // A label that is asked for by name is followed before there is anything of it.
    let chosen = choice.0.iter().filter(|label| !Glob::is_glob(label));
    candidates.extend(chosen.filter_map(|label| Label::try_new(label).ok()));
    for label in candidates {
        if labels.insert(label.clone()) {
            targets.extend(target(config, choice, &devices, label));
        }
    }
    targets
}

/// How the config follows `label`, if it does: an entry of its own goes first, then the patterns in the order of the
/// file. Of a device that is not visible its name is known, and no other.
pub(crate) fn target<'a>(
    config: &Config,
    choice: &Choice,
    devices: impl Fn(Option<&str>) -> &'a [Device],
    label: Label,
) -> Option<Target> {
    let own = config.interfaces.iter().find_map(|entry| match &entry.selector {
        Selector::Device { label: key, device } if *key == label => Some((entry, device.as_str())),
        _ => None,
    });
    let by_pattern = || {
        config.interfaces.iter().find_map(|entry| {
            let device = device_of(entry, label.as_str())?;
            let visible = devices(entry.netns.as_deref());
            let own = visible.iter().find(|found| found.name == device);
            let alt_names = own.map_or(&[][..], |own| &own.alt_names);
            let is_for = entry.selector.is_pattern_for(device, alt_names);
            (is_for && !claimed(config, entry, device, visible)).then_some((entry, device))
        })
    };
    let (entry, device) =
        own.or_else(by_pattern).filter(|(entry, _)| choice.admits(entry, label.as_str()))?;
    let (device, netns, entry) = (device.to_owned(), entry.netns.clone(), entry.key().to_owned());
    Some(Target { label, device, netns, entry })
}

/// The device that `label` stands for under `entry`, if that is a pattern which matches this name.
fn device_of<'a>(entry: &Interface, label: &'a str) -> Option<&'a str> {
    let device = match &entry.netns {
        Some(netns) => label.strip_prefix(netns.as_str())?.strip_prefix(':')?,
        None => label,
    };
    // No device's name holds these: it is the label of something else.
    let is_for = entry.selector.is_pattern_for(device, &[""; 0]);
    (!device.contains([':', '/']) && is_for).then_some(device)
}

/// Whether an entry of its own names the device, by whichever of its names, which wins over the pattern `entry`.
fn claimed(config: &Config, entry: &Interface, device: &str, visible: &[Device]) -> bool {
    let is_meant = |name: &str| match netlink::called(visible, name) {
        Some(found) => found.name == device,
        None => name == device,
    };
    config.interfaces.iter().any(|other| match &other.selector {
        Selector::Device { device: claimed, .. } => other.netns == entry.netns && is_meant(claimed),
        Selector::Glob { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use xdpd_kernel::IfIndex;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("/etc/xdpd/config.toml"), text).unwrap()
    }

    /// Devices by their names, with the alternative ones behind colons.
    fn devices(names: &[&str]) -> Vec<Device> {
        let device = |(number, names): (usize, &&str)| {
            let mut names = names.split(':').map(str::to_owned);
            let (name, alt_names) = (names.next().unwrap(), names.collect());
            let ifindex = IfIndex(u32::try_from(number + 1).unwrap());
            Device { ifindex, name, alt_names, mtu: 1500, xdp: Vec::new() }
        };
        names.iter().enumerate().map(device).collect()
    }

    fn labels(text: &str, choice: &[&str], directories: &[&str]) -> Vec<String> {
        labels_of(text, choice, directories, &["lo", "eth0", "veth1", "veth2"])
    }

    fn labels_of(text: &str, choice: &[&str], directories: &[&str], own: &[&str]) -> Vec<String> {
        let (own, blue) = (devices(own), devices(&["lo", "eth0", "veth1"]));
        let devices = |netns: Option<&str>| match netns {
            None => &*own,
            Some("blue") => &*blue,
            Some(_) => &[],
        };
        let choice = Choice::new(choice.iter().map(ToString::to_string).collect());
        let directories: Vec<Label> =
            directories.iter().map(|label| Label::try_new(label).unwrap()).collect();
        let targets = resolve(&config(text), &choice, devices, &directories);
        targets
            .into_iter()
            .map(|target| format!("{} {} {}", target.label, target.device, target.netns.unwrap_or_default()))
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn explicit_interfaces_are_followed_whether_there_is_a_device_or_not() {
        let text = "[interfaces.eth9]\n[interfaces.tenant]\nname = \"eth0\"\nnetns = \"blue\"\n";
        assert_eq!(labels(text, &[], &[]), ["eth9 eth9", "tenant eth0 blue"]);
    }

    #[test]
    fn a_pattern_stands_for_devices_and_for_pin_directories() {
        let text = "[interfaces.\"veth*\"]\n";
        let found = labels(text, &[], &["veth2", "veth7", "other", "blue:veth1"]);
        assert_eq!(found, ["veth1 veth1", "veth2 veth2", "veth7 veth7"]);
    }

    #[test]
    fn labels_of_a_pattern_in_a_namespace_begin_with_its_name() {
        let text = "[interfaces.\"*\"]\nnetns = \"blue\"\n";
        let found = labels(text, &[], &["veth2", "blue:veth9", "green:veth9"]);
        assert_eq!(
            found,
            ["blue:lo lo blue", "blue:eth0 eth0 blue", "blue:veth1 veth1 blue", "blue:veth9 veth9 blue"]
        );
    }

    #[test]
    fn an_explicit_entry_wins_over_patterns_by_label_and_by_device() {
        let text = "[interfaces.\"*\"]\n[interfaces.veth1]\n[interfaces.uplink]\nname = \"eth0\"\n";
        let found = labels(text, &[], &["veth1", "eth0"]);
        assert_eq!(found, ["lo lo", "veth1 veth1", "veth2 veth2", "uplink eth0"]);
    }

    #[test]
    fn an_entry_that_names_a_device_by_an_alternative_name_wins_over_patterns() {
        let text = "[interfaces.\"*\"]\n[interfaces.uplink-of-this-host]\n";
        let found = labels_of(text, &[], &["eth0"], &["eth0:uplink-of-this-host:x", "eth1"]);
        assert_eq!(found, ["eth1 eth1", "uplink-of-this-host uplink-of-this-host"]);
    }

    #[test]
    fn exceptions_are_for_names_and_alternative_names() {
        let text = "[interfaces.\"veth*\"]\nexcept = [\"veth-mgmt*\", \"no-xdp\"]\n";
        let own = ["veth1", "veth-mgmt0", "veth2:no-xdp", "veth3:other:no-xdp", "eth0:veth9"];
        // Of what is not visible only the name is known.
        let found = labels_of(text, &[], &["veth2", "veth7", "veth-mgmt7"], &own);
        assert_eq!(found, ["veth1 veth1", "veth7 veth7"]);
        assert_eq!(labels_of(text, &["veth2"], &[], &own), [""; 0]);
        let config = config(text);
        let unknown = |label: &str| Choice::new(vec![label.to_owned()]).unknown(&config);
        assert!(unknown("veth-mgmt0").is_some() && unknown("veth2").is_none());
    }

    #[test]
    fn a_device_whose_name_makes_no_label_is_left_out() {
        let own = ["v\u{1b}[2J", "v\u{fffd}", "veth1"];
        assert_eq!(labels_of("[interfaces.\"v*\"]\n", &[], &[], &own), ["veth1 veth1"]);
    }

    #[test]
    fn a_choice_takes_labels_and_patterns_and_waits_for_what_is_not_there() {
        let text = "[interfaces.\"veth*\"]\n[interfaces.eth0]\n[interfaces.eth1]\n";
        assert_eq!(labels(text, &["eth1", "veth9"], &[]), ["eth1 eth1", "veth9 veth9"]);
        assert_eq!(labels(text, &["veth*"], &[]), ["veth1 veth1", "veth2 veth2"]);
    }

    #[test]
    fn a_choice_that_names_nothing_is_told_with_a_near_miss() {
        let config = config("[interfaces.\"veth*\"]\n[interfaces.uplink]\n");
        let unknown = |label: &str| Choice::new(vec![label.to_owned()]).unknown(&config);
        assert_eq!(unknown("uplink"), None);
        assert_eq!(unknown("veth*"), None);
        assert_eq!(unknown("veth12"), None);
        let near = unknown("uplnk").unwrap();
        assert!(
            near.contains("\"uplnk\" names no interface") && near.contains("did you mean \"uplink\"?"),
            "{near}"
        );
        let far = unknown("wlan0").unwrap();
        assert!(far.contains("/etc/xdpd/config.toml has \"veth*\", \"uplink\""), "{far}");
    }
}
