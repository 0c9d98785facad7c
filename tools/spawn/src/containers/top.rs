//! `top`: the processes of a container, as ps(1) of the host shows them.

use cli::{Common, During, Failure, Stage};

use crate::containers::named;
use crate::groups;
use crate::verbs::ps;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Everything after the container goes to ps(1); its output must have a column PID.")]
pub(crate) struct Args {
    /// The container, and the options of ps(1) [default: -ef]; without any, the line on stdin
    #[arg(value_names = ["CONTAINER", "OPTION"], trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Prints them.
pub(crate) fn top(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    stage.keep_errors_home();
    let why = "the processes of one container are listed at a time";
    let name = args.words.first().map(String::as_str);
    let container = named::single(common, name, why, stage)?;
    let what = || format!("container {}", container.name());
    let state = container.settle().during(what)?;
    if !state.is_alive() {
        return Err(named::not_running(&container));
    }
    let pids = groups::processes(&state)?.into_iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    let table = ps::table(args.words.get(1..).unwrap_or_default()).during(what)?;
    for line in ps::listed(&table, &pids.collect::<Vec<_>>()).during(what)? {
        named::print(line)?;
    }
    Ok(0)
}
