//! Paths as words of a shell command that people paste.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::terminal::acts_on_terminal;

/// A path as one word, quoted where it has to be. What a terminal would act on, and what is not UTF-8, is written as
/// `$'\xNN'`, which bash, zsh, ksh and busybox understand.
pub fn word(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    match path.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| plain(&byte)) => text.to_owned(),
        Some(text) if !text.contains(acts_on_terminal) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut word = String::from("$'");
            for chunk in path.as_os_str().as_bytes().utf8_chunks() {
                for c in chunk.valid().chars() {
                    match c {
                        '\'' | '\\' => word.extend(['\\', c]),
                        c if acts_on_terminal(c) => hex(&mut word, c.encode_utf8(&mut [0; 4]).as_bytes()),
                        c => word.push(c),
                    }
                }
                hex(&mut word, chunk.invalid());
            }
            word + "'"
        }
    }
}

fn hex(word: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(word, "\\x{byte:02x}"); // a String takes everything
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use super::*;

    const NAMES: [&[u8]; 9] = [
        b"/etc/xdpd/config.toml",
        b"/a b",
        b"/it's",
        b"/$(id)`id`\"*?[a]{b,c}~!#&;|<>\\",
        b"/line\nend\x1b[31m\x7f",
        "/\u{202e}turned ü".as_bytes(),
        b"/not\xff\xfeutf8'\\",
        b"/tab\tab",
        b"",
    ];

    #[test]
    fn a_word_is_plain_where_it_can_be_and_never_acts_on_a_terminal() {
        assert_eq!(
            word(Path::new("/etc/xdpd/..data/a+b_c-1,2:3@4%.toml")),
            "/etc/xdpd/..data/a+b_c-1,2:3@4%.toml"
        );
        assert_eq!(word(Path::new("/a b")), "'/a b'");
        assert_eq!(word(Path::new("/it's")), r"'/it'\''s'");
        assert_eq!(word(Path::new("/a\n'b")), r"$'/a\x0a\'b'");
        for name in NAMES {
            assert!(!word(Path::new(OsStr::from_bytes(name))).contains(acts_on_terminal));
        }
    }

    #[test]
    fn a_shell_reads_the_same_path() {
        for name in NAMES {
            let word = word(Path::new(OsStr::from_bytes(name)));
            let output = Command::new("bash").args(["-c", &format!("printf %s {word}")]).output().unwrap();
            assert_eq!(output.stdout, name, "{word}");
        }
    }
}
