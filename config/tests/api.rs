//! What a valid file means, as the programs ask for it.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::path::Path;
use std::time::Duration;

use xdpd_config::escape::escape;
use xdpd_config::{
    BUILTIN_FUNCTIONS, Config, Diagnostic, Interface, Label, LabelError, Mode, ObjectRef, Reuse, Selector,
    parse_interval,
};

fn parse(text: &str) -> Config {
    Config::parse(Path::new("/etc/xdpd/config.toml"), text).unwrap()
}

fn interface<'a>(config: &'a Config, key: &str) -> &'a Interface {
    config.interfaces.iter().find(|interface| interface.key() == key).unwrap()
}

#[test]
fn one_table_is_a_complete_file() {
    let config = parse("[interfaces.eth0]");
    assert_eq!(config.path, Path::new("/etc/xdpd/config.toml"));
    assert_eq!(config.pin_root, Path::new("/sys/fs/bpf/xdpd"));
    assert_eq!(config.reuse, Reuse::IfCompatible);
    assert_eq!((config.stats.map.as_str(), config.stats.interval), ("xdp_stats_map", Duration::from_secs(1)));
    let eth0 = interface(&config, "eth0");
    assert_eq!(
        eth0.selector,
        Selector::Device { label: Label::try_new("eth0").unwrap(), device: "eth0".to_owned() }
    );
    assert_eq!((&eth0.netns, eth0.modes.as_slice(), eth0.reuse), (&None, [Mode::Native].as_slice(), None));
    let program = config.program_of(eth0);
    assert_eq!(program, &Config::default_program());
    assert_eq!(
        (&program.object.value, program.function()),
        (&ObjectRef::Builtin, Some(BUILTIN_FUNCTIONS[0]))
    );
}

#[test]
fn an_object_is_relative_to_the_file_that_names_it() {
    let config =
        parse("programs.a.object = 'edge.o'\nprograms.b.object = '../lib/b.o'\nprograms.c.object = '/c.o'");
    let object = |name: &str| config.programs[name].object.value.clone();
    assert_eq!(object("a"), ObjectRef::File("/etc/xdpd/edge.o".into()));
    assert_eq!(object("b"), ObjectRef::File("/etc/xdpd/../lib/b.o".into()));
    assert_eq!(object("c"), ObjectRef::File("/c.o".into()));
}

#[test]
fn a_builtin_without_function_passes_and_a_file_is_asked() {
    let config = parse("programs.a.object = 'builtin'\nprograms.b.object = 'b.o'");
    assert_eq!(config.programs["a"].function(), Some("xdp_pass_func"));
    assert_eq!(config.programs["b"].function(), None);
}

#[test]
fn the_nearest_policy_decides() {
    let config = parse(
        "reuse = 'never'\n\
         programs.p.object = 'p.o'\nprograms.p.maps.kept.reuse = 'require'\nprograms.p.maps.mentioned = {}\n\
         [interfaces.a]\nprogram = 'p'\n\
         [interfaces.b]\nprogram = 'p'\nreuse = 'if-compatible'\n",
    );
    let policy = |key: &str, map: &str| {
        let interface = interface(&config, key);
        config.reuse_of(interface, config.program_of(interface), map)
    };
    assert_eq!(policy("a", "kept"), Reuse::Require);
    assert_eq!(policy("a", "mentioned"), Reuse::Never);
    assert_eq!(policy("a", "other"), Reuse::Never);
    assert_eq!(policy("b", "kept"), Reuse::Require);
    assert_eq!(policy("b", "mentioned"), Reuse::IfCompatible);
    assert_eq!(policy("b", "other"), Reuse::IfCompatible);
}

#[test]
fn interfaces_keep_the_order_of_the_file() {
    let config = parse("[interfaces.z]\n[interfaces.'a*']\n[interfaces.m]\n");
    let keys: Vec<_> = config.interfaces.iter().map(Interface::key).collect();
    assert_eq!(keys, ["z", "a*", "m"]);
}

#[test]
fn a_pattern_matches_whole_names_and_labels_what_it_matches() {
    let config = parse(
        "[interfaces.'veth[0-9]?']\n\
         [interfaces.'*']\nnetns = 'a'\n\
         [interfaces.'tap*']\nnetns = '/run/netns/b'\n",
    );
    let Selector::Glob { glob, .. } = &interface(&config, "veth[0-9]?").selector else {
        panic!("expected a pattern")
    };
    assert!(glob.matches("veth12") && glob.matches("veth1é"));
    assert!(!glob.matches("veth1") && !glob.matches("veth123") && !glob.matches("Veth12"));
    let label = |key: &str, device| interface(&config, key).label_of(device).unwrap();
    assert_eq!(label("veth[0-9]?", "veth12").as_str(), "veth12");
    assert_eq!(label("*", "eth0.1").file_name(), "a:eth0%2E1");
    assert_eq!(label("tap*", "tap0").as_str(), "/run/netns/b:tap0");
}

#[test]
fn a_leading_dot_of_a_device_is_nothing_special_to_a_pattern() {
    let config = parse("[interfaces.'*']");
    let Selector::Glob { glob, .. } = &config.interfaces[0].selector else { panic!("expected a pattern") };
    assert!(glob.matches(".hidden"));
}

#[test]
fn pins_are_below_the_root_under_escaped_names() {
    let config = parse("pin_root = '/sys/fs/bpf//x/'\n[interfaces.'eth0.100']\n");
    let label = Label::try_new("eth0.100").unwrap();
    let pin = config.pin_root.join(label.file_name()).join(escape(".bss"));
    assert_eq!(pin.as_os_str(), "/sys/fs/bpf/x/eth0%2E100/%2Ebss");
}

