//! `kill`: a signal to a container.

use runtime::lifecycle::{Aim, Id};

use crate::command::number;
use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: Id,

    /// The signal by name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    signal: i32,

    /// Signal all its processes
    #[arg(short, long)]
    all: bool,
}

/// Sends it.
pub(crate) fn kill(global: &Global, args: &Args) -> Result<u8> {
    let aim = if args.all { Aim::All } else { Aim::Init };
    runtime::lifecycle::kill(&global.runtimes()?.look(&args.id)?, args.signal, aim)?;
    Ok(0)
}

fn signal(text: &str) -> std::result::Result<i32, String> {
    number(text).ok_or_else(|| format!("{text:?} is no signal"))
}
