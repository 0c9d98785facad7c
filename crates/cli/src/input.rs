//! Lines from stdin, by the rules all tools share.

use std::io::IsTerminal;

use descriptor::{Classify, Exit, Line, LineError, LineReader};

use crate::Failure;

/// The lines of stdin: an error line comes as its failure, no line at all as exit 10.
pub(crate) struct Lines {
    reader: LineReader<std::io::Stdin>,
    seen: bool,
    ended: bool,
}

impl Lines {
    /// # Errors
    /// Exit 2 where stdin is a terminal: nobody types lines.
    pub(crate) fn open() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::usage("stdin", "a terminal, where lines of another stage are read")
                .with_hint("pipe the stage before into this one, or see --help for naming things directly"));
        }
        Ok(Self { reader: LineReader::new(stdin), seen: false, ended: false })
    }
}

impl Iterator for Lines {
    type Item = Result<Line, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.reader.next() {
            None => {
                self.ended = true;
                (!self.seen).then(|| Err(empty()))
            }
            Some(read) => {
                self.seen = true;
                // What follows a broken line has no known beginning.
                self.ended = read.is_err();
                Some(checked(read))
            }
        }
    }
}

/// Stdin without a line.
pub(crate) fn empty() -> Failure {
    Failure::new(Exit::Upstream, "no line on stdin", "the stage before ended without one")
}

/// A line read, or the failure that it is or carries.
pub(crate) fn checked(read: Result<Line, LineError>) -> Result<Line, Failure> {
    match read {
        Ok(Line::Error(error)) => Err(Failure::travelling(error)),
        Ok(line) => Ok(line),
        Err(error) => {
            let failure = Failure::new(error.exit(), "input on stdin is no line", &error);
            Err(match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            })
        }
    }
}
