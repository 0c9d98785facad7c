//! Digests: parsed strictly once, then a type (image-spec v1.1, descriptor.md, "Digests").

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The sha256 of some bytes.
///
/// Its text form is `sha256:` and 64 lower-case hexadecimal digits, nothing else: a value of this type is safe as a
/// file name and in a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is no digest this project accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDigest {
    /// An algorithm other than sha256.
    #[error("digest {0:?} is not of the algorithm sha256, the only one supported")]
    Algorithm(String),
    /// The wrong number of digits, or something that is no lower-case hexadecimal digit.
    #[error("digest {0:?} is not \"sha256:\" and 64 lower-case hexadecimal digits")]
    Encoding(String),
}

/// How much of a bad digest a message repeats, in characters.
const QUOTED: usize = 100;

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let nibbles = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
    }

    /// Reads the 64 digits that stand without an algorithm, in a file name say.
    ///
    /// # Errors
    /// [`BadDigest::Encoding`].
    pub fn from_hex(hex: &str) -> Result<Self, BadDigest> {
        let bad = || BadDigest::Encoding(hex.chars().take(QUOTED).collect());
        if hex.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0]).ok_or_else(bad)? << 4 | nibble(pair[1]).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let quoted = || text.chars().take(QUOTED).collect();
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex).map_err(|_| BadDigest::Encoding(quoted())),
            Some(_) => Err(BadDigest::Algorithm(quoted())),
            None => Err(BadDigest::Encoding(quoted())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest in the making.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
    }

    #[test]
    fn names_from_the_wire_are_refused_unless_strict() {
        let long = format!("{EMPTY}0");
        let upper = EMPTY.to_uppercase();
        let upper_hex = format!("sha256:{}", EMPTY[7..].to_uppercase());
        let traversal = format!("sha256:{}/..", &EMPTY[7..68]);
        for text in [
            "",
            "sha256:",
            "sha256:../../../canary/f",
            &EMPTY[..70],
            &long,
            &upper,
            &upper_hex,
            &traversal,
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!(" {EMPTY}"),
            &format!("{EMPTY}\n"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }
}
