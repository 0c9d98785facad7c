//! The runtime face: runc's command line, for engines that call a runtime by its verbs.

mod bundle;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod global;
mod handover;
mod kill;
mod list;
mod log;
mod options;
mod pause;
pub(crate) mod pid_file;
mod print;
pub(crate) mod ps;
mod run;
mod spec;
mod start;
mod state;
mod unsupported;
pub(crate) mod update;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use runtime::lifecycle::Id;

use crate::args::{TOOL, VERSION};
use crate::face;
pub(crate) use global::Global;

/// The status of a runtime whose own work failed (runc's).
const FAILED: u8 = 1;
/// The same for `exec`, whose statuses are those of what it runs (runc's).
const FAILED_EXEC: u8 = 255;

/// What a verb failed with.
pub(crate) type Result<T> = std::result::Result<T, runtime::Error>;

/// Drive a container of a bundle, as engines do
#[derive(Debug, Parser)]
#[command(name = TOOL, version = VERSION.as_str(), max_term_width = 100, args_override_self = true)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// The verbs of a runtime (runtime-spec 1.2, "Operations", and runc's own).
#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a container that waits for start
    Create(create::Args),
    /// Let a created container's command run
    Start(start::Args),
    /// Make a container and let its command run
    Run(run::Args),
    /// Run a further process in a container
    Exec(exec::Args),
    /// Print a container's state
    State(state::Args),
    /// Send a signal to a container's first process [default: TERM]
    Kill(kill::Args),
    /// Remove a stopped container
    Delete(delete::Args),
    /// List the processes of a container
    Ps(ps::Args),
    /// List the containers of the state root
    List(list::Args),
    /// Stop all processes of a container where they are
    Pause(pause::Args),
    /// Let the processes of a paused container go on
    Resume(pause::Args),
    /// Change the limits of a container
    Update(update::Args),
    /// Print what a container uses, and when it runs out of memory
    Events(events::Args),
    /// Print what this runtime can do
    Features,
    /// Write a configuration to begin with
    Spec(spec::Args),
    /// Not supported
    #[command(hide = true)]
    Checkpoint(unsupported::Args),
    /// Not supported
    #[command(hide = true)]
    Restore(unsupported::Args),
}

impl Verb {
    /// The container of a verb that the store's containers have, too.
    fn id(&self) -> Option<&str> {
        match self {
            Self::Start(args) => Some(args.id.as_str()),
            Self::Exec(args) => args.id(),
            Self::Kill(args) => Some(args.id.as_str()),
            Self::Ps(args) => args.id(),
            Self::Pause(args) | Self::Resume(args) => Some(args.id.as_str()),
            Self::Update(args) => Some(args.id.as_str()),
            _ => None,
        }
    }
}

/// The verbs' names; looked at before the command line is read, which costs more than all else here.
const VERBS: &[&str] = &[
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

/// The first descriptor beyond the standard ones.
const FIRST: u32 = 3;

/// Whether a word is one of them.
pub(crate) fn is_verb(word: &str) -> bool {
    VERBS.contains(&word)
}

/// Whether a command line without options before its verb names a container of the default state root.
pub(crate) fn has(words: &[String]) -> bool {
    let root = global::default_root();
    // Reading a command line costs more than looking whether any of its words is a container.
    let is_there = |word: &&String| word.parse::<Id>().is_ok() && root.join(word).is_dir();
    let mut there = words.iter().skip(1).filter(is_there).peekable();
    if there.peek().is_none() {
        return false;
    }
    let line = std::iter::once(TOOL).chain(words.iter().map(String::as_str));
    let named = Line::try_parse_from(line).ok().and_then(|line| line.verb.id().map(str::to_string));
    named.is_some_and(|id| there.any(|word| *word == id))
}

/// Runs the verb; the status is the container's own for a run in the foreground.
pub(crate) fn main(words: &[String]) -> ExitCode {
    // What the caller left open is none of the container's, but for what it says is to be handed on.
    let _ = sys::process::close_range(FIRST, u32::MAX, sys::process::Range::AtExec);
    let Line { global, verb } = match options::parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() {
                log::usage(words, &error.to_string());
            }
            // To runc a value that makes no sense is a failure of the verb, and only an unknown option one of the line.
            let refused = error.kind() == clap::error::ErrorKind::ValueValidation;
            let status = if refused { failed(words) } else { FAILED };
            return ExitCode::from(if error.use_stderr() { status } else { 0 });
        }
    };
    let failed = failed(words);
    let done = match verb {
        Verb::Create(args) => create::create(&global, args),
        Verb::Start(args) => start::start(&global, &args),
        Verb::Run(args) => run::run(&global, args),
        Verb::Exec(args) => exec::exec(&global, &args),
        Verb::State(args) => state::state(&global, &args),
        Verb::Kill(args) => kill::kill(&global, &args),
        Verb::Delete(args) => delete::delete(&global, &args),
        Verb::Ps(args) => ps::ps(&global, &args),
        Verb::List(args) => list::list(&global, &args),
        Verb::Pause(args) => pause::pause(&global, &args),
        Verb::Resume(args) => pause::resume(&global, &args),
        Verb::Update(args) => update::update(&global, &args),
        Verb::Events(args) => events::events(&global, &args),
        Verb::Features => features::features(),
        Verb::Spec(args) => spec::spec(&args),
        Verb::Checkpoint(_) => Err(unsupported::verb("checkpoint")),
        Verb::Restore(_) => Err(unsupported::verb("restore")),
    };
    match done {
        Ok(status) => status.into(),
        Err(error) => {
            log::failure(&global, &error);
            failed.into()
        }
    }
}

/// The status after a failure.
fn failed(words: &[String]) -> u8 {
    if face::verb(words) == Some("exec") { FAILED_EXEC } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_verbs_are_all_there() {
        let line = <Line as clap::CommandFactory>::command();
        let mut names: Vec<&str> = line.get_subcommands().map(clap::Command::get_name).collect();
        names.sort_unstable();
        assert_eq!(names, VERBS);
    }
}
