//! Names in a row, in messages.

use std::fmt::Display;

/// The first of some names, `most` of them, and how many more there are: `a, b and 3 more`.
pub fn join_some<T: Display>(names: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(most).map(|name| name.to_string()).collect();
    let shown = shown.join(", ");
    match names.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_names_as_are_of_use_are_shown_and_the_rest_is_counted() {
        assert_eq!(join_some(["a"; 0], 2), "");
        assert_eq!(join_some(["a", "b"], 2), "a, b");
        assert_eq!(join_some(["a", "b", "c", "d"], 2), "a, b and 2 more");
    }
}
