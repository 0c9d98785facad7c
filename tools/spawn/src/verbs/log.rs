//! Errors for people, and for the engine that reads its runtime's log.

use std::fs::OpenOptions;
use std::io::Write;

use descriptor::Classify;
use serde_json::json;

use crate::args::TOOL;
use crate::verbs::Global;
use crate::verbs::global::{Format, Rootless};

/// Prints an error, and appends it to the log.
pub(crate) fn failure(global: &Global, error: &runtime::Error) {
    let message = cli::escaped(&words(error));
    let _ = writeln!(std::io::stderr(), "{TOOL}: error: {message}");
    if let Some(hint) = error.hint() {
        let _ = writeln!(std::io::stderr(), "{TOOL}: {hint}");
    }
    append(global, "error", &message);
}

/// Appends what is wrong with a command line that was not understood to the log that it asks for: engines look there first.
pub(crate) fn usage(words: &[String], text: &str) {
    let global = Global {
        root: None,
        log: value(words, "--log").map(Into::into),
        log_format: if value(words, "--log-format") == Some("json") { Format::Json } else { Format::Text },
        debug: false,
        systemd_cgroup: false,
        rootless: Rootless::Auto,
    };
    let text = text.split("\n\n").next().unwrap_or_default();
    append(&global, "error", &cli::escaped(text.strip_prefix("error: ").unwrap_or(text)));
}

/// The value of a global option by the words alone.
fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix(name) {
            Some("") => return words.next().map(String::as_str),
            Some(rest) if rest.starts_with('=') => return rest.get(1..),
            _ => {}
        }
    }
    None
}

/// Prints what went wrong without ending anything, and appends it to the log.
pub(crate) fn warnings(global: &Global, warnings: &[String]) {
    for warning in warnings {
        let message = cli::escaped(warning);
        let _ = writeln!(std::io::stderr(), "{TOOL}: warning: {message}");
        append(global, "warning", &message);
    }
}

/// Tells what was done to those who asked for it with `--debug`.
pub(crate) fn debug(global: &Global, message: &str) {
    if global.debug {
        let message = cli::escaped(message);
        let _ = writeln!(std::io::stderr(), "{TOOL}: debug: {message}");
        append(global, "debug", &message);
    }
}

fn append(global: &Global, level: &str, message: &str) {
    let Some(path) = &global.log else { return };
    let time = descriptor::moment::now();
    let line = match global.log_format {
        Format::Json => json!({"level": level, "msg": message, "time": time}).to_string(),
        Format::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        let _ = writeln!(std::io::stderr(), "{TOOL}: {}: {error}", path.display());
    }
}

/// The error in words; of a command that cannot be run in those that engines look for in their runtime's.
fn words(error: &runtime::Error) -> String {
    match error {
        runtime::Error::CommandNotFound { command, .. } if command.contains('/') => {
            format!("exec: {command:?}: no such file or directory")
        }
        runtime::Error::CommandNotFound { command, searched } => {
            format!("exec: {command:?}: executable file not found in $PATH ({searched})")
        }
        runtime::Error::NotExecutable { command, why } if why.starts_with("it is a directory") => {
            format!("exec: {command:?}: permission denied: {why}")
        }
        runtime::Error::NotExecutable { command, why } => format!("exec: {command:?}: {why}"),
        error => in_small_letters(error.to_string()),
    }
}

/// What the kernel said, which comes last, without the C library's capital: docker and others look for
/// `no such file or directory` and the like as Go writes them.
fn in_small_letters(mut text: String) -> String {
    let start = text.rfind(": ").map_or(0, |at| at + 2);
    let mut letters = text[start..].chars();
    let is_word = letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && letters.next().is_some_and(|second| second.is_ascii_lowercase());
    if is_word {
        text[start..=start].make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_find_the_words_that_they_look_for() {
        let missing =
            |command: &str| runtime::Error::CommandNotFound { command: command.into(), searched: "x".into() };
        let id = || "c".to_string();
        let path = std::path::PathBuf::from("/Volumes/Of: Mine");
        let file = runtime::Error::File { path, source: rustix::io::Errno::NOENT.into() };
        for (error, wanted) in [
            (missing("a"), "executable file not found in $PATH"),
            (missing("/a"), "no such file or directory"),
            (runtime::Error::NotRunning { id: id() }, "container not running"),
            (runtime::Error::NoContainer { id: id() }, "container does not exist"),
            (file, "\"/Volumes/Of: Mine\": no such file or directory"),
        ] {
            let words = words(&error);
            assert!(words.contains(wanted), "{words}");
        }
        assert_eq!(in_small_letters("x: EPERM".into()), "x: EPERM");
        assert_eq!(in_small_letters(String::new()), "");
    }
}
