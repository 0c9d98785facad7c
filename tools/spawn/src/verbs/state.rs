//! `state`: how a container stands, as JSON.

use runtime::lifecycle::Id;

use crate::verbs::print;
use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: Id,
}

/// Prints it.
pub(crate) fn state(global: &Global, args: &Args) -> Result<u8> {
    let state = runtime::lifecycle::state(&global.runtimes()?.look(&args.id)?)?;
    let text = serde_json::to_string_pretty(&state).unwrap_or_default();
    print::line(text)?;
    Ok(0)
}
