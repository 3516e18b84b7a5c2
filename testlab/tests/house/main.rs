//! What holds for the code of the two programs as a whole.

mod loops;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that make up the two programs, but for the one that talks to the kernel.
const CRATES: [&str; 4] = ["config", "loader", "object", "stats"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The sources below a directory.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Whether a line names an error number, or asks for one: `libc::ENOENT`, `Errno::NOENT`, `use libc::{EBUSY}`, `.errno()`.
fn decides_by_errno(line: &str) -> bool {
    let is_constant = |word: &str| {
        let name = word.strip_prefix('E').unwrap_or_default();
        name.len() > 1 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let words = || line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let after_errno =
        line.split("Errno::").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    (line.contains("libc::") && words().any(is_constant))
        || after_errno
        || line.contains(".errno()")
        || line.contains("raw_os_error")
}

#[test]
fn no_error_number_decides_anything_outside_of_the_kernel_crate() {
    let mut found = Vec::new();
    for path in CRATES.iter().flat_map(|name| sources(&workspace().join(name).join("src"))) {
        let text = std::fs::read_to_string(&path).expect("a source");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if decides_by_errno(code) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "xdpd_kernel answers questions, and no number is compared:\n{}",
        found.join("\n")
    );
}

#[test]
fn error_numbers_are_recognised_in_code() {
    for line in [
        "Err(e) if e.errno() == Some(1) => {}",
        "use libc::{EINVAL, EOPNOTSUPP};",
        "Err(Errno::NOENT) => {}",
        "source.raw_os_error()",
    ] {
        assert!(decides_by_errno(line), "{line}");
    }
    for line in ["let EXAMPLE = 1;", "use rustix::io::Errno;", "libc::c_int", "Failed(Errno)"] {
        assert!(!decides_by_errno(line), "{line}");
    }
}

/// The functions of the kernel crate that take the number of a descriptor, from `fn` to the brace.
fn takes_a_number(source: &str) -> Vec<&str> {
    let signatures = source.match_indices("fn ").map(|(at, _)| {
        let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = source[at..].find(['{', ';']).map_or(source.len(), |end| at + end);
        source[line..end].trim()
    });
    let arguments = |signature: &&str| signature.split("->").next().unwrap_or_default().contains("RawFd");
    signatures.filter(arguments).collect()
}

/// What a number means, another thread can change between two calls, and with it how many bytes the kernel copies.
#[test]
fn no_safe_function_relies_on_what_the_number_of_a_descriptor_means() {
    // It makes a descriptor of its own, whatever the number means, and looks at that one.
    const ALLOWED: [&str; 2] = ["pub fn from_number(", "pub(crate) fn dup_cloexec("];
    for path in sources(&workspace().join("kernel/src")) {
        let text = std::fs::read_to_string(&path).expect("a source");
        for signature in takes_a_number(&text) {
            let allowed =
                signature.contains("unsafe fn") || ALLOWED.iter().any(|name| signature.starts_with(name));
            assert!(allowed, "{}: {signature}", path.display());
        }
        for call in ["dup2", "dup3", "borrow_raw"] {
            assert!(!text.contains(call), "{}: {call}", path.display());
        }
    }
}

#[test]
fn functions_that_take_a_number_are_recognised() {
    let source = "/// A doc.\npub fn put(map: &impl AsFd,\n    onto: RawFd) -> Result<()> {\n}\nfn number() -> RawFd {}\n";
    assert_eq!(takes_a_number(source), ["pub fn put(map: &impl AsFd,\n    onto: RawFd) -> Result<()>"]);
}

#[test]
fn no_files_import_each_other_in_a_loop() {
    let mut found = Vec::new();
    for name in CRATES.into_iter().chain(["kernel", "testlab", "types"]) {
        for group in loops::loops(&workspace().join(name).join("src")) {
            found.push(format!("{name}:\n  {}", group.join("\n  ")));
        }
    }
    assert!(found.is_empty(), "these cannot be read one after the other:\n{}", found.join("\n"));
}

/// The names of the packages that a package of the workspace is built from.
fn dependencies(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn what_is_pure_needs_neither_the_kernel_nor_an_engine() {
    assert_eq!(dependencies("xdpd-types"), ["xdpd-types"]);
    for package in ["xdpd-object", "xdpd-config"] {
        let found = dependencies(package);
        assert!(found.iter().any(|name| name == package), "{package}: {found:?}");
        for impure in ["xdpd", "xdpd-kernel", "redbpf", "bpf-sys", "aya", "aya-obj"] {
            assert!(!found.iter().any(|name| name == impure), "{package} is built from {impure}");
        }
    }
}
