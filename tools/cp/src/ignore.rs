//! The rules of `.dockerignore`: which paths below a source are left out.
//!
//! Read as docker's builder reads them (docs.docker.com/build/concepts/context, "Syntax"): patterns of Go's
//! `filepath.Match`, `**` for any number of directories, `!` for exceptions, the last rule that matches decides, and what
//! matches a directory matches all that is in it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most bytes of rules: far above any real file.
pub(crate) const RULES_BYTES: u64 = 1 << 20;

/// Why rules cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("line {0}: an exception (!) of nothing")]
    Nothing(usize),
    #[error("line {line}: {pattern:?} is no pattern: {why}")]
    Pattern { line: usize, pattern: String, why: &'static str },
}

/// A list of rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    tokens: Vec<Token>,
    /// What it matches is copied after all.
    exception: bool,
}

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character but a slash.
    One,
    /// `*`: characters but slashes.
    Some,
    /// `**` before more: nothing, or anything up to a slash.
    Directories,
    /// `**` at the end: anything.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Rules {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// The line and the pattern that is none.
    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let exception = line.starts_with('!');
            let pattern = if exception { line[1..].trim() } else { line };
            if pattern.is_empty() {
                return Err(RuleError::Nothing(line_number));
            }
            let pattern = clean(pattern);
            let pattern = pattern.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&pattern);
            let tokens = tokens(pattern).map_err(|why| RuleError::Pattern {
                line: line_number,
                pattern: pattern.into(),
                why,
            })?;
            rules.push(Rule { tokens, exception });
        }
        Ok(Self { rules })
    }

    /// Whether a path relative to the source is left out.
    pub(crate) fn leaves_out(&self, path: &Path) -> bool {
        let text: Vec<char> = String::from_utf8_lossy(path.as_os_str().as_bytes()).chars().collect();
        let ends: Vec<usize> =
            (0..text.len()).filter(|&at| text[at] == '/').chain(std::iter::once(text.len())).collect();
        let decides = |rule: &&Rule| ends.iter().any(|&end| matches(&rule.tokens, &text[..end]));
        self.rules.iter().rev().find(decides).is_some_and(|rule| !rule.exception)
    }

    /// Whether something in a directory that is left out may be copied after all.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }
}

/// Go's `path.Clean`: no empty and no `.` components, `..` takes the component before it away.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let rooted = pattern.starts_with('/');
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let path = parts.join("/");
    match (rooted, path.is_empty()) {
        (true, _) => format!("/{path}"),
        (false, true) => ".".into(),
        (false, false) => path,
    }
}

fn tokens(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let _ = chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Some,
            '?' => Token::One,
            '[' => class(&mut chars)?,
            '\\' => Token::Char(chars.next().ok_or("nothing after the last backslash")?),
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// `[a-z]`, `[^a-z]`, after the bracket.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "a bracket is not closed";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' | '-' => return Err("a bracket with nothing in it, or a range without its beginning"),
            '\\' => chars.next().ok_or(OPEN)?,
            c => c,
        };
        let mut high = low;
        if chars.next_if_eq(&'-').is_some() {
            high = match chars.next().ok_or(OPEN)? {
                ']' | '-' => return Err("a range without its end"),
                '\\' => chars.next().ok_or(OPEN)?,
                c => c,
            };
        }
        ranges.push((low, high));
    }
}

/// Where in a pattern a match may be.
#[derive(Clone)]
struct States {
    /// Before the token of this number.
    before: Vec<bool>,
    /// Inside a `**` of this number, past its beginning.
    inside: Vec<bool>,
}

impl States {
    fn none(tokens: usize) -> Self {
        Self { before: vec![false; tokens + 1], inside: vec![false; tokens + 1] }
    }

    /// Adds a place, and those that are reached from it by matching nothing.
    fn add(&mut self, tokens: &[Token], mut at: usize) {
        self.before[at] = true;
        while at < tokens.len() && matches!(tokens[at], Token::Some | Token::Directories | Token::Rest) {
            at += 1;
            self.before[at] = true;
        }
    }
}

