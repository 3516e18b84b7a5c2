//! What a terminal gets is text: names that others have chosen are shown, and do nothing.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Site, compile_file, object_with};
use xdpd_config::terminal::acts_on_terminal;
use xdpd_testlab::{Invocation, Output, require_root, xdp_stats, xdpd};

/// Reorders what comes after it.
const RLO: &str = "\u{202e}";
/// How it is shown.
const SHOWN: &str = r"\u{202e}";

/// That no character of the output acts on a terminal. What may have lines has lines.
#[track_caller]
fn fit_for_a_terminal(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(|c: char| c != '\n' && acts_on_terminal(c)), "{text:?}");
    }
}

/// That JSON says the name itself, without a character that acts on a terminal: it may be where JSON goes.
#[track_caller]
fn says(output: &Output, name: &str) {
    fit_for_a_terminal(output);
    let strings = |line: &str| strings(&serde_json::from_str(line).unwrap());
    assert!(output.stdout.lines().flat_map(strings).any(|text| text.contains(name)), "{name:?} in {output}");
}

/// All strings in a document, those of its keys included.
fn strings(document: &serde_json::Value) -> Vec<String> {
    match document {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(elements) => elements.iter().flat_map(strings).collect(),
        serde_json::Value::Object(members) => {
            members.iter().flat_map(|(name, member)| [vec![name.clone()], strings(member)].concat()).collect()
        }
        _ => Vec::new(),
    }
}

#[track_caller]
fn shows(output: &Output, name: &str) {
    fit_for_a_terminal(output);
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(text.contains(name), "{name:?} in {text}");
}

#[test]
#[ignore = "needs root"]
fn a_device_that_is_called_so_that_it_garbles_the_terminal_is_shown_and_does_nothing() {
    require_root!();
    let site = Site::new("garbled");
    let device = format!("v{RLO}\u{200b}x");
    let veth = site.lab.veth(&device, "peer0");
    let shown = r"v\u{202e}\u{200b}x";
    // As a label, as a device of another label, and taken by a glob.
    for interface in [
        format!("[interfaces.\"{device}\"]\nnetns = \"$NETNS\""),
        format!("[interfaces.plain]\nname = \"{device}\"\nnetns = \"$NETNS\""),
        "[interfaces.\"v*\"]\nnetns = \"$NETNS\"".to_owned(),
    ] {
        site.config(&interface);
        if !interface.contains("v*") {
            shows(&site.expect("check", 0), shown);
        }
        shows(&site.expect("diff", 1), shown);
        shows(&site.expect("apply", 0), shown);
        shows(&site.expect("status", 0), shown);
        let config = site.lab.dir().join("config.toml");
        let once = xdp_stats().arg("--once").arg("--config").arg(&config).run().expect_code(0);
        fit_for_a_terminal(&once);
        fit_for_a_terminal(&site.expect("detach", 0));
        if !interface.contains("v*") {
            says(&site.expect("check --json", 0), &device);
        }
        for (command, code) in [("diff --json", 1), ("apply --json", 0), ("status --json", 0)] {
            says(&site.expect(command, code), &device);
        }
        says(&xdp_stats().args(["--once", "--json", "--config"]).arg(config).run().expect_code(0), &device);
        site.expect("detach", 0);
    }
    // Its program is someone else's.
    site.config("[interfaces.\"v*\"]\nnetns = \"$NETNS\"");
    site.apply();
    site.config_as("other.toml", "[interfaces.\"v*\"]\nnetns = \"$NETNS\"");
    let pin_root = site.root().with_file_name("other");
    let text = std::fs::read_to_string(site.lab.dir().join("other.toml")).unwrap();
    site.lab.write("other.toml", text.replace(&*site.root().to_string_lossy(), &pin_root.to_string_lossy()));
    for (command, code) in [("diff", 2), ("apply", 2), ("status", 0)] {
        shows(&site.run(&format!("{command} other.toml")).run().expect_code(code), shown);
        says(&site.run(&format!("{command} --json other.toml")).run().expect_code(code), &device);
    }
    site.expect("detach", 0);
    // It goes, and the name is one that is not there.
    site.config(&format!("[interfaces.x]\nname = \"{device}\"\nnetns = \"$NETNS\"\noptional = true"));
    site.apply();
    site.lab.delete(&veth);
    for command in ["diff", "apply", "status"] {
        shows(&site.expect(command, 0), shown);
    }
}

