//! Tables for people: columns that fit a terminal.

use std::borrow::Cow;
use std::fmt::Write;

use xdpd_config::terminal::printable;

use super::Screen;

/// No column is made narrower.
const NARROWEST: usize = 10;
/// Spaces between columns.
const GAP: usize = 2;

/// A table with these column heads, at most `width` wide as far as its `elastic` columns can be made narrower: those of
/// the first group, if need be those of the next one. What does not fit there loses its middle: names differ at their
/// ends.
pub fn table<const N: usize>(
    head: [&str; N],
    rows: &[[String; N]],
    width: usize,
    elastic: &[&[usize]],
) -> Screen {
    let mut widths = head.map(str::len);
    // As wide as they are shown.
    let rows: Vec<[Cow<'_, str>; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for columns in elastic {
        narrow(&mut widths, width, columns);
    }
    let mut out = Screen::default();
    let mut write_row = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(line, "{:<width$}{:GAP$}", shortened(cell, width), "");
        }
        out.line(line.trim_end());
    };
    write_row(head);
    for row in &rows {
        write_row(row.each_ref().map(|cell| &**cell));
    }
    out
}

/// Takes from the widest of some columns until all fit.
fn narrow(widths: &mut [usize], width: usize, columns: &[usize]) {
    let all = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    for _ in width..all {
        let wide = columns.iter().copied().filter(|column| widths[*column] > NARROWEST);
        let Some(widest) = wide.max_by_key(|column| widths[*column]) else { return };
        widths[widest] -= 1;
    }
}

fn shortened(cell: &str, width: usize) -> String {
    let count = cell.chars().count();
    if count <= width {
        return cell.to_owned();
    }
    let end = width / 2;
    let start: String = cell.chars().take(width - end - 1).collect();
    let end: String = cell.chars().skip(count - end).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 3]]) -> Vec<[String; 3]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let text = table(["A", "LONGER", "C"], &rows(&[["name", "x", "1"], ["n", "y", ""]]), 80, &[&[0, 1]])
            .to_string();
        assert_eq!(text, "A     LONGER  C\nname  x       1\nn     y\n");
    }

    #[test]
    fn long_names_lose_their_middle_and_what_matters_most_stays_whole() {
        let long = "a-namespace-with-a-very-long-name:eth0";
        let text = table(["A", "B", "C"], &rows(&[[long, "short", "2026-11-23T01:41:05Z"]]), 60, &[&[0, 1]])
            .to_string();
        let [head, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(row, "a-namespace-wit…-long-name:eth0  short  2026-11-23T01:41:05Z");
        assert!(row.chars().count() <= 60 && head.starts_with("A "), "{text}");
    }

    #[test]
    fn the_widest_column_gives_first_and_none_becomes_too_narrow_to_read() {
        let (long, longer) = ("x".repeat(50), "y".repeat(70));
        let fits = table(["A", "B", "C"], &rows(&[[&long, &longer, "z"]]), 80, &[&[0, 1]]).to_string();
        let widths: Vec<usize> =
            fits.lines().last().unwrap().split("  ").map(|cell| cell.chars().count()).collect();
        assert_eq!(widths, [38, 37, 1]);
        let cannot = table(["A", "B", "C"], &rows(&[[&long, &longer, &long]]), 40, &[&[0, 1]]).to_string();
        let widths: Vec<usize> =
            cannot.lines().last().unwrap().split("  ").map(|cell| cell.chars().count()).collect();
        assert_eq!(widths, [10, 10, 50]);
        let next =
            table(["A", "B", "C"], &rows(&[[&long, &longer, &long]]), 40, &[&[0, 1], &[2]]).to_string();
        assert_eq!(next.lines().last().unwrap().chars().count(), 40, "{next}");
    }
}
