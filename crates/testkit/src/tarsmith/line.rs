//! One line after the other onto an archive.

use super::words::{number, pair, text};
use super::{Fault, fault, fields, sparse};
use crate::tar::{self, Member};

/// An archive that grows.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// True where the script wrote its end itself.
    ended: bool,
}

/// The words after the kind.
struct Rest<'a> {
    kind: &'a [u8],
    words: &'a [Vec<u8>],
}

impl<'a> Rest<'a> {
    /// The next word, `what` being its name.
    fn next(&mut self, what: &str) -> Result<&'a [u8], Fault> {
        let (first, rest) =
            self.words.split_first().ok_or_else(|| fault(self.kind, format!("wants {what}")))?;
        self.words = rest;
        Ok(first)
    }

    fn number(&mut self, what: &str) -> Result<u64, Fault> {
        let word = self.next(what)?;
        number(word).ok_or_else(|| fault(word, "no number"))
    }

    /// All is said.
    fn end(&self) -> Result<(), Fault> {
        self.words.first().map_or(Ok(()), |word| Err(fault(word, "one word too many")))
    }
}

impl Archive {
    /// Does what the words say.
    pub(super) fn line(&mut self, words: &[Vec<u8>]) -> Result<(), Fault> {
        let Some((kind, words)) = words.split_first() else { return Ok(()) };
        let mut rest = Rest { kind, words };
        match &kind[..] {
            b"raw" => rest.words.iter().try_for_each(|word| self.raw(word)),
            b"zeros" => {
                let count = rest.number("a number of bytes")?;
                self.bytes.resize(self.bytes.len() + count as usize, 0);
                rest.end()
            }
            b"end" => {
                let blocks = if rest.words.is_empty() { 2 } else { rest.number("a number of blocks")? };
                self.bytes.resize(self.bytes.len() + 512 * blocks as usize, 0);
                self.ended = true;
                rest.end()
            }
            b"cut" => {
                let word = rest.next("a number of bytes")?;
                self.cut(word)?;
                rest.end()
            }
            b"repeat" => {
                let count = rest.number("how many times")?;
                (0..count).try_for_each(|n| self.line(&numbered(rest.words, n)))
            }
            _ => {
                let member = member(rest)?;
                tar::append(&mut self.bytes, &member);
                Ok(())
            }
        }
    }

    /// The bytes, closed where the script did not.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.ended {
            self.bytes.extend([0; 1024]);
        }
        self.bytes
    }

    fn raw(&mut self, word: &[u8]) -> Result<(), Fault> {
        if let Some(text) = word.strip_prefix(b"text:") {
            self.bytes.extend(text);
            return Ok(());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        for two in word.chunks(2) {
            let byte = match two {
                [high, low] => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
                _ => None,
            };
            self.bytes.push(byte.ok_or_else(|| fault(word, "wants pairs of hexadecimal digits"))?);
        }
        Ok(())
    }

    /// Nothing is closed behind a cut.
    fn cut(&mut self, word: &[u8]) -> Result<(), Fault> {
        let have = self.bytes.len();
        let keep = match word.strip_prefix(b"-") {
            Some(less) => number(less).and_then(|less| have.checked_sub(less as usize)),
            None => number(word).map(|keep| keep as usize).filter(|&keep| keep <= have),
        };
        self.bytes.truncate(keep.ok_or_else(|| fault(word, format!("there are {have} bytes")))?);
        self.ended = true;
        Ok(())
    }
}

/// The words with `{n}` in them replaced.
fn numbered(words: &[Vec<u8>], n: u64) -> Vec<Vec<u8>> {
    let number = n.to_string();
    let replaced = |word: &Vec<u8>| {
        let mut out = Vec::with_capacity(word.len());
        let mut rest = &word[..];
        while let Some(at) = rest.windows(3).position(|three| three == b"{n}") {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(number.as_bytes());
            rest = &rest[at + 3..];
        }
        out.extend_from_slice(rest);
        out
    };
    words.iter().map(replaced).collect()
}