#[test]
#[ignore = "needs root"]
fn pins_and_configs_of_others_that_garble_the_terminal_are_shown_and_do_nothing() {
    require_root!();
    let site = Site::new("theirs");
    site.lab.veth("eth0", "peer0");
    let name = format!("t{RLO}\u{1b}[2J\u{9b}\nxdpd: applied");
    let shown = r"t\u{202e}\u{1b}[2J\u{9b}\nxdpd: applied";
    let interface = "[interfaces.eth0]\nnetns = \"$NETNS\"\n";
    site.config_as(&name, interface);
    xdpd().arg("apply").arg(&name).current_dir(site.lab.dir()).run().expect_code(0);
    // The path of another config is in the record.
    site.config(interface);
    for (command, code) in [("status", 0), ("diff", 2), ("apply", 2)] {
        shows(&site.expect(command, code), shown);
        says(&site.expect(&format!("{command} --json"), code), &name);
    }
    shows(&site.expect("detach", 0), shown);
    xdpd().arg("detach").arg(&name).current_dir(site.lab.dir()).run().expect_code(0);
    // What they make on bpffs, beside a directory of ours and in it.
    site.apply();
    for dir in [xdpd_kernel::Dir::open(site.root()).unwrap(), site.dir("eth0")] {
        dir.mkdir(&name, 0o700).unwrap();
    }
    shows(&site.expect("status", 0), shown);
    says(&site.expect("status --json", 0), &name);
    // A directory cannot be carried over.
    shows(&site.expect("diff", 2), shown);
    says(&site.expect("diff --json", 2), &name);
    fit_for_a_terminal(&site.expect("detach", 0));
}

#[test]
fn files_and_arguments_that_are_called_so_that_they_garble_the_terminal_are_shown_and_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("a{RLO}\u{1b}[2J\u{9b}\nxdpd: applied");
    let shown = r"a\u{202e}\u{1b}[2J\u{9b}\nxdpd: applied";
    let path = |extension: &str| dir.path().join(format!("{name}{extension}"));
    let run =
        |program: Invocation, arguments: &[&std::ffi::OsStr]| program.args(arguments).run().expect_code(2);
    let missing = path(".toml");
    let object = format!("{name}.o");
    object_with(&dir.path().join(&object), "maps/xdp_stats_map", |_| {});
    let broken = path(".broken");
    std::fs::write(&broken, "[interfaces.eth0]\nmoed = \"native\"\n").unwrap();
    let unfound = path(".unfound");
    std::fs::write(
        &unfound,
        format!("[programs.\"{RLO}\"]\nobject = \"{RLO}.o\"\n[interfaces.eth0]\nprogram = \"{RLO}\""),
    )
    .unwrap();
    for file in [&missing, &broken, &unfound] {
        let file = file.as_os_str();
        for command in ["check", "diff", "apply"] {
            shows(&run(xdpd(), &[command.as_ref(), file]), shown);
        }
    }
    for file in [&missing, &broken] {
        shows(&xdp_stats().args(["--once", "--config"]).arg(file).run().expect_code(2), shown);
    }
    shows(&xdpd().arg("check").arg(dir.path().join(&object)).run().expect_code(0), shown);
    says(&xdpd().args(["check", "--json"]).arg(dir.path().join(object)).run().expect_code(0), &name);
    // Arguments that are wrong.
    let argument = name.as_ref();
    shows(&run(xdpd(), &[argument]), shown);
    shows(&run(xdpd(), &["apply".as_ref(), "--lock-timeout".as_ref(), argument, "x".as_ref()]), shown);
    shows(&run(xdpd(), &["completions".as_ref(), argument]), shown);
    shows(&run(xdp_stats(), &["--interval".as_ref(), argument]), shown);
    shows(&run(xdp_stats(), &[argument]), shown);
}

#[test]
fn names_in_an_object_that_garble_the_terminal_are_shown_and_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source.c");
    // As a compiler lets it be: assembler names are free.
    let text = format!(
        "__attribute__((section(\"xdp\"), used)) int f(void *ctx) __asm__(\"f{RLO}\\x1b[2J\");\n\
         int f(void *ctx) {{ return 2; }}\n\
         char _license[] __attribute__((section(\"license\"), used)) = \"GPL\";\n"
    );
    std::fs::write(&source, text).unwrap();
    compile_file(&dir.path().join("own.o"), &source, &["-g0"]);
    let run = |file: &str| xdpd().arg("check").arg(file).current_dir(dir.path()).run();
    shows(&run("own.o").expect_code(2), &format!(r"f{SHOWN}\u{{1b}}[2J"));
    for function in ["", "function = \"f\""] {
        let text =
            format!("[programs.p]\nobject = \"own.o\"\n{function}\n[interfaces.eth0]\nprogram = \"p\"\n");
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        shows(&run("config.toml").expect_code(2), SHOWN);
    }
}
