//! Errors that point into the file, and how they are shown.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::terminal::{acts_on_terminal, printable};

/// Bytes of the file, from start to end.
pub type Span = Range<usize>;

/// The longest quotation from the file in a message, in characters.
const LONGEST_QUOTE: usize = 60;

/// The longest line of which anything is shown, in bytes. The renderer shows a window of it, and takes its
/// time to find one.
const LONGEST_LINE: usize = 4096;

/// As many errors are shown; of more, their number is said. Beyond this, it is not a config that somebody
/// wrote.
const MOST_SHOWN: usize = 1000;

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostic {
    /// The place; `None` when the file as a whole is meant.
    pub span: Option<Span>,
    /// What is wrong: one line without a full stop.
    pub message: String,
    /// What is said beside the place: what was found or expected there.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that belong to it, each with what is said beside it.
    pub related: Vec<(Span, String)>,
}

impl Diagnostic {
    /// An error of the file as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The same error, at a place.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The same error, with a word on the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same error, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same error, with one more place that belongs to it.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }
}

/// One line: what is wrong, and what is said beside the place.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))?;
        match &self.label {
            Some(label) => write!(f, " ({})", printable(label)),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a file, in the order of the file. Never empty.
///
/// `Display` shows every error with the line it is about and the place as `path:line:column`, without colour.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    source: Arc<Source>,
    errors: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(source: Arc<Source>, mut errors: Vec<Diagnostic>) -> Self {
        errors.sort_by_key(|error| error.span.as_ref().map(|span| (span.start, span.end)));
        Self { source, errors }
    }

    /// These errors and more of the same file.
    #[must_use]
    pub fn and(self, more: Vec<Diagnostic>) -> Self {
        Self::new(self.source, [self.errors, more].concat())
    }

    /// The file, as it was named to the parser.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Every error with its line and column: both from 1, the column in characters. An error of the file as a
    /// whole is at its beginning.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (usize, usize, &Diagnostic)> {
        self.errors.iter().map(|error| {
            let (line, column) = self.source.position(error.span.as_ref().map_or(0, |span| span.start));
            (line, column, error)
        })
    }

    /// Every error as it is shown to people, with a blank line in between, without a line end after the last.
    /// Of more than a thousand, the first thousand.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let shown = self.errors.iter().take(MOST_SHOWN).map(|error| self.source.render(error, &renderer));
        let more = self.errors.len().checked_sub(MOST_SHOWN + 1).map(|more| format!("and {} more", more + 1));
        let parts: Vec<_> = shown.chain(more).collect();
        parts.join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// A file's text, for finding and showing places in it.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    /// The offset of the first byte of every line.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(path: &Path, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.to_owned(), text, lines }
    }

    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The number of the line, from 0, that the byte at `offset` is in.
    pub(crate) fn line_index(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The bytes of a line, without its end.
    pub(crate) fn line(&self, index: usize) -> Range<usize> {
        let start = self.lines.get(index).copied().unwrap_or(self.text.len());
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[start..end];
        start..start + line.strip_suffix('\r').unwrap_or(line).len()
    }

    pub(crate) fn line_text(&self, index: usize) -> &str {
        &self.text[self.line(index)]
    }

    /// The line and the column, in characters, of the byte at `offset`; both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let index = self.line_index(offset);
        let start = self.lines.get(index).copied().unwrap_or(0);
        let end = self.text.floor_char_boundary(offset);
        (index + 1, self.text[start..end].chars().count() + 1)
    }

    fn render(&self, error: &Diagnostic, renderer: &Renderer) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(printable(&error.message)));
        if error.span.is_none() {
            group = group.element(self.origin().line(1).char_column(1));
        }
        let primary = error.span.iter().map(|span| (AnnotationKind::Primary, span, error.label.as_deref()));
        let related =
            error.related.iter().map(|(span, label)| (AnnotationKind::Context, span, Some(label.as_str())));
        for (kind, span, label) in primary.chain(related) {
            let Some(Excerpt { line, text, marked }) = self.excerpt(span) else {
                let (line, column) = self.position(span.start);
                group = group.element(self.origin().line(line).char_column(column));
                group = group.elements(label.map(|label| Level::NOTE.message(printable(label))));
                continue;
            };
            let snippet = Snippet::source(text).path(self.shown_path()).line_start(line);
            group = group.element(snippet.annotation(kind.span(marked).label(label.map(printable))));
        }
        if let Some(help) = &error.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        renderer.render(&[group])
    }

    fn origin(&self) -> Origin<'static> {
        Origin::path(self.shown_path())
    }

    fn shown_path(&self) -> String {
        printable(&self.path.to_string_lossy()).into_owned()
    }

    /// The line in which `span` begins; `None` when it is too long to be shown, even in parts.
    fn excerpt(&self, span: &Span) -> Option<Excerpt> {
        let index = self.line_index(span.start);
        let line = self.line(index);
        if line.len() > LONGEST_LINE {
            return None;
        }
        let within = |offset: usize| self.text.floor_char_boundary(offset.clamp(line.start, line.end));
        let span = within(span.start)..within(span.end.max(span.start));
        let mut text = String::with_capacity(line.len());
        let mut show = |part: Span| {
            // Tabs are left to the renderer, which knows their width.
            let part = self.text[part].chars();
            text.extend(
                part.map(|c| if c != '\t' && acts_on_terminal(c) { char::REPLACEMENT_CHARACTER } else { c }),
            );
            text.len()
        };
        let marked = show(line.start..span.start)..show(span.clone());
        show(span.end..line.end);
        Some(Excerpt { line: index + 1, text, marked })
    }
}

/// A line of the file, fit for a terminal.
struct Excerpt {
    /// Its number, from 1.
    line: usize,
    text: String,
    /// The bytes of `text` that an error is about.
    marked: Span,
}

/// A word from the file as messages quote it: in backticks, printable, and not too long.
pub(crate) fn quoted(word: &str) -> String {
    match word.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("`{}…`", printable(&word[..end])),
        None => format!("`{}`", printable(word)),
    }
}
