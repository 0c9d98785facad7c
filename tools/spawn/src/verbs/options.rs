//! How runc's command line reads its options, where clap's own way is another.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use crate::verbs::Line;

/// An option that names a file; an empty name is none, as with runc.
pub(crate) type Given = Option<PathBuf>;

/// Reads a [`Given`].
pub(crate) fn given() -> impl TypedValueParser<Value = Given> {
    OsStringValueParser::new().map(|text| (!text.is_empty()).then(|| PathBuf::from(text)))
}

/// Reads this process's command line.
pub(crate) fn parse() -> Result<Line, clap::Error> {
    let mut command = with_truths(Line::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Line::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The command whose flags take `=true` and `=false`, too.
fn with_truths(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => with_truth(arg),
        _ => arg,
    });
    command.mut_subcommands(with_truths)
}

fn with_truth(flag: Arg) -> Arg {
    flag.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_name("TRUTH")
        .value_parser(truth)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
}

/// What Go's `strconv.ParseBool` takes.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is neither true nor false".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of a command, by their long names.
    fn flags(command: &Command) -> Vec<String> {
        let flags = command.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
        flags.filter_map(|arg| arg.get_long().map(str::to_string)).collect()
    }

    #[test]
    fn every_flag_of_every_verb_takes_a_truth() {
        let plain = Line::command();
        let mut seen = 0;
        for verb in plain.get_subcommands() {
            for (flag, before) in
                flags(verb).iter().map(|f| (f, false)).chain(flags(&plain).iter().map(|f| (f, true)))
            {
                for (value, want) in [("", true), ("=true", true), ("=0", false), ("=F", false)] {
                    let (name, word) = (verb.get_name(), format!("--{flag}{value}"));
                    let words = if before { [&word, name] } else { [name, &word] };
                    // What else the verb needs is another matter.
                    let line = with_truths(Line::command()).ignore_errors(true);
                    let matches = line.get_matches_from(["oci-spawn"].into_iter().chain(words));
                    let id = flag.replace('-', "_");
                    let own = matches.subcommand_matches(name).expect("the verb");
                    let found = if before { matches.get_flag(&id) } else { own.get_flag(&id) };
                    assert_eq!(found, want, "{words:?}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn short_flags_stand_together_and_a_word_that_is_no_truth_is_refused() {
        let read = |words: &[&str]| {
            let words = ["oci-spawn"].into_iter().chain(words.iter().copied());
            with_truths(Line::command()).try_get_matches_from(words)
        };
        let matches = read(&["exec", "-td", "x", "--force=false"]).expect("a line");
        let exec = matches.subcommand_matches("exec").expect("exec");
        assert!(exec.get_flag("tty") && exec.get_flag("detach"));
        assert!(
            !read(&["delete", "x", "-f=false"])
                .expect("a line")
                .subcommand_matches("delete")
                .expect("it")
                .get_flag("force")
        );
        assert!(read(&["delete", "x", "--force=perhaps"]).is_err());
        // The id is no value of a flag before it.
        assert!(read(&["delete", "--force", "x"]).is_ok());
    }
}
