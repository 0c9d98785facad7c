//! A running tool: where its lines and its messages go.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use descriptor::{ErrorLine, Exit, Line, LineWriter, WriteError};
use rustix::fs::FileType;

use crate::input::{Lines, checked, empty};
use crate::{Common, During, Failure, LogFormat, Progress, escaped};

/// A tool at work.
#[derive(Debug)]
pub struct Stage {
    tool: &'static str,
    log_format: LogFormat,
    quiet: bool,
    fail_fast: bool,
    stdout: Option<LineWriter>,
    /// Error lines go to a pipe or a socket, which another stage reads; a terminal or a file has the message.
    errors_travel: bool,
}

impl Stage {
    pub(crate) fn new(tool: &'static str, common: Option<&Common>) -> Self {
        let stdout = std::io::stdout();
        let kind = rustix::fs::fstat(&stdout).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let errors_travel = matches!(kind, Ok(FileType::Fifo | FileType::Socket));
        let output: Option<OwnedFd> = stdout.as_fd().try_clone_to_owned().ok();
        Self {
            tool,
            log_format: common.map_or(LogFormat::Text, |common| common.log_format),
            quiet: common.is_some_and(|common| common.quiet),
            fail_fast: common.is_some_and(|common| common.fail_fast),
            stdout: output.map(LineWriter::new),
            errors_travel,
        }
    }

    /// Where the arguments could not be read.
    pub(crate) fn with_format(mut self, format: LogFormat) -> Self {
        self.log_format = format;
        self
    }

