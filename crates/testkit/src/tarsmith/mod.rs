//! Archives from text, a member a line, in which every byte can lie.
//!
//! ```text
//! # A line is a kind, a name, and words; blanks part them, "..." holds them together, "x"*300 repeats, $name is a variable.
//! file a/b mode=4755 uid=1 gid=2 mtime=5 data="x\n"    also zeros=64K in place of data; xattr.user.k=v
//! dir d            link l ../target        hard h a/b       fifo p        char c 1:3       block b 8:0
//! whiteout d/gone  opaque d
//! pax path=../e size=5                records for the member below; +1:k=v and -1:k=v lie about the length, =99:k=v says 99
//! global mtime=5                      the same for all members below
//! gnu-longname "n"*200                gnu-longlink "t"*200
//! sparse 1.0 s real=1M at=0:abc at=1000:def        gnu, 0.0, 0.1 or 1.0; empty=N extents of nothing, map= and count= lie
//! raw 00ff7f                          bytes; raw text:abc
//! zeros 1K                            bytes of zero
//! repeat 100 file f{n} data={n}       the line a hundred times, {n} from 0
//! end 1                               blocks of zeros at once; without this line there are two at the end
//! cut 100                             keeps the first hundred bytes; cut -100 takes the last hundred away
//! ```
//! Members take header fields too: `mode` (octal), `uid`, `gid`, `mtime`, `size`, `major`, `minor` as numbers, with `b256:-1`
//! for base 256 and `text:7z` for any bytes; `type=L`, `prefix=..`, `name=` and `target=` as text, `magic=ustar|gnu|star|v7`,
//! `chksum=bad|signed`. In `pax` and `global` lines, where words are records, they begin with a dot: `.size=1G`; `.repeat=9`
//! writes the records nine times, with `{n}` as above. `more=1` in a line of `sparse gnu` promises a block that does not come.

mod cases;
mod fields;
mod line;
mod sparse;
mod words;

pub use cases::{Case, Expected, cases, tables};

use std::fmt;

/// What is wrong with a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// The word on it.
    pub word: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {:?}: {}", self.line, self.word, self.why)
    }
}

impl std::error::Error for Error {}

/// A word and what is wrong with it; the line is known to the caller.
type Fault = (String, String);

fn fault(word: impl AsRef<[u8]>, why: impl Into<String>) -> Fault {
    (String::from_utf8_lossy(word.as_ref()).into_owned(), why.into())
}

/// The archive that a script describes.
///
/// # Errors
/// The first line that says nothing, with its word.
pub fn smith(script: &str, variables: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let mut archive = line::Archive::default();
    for (at, text) in script.lines().enumerate() {
        let said = words::split(text, variables).and_then(|words| archive.line(&words));
        said.map_err(|(word, why)| Error { line: at + 1, word, why })?;
    }
    Ok(archive.finish())
}

#[cfg(test)]
mod tests;