/// A member with all that its line says.
fn member(mut rest: Rest<'_>) -> Result<Member, Fault> {
    let plain = match rest.kind {
        b"pax" => return extension(b'x', rest.words),
        b"global" => return extension(b'g', rest.words),
        b"sparse" => {
            let (form, name) = (rest.next("a form")?, rest.next("a name")?);
            return sparse::member(form, name, rest.words);
        }
        b"gnu-longname" => long_name(b'L', rest.next("a name")?),
        b"gnu-longlink" => long_name(b'K', rest.next("a target")?),
        b"file" => return file(rest.next("a name")?, rest.words),
        b"dir" => tar::dir(rest.next("a name")?),
        b"link" => tar::symlink(rest.next("a name")?, rest.next("a target")?),
        b"hard" => tar::hardlink(rest.next("a name")?, rest.next("a target")?),
        b"fifo" => tar::fifo(rest.next("a name")?),
        b"char" | b"block" => {
            let (name, numbers) = (rest.next("a name")?, rest.next("MAJOR:MINOR")?);
            let (major, minor) = text(numbers)?
                .split_once(':')
                .and_then(|(major, minor)| major.parse().ok().zip(minor.parse().ok()))
                .ok_or_else(|| fault(numbers, "is no MAJOR:MINOR"))?;
            match rest.kind {
                b"char" => tar::char_device(name, major, minor),
                _ => tar::block_device(name, major, minor),
            }
        }
        b"whiteout" => tar::whiteout(text(rest.next("a path")?)?),
        b"opaque" => tar::opaque(text(rest.next("a directory")?)?),
        kind => return Err(fault(kind, "no such kind of line")),
    };
    rest.words.iter().try_fold(plain, |member, word| fields::apply(member, word))
}

fn long_name(kind: u8, name: &[u8]) -> Member {
    tar::extension(kind, [name, b"\0"].concat()).field(257, b"ustar  \0")
}

fn file(name: &[u8], words: &[Vec<u8>]) -> Result<Member, Fault> {
    let mut body = Vec::new();
    let mut others = Vec::new();
    for word in words {
        match pair(word) {
            Some((b"data", data)) => body = data.to_vec(),
            Some((b"zeros", count)) => {
                body = vec![0; number(count).ok_or_else(|| fault(word, "no number"))? as usize];
            }
            _ => others.push(word),
        }
    }
    others.into_iter().try_fold(tar::file(name, body), |member, word| fields::apply(member, word))
}

/// A header of records; words with a dot before them are its own header's fields.
fn extension(kind: u8, words: &[Vec<u8>]) -> Result<Member, Fault> {
    let mut times = 1;
    let mut own = Vec::new();
    let mut records = Vec::new();
    for word in words {
        match word.strip_prefix(b".".as_slice()) {
            None => records.push(word.clone()),
            Some(field) => match field.strip_prefix(b"repeat=".as_slice()) {
                None => own.push(field),
                Some(count) => times = number(count).ok_or_else(|| fault(word, "no number"))?,
            },
        }
    }
    let mut body = Vec::new();
    for n in 0..times {
        for word in numbered(&records, n) {
            body.extend(record(&word)?);
        }
    }
    own.into_iter().try_fold(tar::extension(kind, body), fields::apply)
}

/// A record: `key=value`, a lie about its length before it, or `text:` and any bytes.
fn record(word: &[u8]) -> Result<Vec<u8>, Fault> {
    if let Some(bytes) = word.strip_prefix(b"text:") {
        return Ok(bytes.to_vec());
    }
    let lie = match word {
        [b'+' | b'-' | b'=', b'0'..=b'9', ..] => word.iter().position(|&byte| byte == b':'),
        _ => None,
    };
    let honest = lie.map_or(word, |colon| &word[colon + 1..]);
    let (key, value) = pair(honest).ok_or_else(|| fault(word, "is no key=value"))?;
    let right = tar::record(key, value);
    let Some(colon) = lie else { return Ok(right) };
    let by = text(&word[1..colon])?;
    let said = match (word[0], by.parse::<usize>()) {
        (b'+', Ok(by)) => (right.len() + by).to_string(),
        (b'-', Ok(by)) => right.len().saturating_sub(by).to_string(),
        _ => by.to_owned(),
    };
    Ok([said.as_bytes(), b" ", key, b"=", value, b"\n"].concat())
}
