//! A line's words.

use super::{Fault, fault};

/// A word may be repeated to this many bytes.
const LONGEST: usize = 64 << 20;

/// Splits a line; none for an empty one or a comment.
pub(super) fn split(line: &str, variables: &[(&str, &str)]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut reader = Reader { rest: line.as_bytes(), variables };
    let mut words = Vec::new();
    loop {
        reader.rest = reader.rest.trim_ascii_start();
        if matches!(reader.rest, [] | [b'#', ..]) {
            return Ok(words);
        }
        words.push(reader.word()?);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    variables: &'a [(&'a str, &'a str)],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Up to the next blank outside of quotes.
    fn word(&mut self) -> Result<Vec<u8>, Fault> {
        let mut word = Vec::new();
        while let Some(&byte) = self.rest.first().filter(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'"' => {
                    let part = self.quoted()?;
                    let times = self.times(&part)?;
                    word.extend(part.repeat(times));
                }
                b'$' => word.extend(self.variable()?),
                _ => word.extend(self.next()),
            }
        }
        Ok(word)
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Fault> {
        let start = self.rest;
        let mut part = Vec::new();
        self.next();
        loop {
            match self.rest.first() {
                Some(b'$') => {
                    part.extend(self.variable()?);
                    continue;
                }
                Some(b'\\') => {
                    self.next();
                    part.push(self.escape(start)?);
                    continue;
                }
                _ => {}
            }
            match self.next() {
                Some(b'"') => return Ok(part),
                Some(byte) => part.push(byte),
                None => return Err(fault(start, "has no closing quote")),
            }
        }
    }

    fn escape(&mut self, start: &[u8]) -> Result<u8, Fault> {
        match self.next() {
            Some(b'n') => Ok(b'\n'),
            Some(b't') => Ok(b'\t'),
            Some(b'0') => Ok(0),
            Some(b'x') => {
                let mut digit = || self.next().and_then(|digit| char::from(digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => Ok((high << 4 | low) as u8),
                    _ => Err(fault(start, "\\x wants two hexadecimal digits")),
                }
            }
            Some(byte @ (b'\\' | b'"' | b'$')) => Ok(byte),
            _ => Err(fault(start, "unknown escape")),
        }
    }

    /// The number behind `*`.
    fn times(&mut self, part: &[u8]) -> Result<usize, Fault> {
        let Some(rest) = self.rest.strip_prefix(b"*") else { return Ok(1) };
        let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(end);
        self.rest = rest;
        let times = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
        times
            .filter(|times| times.saturating_mul(part.len()) <= LONGEST)
            .ok_or_else(|| fault(part, "* wants how many times"))
    }

    fn variable(&mut self) -> Result<Vec<u8>, Fault> {
        self.next();
        let end = self.rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        let known = self.variables.iter().find(|(known, _)| known.as_bytes() == name);
        known
            .map(|(_, value)| value.as_bytes().to_vec())
            .ok_or_else(|| fault([b"$", name].concat(), "no such variable"))
    }
}

/// `key=value`; none where there is no `=`.
pub(super) fn pair(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = word.iter().position(|&byte| byte == b'=')?;
    Some((&word[..equals], &word[equals + 1..]))
}

/// A number, `K`, `M`, `G` and `T` being powers of 1024.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let shift = match text.bytes().last()? {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return text.parse().ok(),
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A word as UTF-8.
pub(super) fn text(word: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(word).map_err(|_| fault(word, "is no text"))
}
