//! Spelling any name as a file name that bpffs accepts, and back.
//!
//! bpffs refuses names with a dot (`bpf_lookup` in the kernel's `kernel/bpf/inode.c`: EPERM), a slash
//! separates directories, and `%` introduces an escape. Everything else is spelled as it is.

/// Spells `name` as a file name: `.` becomes `%2E`, `/` becomes `%2F`, `%` becomes `%25`.
///
/// No two names have the same spelling, and in every spelling `%` is followed by two hexadecimal digits.
/// Names like `%lock`, where it is not, can therefore never be the spelling of a label or of a map.
pub fn escape(name: &str) -> String {
    let mut spelled = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '.' => spelled.push_str("%2E"),
            '/' => spelled.push_str("%2F"),
            '%' => spelled.push_str("%25"),
            c => spelled.push(c),
        }
    }
    spelled
}

/// The name that [`escape`] spells as `file_name`, or `None` when there is none.
///
/// Strict, so that a name and its spelling determine each other: a raw dot or slash, another escape (`%41`),
/// or lower-case digits (`%2e`) were not written by [`escape`].
pub fn unescape(file_name: &str) -> Option<String> {
    let mut name = String::with_capacity(file_name.len());
    let mut rest = file_name;
    while let Some(c) = rest.chars().next() {
        let (plain, spelled) = match c {
            '.' | '/' => return None,
            '%' => match rest.get(..3)? {
                "%2E" => ('.', 3),
                "%2F" => ('/', 3),
                "%25" => ('%', 3),
                _ => return None,
            },
            c => (c, c.len_utf8()),
        };
        name.push(plain);
        rest = &rest[spelled..];
    }
    Some(name)
}
