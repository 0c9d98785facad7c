//! How what was found is told: by its line or report, or by a document and members of it.

use cli::Failure;
use serde_json::Value;

use crate::args::One;
use crate::form::{Format, Path, Template, plain};
use crate::output;

/// The answers of one call.
pub(crate) struct Answers {
    shape: Shape,
    fields: Vec<Path>,
    template: Option<Template>,
    /// Docker's documents, for one array at the end.
    array: Vec<Value>,
}

/// Which form of a thing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Its line, or a report to a person.
    Brief { to_a_person: bool },
    /// Our document: all there is to say.
    Full,
    /// Docker's document.
    Docker,
}

impl Answers {
    /// By the command line.
    pub(crate) fn new(args: &One) -> Self {
        let brief = |to_a_person| Shape::Brief { to_a_person };
        let (shape, template) = match &args.format {
            None if args.full || !args.field.is_empty() => (Shape::Full, None),
            None => (brief(output::to_a_person()), None),
            Some(Format::Line | Format::Table) if !args.field.is_empty() => (Shape::Full, None),
            Some(Format::Line) => (brief(false), None),
            Some(Format::Table) => (brief(true), None),
            Some(Format::Json) => (Shape::Full, None),
            Some(Format::Docker) => (Shape::Docker, None),
            Some(Format::Template(template)) => (Shape::Docker, Some(template.clone())),
        };
        Self { shape, fields: args.field.clone(), template, array: Vec::new() }
    }

    /// What is wanted.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether stdout carries lines, among which an error has its place.
    pub(crate) fn are_lines(&self) -> bool {
        self.fields.is_empty() && self.shape != Shape::Docker
    }

    /// Tells a document, or the wanted members of it.
    ///
    /// # Errors
    /// Exit 3 for a member that it does not have; then nothing of it is told.
    pub(crate) fn give(&mut self, document: Value) -> Result<(), Failure> {
        if !self.fields.is_empty() {
            let found = self.fields.iter().map(|path| path.of(&document).map(plain));
            return output::text(&(found.collect::<Result<Vec<_>, _>>()?.join("\n") + "\n"));
        }
        match (&self.template, self.shape) {
            (Some(template), _) => output::text(&(template.fill(&document)? + "\n")),
            (None, Shape::Docker) => {
                self.array.push(document);
                Ok(())
            }
            (None, _) => output::json(&document),
        }
    }

    /// Tells what is told at the end.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.shape != Shape::Docker || self.template.is_some() || !self.fields.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&self.array).unwrap_or_default();
        cli::answer(descriptor::printable(text + "\n").as_bytes())
    }
}
