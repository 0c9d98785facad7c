//! Reading lines: bounded, and byte-exact where somebody else reads on.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;

use crate::{LINE_LIMIT, Line, LineError};

/// Reads the lines of a stream one by one.
#[derive(Debug)]
pub struct LineReader<R> {
    input: BufReader<R>,
}

impl<R: Read> LineReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::new(input) }
    }
}

impl<R: Read> Iterator for LineReader<R> {
    type Item = Result<Line, LineError>;

    /// The next line; blank lines are passed over.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut bytes = Vec::new();
            let limit = LINE_LIMIT as u64 + 1;
            match self.input.by_ref().take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) if bytes.trim_ascii().is_empty() && bytes.len() <= LINE_LIMIT => {}
                Ok(_) => return Some(Line::parse(&bytes)),
                Err(e) => return Some(Err(LineError::Read(e))),
            }
        }
    }
}

/// Reads exactly one line from a descriptor and not a byte more, so that another process can read on.
///
/// # Errors
/// [`LineError`]; `Ok(None)` at the end of the input.
pub fn read_one_exact(input: impl AsFd) -> Result<Option<Line>, LineError> {
    let mut bytes = Vec::with_capacity(512);
    let mut byte = [0];
    loop {
        match rustix::io::read(&input, &mut byte) {
            Ok(0) if bytes.trim_ascii().is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) => bytes.push(byte[0]),
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(LineError::Read(errno.into())),
        }
        if byte[0] == b'\n' {
            break;
        }
        if bytes.len() > LINE_LIMIT {
            return Err(LineError::TooLong);
        }
    }
    Line::parse(&bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorLine;

    fn line(tool: &str) -> Line {
        Line::Error(ErrorLine { tool: tool.into(), exit: 1, what: "w".into(), why: "y".into(), hint: None })
    }

    #[test]
    fn lines_come_one_by_one_and_blank_ones_not_at_all() {
        let text = format!("{}\n\n  \n{}", line("a").to_json(), line("b").to_json());
        let read: Result<Vec<_>, _> = LineReader::new(text.as_bytes()).collect();
        assert_eq!(read.expect("lines"), [line("a"), line("b")]);
    }

    #[test]
    fn an_endless_line_is_refused_at_the_limit() {
        let mut lines = LineReader::new(std::io::repeat(b'x'));
        assert!(matches!(lines.next(), Some(Err(LineError::TooLong))));
        let mut blank = LineReader::new(std::io::repeat(b' '));
        assert!(matches!(blank.next(), Some(Err(LineError::TooLong))));
    }

    #[test]
    fn an_exact_read_leaves_what_follows() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        rustix::io::write(&write, format!("{}\nrest", line("a").to_json()).as_bytes()).expect("write");
        assert_eq!(read_one_exact(&read).expect("a line"), Some(line("a")));
        let mut rest = [0; 8];
        let n = rustix::io::read(&read, &mut rest).expect("read");
        assert_eq!(&rest[..n], b"rest");
    }
}
