//! The Dockerfile's words: blanks separate, quotes group, a backslash takes the next character, variables are replaced by
//! what the image's environment has for them (docs.docker.com/reference/dockerfile, "Environment replacement").

use std::iter::Peekable;
use std::str::Chars;

use crate::change::ChangeError;

/// Defaults inside of defaults are read to this depth.
const DEEPEST: usize = 8;

/// The words of a text, variables replaced from `env`, a list of `K=V`. What a variable holds is never cut into words.
pub(crate) fn words(text: &str, env: &[String]) -> Result<Vec<String>, ChangeError> {
    let mut reader = Reader::new(text, env, 0);
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    while let Some(c) = reader.chars.next() {
        if c.is_whitespace() {
            all.extend(word.take());
        } else {
            reader.piece(c, word.get_or_insert_default())?;
        }
    }
    all.extend(word);
    Ok(all)
}

/// The whole text as one word, blanks and all.
pub(crate) fn one(text: &str, env: &[String]) -> Result<String, ChangeError> {
    nested(text, env, 0)
}

fn nested(text: &str, env: &[String], depth: usize) -> Result<String, ChangeError> {
    let mut reader = Reader::new(text, env, depth);
    let mut word = String::new();
    while let Some(c) = reader.chars.next() {
        reader.piece(c, &mut word)?;
    }
    Ok(word)
}

struct Reader<'a> {
    text: &'a str,
    chars: Peekable<Chars<'a>>,
    env: &'a [String],
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, env: &'a [String], depth: usize) -> Self {
        Self { text, chars: text.chars().peekable(), env, depth }
    }

    /// What begins with `c`: a quoted stretch, an escape, a variable, or the character.
    fn piece(&mut self, c: char, word: &mut String) -> Result<(), ChangeError> {
        match c {
            '\'' => loop {
                match self.chars.next().ok_or_else(|| self.open_quote())? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match self.chars.next().ok_or_else(|| self.open_quote())? {
                    '"' => break,
                    // Between double quotes a backslash before anything else stands for itself.
                    '\\' => match self.chars.next_if(|next| matches!(next, '"' | '$' | '\\')) {
                        Some(next) => word.push(next),
                        None => word.push('\\'),
                    },
                    '$' => self.variable(word)?,
                    c => word.push(c),
                }
            },
            '\\' => word.extend(self.chars.next()),
            '$' => self.variable(word)?,
            c => word.push(c),
        }
        Ok(())
    }

    /// What stands after a `$`.
    fn variable(&mut self, word: &mut String) -> Result<(), ChangeError> {
        if self.chars.next_if_eq(&'{').is_some() {
            return self.braced(word);
        }
        let name = self.name();
        match &*name {
            "" => word.push('$'),
            name => word.push_str(self.value(name).unwrap_or_default()),
        }
        Ok(())
    }

    /// `{NAME}`, or with a default: `:-` where it is unset or empty, `:+` where it is neither; without the colon empty counts.
    fn braced(&mut self, word: &mut String) -> Result<(), ChangeError> {
        let bad = |text: &str| ChangeError::Variable(text.into());
        let name = self.name();
        let rest = self.until_closing_brace().ok_or_else(|| bad(self.text))?;
        let value = self.value(&name);
        if name.is_empty() || self.depth == DEEPEST {
            return Err(bad(self.text));
        }
        if rest.is_empty() {
            word.push_str(value.unwrap_or_default());
            return Ok(());
        }
        let (colon, rest) = rest.strip_prefix(':').map_or((false, &*rest), |rest| (true, rest));
        let set = value.filter(|value| !(colon && value.is_empty()));
        let other = |default: &str| nested(default, self.env, self.depth + 1);
        if let Some(default) = rest.strip_prefix('-') {
            word.push_str(&set.map_or_else(|| other(default), |value| Ok(value.into()))?);
        } else if let Some(instead) = rest.strip_prefix('+') {
            word.push_str(&set.map_or_else(|| Ok(String::new()), |_| other(instead))?);
        } else {
            return Err(bad(self.text));
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self
            .chars
            .next_if(|&c| c == '_' || c.is_ascii_alphabetic() || (!name.is_empty() && c.is_ascii_digit()))
        {
            name.push(c);
        }
        name
    }

    /// What stands before the brace that closes this one; an escaped brace closes nothing.
    fn until_closing_brace(&mut self) -> Option<String> {
        let (mut inside, mut open) = (String::new(), 0);
        loop {
            let c = self.chars.next()?;
            match c {
                '}' if open == 0 => return Some(inside),
                '}' => open -= 1,
                '{' => open += 1,
                _ => {}
            }
            inside.push(c);
            if c == '\\' {
                inside.extend(self.chars.next());
            }
        }
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.env
            .iter()
            .rev()
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, v)| v)
    }

    fn open_quote(&self) -> ChangeError {
        ChangeError::Quote(self.text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Vec<String> {
        ["PATH=/bin", "EMPTY=", "TWO=a b"].map(String::from).into()
    }

    #[test]
    fn variables_are_the_images_own() {
        for (text, want) in [
            ("/x:$PATH", "/x:/bin"),
            ("${PATH}x", "/binx"),
            ("\"$PATH:$GONE:\"", "/bin::"),
            ("'$PATH'", "$PATH"),
            ("\\$PATH", "$PATH"),
            ("\"\\$PATH\\t\"", "$PATH\\t"),
            ("$TWO", "a b"),
            ("${GONE:-d}${PATH:-d}", "d/bin"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${PATH:+s}${GONE:+s}${EMPTY+s}", "ss"),
            ("${GONE:-${PATH}/x}", "/bin/x"),
            ("a$", "a$"),
            ("$-", "$-"),
        ] {
            assert_eq!(words(text, &env()).expect(text), [want], "{text}");
        }
        assert_eq!(words("a $TWO  \"b c\"", &env()).expect("words"), ["a", "a b", "b c"]);
        assert_eq!(one("some \"$PATH\" ", &env()).expect("a word"), "some /bin ");
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        let deep = format!("{}x{}", "${A:-".repeat(100), "}".repeat(100));
        for text in ["${PATH", "${}", "${PATH:}", "${PATH#/}", "${1}", "\"$PATH", &deep] {
            assert!(words(text, &env()).is_err(), "{text}");
        }
    }
}
