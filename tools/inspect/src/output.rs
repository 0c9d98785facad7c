//! What goes to stdout beside lines: reports, JSON, exact bytes.

use std::fmt::Write as _;
use std::io::IsTerminal;

use cli::{Failure, answer, escaped};
use serde_json::Value;

/// Whether a person reads stdout.
pub(crate) fn to_a_person() -> bool {
    std::io::stdout().is_terminal()
}

/// How many characters fit into a line of the terminal; none where stdout is none.
pub(crate) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    // A terminal that knows no size says 0.
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Writes a JSON value: indented for a person, otherwise on one line.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    let text = if to_a_person() { format!("{value:#}\n") } else { format!("{value}\n") };
    answer(descriptor::printable(text).as_bytes())
}

/// Writes a text: exactly, or with what steers a terminal escaped where one reads it.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    if !to_a_person() {
        return answer(text.as_bytes());
    }
    let lines: Vec<String> =
        text.split('\n').map(|line| line.split('\t').map(escaped).collect::<Vec<_>>().join("\t")).collect();
    answer(lines.join("\n").as_bytes())
}

/// A document of ours: a line's members, or others, and which schema it has.
pub(crate) fn document(schema: &str, members: Value) -> Value {
    let mut all = serde_json::Map::new();
    all.insert("schema".into(), format!("urn:ocipipe:schema:inspect.{schema}").into());
    if let Value::Object(members) = members {
        all.extend(members);
    }
    all.into()
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
        answer(format!("{text}\n").as_bytes())
    }
}
