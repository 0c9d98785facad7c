//! Which of its three faces a command line means: the pipeline's, a runtime's, or that of the store's containers.
//!
//! - An option that only a runtime has, before the verb: the runtime's.
//! - A verb of one face alone: that face's.
//! - A verb of both: the runtime's where its default state root has a container of that id, else the store's.
//! - No verb: the pipeline's.

use crate::{containers, verbs};

/// A face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// A container's line on stdin is run.
    Pipeline,
    /// runc's verbs.
    Runtime,
    /// The verbs on the store's containers.
    Containers,
}

/// Options before a verb that take a value as the next word: the runtime's, and those every tool has.
const WITH_VALUE: [&str; 5] = ["--root", "--log", "--log-format", "--rootless", "--store"];
/// Options before a verb that take none.
const FLAGS: [&str; 5] = ["--debug", "--systemd-cgroup", "--quiet", "-q", "--fail-fast"];
/// Those of a runtime alone.
const RUNTIMES: [&str; 5] = ["--root", "--log", "--rootless", "--debug", "--systemd-cgroup"];
/// Those that a runtime has not.
const STORES: [&str; 4] = ["--store", "--quiet", "-q", "--fail-fast"];
/// The verb that the command line's reader brings along.
pub(crate) const HELP: &str = "help";

/// The face of a command line; `has` tells whether a runtime's container has this id.
pub(crate) fn of(words: &[String], has: impl Fn(&[String]) -> bool) -> Face {
    let (options, verb) = split(words);
    let any = |set: &[&str]| options.iter().any(|word| set.contains(&key(word)));
    // Engines ask for the version behind theirs.
    if any(&RUNTIMES) {
        return Face::Runtime;
    }
    match verb {
        None => Face::Pipeline,
        Some(HELP) => of_help(words),
        Some(verb) => match (verbs::is_verb(verb), containers::is_verb(verb)) {
            (false, false) => Face::Pipeline,
            (true, false) => Face::Runtime,
            (false, true) => Face::Containers,
            (true, true) if !any(&STORES) && has(words) => Face::Runtime,
            (true, true) => Face::Containers,
        },
    }
}

/// The verb of a command line: its first word that is no option before one.
pub(crate) fn verb(words: &[String]) -> Option<&str> {
    split(words).1
}

/// `help VERB`: whose verb it is alone; both have it, and `help` alone: that of the containers, which says how to ask a runtime.
fn of_help(words: &[String]) -> Face {
    match words.last() {
        Some(asked) if verbs::is_verb(asked) && !containers::is_verb(asked) => Face::Runtime,
        _ => Face::Containers,
    }
}

/// The options before the verb, and the verb.
fn split(words: &[String]) -> (Vec<&str>, Option<&str>) {
    let mut options = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word) {
            words.next();
        } else if !(FLAGS.contains(&key(word)) || word.contains('=') && WITH_VALUE.contains(&key(word))) {
            return (options, Some(word).filter(|word| !word.starts_with('-')));
        }
        options.push(word);
    }
    (options, None)
}

/// An option without the value behind its equals sign.
fn key(word: &str) -> &str {
    word.split_once('=').map_or(word, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_has_one_face() {
        for (line, want) in [
            ("create x", Face::Runtime),
            ("--root /r --log=/l --debug state x", Face::Runtime),
            ("--systemd-cgroup --rootless true kill x", Face::Runtime),
            ("--log-format text --debug=false state x", Face::Runtime),
            ("--root=/r --version", Face::Runtime),
            ("--root create", Face::Runtime),
            ("--root /r help", Face::Runtime),
            ("--log /l nonsense", Face::Runtime),
            ("help create", Face::Runtime),
            ("help", Face::Containers),
            ("help stop", Face::Containers),
            ("stop web", Face::Containers),
            ("--store /s -q stop web", Face::Containers),
            ("start both", Face::Runtime),
            ("--store /s start both", Face::Containers),
            ("start web", Face::Containers),
            ("--root /r start web", Face::Runtime),
            ("-- create", Face::Pipeline),
            ("-d", Face::Pipeline),
            ("-d stop", Face::Pipeline),
            ("--log-format json -- sh", Face::Pipeline),
            ("--store stop", Face::Pipeline),
            ("web", Face::Pipeline),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_string).collect();
            assert_eq!(of(&words, |words| words.contains(&"both".to_string())), want, "{line}");
        }
    }
}
