//! The verbs on the store's containers: what docker's users call start, stop, wait, logs, attach, ...
//!
//! Invariants
//! - A container is named as [`named::Names`] says, the same for every verb.
//! - A verb holds a container's lock only while it looks and writes, never while it waits.
//! - stdout carries container lines (names on a terminal), unless it is a container's output, or what the verb was asked for.
//!
//! A further verb is a module with its `Args` and one function, a variant of [`Verb`], an arm in [`run`], and its name in
//! [`VERBS`].

mod attach;
mod exec;
mod follow;
mod keys;
mod kill;
mod logs;
mod moment;
mod named;
mod pause;
mod start;
mod stop;
mod top;
mod update;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cli::{Common, Failure, Stage};

use crate::args::{TOOL, VERSION};
use crate::face;

pub(crate) use named::Names;

const AFTER_HELP: &str = "\
A container is named by its name, its id, or four and more digits that only one id begins with; without any, by the lines on \
stdin. Several are handled in order; the exit status is the first failure's.

It is an OCI runtime, too, with the verbs and options of runc: create, start, state, kill, delete, run, exec, ps, list, pause, \
resume, update, events, features, spec. `oci-spawn --root DIR VERB --help` describes one. A verb of both is the runtime's with \
--root, or where the runtime has a container of that id.

Without a verb it runs the container of the line on stdin: oci-spawn --help.";

/// Drive the store's containers
#[derive(Debug, Parser)]
#[command(name = TOOL, version = VERSION.as_str(), max_term_width = 100, after_help = AFTER_HELP)]
struct Line {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

impl AsRef<Common> for Line {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let created or stopped containers run, on their writable layers
    Start(start::Args),
    /// Run a further process in a running container
    Exec(exec::Args),
    /// Send a signal to containers [default: KILL]
    Kill(kill::Args),
    /// Stop all processes of containers where they are
    Pause(pause::Args),
    /// Let the processes of paused containers go on
    #[command(alias = "unpause")]
    Resume(pause::Args),
    /// List the processes of a container
    #[command(alias = "ps")]
    Top(top::Args),
    /// Change the limits of containers
    Update(update::Args),
    /// Ask containers to end, and kill those that do not
    Stop(stop::Args),
    /// Stop containers and start them
    Restart(start::RestartArgs),
    /// Wait until containers have ended and print their exit statuses
    Wait(wait::Args),
    /// Print what a container said
    Logs(logs::Args),
    /// Connect this terminal to a container that runs in the background
    Attach(attach::Args),
}

/// The verbs' names, and their other names; looked at before the command line is read.
const VERBS: &[&str] = &[
    "attach", "exec", "kill", "logs", "pause", "ps", "restart", "resume", "start", "stop", "top", "unpause",
    "update", "wait",
];
/// Those whose stdout is no lines.
const WITHOUT_LINES: &[&str] = &["attach", "exec", "logs", "ps", "top", "wait"];

/// Whether a word is a verb of the store's containers.
pub(crate) fn is_verb(word: &str) -> bool {
    VERBS.contains(&word)
}

/// Runs the verb of the command line.
pub(crate) fn main() -> ExitCode {
    cli::run_with(TOOL, carries_lines, run)
}

fn run(line: Line, stage: &mut Stage) -> Result<u8, Failure> {
    let Line { common, verb } = line;
    match verb {
        Verb::Start(args) => start::start(&common, &args, stage),
        Verb::Restart(args) => start::restart(&common, &args, stage),
        Verb::Logs(args) => logs::logs(&common, &args, stage),
        Verb::Attach(args) => attach::attach(&common, &args, stage),
        Verb::Exec(args) => exec::exec(&common, &args, stage),
        Verb::Kill(args) => kill::kill(&common, &args, stage),
        Verb::Pause(args) => pause::pause(&common, &args, stage),
        Verb::Resume(args) => pause::resume(&common, &args, stage),
        Verb::Top(args) => top::top(&common, &args, stage),
        Verb::Update(args) => update::update(&common, &args, stage),
        Verb::Stop(args) => stop::stop(&common, &args, stage),
        Verb::Wait(args) => wait::wait(&common, &args, stage),
    }
}

/// Whether stdout carries lines by the words of a wrong command line.
fn carries_lines(words: &[String]) -> bool {
    face::verb(words).is_some_and(|verb| is_verb(verb) && !WITHOUT_LINES.contains(&verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_verbs_are_all_there() {
        let line = <Line as clap::CommandFactory>::command();
        line.clone().debug_assert();
        let names = |verb: &clap::Command| {
            let others: Vec<String> = verb.get_all_aliases().map(str::to_string).collect();
            std::iter::once(verb.get_name().to_string()).chain(others).collect::<Vec<_>>()
        };
        let mut names: Vec<String> = line.get_subcommands().flat_map(names).collect();
        names.sort_unstable();
        assert_eq!(names, VERBS);
        for name in names {
            assert!(store::names::check_name(&name).is_err(), "{name} may not name a container");
        }
    }
}