/// Whether a pattern matches all of a text. All places are followed at once: no pattern takes more than the product of
/// both lengths.
fn matches(tokens: &[Token], text: &[char]) -> bool {
    let mut states = States::none(tokens.len());
    states.add(tokens, 0);
    for &c in text {
        let mut next = States::none(tokens.len());
        for (at, token) in tokens.iter().enumerate() {
            if *token == Token::Directories && (states.before[at] || states.inside[at]) {
                next.inside[at] = true;
                if c == '/' {
                    next.add(tokens, at + 1);
                }
            }
            if !states.before[at] {
                continue;
            }
            match token {
                Token::Char(want) if *want == c => next.add(tokens, at + 1),
                Token::One if c != '/' => next.add(tokens, at + 1),
                Token::Class { negated, ranges } => {
                    let has = ranges.iter().any(|&(low, high)| (low..=high).contains(&c));
                    if has != *negated {
                        next.add(tokens, at + 1);
                    }
                }
                Token::Some if c != '/' => next.add(tokens, at),
                Token::Rest => next.add(tokens, at),
                _ => {}
            }
        }
        states = next;
    }
    states.before[tokens.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_builders_do() {
        for (pattern, yes, no) in [
            ("*.md", &["a.md", ".md"][..], &["d/a.md", "a.mdx"][..]),
            ("**/*.md", &["a.md", "d/a.md", "d/e/a.md"], &["a.txt"]),
            ("**", &["a", "a/b"], &[]),
            ("a/**", &["a/b", "a/b/c"], &["b", "ab"]),
            ("**/a", &["a", "b/a", "b/c/a", "a/x"], &["ba", "b/ca"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]),
            ("*/temp*", &["d/temporary", "d/temp/x"], &["temp", "d/e/temp"]),
            ("temp?", &["tempa"], &["temp", "tempab", "temp/"]),
            ("/a", &["a", "a/b"], &["b/a"]),
            ("./a/", &["a", "a/b"], &["b"]),
            ("a/../b", &["b"], &["a"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[^a-c]x", &["dx"], &["ax"]),
            (r"\*", &["*"], &["a"]),
            (r"[\]]", &["]"], &["\\"]),
            ("a[b]", &["ab"], &["a[b]"]),
            ("*", &["a", ".hidden", "a/b"], &[]),
            ("ä?", &["äö"], &["ä"]),
        ] {
            let rules = Rules::parse(pattern).expect(pattern);
            for path in yes {
                assert!(rules.leaves_out(Path::new(path)), "{pattern} matches {path}");
            }
            for path in no {
                assert!(!rules.leaves_out(Path::new(path)), "{pattern} does not match {path}");
            }
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = Rules::parse("\u{feff}# all documents\n*.md\n\n  !README*.md  \nREADME-secret.md\n")
            .expect("rules");
        let left = |path: &str| rules.leaves_out(Path::new(path));
        assert!(left("a.md") && !left("README.md") && left("README-secret.md") && !left("# all documents"));
        let rules = Rules::parse("build\n!build/keep").expect("rules");
        assert!(rules.leaves_out(Path::new("build")) && rules.leaves_out(Path::new("build/x")));
        assert!(!rules.leaves_out(Path::new("build/keep")) && !rules.leaves_out(Path::new("build/keep/x")));
        assert!(rules.has_exceptions() && !Rules::parse("a").expect("rules").has_exceptions());
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_line() {
        assert_eq!(Rules::parse("a\n!").expect_err("nothing"), RuleError::Nothing(2));
        for pattern in ["[a", "[]a]", "[-x]", "[x-]", "a\\", "["] {
            let error = Rules::parse(pattern).expect_err(pattern);
            assert!(matches!(error, RuleError::Pattern { line: 1, .. }), "{pattern}: {error}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let pattern = "**/*a".repeat(200) + "b";
        let path = "a/".repeat(2000);
        assert!(!Rules::parse(&pattern).expect("rules").leaves_out(Path::new(&path)));
    }
}
