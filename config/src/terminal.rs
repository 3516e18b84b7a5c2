//! Text that a terminal can only show: nothing in it moves the cursor, reorders the line or is there without being
//! seen.
//!
//! Names of devices, files, programs, maps and namespaces are chosen by others, and so is the text of a config's errors.
//! Whatever prints for people passes through [`printable`] where it prints, not where the text comes from.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

/// The text as one line. Each character that would [act on a terminal](acts_on_terminal) becomes its escape, such as
/// `\u{202e}`, `\u{1b}` or `\n`. Text without one is unchanged, backslashes too: an escape is for reading, not for reading
/// back.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, acts_on_terminal, code_point)
}

/// The same for text of several lines, such as a verifier's log: line ends stay, and so do tabs, which indent.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, acts_within_lines, code_point)
}

/// A document of JSON, or several of them in lines, that says the same: characters that would act on a terminal, which JSON
/// has in strings only, become `\u` and four hexadecimal digits, those beyond U+FFFF two of these. The line ends and tabs
/// between its parts stay.
pub fn printable_json(document: &str) -> Cow<'_, str> {
    escaped(document, acts_within_lines, |shown, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}"); // a String takes everything
        }
    })
}

fn acts_within_lines(c: char) -> bool {
    !matches!(c, '\n' | '\t') && acts_on_terminal(c)
}

fn code_point(shown: &mut String, c: char) {
    shown.extend(c.escape_default());
}

fn escaped(text: &str, acts: fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { escape(&mut shown, c) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Whether a character does anything on a terminal but show itself:
///
/// - control characters of C0 and C1 with DEL: they begin escape sequences, move the cursor, end lines;
/// - U+2028 and U+2029, which end lines and paragraphs;
/// - what Unicode calls [default-ignorable]: it reorders text (U+202A to U+202E, U+2066 to U+2069, marks) or hides in it
///   (zero-width characters, soft hyphens, fillers, variation selectors, tags), so that two names look alike;
/// - the interlinear annotation characters U+FFF9 to U+FFFB, which stand for text to be placed elsewhere.
///
/// Combining and wide characters are text, and look like it.
///
/// [default-ignorable]: https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
pub fn acts_on_terminal(c: char) -> bool {
    match c {
        // Most text, decided first.
        ' '..='~' => false,
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => true,
        _ => c.is_control() || is_default_ignorable(c),
    }
}

/// `Default_Ignorable_Code_Point` of Unicode 17, with the code points that are reserved for more of them.
fn is_default_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Has a command line parsed. Where it is wrong, it is parsed once more with [`printable`] arguments: the message about it
/// quotes them.
pub fn parse_arguments<T, E>(
    arguments: impl IntoIterator<Item = OsString>,
    parse: impl Fn(Vec<OsString>) -> Result<T, E>,
) -> Result<T, E> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let shown = arguments.iter().map(|argument| printable_argument(argument)).collect();
    parse(arguments).map_err(|error| parse(shown).err().unwrap_or(error))
}

fn printable_argument(argument: &OsStr) -> OsString {
    printable(&argument.to_string_lossy()).into_owned().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_becomes_an_escape_and_all_else_stays() {
        for (text, shown) in [
            ("eth0", "eth0"),
            ("größe ☃ ünïcode 漢字 e\u{301}", "größe ☃ ünïcode 漢字 e\u{301}"),
            (r#"C:\a "b" 'c'"#, r#"C:\a "b" 'c'"#),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\u{9b}2J\u{7f}", r"a\u{9b}2J\u{7f}"),
            ("a\nxdpd: applied\r\t", r"a\nxdpd: applied\r\t"),
            ("a\u{202e}b\u{2066}c\u{61c}", r"a\u{202e}b\u{2066}c\u{61c}"),
            ("a\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}", r"a\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}"),
            ("a\u{2028}\u{2029}", r"a\u{2028}\u{2029}"),
            ("\u{e0041}\u{fe0f}\u{fffa}\u{3164}", r"\u{e0041}\u{fe0f}\u{fffa}\u{3164}"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn lines_and_their_indentation_stay_where_there_may_be_several() {
        assert_eq!(printable_lines("a\n\tb\r\n\u{1b}c"), "a\n\tb\\r\n\\u{1b}c");
    }

    #[test]
    fn a_message_about_arguments_quotes_them_printable() {
        let parse = |arguments: Vec<OsString>| match &*arguments {
            [one] => Ok(one.clone()),
            other => Err(format!("{}", other[1].display())),
        };
        let hostile = || OsString::from("\u{1b}[2J");
        assert_eq!(parse_arguments([hostile()], parse), Ok(hostile()));
        assert_eq!(parse_arguments(["x".into(), hostile()], parse), Err(r"\u{1b}[2J".to_owned()));
    }

    #[test]
    fn json_has_escapes_of_its_own() {
        let document = "{\"a\u{202e}\":\n\t\"\\u001b\u{9b}\u{e0041}\"}\n";
        assert_eq!(printable_json(document), "{\"a\\u202e\":\n\t\"\\u001b\\u009b\\udb40\\udc41\"}\n");
    }

    proptest! {
        #[test]
        fn json_says_the_same(text: String) {
            let document = serde_json::to_string(&text).unwrap();
            let shown = printable_json(&document);
            prop_assert!(!shown.contains(acts_on_terminal), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }

        #[test]
        fn what_is_printable_stays_as_it_is(text: String) {
            let shown = printable(&text).into_owned();
            prop_assert!(!shown.contains(acts_on_terminal), "{shown:?}");
            prop_assert_eq!(&*printable(&shown), &*shown);
        }
    }
}
