//! Writing lines: one `write(2)` each.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::{Classify, Exit, LINE_LIMIT, Line};

/// Writes lines to a descriptor.
#[derive(Debug)]
pub struct LineWriter {
    output: OwnedFd,
}

/// Why a line was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nobody reads any more.
    #[error("the reader is gone")]
    ReaderGone,
    /// The line does not fit, even without its annotations.
    #[error("a line of {0} bytes is over the limit of {LINE_LIMIT}")]
    TooLong(usize),
    /// The descriptor failed.
    #[error("write to stdout: {0}")]
    Write(Errno),
    /// The descriptor took only a part, which only a full disk or a non-blocking file does.
    #[error("write to stdout: only {0} bytes of the line were taken")]
    Short(usize),
}

impl Classify for WriteError {
    fn exit(&self) -> Exit {
        match self {
            Self::Write(Errno::NOSPC | Errno::DQUOT) | Self::Short(_) => Exit::Space,
            _ => Exit::Other,
        }
    }
}

impl LineWriter {
    /// Writes to `output`.
    pub fn new(output: OwnedFd) -> Self {
        Self { output }
    }

    /// Writes `line` by one `write(2)`. Annotations that would burst the limit are left out: they are in the store.
    ///
    /// # Errors
    /// [`WriteError`]; [`WriteError::ReaderGone`] on `EPIPE`, for which `SIGPIPE` must be ignored, as Rust does.
    pub fn write(&self, line: &Line) -> Result<(), WriteError> {
        let mut json = line.to_json();
        let mut bytes = printable(json.to_string()).into_bytes();
        if bytes.len() >= LINE_LIMIT {
            if let Some(members) = json.as_object_mut() {
                members.shift_remove("annotations");
            }
            bytes = printable(json.to_string()).into_bytes();
        }
        bytes.push(b'\n');
        if bytes.len() > LINE_LIMIT {
            return Err(WriteError::TooLong(bytes.len()));
        }
        loop {
            match rustix::io::write(self.output.as_fd(), &bytes) {
                Ok(n) if n == bytes.len() => return Ok(()),
                Ok(n) => return Err(WriteError::Short(n)),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => return Err(WriteError::ReaderGone),
                Err(errno) => return Err(WriteError::Write(errno)),
            }
        }
    }
}

/// The same JSON with the controls escaped that JSON leaves as they are, and by which a terminal could be steered: delete,
/// the C1 set (a CSI among them), and what turns the direction of writing.
pub fn printable(json: String) -> String {
    if !json.contains(is_steering) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        // Outside of strings JSON has none of them, and none is beyond the basic plane.
        if is_steering(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    out
}

/// True for a control character, and for a mark of Unicode's bidirectional algorithm (UAX #9) or a line separator, by which
/// a text can look like another one. Newlines and tabs between JSON's members are whitespace.
pub fn is_steering(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Descriptor, ImageLine, media};

    fn image(annotation: usize, reference: usize) -> Line {
        let mut descriptor = Descriptor::of(media::OCI_MANIFEST, b"{}");
        descriptor.annotations.insert("a".into(), "x".repeat(annotation));
        let reference = Some("r".repeat(reference));
        Line::Image(ImageLine { descriptor, store: None, reference, pinned: None, complete: true })
    }

    fn written(line: &Line) -> Result<Vec<u8>, WriteError> {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        LineWriter::new(write).write(line)?;
        let mut buffer = [0; 2 * LINE_LIMIT];
        let n = rustix::io::read(&read, &mut buffer).expect("read");
        Ok(buffer[..n].to_vec())
    }

    #[test]
    fn annotations_give_way_to_the_limit() {
        assert!(written(&image(10, 10)).expect("fits").windows(11).any(|w| w == b"annotations"));
        let squeezed = written(&image(LINE_LIMIT, 10)).expect("fits without annotations");
        assert!(squeezed.len() <= LINE_LIMIT && !squeezed.windows(11).any(|w| w == b"annotations"));
        assert!(matches!(written(&image(10, LINE_LIMIT)), Err(WriteError::TooLong(_))));
    }

    #[test]
    fn a_line_steers_no_terminal_and_reads_back_the_same() {
        let mut line = image(1, 1);
        if let Line::Image(image) = &mut line {
            image.reference = Some("\u{1b}[2J\u{9b}2J\u{7f}\u{202e}x\u{e9}\u{1f600}\n".into());
        }
        let bytes = written(&line).expect("fits");
        let text = std::str::from_utf8(&bytes).expect("UTF-8");
        assert!(!text.trim_end().contains(is_steering), "{text:?}");
        assert!(text.contains('\u{e9}') && text.contains('\u{1f600}'), "{text:?}");
        assert_eq!(Line::parse(&bytes).expect("parse"), line);
    }

    #[test]
    fn a_gone_reader_is_told_from_a_failure() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        drop(read);
        assert_eq!(LineWriter::new(write).write(&image(1, 1)), Err(WriteError::ReaderGone));
    }
}
