//! A failure as the user sees it: what was being done, why it failed, what to do.

use std::fmt;

use descriptor::{Classify, ErrorLine, Exit};

/// The exit status of a tool whose reader went away: 128 + SIGPIPE, as the shell reports it.
const READER_GONE: u8 = 141;

/// Why a tool stops short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Ours: to be printed, and to travel.
    Own { exit: u8, what: String, why: String, hint: Option<String> },
    /// Another stage's: to travel on in silence.
    Travelling(ErrorLine),
    /// Nobody reads our lines: to stop in silence.
    ReaderGone,
}

impl Failure {
    /// A failure of this tool.
    pub fn new(exit: Exit, what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::with_status(exit.code(), what, why)
    }

    /// A failure with a status beyond the table of [`Exit`]: a container's start fails with 125, 126 or 127.
    pub fn with_status(exit: u8, what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { kind: Kind::Own { exit, what: what.into(), why: unnumbered(why.to_string()), hint: None } }
    }

    /// A command line or an input of the wrong kind.
    pub fn usage(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what, why)
    }

    /// Another stage's failure.
    pub fn travelling(line: ErrorLine) -> Self {
        Self { kind: Kind::Travelling(line) }
    }

    /// The end of a tool whose reader is gone.
    pub fn reader_gone() -> Self {
        Self { kind: Kind::ReaderGone }
    }

    /// What came of writing to a stream of ours: the end without a word where nobody reads, exit 8 on a full disk.
    pub fn unwritten(stream: &str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::reader_gone(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::new(Exit::Space, stream, error)
            }
            _ => Self::new(Exit::Other, stream, error),
        }
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Kind::Own { hint, .. } = &mut self.kind {
            *hint = Some(text.into());
        }
        self
    }

    /// The same failure of this tool with another status; one that travels keeps its origin's.
    #[must_use]
    pub fn exiting_with(mut self, status: u8) -> Self {
        if let Kind::Own { exit, .. } = &mut self.kind {
            *exit = status;
        }
        self
    }

    /// The status the tool exits with.
    pub fn exit(&self) -> u8 {
        match &self.kind {
            Kind::Own { exit, .. } => *exit,
            Kind::Travelling(line) => line.exit,
            Kind::ReaderGone => READER_GONE,
        }
    }

    /// True where the tool's reader is gone.
    pub fn is_reader_gone(&self) -> bool {
        self.kind == Kind::ReaderGone
    }

    /// The error line of another stage, where this failure is that stage's.
    pub fn origin(&self) -> Option<&ErrorLine> {
        match &self.kind {
            Kind::Travelling(line) => Some(line),
            _ => None,
        }
    }

    /// The line to pass on, the one that came or our own; none where nobody reads.
    pub fn to_line(&self, tool: &str) -> Option<ErrorLine> {
        match &self.kind {
            Kind::Own { exit, what, why, hint } => Some(ErrorLine {
                tool: tool.into(),
                exit: *exit,
                what: clipped(what),
                why: clipped(why),
                hint: hint.as_deref().map(clipped),
            }),
            Kind::Travelling(line) => Some(line.clone()),
            Kind::ReaderGone => None,
        }
    }

    /// What to print on stderr; none for what another stage printed already.
    pub(crate) fn message(&self, tool: &str) -> Option<ErrorLine> {
        match &self.kind {
            Kind::Own { exit, what, why, hint } => Some(ErrorLine {
                tool: tool.into(),
                exit: *exit,
                what: what.clone(),
                why: why.clone(),
                hint: hint.clone(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Own { what, why, .. } => write!(f, "{}: {}", escaped(what), escaped(why)),
            Kind::Travelling(line) => {
                write!(f, "{}: {}: {}", escaped(&line.tool), escaped(&line.what), escaped(&line.why))
            }
            Kind::ReaderGone => f.write_str("the reader of stdout is gone"),
        }
    }
}

/// Without the number of an error that `std` puts behind its words: it says nothing that these do not.
fn unnumbered(mut why: String) -> String {
    const BEGIN: &str = " (os error ";
    while let Some(at) = why.find(BEGIN) {
        let digits = why[at + BEGIN.len()..].find(')').map(|end| at + BEGIN.len() + end);
        let Some(end) = digits else { break };
        why.replace_range(at..=end, "");
    }
    why
}

/// The most characters of one member of an error line, so that three of them fit into a line in any escaping.
const CLIPPED: usize = 200;

fn clipped(text: &str) -> String {
    match text.char_indices().nth(CLIPPED) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

/// Says what was being done when an error came up.
pub trait During<T> {
    /// Makes a [`Failure`] of the error, with its exit status and its hint.
    ///
    /// # Errors
    /// The failure.
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Classify> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let failure = Failure::new(error.exit(), what(), &error);
            match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })
    }
}

/// Text for a terminal: control characters, which could move its cursor, and marks that turn the direction of writing
/// are escaped.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || descriptor::is_steering(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_of_any_text_fits_into_a_line() {
        let worst = "\u{1}".repeat(10_000);
        let failure = Failure::new(Exit::Content, worst.clone(), &worst).with_hint(worst);
        let line = descriptor::Line::Error(failure.to_line("oci-unpack").expect("travels"));
        assert!(line.to_json().to_string().len() < descriptor::LINE_LIMIT);
    }

    #[test]
    fn errors_of_the_system_are_told_without_their_numbers() {
        let why = std::io::Error::from_raw_os_error(2);
        assert_eq!(Failure::new(Exit::Other, "a", why).to_string(), "a: No such file or directory");
        let why = "connect: refused (os error 111): tried (os error 1) twice";
        assert_eq!(Failure::new(Exit::Other, "a", why).to_string(), "a: connect: refused: tried twice");
        assert_eq!(Failure::new(Exit::Other, "a", "b (os error 1").to_string(), "a: b (os error 1");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(escaped("a\u{1b}[2Jb\n\u{9b}c\u{e9}"), "a\\u{1b}[2Jb\\n\\u{9b}c\u{e9}");
        assert_eq!(escaped("gpj\u{202e}exe.\u{5d0}"), "gpj\\u{202e}exe.\u{5d0}");
    }
}