    /// The tool's name.
    pub fn tool(&self) -> &'static str {
        self.tool
    }

    /// The lines of stdin. An error line comes as a [`Failure`] that travels; no line at all is exit 10.
    ///
    /// # Errors
    /// Exit 2 where stdin is a terminal.
    pub fn lines(&self) -> Result<impl Iterator<Item = Result<Line, Failure>> + use<>, Failure> {
        Lines::open()
    }

    /// The only line of stdin, read to its end.
    ///
    /// # Errors
    /// Exit 2 for a second line, with `why` a single one is wanted; as [`Stage::lines`] otherwise.
    pub fn single(&self, why: &str) -> Result<Line, Failure> {
        self.single_or_end(why, |_| {})
    }

    /// As [`Stage::single`]; where it fails, `end` gets each line that was read: nobody else will ever see them.
    ///
    /// # Errors
    /// As [`Stage::single`].
    pub fn single_or_end(&self, why: &str, mut end: impl FnMut(Line)) -> Result<Line, Failure> {
        let mut lines = Lines::open()?;
        let first = lines.next().unwrap_or_else(|| Err(empty()))?;
        let failure = match lines.next() {
            None => return Ok(first),
            Some(Ok(second)) => {
                end(second);
                Failure::usage("a second line on stdin", why)
            }
            Some(Err(failure)) => failure,
        };
        end(first);
        Err(failure)
    }

    /// One line of stdin, not a byte more: the rest belongs to somebody else.
    ///
    /// # Errors
    /// As [`Stage::lines`].
    pub fn single_exact(&self) -> Result<Line, Failure> {
        let read = descriptor::read_one_exact(std::io::stdin().as_fd());
        read.transpose().map_or_else(|| Err(empty()), checked)
    }

    /// Handles items one by one: a failing one gives an error line, the rest go on, unless --fail-fast.
    ///
    /// An item that fails because the stage before did not keep its promise (exit 10) waits for that stage's next word:
    /// an error line is the origin of the failure and takes its place.
    ///
    /// Returns the exit status: 0, or the first failure's.
    pub fn for_each<T>(
        &mut self,
        items: impl IntoIterator<Item = Result<T, Failure>>,
        mut act: impl FnMut(&mut Self, T) -> Result<(), Failure>,
    ) -> u8 {
        let mut status = 0;
        let mut items = items.into_iter().peekable();
        while let Some(item) = items.next() {
            let Err(mut failure) = item.and_then(|item| act(self, item)) else { continue };
            if failure.exit() == Exit::Upstream.code() && failure.origin().is_none() {
                let told = items.next_if(|next| next.as_ref().is_err_and(|word| word.origin().is_some()));
                if let Some(Err(origin)) = told {
                    failure = origin;
                }
            }
            self.fail(&failure);
            if status == 0 {
                status = failure.exit();
            }
            if self.fail_fast || failure.is_reader_gone() {
                break;
            }
        }
        status
    }

    /// Writes a line to stdout.
    ///
    /// # Errors
    /// [`Failure::reader_gone`] where nobody reads; otherwise the write's failure.
    pub fn emit(&self, line: &Line) -> Result<(), Failure> {
        let Some(stdout) = &self.stdout else {
            return Err(Failure::new(Exit::Other, "stdout", "it is closed"));
        };
        match stdout.write(line) {
            Err(WriteError::ReaderGone) => Err(Failure::reader_gone()),
            result => result.during(|| format!("{} line", line.kind())),
        }
    }

    /// Keeps error lines off stdout: it carries somebody else's bytes, a container's output say.
    pub fn keep_errors_home(&mut self) {
        self.errors_travel = false;
    }

    /// Reports a failure: its message on stderr unless another stage printed it, its line on a pipe.
    pub fn fail(&self, failure: &Failure) {
        if let Some(message) = failure.message(self.tool) {
            self.print(&message);
        }
        if let Some(line) = failure.to_line(self.tool).filter(|_| self.errors_travel) {
            // Where stdout cannot take the error either, the message and the status have said it.
            let _ = self.emit(&Line::Error(line));
        }
    }

    /// Says on stderr what the user should know though nothing failed.
    pub fn warn(&self, text: &str) {
        self.say("warning", text);
    }

    /// Says on stderr how the work goes; silent with --quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.say("note", text);
        }
    }

    /// Progress on stderr: bars on a terminal, otherwise a plain line every few seconds, nothing with --quiet.
    pub fn progress(&self) -> Progress {
        Progress::new(self.tool, self.quiet || self.log_format == LogFormat::Json)
    }

    fn say(&self, level: &str, text: &str) {
        let line = match self.log_format {
            LogFormat::Json => {
                let object = serde_json::json!({"level": level, "tool": self.tool, "message": text});
                descriptor::printable(object.to_string())
            }
            LogFormat::Text if level == "warning" => format!("{}: warning: {}", self.tool, escaped(text)),
            LogFormat::Text => format!("{}: {}", self.tool, escaped(text)),
        };
        to_stderr(&line);
    }

    fn print(&self, message: &ErrorLine) {
        if self.log_format == LogFormat::Json {
            let mut object = serde_json::json!({"level": "error"});
            if let (Some(all), Ok(serde_json::Value::Object(members))) =
                (object.as_object_mut(), serde_json::to_value(message))
            {
                all.extend(members);
            }
            to_stderr(&descriptor::printable(object.to_string()));
            return;
        }
        let mut text = format!("{}: {}: {}", message.tool, escaped(&message.what), escaped(&message.why));
        if let Some(hint) = &message.hint {
            text.push_str(&format!("\n{}: hint: {}", message.tool, escaped(hint)));
        }
        to_stderr(&text);
    }
}

/// One write for a whole message, so that several stages' messages do not mix. Nothing is left to do where it fails.
fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs() -> Failure {
        let line =
            ErrorLine { tool: "oci-pull".into(), exit: 6, what: "a".into(), why: "b".into(), hint: None };
        Failure::travelling(line)
    }

    fn status(items: Vec<Result<u8, Failure>>) -> (u8, Vec<u8>) {
        let mut seen = Vec::new();
        let act = |_: &mut Stage, item| {
            seen.push(item);
            if item == 0 { Err(Failure::new(Exit::Upstream, "blob", "never came")) } else { Ok(()) }
        };
        let status = Stage::new("oci-test", None).for_each(items, act);
        (status, seen)
    }

    #[test]
    fn the_origin_of_a_failure_speaks_for_its_consequence() {
        assert_eq!(status(vec![Ok(0), Err(theirs()), Ok(1)]), (6, vec![0, 1]));
        assert_eq!(status(vec![Ok(0)]), (Exit::Upstream.code(), vec![0]));
    }

    #[test]
    fn a_line_read_ahead_is_not_lost() {
        assert_eq!(status(vec![Ok(0), Ok(1), Ok(2)]), (Exit::Upstream.code(), vec![0, 1, 2]));
    }
}
