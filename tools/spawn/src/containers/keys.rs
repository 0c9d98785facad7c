//! The keys that leave a container to itself (docker's `--detach-keys`).

use std::str::FromStr;

/// Keys, in the order in which they are typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

impl FromStr for Keys {
    type Err = String;

    /// A character, or `ctrl-` and a letter or one of `@ [ \ ] ^ _`; several with commas between them; empty for none.
    fn from_str(text: &str) -> Result<Self, String> {
        let key = |word: &str| {
            let (key, control) = word.strip_prefix("ctrl-").map_or((word, false), |rest| (rest, true));
            match (key.as_bytes(), control) {
                (&[byte], false) => Ok(byte),
                (&[byte @ b'a'..=b'z'], true) => Ok(byte & 0x1f),
                (&[byte @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')], true) => Ok(byte & 0x1f),
                _ => Err(format!("{word:?} is no key: a character, or ctrl- and a letter or one of @[\\]^_")),
            }
        };
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// What was typed, looked through for the keys.
#[derive(Debug)]
pub(crate) struct Typed {
    keys: Keys,
    /// How many of them came last; they are held back until it is clear that the rest does not follow.
    matched: usize,
}

/// What is the container's of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Detach {
    pub(crate) bytes: Vec<u8>,
    /// The keys came; what followed them is nobody's.
    pub(crate) detaches: bool,
}

impl Typed {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, matched: 0 }
    }

    /// Takes what was typed.
    pub(crate) fn take(&mut self, typed: &[u8]) -> Detach {
        let Keys(keys) = &self.keys;
        let mut bytes = Vec::with_capacity(typed.len() + keys.len());
        for &byte in typed {
            if keys.get(self.matched) != Some(&byte) && self.matched > 0 {
                bytes.extend(&keys[..self.matched]);
                self.matched = 0;
            }
            if keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == keys.len() {
                    self.matched = 0;
                    return Detach { bytes, detaches: true };
                }
            } else {
                bytes.push(byte);
            }
        }
        Detach { bytes, detaches: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        text.parse().expect("keys")
    }

    #[test]
    fn keys_are_spelled_as_dockers() {
        assert_eq!(keys("ctrl-p,ctrl-q"), Keys(vec![16, 17]));
        assert_eq!(keys("a,ctrl-\\,ctrl-@,X"), Keys(vec![b'a', 28, 0, b'X']));
        assert_eq!(keys(""), Keys(Vec::new()));
        for wrong in ["ctrl-", "ctrl-A", "ctrl-1", "ab", "a,,b", "ctrl-pq"] {
            assert!(wrong.parse::<Keys>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_whole_sequence_leaves_and_nothing_else_is_lost() {
        let run = |spelled: &str, parts: &[&[u8]]| {
            let mut typed = Typed::new(keys(spelled));
            let mut got = (Vec::new(), false);
            for part in parts {
                let step = typed.take(part);
                got.0.extend(step.bytes);
                got.1 |= step.detaches;
            }
            got
        };
        let (p, q) = (16, 17);
        assert_eq!(run("ctrl-p,ctrl-q", &[b"ab", &[p], &[q, b'x']]), (b"ab".to_vec(), true));
        assert_eq!(run("ctrl-p,ctrl-q", &[&[p], b"a"]), (vec![p, b'a'], false));
        assert_eq!(run("ctrl-p,ctrl-q", &[&[p, p, q]]), (vec![p], true));
        assert_eq!(run("", &[&[p, q]]), (vec![p, q], false));
        assert_eq!(run("x", &[b"yx"]), (b"y".to_vec(), true));
    }
}
