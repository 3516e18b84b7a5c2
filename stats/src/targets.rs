//! Which interfaces are followed: the entries of the config, their patterns resolved. Pure.

use std::collections::BTreeSet;

use xdpd_config::{Config, Glob, Interface, Label, Selector, listed};

/// An interface to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) label: Label,
    /// The name of its device.
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
            let names = |entry: &Interface| entry.key() == label.as_str() || matched(entry, label).is_some();
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
    listed(config.interfaces.iter().map(|entry| format!("{:?}", entry.key())), SHOWN)
}

/// Whether following `config` takes knowing the devices and the pin directories that there are.
pub(crate) fn has_patterns(config: &Config) -> bool {
    config.interfaces.iter().any(|entry| matches!(entry.selector, Selector::Glob(_)))
}

/// The interfaces to follow, each label once: in the order of the file, then those that only have a pin directory.
///
/// `devices` gives the names of the devices that are visible in a network namespace, `directories` are the labels that
/// have a pin directory.
pub(crate) fn resolve<'a, D: IntoIterator<Item = &'a str>>(
    config: &Config,
    choice: &Choice,
    devices: impl Fn(Option<&str>) -> D,
    directories: &[Label],
) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut labels = BTreeSet::new();
    let mut candidates: Vec<Label> = Vec::new();
    for entry in &config.interfaces {
        match &entry.selector {
            Selector::Device { label, .. } => candidates.push(label.clone()),
            Selector::Glob(_) => {
                let visible = devices(entry.netns.as_deref()).into_iter();
                candidates.extend(visible.filter_map(|device| entry.label_of(device).ok()));
            }
        }
    }
    candidates.extend(directories.iter().cloned());
    // A label that is asked for by name is followed before there is anything of it.
    let chosen = choice.0.iter().filter(|label| !Glob::is_glob(label));
    candidates.extend(chosen.filter_map(|label| Label::try_new(label).ok()));
    for label in candidates {
        if labels.insert(label.clone()) {
            targets.extend(target(config, choice, label));
        }
    }
    targets
}

/// How the config follows `label`, if it does: an entry of its own goes first, then the patterns in the order of the
/// file.
pub(crate) fn target(config: &Config, choice: &Choice, label: Label) -> Option<Target> {
    let own = config.interfaces.iter().find_map(|entry| match &entry.selector {
        Selector::Device { label: key, device } if *key == label => Some((entry, device.as_str())),
        _ => None,
    });
    let by_pattern = || {
        let entries = config.interfaces.iter();
        let mut matches = entries.filter_map(|entry| Some((entry, matched(entry, label.as_str())?)));
        matches.find(|(entry, device)| !claimed(config, entry, device))
    };
    let (entry, device) =
        own.or_else(by_pattern).filter(|(entry, _)| choice.admits(entry, label.as_str()))?;
    let (device, netns, entry) = (device.to_owned(), entry.netns.clone(), entry.key().to_owned());
    Some(Target { label, device, netns, entry })
}

/// The device that `label` stands for under `entry`, a pattern, if that matches it.
fn matched<'a>(entry: &Interface, label: &'a str) -> Option<&'a str> {
    let Selector::Glob(glob) = &entry.selector else { return None };
    let device = match &entry.netns {
        Some(netns) => label.strip_prefix(netns.as_str())?.strip_prefix(':')?,
        None => label,
    };
    // No device's name holds these: it is the label of something else.
    (!device.contains([':', '/']) && glob.matches(device)).then_some(device)
}

/// Whether an entry of its own names the device, which wins over the pattern `entry`.
fn claimed(config: &Config, entry: &Interface, device: &str) -> bool {
    config.interfaces.iter().any(|other| match &other.selector {
        Selector::Device { device: claimed, .. } => claimed == device && other.netns == entry.netns,
        Selector::Glob(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("/etc/xdpd/config.toml"), text).unwrap()
    }

    fn labels(text: &str, choice: &[&str], directories: &[&str]) -> Vec<String> {
        let devices = |netns: Option<&str>| match netns {
            None => vec!["lo", "eth0", "veth1", "veth2"],
            Some("blue") => vec!["lo", "eth0", "veth1"],
            Some(_) => Vec::new(),
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
