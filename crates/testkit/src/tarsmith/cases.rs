//! Tables of cases: scripts with a title and what must come of them.
//!
//! ```text
//! === a symlink, then a file through it
//! ? unpacks esc
//! ? lacks esc/p
//! ? peers python3
//! link esc $canary
//! file esc/p
//! --- the next layer
//! file q
//! ```

use std::path::Path;

use super::{Error, smith, words};

/// What must come of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// An error of content that says this.
    Refused(String),
    /// A tree that has these names.
    Unpacks(Vec<String>),
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is.
    pub title: String,
    /// What must come of it.
    pub expected: Expected,
    /// Names that must not be there.
    pub lacks: Vec<String>,
    /// Where the refusal is only of layers one over the other, or only of one alone: `flat` or `overlay`; else empty.
    pub only: String,
    /// Programs known to be led outside by it.
    pub peers: Vec<String>,
    /// Scripts with as many empty lines before them as put errors on the table's own lines.
    scripts: Vec<String>,
}

impl Case {
    /// The layers' archives, the lowest one first.
    ///
    /// # Errors
    /// The line of the table that says nothing.
    pub fn layers(&self, variables: &[(&str, &str)]) -> Result<Vec<Vec<u8>>, Error> {
        self.scripts.iter().map(|script| smith(script, variables)).collect()
    }
}

/// The cases of a table.
///
/// # Errors
/// The first line that belongs to no case, and the first case that expects nothing.
pub fn cases(table: &str) -> Result<Vec<Case>, Error> {
    let mut found: Vec<Draft> = Vec::new();
    for (at, text) in table.lines().enumerate() {
        let error = |why: &str| Error { line: at + 1, word: text.to_owned(), why: why.to_owned() };
        if let Some(title) = text.strip_prefix("===") {
            found.push(Draft::new(title.trim(), at + 1));
            continue;
        }
        let Some(draft) = found.last_mut() else {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            return Err(error("stands before the first case"));
        };
        if let Some(directive) = text.strip_prefix('?') {
            draft.directive(directive).map_err(|why| error(&why))?;
        } else if text.starts_with("---") {
            draft.scripts.push(String::new());
        } else if let Some(script) = draft.scripts.last_mut() {
            // Lines keep the number that they have in the table.
            while script.lines().count() < at {
                script.push('\n');
            }
            script.push_str(text);
            script.push('\n');
        }
    }
    found.into_iter().map(Draft::finish).collect()
}

/// The tables of a directory, `NAME.tar.txt`, by name.
///
/// # Panics
/// Where one cannot be read or is none, with its name, the line and the word.
pub fn tables(dir: &Path) -> Vec<(String, Vec<Case>)> {
    let entries = std::fs::read_dir(dir).expect("a directory of tables");
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if let Some(table) = name.strip_suffix(".tar.txt") {
            let text = std::fs::read_to_string(dir.join(&name)).expect("a table is text");
            found.push((table.to_owned(), cases(&text).unwrap_or_else(|error| panic!("{name}: {error}"))));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// A case whose lines are still coming.
struct Draft {
    line: usize,
    title: String,
    expected: Option<Expected>,
    lacks: Vec<String>,
    only: String,
    peers: Vec<String>,
    scripts: Vec<String>,
}

impl Draft {
    fn new(title: &str, line: usize) -> Self {
        let scripts = vec![String::new()];
        let title = title.to_owned();
        Self {
            line,
            title,
            expected: None,
            lacks: Vec::new(),
            only: String::new(),
            peers: Vec::new(),
            scripts,
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), String> {
        let words = words::split(text, &[]).map_err(|(word, why)| format!("{word}: {why}"))?;
        let mut words: Vec<String> =
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if words.is_empty() {
            return Err("says nothing".into());
        }
        match &*words.remove(0) {
            "refused" => self.expected = Some(Expected::Refused(words.join(" "))),
            "unpacks" => self.expected = Some(Expected::Unpacks(words)),
            "lacks" => self.lacks = words,
            "only" => self.only = words.join(" "),
            "peers" => self.peers = words,
            other => return Err(format!("{other} is none of refused, unpacks, lacks, only, peers")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Case, Error> {
        let Self { line, title, expected, lacks, only, peers, scripts } = self;
        let Some(expected) = expected else {
            return Err(Error { line, word: title, why: "expects nothing".into() });
        };
        Ok(Case { title, expected, lacks, only, peers, scripts })
    }
}
