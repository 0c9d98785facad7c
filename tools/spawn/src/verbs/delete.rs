//! `delete`: a container that is over, or with `--force` any, removed.

use runtime::Error;
use runtime::lifecycle::Id;

use crate::verbs::{Global, Result, log};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: Id,

    /// Kill it first; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
}

/// Removes it.
pub(crate) fn delete(global: &Global, args: &Args) -> Result<u8> {
    match global.runtimes()?.find(&args.id) {
        Err(Error::NoContainer { .. }) if args.force => {}
        found => log::warnings(global, &runtime::lifecycle::delete(&found?, args.force)?),
    }
    Ok(0)
}
