//! What goes to stdout beside lines: reports, JSON, exact bytes.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use cli::{Failure, escaped};
use descriptor::Exit;
use serde_json::Value;

/// Whether a person reads stdout.
pub(crate) fn to_a_person() -> bool {
    std::io::stdout().is_terminal()
}

/// Writes all bytes.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::reader_gone(),
        std::io::ErrorKind::StorageFull => Failure::new(Exit::Space, "stdout", e),
        _ => Failure::new(Exit::Other, "stdout", e),
    })
}

/// Writes a JSON value: indented for a person, otherwise on one line.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    let text = if to_a_person() { format!("{value:#}\n") } else { format!("{value}\n") };
    write(descriptor::printable(text).as_bytes())
}

/// A report: a column of labels, a column of values.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, String)>,
}

impl Report {
    /// Adds a row; a value without text is left out.
    pub(crate) fn row(&mut self, label: &'static str, value: impl ToString) {
        let value = value.to_string();
        if !value.is_empty() {
            self.rows.push((label, value));
        }
    }

    /// Writes it, an empty line after it.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let width = self.rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut text = String::new();
        let mut last = "";
        for (label, value) in &self.rows {
            let shown = if *label == last { "" } else { label };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{shown:width$}  {}", escaped(value));
            last = label;
        }
        write(format!("{text}\n").as_bytes())
    }
}

/// A table with a heading; columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    let heading = heading.map(str::to_string);
    let all: Vec<[String; N]> =
        std::iter::once(&heading).chain(rows).map(|row| row.each_ref().map(|cell| escaped(cell))).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    write(text.as_bytes())
}

/// The first digits of a digest or id, as docker shows them.
pub(crate) fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}
