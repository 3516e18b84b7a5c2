//! What the build takes from the system beside Rust and a C compiler, looked for by the files it uses.
//!
//! Shared by the build scripts of this package and of `xdpd`.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reads the bitcode of the pinned rustc, whose LLVM is of the same major version.
const CLANG: &str = "clang-22";

/// Where Debian 12 keeps the newest libclang that bindgen 0.59 can talk to; `.cargo/config.toml` sets the
/// same.
const LIBCLANG: &str = "/usr/lib/llvm-14/lib";

/// Any version of them will do: the programs use nothing that changed since the oldest kernel that is
/// supported.
const KERNEL_HEADERS: &str =
    if cfg!(target_arch = "aarch64") { "linux-headers-arm64" } else { "linux-headers-amd64" };

/// A file that each tree of kernel headers has. redbpf-probes looks for it too.
const KERNEL_HEADER: &str = "include/linux/kconfig.h";

/// What was found.
pub(crate) struct System {
    /// The compiler that turns LLVM bitcode into BPF: `$XDPD_CLANG`, else `clang-22`.
    pub(crate) clang: PathBuf,
    /// What redbpf-probes expects in `KERNEL_SOURCE`: a directory with the links `build` and `source`.
    pub(crate) kernel_source: PathBuf,
}

/// Finds everything, or says in one line what is missing and how to install it.
pub(crate) fn check() -> Result<System, String> {
    let mut missing = Vec::new();
    let clang = clang()?;
    if clang.is_none() {
        missing.push(CLANG);
    }
    if !has_libclang() {
        missing.push("libclang-14-dev");
    }
    if !has_c_header("libelf.h") {
        missing.push("libelf-dev");
    }
    if !has_c_header("zlib.h") {
        missing.push("zlib1g-dev");
    }
    let kernel_source = kernel_source()?;
    if kernel_source.is_none() {
        missing.push(KERNEL_HEADERS);
    }
    if in_path("make").is_none() {
        missing.push("make");
    }
    match (clang, kernel_source) {
        (Some(clang), Some(kernel_source)) if missing.is_empty() => Ok(System { clang, kernel_source }),
        _ => Err(format!(
            "system packages are missing; on Debian 12, as root: apt-get update && apt-get install {}",
            missing.join(" ")
        )),
    }
}

fn clang() -> Result<Option<PathBuf>, String> {
    match env::var_os("XDPD_CLANG") {
        None => Ok(in_path(CLANG)),
        Some(chosen) => match in_path(&chosen) {
            None => Err(format!("XDPD_CLANG names no program: {}", chosen.display())),
            found => Ok(found),
        },
    }
}

/// The library alone is not enough: bindgen also needs clang's own C headers, which are installed beside it.
fn has_libclang() -> bool {
    let directory = env::var_os("LIBCLANG_PATH").map_or_else(|| PathBuf::from(LIBCLANG), PathBuf::from);
    let library = |name: &str| name.starts_with("libclang") && name.contains(".so");
    names(&directory).iter().any(|name| library(name))
        && names(&directory.join("clang"))
            .iter()
            .any(|version| directory.join("clang").join(version).join("include/stddef.h").is_file())
}

fn has_c_header(name: &str) -> bool {
    Command::new("cc")
        .args(["-fsyntax-only", "-include", name, "-x", "c", "/dev/null"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn kernel_source() -> Result<Option<PathBuf>, String> {
    let holds_headers = |path: &Path| {
        ["source", "build", "."].iter().any(|part| path.join(part).join(KERNEL_HEADER).is_file())
    };
    if let Some(chosen) = env::var_os("KERNEL_SOURCE") {
        let chosen = PathBuf::from(chosen);
        return if holds_headers(&chosen) {
            Ok(Some(chosen))
        } else {
            Err(format!("KERNEL_SOURCE holds no kernel headers: {}", chosen.display()))
        };
    }
    let modules = Path::new("/lib/modules");
    let mut versions = names(modules);
    versions.sort_by_cached_key(|version| Reverse(numbers(version)));
    Ok(versions.iter().map(|version| modules.join(version)).find(|path| holds_headers(path)))
}

/// The numbers in a kernel's version, so that 6.10 sorts after 6.9.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A program as a shell would find it; a path is taken as it is.
fn in_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program.as_ref())).find(|file| file.is_file())
}
