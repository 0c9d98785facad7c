//! `start`: the command of a created container runs.

use runtime::lifecycle::{self, Id};

use crate::verbs::bundle;
use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: Id,
}

/// Starts it.
pub(crate) fn start(global: &Global, args: &Args) -> Result<u8> {
    let directory = global.runtimes()?.find(&args.id)?;
    let notify = match bundle::manager() {
        Some(manager) => directory.notify(&manager)?,
        None => None,
    };
    lifecycle::start(&directory)?;
    let init = directory.record()?.and_then(|record| record.init);
    // The others may look at it and work on it while this process waits.
    drop(directory);
    if let (Some(notify), Some(init)) = (notify, init)
        && let Some(process) = init.open()
    {
        notify.forward(&process, init.pid)?;
    }
    Ok(0)
}
