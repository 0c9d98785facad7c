//! Lists of what the store has.
//!
//! A row is a JSON object with the names that docker's templates use; a table shows some of them.

pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod volumes;

use cli::Failure;
use serde_json::Value;

use crate::args::ListForm;
use crate::form::{Format, plain};
use crate::output;
use crate::table::{Column, Table};

/// How rows are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The lines of the pipeline.
    Lines,
    /// Rows, as a table or by `--format`.
    Told,
}

/// What is wanted of a list whose things have lines.
pub(crate) fn wanted(form: &ListForm, ids_only: bool) -> Result<Rows, Failure> {
    match &form.format {
        Some(Format::Docker) => {
            Err(Failure::usage("--format docker", "a list is line, table, json or a template"))
        }
        Some(Format::Line) => Ok(Rows::Lines),
        Some(_) => Ok(Rows::Told),
        None if ids_only || output::to_a_person() => Ok(Rows::Told),
        None => Ok(Rows::Lines),
    }
}

/// Refuses the formats of things that have lines or documents of docker.
pub(crate) fn no_lines(form: &ListForm) -> Result<(), Failure> {
    match &form.format {
        Some(Format::Line | Format::Docker) => {
            Err(Failure::usage("--format", "this list is table, json or a template"))
        }
        _ => Ok(()),
    }
}

/// Tells rows: as JSON, by a template, or the columns that are given by heading and member.
pub(crate) fn tell(rows: &[Value], form: &ListForm, columns: &[(Column, &str)]) -> Result<(), Failure> {
    match &form.format {
        Some(Format::Json) => {
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            cli::answer(descriptor::printable(text).as_bytes())
        }
        Some(Format::Template(template)) => {
            let template = template.clone().with_escapes();
            let text = rows.iter().map(|row| template.fill(row).map(|text| text + "\n"));
            output::text(&text.collect::<Result<String, _>>()?)
        }
        _ => {
            let titles: Vec<Column> = columns.iter().map(|(column, _)| *column).collect();
            let mut table = Table::new(&titles);
            for row in rows {
                table.row(columns.iter().map(|(_, member)| plain(&row[*member])));
            }
            table.write(form.no_trunc)
        }
    }
}

/// Tells ids alone, one a line.
pub(crate) fn tell_ids(rows: &[Value], member: &str) -> Result<(), Failure> {
    let text: String = rows.iter().map(|row| plain(&row[member]) + "\n").collect();
    output::text(&text)
}
