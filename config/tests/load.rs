//! Reading a file from disk: what is refused before a word of it is understood.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use xdpd_config::entries::MAX_LIST_SIZE;
use xdpd_config::{Config, DEFAULT_PIN_ROOT, List, LoadError, MAX_FILE_SIZE};

fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, content).unwrap();
    (dir, path)
}

#[test]
fn a_file_is_known_by_its_path_and_the_digest_of_its_bytes() {
    let (_dir, path) = file("[interfaces.eth0]\n");
    let config = Config::load(&path).unwrap();
    assert_eq!(config.path, path);
    // As sha256sum says.
    assert_eq!(config.sha256, "5d7b54016af14a39442b992e7acf3cd47e1935c6b0dbc57f33c57ed153371493");
}

#[test]
fn errors_name_the_path_with_line_and_column() {
    let (_dir, path) = file("[interfaces.eth0]\nmode = 1\n");
    let error = Config::load(&path).unwrap_err();
    assert!(error.to_string().contains(&format!("{}:2:8", path.display())), "{error}");
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let (dir, path) = file("");
    drop(dir);
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }), "{error:?}");
    assert!(
        error.to_string().starts_with(&format!("cannot read {}: No such file", path.display())),
        "{error}"
    );
}

#[test]
fn a_directory_is_no_config() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(dir.path()).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }), "{error:?}");
    assert!(error.to_string().ends_with("it is a directory"), "{error}");
}

#[test]
fn an_object_in_place_of_the_file_is_told_with_what_explains_it_whatever_its_size() {
    for size in [4, usize::try_from(MAX_FILE_SIZE).unwrap() + 1] {
        let mut content = b"\x7fELF".to_vec();
        content.resize(size, 0);
        let (_dir, path) = file(content);
        let text = Config::load(&path).unwrap_err().to_string();
        assert!(text.contains("it is an ELF object, not a config"), "{text}");
        assert!(text.contains(&format!("`xdpd check {}`", path.display())), "{text}");
    }
}

#[test]
fn the_byte_that_is_not_utf8_is_named_by_its_offset() {
    let (_dir, path) = file(b"[interfaces.eth0]\nprogram = \"edge\xff\x00\"\n");
    let LoadError::Invalid(errors) = Config::load(&path).unwrap_err() else {
        panic!("expected an invalid file")
    };
    let places: Vec<_> = errors.iter().map(|(line, column, _)| (line, column)).collect();
    assert_eq!(places, [(2, 16)]);
    let text = errors.to_string();
    assert!(text.contains("byte offset 33"), "{text}");
    assert!(text.contains("0xff"), "{text}");
    assert!(!text.contains('\0'), "{text:?}");
}

#[test]
fn a_file_of_just_the_limit_is_read_and_a_larger_one_is_refused() {
    let limit = usize::try_from(MAX_FILE_SIZE).unwrap();
    let mut text = "[interfaces.eth0]\n".to_owned();
    text.extend(std::iter::repeat_n('#', limit - text.len()));
    let (_dir, path) = file(&text);
    Config::load(&path).unwrap();
    fs::write(&path, text + "#").unwrap();
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }), "{error:?}");
    assert!(error.to_string().contains("more than 1024 KiB"), "{error}");
}

#[test]
fn detaching_needs_only_the_pin_root() {
    let (_dir, path) =
        file("version = 99\npin_root = '/sys/fs/bpf/x'\n[interfaces.eth0]\nprogram = 'gone'\nnew = 1\n");
    Config::load(&path).unwrap_err();
    assert_eq!(Config::load_pin_root(&path).unwrap(), Path::new("/sys/fs/bpf/x"));
    fs::write(&path, "").unwrap();
    assert_eq!(Config::load_pin_root(&path).unwrap(), Path::new(DEFAULT_PIN_ROOT));
    for broken in ["pin_root = 'x'", "pin_root = '/sys/fs/bpf/x'\nreuse =\n"] {
        fs::write(&path, broken).unwrap();
        assert!(matches!(Config::load_pin_root(&path), Err(LoadError::Invalid(_))), "{broken}");
    }
}

#[test]
fn root_refuses_a_file_that_everybody_may_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, path) = file("[interfaces.eth0]\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let loaded = Config::load(&path);
    if rustix::process::geteuid().is_root() {
        assert!(matches!(loaded, Err(LoadError::Untrusted { .. })), "{loaded:?}");
    } else {
        loaded.expect("only root is careful");
    }
}

#[test]
fn a_list_larger_than_the_limit_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.csv");
    let file = fs::File::create(&path).unwrap();
    file.set_len(MAX_LIST_SIZE + 1).unwrap();
    let error = List::load(&path).unwrap_err();
    assert!(error.to_string().contains("more than 65536 KiB, too much for a list"), "{error}");
    assert!(List::load(dir.path()).unwrap_err().to_string().contains("it is a directory"));
}
