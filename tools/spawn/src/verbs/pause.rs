//! `pause` and `resume`: a container's processes stand still, and go on.

use runtime::lifecycle::{self, Id};

use crate::verbs::{Global, Result};

/// Their arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: Id,
}

/// Stops them where they are.
pub(crate) fn pause(global: &Global, args: &Args) -> Result<u8> {
    lifecycle::pause(&global.runtimes()?.look(&args.id)?)?;
    Ok(0)
}

/// Lets them go on.
pub(crate) fn resume(global: &Global, args: &Args) -> Result<u8> {
    lifecycle::resume(&global.runtimes()?.look(&args.id)?)?;
    Ok(0)
}
