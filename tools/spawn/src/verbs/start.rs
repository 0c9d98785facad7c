//! `start`: the command of a created container runs.

use runtime::lifecycle::Id;

use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: Id,
}

/// Starts it.
pub(crate) fn start(global: &Global, args: &Args) -> Result<u8> {
    runtime::lifecycle::start(&global.runtimes()?.find(&args.id)?)?;
    Ok(0)
}