#[test]
fn errors_found_later_point_into_the_file() {
    let config =
        parse("[programs.edge]\nobject = 'edge.o'\n\n[interfaces.'veth*']\n\n[interfaces.'veth?']\n");
    let object = &config.programs["edge"].object;
    let error = Diagnostic::new("the object does not exist").at(object.span.clone()).label("no such file");
    let errors = config.diagnostic(error.clone());
    assert_eq!(errors.iter().collect::<Vec<_>>(), [(2, 10, &error)]);
    assert!(errors.to_string().contains("/etc/xdpd/config.toml:2:10"), "{errors}");
    assert_eq!(error.to_string(), "the object does not exist (no such file)");

    let [a, b] = config.interfaces.as_slice() else { panic!("expected two entries") };
    for (a, b) in [(a, b), (b, a)] {
        let claims = config.diagnostic(config.two_claims("veth0", a, b)).to_string();
        assert!(claims.contains("device `veth0` is claimed twice, by `veth*` and by `veth?`"), "{claims}");
        assert!(claims.contains(":4:13") && claims.contains(":6:13"), "{claims}");
    }
}

#[test]
fn two_names_of_one_device_are_two_claims_that_say_so() {
    let config = parse("[interfaces.uplink-of-this-host]\n[interfaces.wan]\nname = 'eth0'\n");
    let [a, b] = config.interfaces.as_slice() else { panic!("expected two entries") };
    let error = config.diagnostic(config.two_claims("eth0", b, a)).to_string();
    assert!(
        error.contains("device `eth0` is claimed twice, by `uplink-of-this-host` and by `wan`"),
        "{error}"
    );
    assert!(error.contains("`uplink-of-this-host` and `eth0` are names of this device"), "{error}");
    assert!(error.contains(":1:13") && error.contains(":2:13"), "{error}");
}

#[test]
fn a_pattern_is_for_names_and_its_exceptions_are_for_any_name() {
    let config = parse("[interfaces.'veth*']\nexcept = ['veth-mgmt*', 'uplink']\n[interfaces.veth0]\n");
    let selector = |key: &str| interface(&config, key).selector.clone();
    let is_for = |name: &str, alt_names: &[&str]| selector("veth*").is_pattern_for(name, alt_names);
    assert!(is_for("veth0", &[]) && is_for("veth0", &["downlink", "uplink0"]));
    assert!(!is_for("veth-mgmt0", &[]));
    assert!(!is_for("veth0", &["veth-mgmt0"]) && !is_for("veth0", &["other", "uplink"]));
    assert!(!is_for("eth0", &["veth0"]), "a pattern is held against names alone");
    assert!(!selector("veth0").is_pattern_for("veth0", &[""; 0]), "it is no pattern");
}

#[test]
fn names_that_lost_bytes_label_no_device_of_a_pattern() {
    let config = parse("[interfaces.'*']\nnetns = 'a'\n[interfaces.veth0]\n");
    let label = |key: &str, device| interface(&config, key).label_of(device);
    assert_eq!(label("*", "v\u{fffd}"), Err(LabelError::NotUtf8));
    assert_eq!(label("*", "v\u{1b}[2J"), Err(LabelError::Control));
    assert_eq!(label("veth0", "v\u{fffd}").unwrap().as_str(), "veth0");
}

#[test]
fn an_error_of_the_whole_file_is_at_its_beginning() {
    let config = parse("[interfaces.eth0]");
    let errors = config.diagnostic(Diagnostic::new("something"));
    assert_eq!(errors.iter().map(|(line, column, _)| (line, column)).collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn colour_is_the_callers_choice() {
    let errors = Config::parse(Path::new("config.toml"), "[interfaces.eth0]\nmode = 1").unwrap_err();
    assert!(errors.render(true).contains("\u{1b}["));
    assert!(!errors.render(false).contains('\u{1b}'));
    assert_eq!(errors.render(false), errors.to_string());
}

#[test]
fn the_path_of_the_file_cannot_act_on_the_terminal() {
    let errors = Config::parse(Path::new("/tmp/\u{1b}[31m/config.toml"), "").unwrap_err();
    assert!(!errors.to_string().contains('\u{1b}'), "{errors}");
}

#[test]
fn words_are_the_same_in_the_file_in_output_and_in_json() {
    for reuse in [Reuse::IfCompatible, Reuse::Require, Reuse::Migrate, Reuse::Never] {
        assert_eq!(reuse.to_string().parse(), Ok(reuse));
        assert_eq!(serde_json::to_string(&reuse).unwrap(), format!("\"{reuse}\""));
    }
    for mode in [Mode::Native, Mode::Generic, Mode::Offload] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
    }
    let label = Label::try_new("a/b").unwrap();
    assert_eq!(serde_json::to_string(&label).unwrap(), "\"a/b\"");
    assert_eq!("skb".parse::<Mode>().unwrap_err().to_string(), "`skb` is none of native, generic, offload");
}

#[test]
fn intervals_are_durations_between_a_millisecond_and_a_day() {
    assert_eq!(parse_interval("1ms"), Ok(Duration::from_millis(1)));
    assert_eq!(parse_interval("1m 30s"), Ok(Duration::from_secs(90)));
    assert_eq!(parse_interval("24h"), Ok(Duration::from_hours(24)));
    for bad in ["", "1", "0s", "999us", "86401s", "-1s", "1e3s", "\u{1b}[31m"] {
        let error = parse_interval(bad).unwrap_err();
        assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
    }
}

#[test]
fn of_very_many_errors_the_rest_is_counted() {
    let errors = Config::parse(Path::new("config.toml"), &"x\n".repeat(1500)).unwrap_err();
    assert_eq!(errors.iter().len(), 1500);
    assert!(errors.to_string().ends_with("\n\nand 500 more"), "{errors}");
}
