//! A lab with a pin root of its own, and what the tests ask of it.
#![allow(clippy::unwrap_used)] // a helper of tests
#![allow(dead_code, unreachable_pub)] // a module of each test binary, of which every one uses its part

pub mod stand;
pub mod state;
pub mod strace;
pub mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use xdpd_kernel::{Access, Dir, Map, XdpLink};
use xdpd_testlab::{Bpffs, Invocation, Lab, Output, Veth, xdpd};

/// A lab, a private bpffs, and a config file.
pub struct Site {
    // Before the lab, whose end lets a test begin that counts the kernel's objects.
    pub bpffs: Bpffs,
    pub lab: Lab,
}

impl Site {
    pub fn new(name: &str) -> Self {
        Self::of(Lab::new(name))
    }

    pub fn alone(name: &str) -> Self {
        Self::of(Lab::alone(name))
    }

    fn of(lab: Lab) -> Self {
        Self { bpffs: Bpffs::private(), lab }
    }

    pub fn root(&self) -> PathBuf {
        self.bpffs.pin_root()
    }

    pub fn netns(&self) -> &str {
        self.lab.near().name()
    }

    /// Writes config.toml: the pin root, then `text`, in which `$NETNS` is the near namespace.
    pub fn config(&self, text: &str) -> PathBuf {
        self.config_as("config.toml", text)
    }

    pub fn config_as(&self, name: &str, text: &str) -> PathBuf {
        let text = text.replace("$NETNS", self.netns());
        self.lab.write(name, format!("pin_root = \"{}\"\n{text}", self.root().display()))
    }

    /// The usual file: one interface that runs a builtin function.
    pub fn one(&self, device: &str, function: &str, extra: &str) -> PathBuf {
        self.config(&format!(
            "[programs.p]\nobject = \"builtin\"\nfunction = \"{function}\"\n\
             [interfaces.{device}]\nnetns = \"$NETNS\"\nprogram = \"p\"\n{extra}\n"
        ))
    }

    pub fn run(&self, command: &str) -> Invocation {
        xdpd().args(command.split_whitespace()).current_dir(self.lab.dir())
    }

    /// Runs a command with config.toml and expects its exit code.
    pub fn expect(&self, command: &str, code: i32) -> Output {
        self.run(&format!("{command} config.toml")).run().expect_code(code)
    }

    pub fn apply(&self) -> Output {
        self.expect("apply", 0)
    }

    /// Packets that the map of a label has counted for an XDP action.
    pub fn packets(&self, label: &str, action: u32) -> u64 {
        packets(&self.map(label, "xdp_stats_map"), action)
    }

    pub fn map(&self, label: &str, pin: &str) -> Map {
        self.dir(label).open_map(pin, Access::ReadOnly).expect("a pinned map")
    }

    pub fn dir(&self, label: &str) -> Dir {
        Dir::open(self.root().join(label)).expect("the directory of a label")
    }

    pub fn link(&self, label: &str) -> XdpLink {
        self.dir(label).open_link("xdp-link").expect("the link of a label")
    }

    /// The id of the program that runs on a device, by netlink.
    pub fn running(&self, device: &str) -> Option<u32> {
        let devices = self.lab.near().run(xdpd_kernel::netlink::devices).expect("the devices");
        let device = devices.into_iter().find(|d| d.name == device)?;
        device.xdp.first().map(|a| a.program_id.0)
    }

    /// Sends `count` frames to the near device and waits until they are counted as `action`.
    pub fn send(&self, veth: &Veth, label: &str, action: u32, count: u64) {
        let before = self.packets(label, action);
        assert_eq!(self.lab.sender(veth).send(count), count);
        xdpd_testlab::wait_until("all frames to be counted", xdpd_testlab::DEADLINE, || {
            self.packets(label, action) == before + count
        });
    }
}

pub const DROP: u32 = 1;
pub const PASS: u32 = 2;

/// The sum over all CPUs of `rx_packets`.
pub fn packets(map: &Map, action: u32) -> u64 {
    let mut value = vec![0; map.value_len()];
    assert!(map.lookup(&action.to_ne_bytes(), &mut value).expect("an entry"));
    value.chunks(map.layout().stride()).map(|slot| u64::from_ne_bytes(slot[..8].try_into().unwrap())).sum()
}

/// The builtin object as a file, changed by `edit`, which gets the bytes and the range of a section.
pub fn object_with(path: &Path, section: &str, edit: impl FnOnce(&mut [u8])) {
    use object::{Object as _, ObjectSection as _};
    let mut bytes = builtin_object();
    let (start, len) = {
        let file = object::File::parse(&*bytes).expect("the builtin object");
        let (start, len) =
            file.section_by_name(section).expect("the section").file_range().expect("its range");
        (usize::try_from(start).unwrap(), usize::try_from(len).unwrap())
    };
    edit(&mut bytes[start..start + len]);
    std::fs::write(path, bytes).expect("an object file");
}

/// The bytes that the build leaves for other loaders: beside the test's own binary, in `<target>/bpf`.
pub fn builtin_object() -> Vec<u8> {
    let exe = std::env::current_exe().expect("the path of the test");
    let found = exe.ancestors().map(|dir| dir.join("bpf/xdpd-builtin.elf")).find(|path| path.exists());
    std::fs::read(found.expect("target/bpf/xdpd-builtin.elf")).expect("the builtin object")
}

/// Writes one 32-bit word of a map's definition: 0 type, 1 key size, 2 value size, 3 max entries, 4 flags.
pub fn set_word(definition: &mut [u8], word: usize, value: u32) {
    definition[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
}

/// Tells threads to stop once it is dropped: also when the test fails, which otherwise would wait for them for ever.
#[derive(Default)]
pub struct Stop(Arc<AtomicBool>);

/// What a thread asks whether it is to stop.
#[derive(Clone)]
pub struct Stopped(Arc<AtomicBool>);

impl Stop {
    pub fn handle(&self) -> Stopped {
        Stopped(Arc::clone(&self.0))
    }
}

impl Stopped {
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Prints past the capturing of libtest: what is said so is part of the result.
pub fn report(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Text without its line breaks, for finding a phrase in it.
pub fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The addresses and actions of a plan's JSON.
pub fn changes(plan: &Value) -> Vec<(String, String)> {
    let list = plan["changes"].as_array().expect("changes");
    list.iter()
        .map(|c| {
            let actions: Vec<&str> =
                c["actions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            (c["address"].as_str().unwrap().to_owned(), actions.join("+"))
        })
        .collect()
}

/// Compiles a program of tests/programs for the lab, as `own.o`.
pub fn compile(site: &Site, name: &str) -> PathBuf {
    compile_to(&site.lab.dir().join("own.o"), name)
}

/// Compiles a program of tests/programs.
pub fn compile_to(object: &Path, name: &str) -> PathBuf {
    compile_with(object, name, &[])
}

/// Compiles a program of tests/programs with more options.
pub fn compile_with(object: &Path, name: &str, options: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/programs/{name}.c"));
    compile_file(object, &source, options)
}

/// Compiles a C file.
pub fn compile_file(object: &Path, source: &Path, options: &[&str]) -> PathBuf {
    let output = std::process::Command::new("clang-22")
        .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-c", "-o"])
        .arg(object)
        // The kernel's headers need those of the machine, which are not on the path of this target.
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .args(options)
        .arg(source)
        .output()
        .expect("clang-22");
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    object.to_owned()
}
