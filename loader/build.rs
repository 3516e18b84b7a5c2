//! Builds the in-kernel programs of `probes/` to one BPF object and hands its path to the crate as
//! `XDPD_BUILTIN_ELF`.
//!
//! Stable rustc has no BPF target that brings its own `core`, so the way is: rustc compiles for the host and
//! leaves LLVM bitcode (`core` and redbpf-probes merged in by LTO), clang compiles that for BPF, and the
//! toolchain's objcopy drops what differs from machine to machine. The same sources give the same bytes
//! everywhere.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

#[path = "../prereq/system.rs"]
mod system;

use system::System;

/// The package of the programs, seen from this one, where cargo runs this script.
const PROBES: &str = "../probes";

/// Its binary, and the name of the object.
const NAME: &str = "xdpd-builtin";

/// Between the flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

#[expect(clippy::print_stderr, reason = "cargo shows it when the script fails")]
fn main() {
    for input in ["Cargo.toml", "Cargo.lock", "src"] {
        println!("cargo::rerun-if-changed={PROBES}/{input}");
    }
    for variable in ["KERNEL_SOURCE", "LIBCLANG_PATH", "XDPD_CLANG"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let system = match system::check() {
        Ok(system) => system,
        Err(problem) => {
            println!("cargo::error={problem}");
            return;
        }
    };
    println!("cargo::rerun-if-changed={}", system.clang.display());
    match build(&system) {
        Ok(object) => println!("cargo::rustc-env=XDPD_BUILTIN_ELF={}", object.display()),
        Err(problem) => {
            eprintln!("{problem}");
            process::exit(1);
        }
    }
}

/// Builds the object in `OUT_DIR`, and leaves a copy where other loaders find it.
fn build(system: &System) -> Result<PathBuf, String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let bpf = target_directory(&out)?.join("bpf");
    let bitcode = out.join(NAME).with_extension("bc");
    let compiled = out.join(NAME).with_extension("o");
    let object = out.join(NAME).with_extension("elf");

    run(cargo(&bpf.join("build"), system)?.args(["--bin", NAME, "--"]).args([
        joined("--emit=llvm-bc=", &bitcode),
        // There is nothing to link: the bitcode is all that is wanted.
        "-Clinker=true".into(),
    ]))?;
    run(Command::new(&system.clang)
        // The module still names the host as its target; here it gets another one, which is no reason for a
        // warning.
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-Wno-override-module", "-c", "-o"])
        .args([&compiled, &bitcode]))?;
    run(objcopy()?
        .arg("--strip-debug")
        .args(["--remove-section=.BTF.ext", "--remove-section=.eh_frame"])
        .args(["--remove-section=.text", "--remove-section=.llvm_addrsig"])
        .args([&compiled, &object]))?;

    publish(&object, &bpf).map_err(|error| format!("{}: {error}", bpf.display()))?;
    Ok(object)
}

/// The cargo that compiles the probes. Its target directory is shared by all profiles of the outer build: the
/// result is the same, and building redbpf-probes takes most of a minute.
fn cargo(target_directory: &Path, system: &System) -> Result<Command, String> {
    let probes = fs::canonicalize(PROBES).map_err(|error| format!("{PROBES}: {error}"))?;
    let cargo_home = env::var_os("CARGO_HOME")
        .or_else(|| Some(joined(env::home_dir()?, "/.cargo")))
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in env::vars_os().filter(|(name, _)| steers_the_outer_build(name)) {
        cargo.env_remove(name);
    }
    let flags = [
        joined(joined("--remap-path-prefix=", &probes), "=probes"),
        joined(joined("--remap-path-prefix=", cargo_home), "=cargo"),
        joined(joined("--remap-path-prefix=", target_directory), "=target"),
    ];
    cargo
        .current_dir(probes)
        .env("RUSTC", variable("RUSTC")?)
        .env("RUSTC_WRAPPER", "")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new(SEPARATOR)))
        .env("KERNEL_SOURCE", &system.kernel_source)
        .args(["rustc", "--quiet", "--locked", "--release", "--target"])
        .args([variable("HOST")?.as_os_str(), "--target-dir".as_ref(), target_directory.as_ref()]);
    Ok(cargo)
}

/// Whether a variable would carry the outer build's flags, profile, target or wrapper (clippy is one) into
/// the inner build. Where crates come from, and the jobserver, are for both.
fn steers_the_outer_build(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let shared =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    ["CARGO", "RUSTC", "RUSTFLAGS"].iter().any(|prefix| name.starts_with(prefix))
        && !shared.iter().any(|prefix| name.starts_with(prefix))
}

/// The objcopy that rustc itself strips with. It is part of every toolchain and is LLVM's, which BPF needs.
fn objcopy() -> Result<Command, String> {
    let sysroot = run(Command::new(variable("RUSTC")?).args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim_end()).join("lib");
    let host = libraries.join("rustlib").join(variable("HOST")?);
    let mut objcopy = Command::new(host.join("bin/rust-objcopy"));
    objcopy.env("LD_LIBRARY_PATH", libraries);
    Ok(objcopy)
}

/// Leaves a copy in `<target directory>/bpf/`. By rename, so that nobody ever sees half of it.
fn publish(object: &Path, directory: &Path) -> std::io::Result<()> {
    let unfinished = directory.join(format!("{NAME}.{}", process::id()));
    fs::copy(object, &unfinished)?;
    fs::rename(unfinished, directory.join(NAME).with_extension("elf"))
}

/// `OUT_DIR` is `<target directory>[/<target triple>]/<profile>/build/<package>/out`.
fn target_directory(out: &Path) -> Result<PathBuf, String> {
    let triple = variable("TARGET")?;
    out.ancestors()
        .nth(4)
        .and_then(|parent| if parent.ends_with(triple) { parent.parent() } else { Some(parent) })
        .map(Path::to_owned)
        .ok_or_else(|| format!("OUT_DIR is not in a target directory: {}", out.display()))
}

/// Runs a command; the error is what it had to say.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = command.get_program().display();
    Err(format!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

fn joined(first: impl Into<OsString>, second: impl AsRef<OsStr>) -> OsString {
    let mut all = first.into();
    all.push(second);
    all
}
