//! The name of a container under a state root.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// No id is longer: it is a file name.
const LONGEST_BYTES: usize = 255;

/// A container's id: one file name of letters, digits, `_`, `+`, `-` and `.`, the last not in front (runc's rule).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-');
        let first = text.chars().next().is_some_and(plain);
        if first && text.len() <= LONGEST_BYTES && text.chars().all(|c| plain(c) || c == '.') {
            Ok(Self(text.into()))
        } else {
            Err(Error::Id(text.chars().take(LONGEST_BYTES).collect()))
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_file_name_that_leads_nowhere() {
        for good in ["a", "web-1", "a.b", "_x+y", &"x".repeat(255)] {
            assert!(good.parse::<Id>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "../x", "a\0b", "a b", "ä", &"x".repeat(256)] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
    }
}
