//! Tables: as wide as what is in them, on a terminal no wider than that.

use cli::{Failure, escaped};

use crate::output;
use crate::text::cut;

/// The space between two columns, and the least a column takes with it, as in docker's tables.
const GAP: usize = 3;
const LEAST: usize = 10;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// How narrow it may get where the terminal is; none for what is of no use when cut.
    pub(crate) shrinks_to: Option<usize>,
}

/// A column that is never cut.
pub(crate) const fn fixed(title: &'static str) -> Column {
    Column { title, shrinks_to: None }
}

/// A column that may be cut to so many characters.
pub(crate) const fn flexible(title: &'static str, least: usize) -> Column {
    Column { title, shrinks_to: Some(least) }
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns. What steers a terminal is escaped.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| escaped(&cell)).collect());
    }

    /// The text, no line longer than `width` where that can be.
    pub(crate) fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_string()).collect();
        let mut text = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = cut(cell, *width);
                let space = (width + GAP).max(LEAST);
                line.push_str(&format!("{cell:space$}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The columns' widths; the widest of those that may shrink gives way first.
    fn widths(&self, most: Option<usize>) -> Vec<usize> {
        let widest = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(column.title.len())
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let Some(most) = most else { return widths };
        let total = |widths: &[usize]| {
            let (last, before) = widths.split_last().unwrap_or((&0, &[]));
            before.iter().map(|width| (width + GAP).max(LEAST)).sum::<usize>() + last
        };
        while total(&widths) > most {
            let may = |at: &usize| self.columns[*at].shrinks_to.is_some_and(|least| widths[*at] > least);
            let Some(at) = (0..widths.len()).filter(may).max_by_key(|at| widths[*at]) else { break };
            widths[at] -= 1;
        }
        widths
    }

    /// Writes it; `whole` where nothing is cut.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn write(&self, whole: bool) -> Result<(), Failure> {
        let width = if whole { None } else { output::width() };
        cli::answer(self.render(width).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[fixed("ID"), flexible("COMMAND", 8), fixed("NAMES")]);
        table.row(["0123456789ab".into(), "sleep infinity and more".into(), "web".into()]);
        table.row(["ba".into(), "a\u{1b}[2Jb".into(), "\u{202e}x".into()]);
        table
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let text = table().render(None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ID             COMMAND                   NAMES");
        assert_eq!(lines[1], "0123456789ab   sleep infinity and more   web");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    }

    #[test]
    fn a_narrow_terminal_cuts_what_may_be_cut() {
        let text = table().render(Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("0123456789ab") && text.contains("sleep infini\u{2026}"), "{text}");
        let text = table().render(Some(5));
        assert!(text.contains("0123456789ab") && text.contains("sleep i\u{2026}"), "{text}");
    }
}
