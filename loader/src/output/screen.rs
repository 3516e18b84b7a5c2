//! Text for people, fit for a terminal whoever chose the names in it.

use std::fmt::{self, Display, Write};

use xdpd_config::Diagnostics;
use xdpd_config::terminal::{printable, printable_lines};

use super::WIDTH;

/// Lines for people. Whatever is written into it becomes [`printable`], so that line ends and colours in it are its own.
///
/// It is an error, too: one whose text has lines and colours, such as those of a config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screen {
    text: String,
    colour: bool,
}

impl Screen {
    /// An empty one, in which marks are painted or not.
    pub fn new(colour: bool) -> Self {
        Self { text: String::new(), colour }
    }

    /// An error in one line, whatever is in it; with what is [`Listed`] below it; or as it was [rendered](Self::diagnosed).
    pub fn of_error(error: &anyhow::Error) -> Self {
        if let Some(rendered) = error.downcast_ref::<Self>() {
            return rendered.clone();
        }
        let mut screen = Self::default();
        match error.downcast_ref::<Listed>() {
            Some(Listed { error, items }) => {
                screen.line(error);
                for item in items {
                    screen.line(format_args!("{ITEM}{item}"));
                }
            }
            None => screen.line(error),
        }
        screen
    }

    /// What is wrong with files, as their [`Diagnostics`] show it: fit for a terminal already.
    pub fn diagnosed<'a>(found: impl IntoIterator<Item = &'a Diagnostics>, colour: bool) -> Self {
        let texts = found.into_iter().map(|found| found.render(colour).trim_end().to_owned());
        Self { text: texts.collect::<Vec<_>>().join("\n\n") + "\n", colour }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// A line.
    pub fn line(&mut self, line: impl Display) {
        let line = line.to_string();
        self.text.push_str(&printable(&line));
        self.text.push('\n');
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Text that has lines, such as a verifier's log. Tabs in it stay: it quotes source, which is indented.
    pub fn lines(&mut self, text: &str) {
        self.text.push_str(&printable_lines(text.trim_end()));
        self.text.push('\n');
    }

    /// All lines of another one.
    pub fn append(&mut self, other: &Self) {
        self.text.push_str(&other.text);
    }

    /// A line that begins with a painted mark.
    pub fn marked(&mut self, indent: &str, mark: char, line: impl Display) {
        self.text.push_str(indent);
        self.paint(mark);
        self.text.push(' ');
        self.line(line);
    }

    /// Text behind `first`, its further lines behind `rest`, at most 80 columns wide unless a single word is
    /// wider.
    pub fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        for line in wrap(first, rest, text) {
            self.line(line);
        }
    }

    /// The same, beginning with a painted mark.
    pub fn marked_wrapped(&mut self, indent: &str, mark: char, first: &str, rest: &str, text: &str) {
        // The mark takes room like any other character, its colour none.
        let marked = format!("{indent}{mark} ");
        for (n, line) in wrap(&format!("{marked}{first}"), rest, text).iter().enumerate() {
            match line.strip_prefix(&marked).filter(|_| n == 0) {
                Some(line) => self.marked(indent, mark, line),
                None => self.line(line),
            }
        }
    }

    fn paint(&mut self, mark: char) {
        let colour = match mark {
            '+' => "32",
            '~' => "33",
            '-' | '!' => "31",
            _ => "",
        };
        if self.colour && !colour.is_empty() {
            let _ = write!(self.text, "\x1b[{colour}m{mark}\x1b[0m"); // a String takes everything
        } else {
            self.text.push(mark);
        }
    }
}

impl Display for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Screen {}

/// An error that ends with a list, each item on a line of its own.
#[derive(Debug)]
pub struct Listed {
    /// The error, up to the list.
    pub error: String,
    /// The list.
    pub items: Vec<String>,
}

/// In front of an item.
const ITEM: &str = "  ";

impl Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.items.iter().try_for_each(|item| write!(f, "\n{ITEM}{item}"))
    }
}

impl std::error::Error for Listed {}

/// The lines of a text behind `first` and `rest`, printable.
fn wrap(first: &str, rest: &str, text: &str) -> Vec<String> {
    let (mut line, mut empty) = (printable(first).into_owned(), true);
    let mut lines = Vec::new();
    for word in printable(text).split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\u{202e}\nxdpd: applied";
    const SHOWN: &str = r"a\u{1b}[31m\u{202e}\nxdpd: applied";

    #[test]
    fn whatever_is_written_only_own_lines_and_colours_reach_the_terminal() {
        for colour in [false, true] {
            let mut screen = Screen::new(colour);
            screen.line(HOSTILE);
            screen.marked("  ", '+', HOSTILE);
            screen.wrapped(HOSTILE, "  ", HOSTILE);
            screen.marked_wrapped("  ", '!', HOSTILE, "  ", HOSTILE);
            let text = screen.to_string().replace("\u{1b}[32m+\u{1b}[0m", "+");
            let text = text.replace("\u{1b}[31m!\u{1b}[0m", "!");
            assert_eq!(
                text,
                format!("{SHOWN}\n  + {SHOWN}\n{SHOWN}{SHOWN}\n  ! {SHOWN}{SHOWN}\n"),
                "{colour}"
            );
        }
    }

    #[test]
    fn an_error_has_the_lines_that_it_was_given_and_no_others() {
        let shown = |error: anyhow::Error| Screen::of_error(&error).to_string();
        assert_eq!(shown(anyhow::anyhow!("cannot read {HOSTILE}")), format!("cannot read {SHOWN}\n"));
        let listed = Listed { error: format!("lost of {HOSTILE}:"), items: vec![HOSTILE.into(), "b".into()] };
        assert_eq!(shown(listed.into()), format!("lost of {SHOWN}:\n  {SHOWN}\n  b\n"));
    }

    #[test]
    fn text_is_wrapped_at_words_and_a_colour_takes_no_room() {
        let words = ["word"; 30].join(" ");
        let wrapped = |colour| {
            let mut screen = Screen::new(colour);
            screen.marked_wrapped("    ", '~', "map m: ", "        ", &words);
            screen.to_string()
        };
        let plain = wrapped(false);
        assert_eq!(plain.lines().map(str::len).collect::<Vec<_>>(), [77, 77, 22], "{plain}");
        assert_eq!(wrapped(true).replace("\u{1b}[33m~\u{1b}[0m", "~"), plain);
    }
}
