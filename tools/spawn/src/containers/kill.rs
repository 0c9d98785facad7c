//! `kill`: a signal to a container's first process.

use cli::{Common, During, Failure, Stage};

use crate::command::signal;
use crate::containers::wait::Alive;
use crate::containers::{Names, named, pause};
use crate::events;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The signal by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    signal: i32,

    #[command(flatten)]
    names: Names,
}

/// Signals each container; a paused one goes on, so that it hears it.
pub(crate) fn kill(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    args.names.each(common, stage, |stage, container| {
        let what = || format!("container {}", container.name());
        let before = named::line(container)?;
        let state = container.settle().during(what)?;
        let Some(alive) = Alive::of(&state) else {
            return Err(named::refusal(container, "it is not running"));
        };
        alive.signal(args.signal)?;
        if let Ok(doc) = container.create() {
            events::note(container, &doc, "kill", &[("signal", args.signal.to_string())]);
        }
        pause::thaw(container)?;
        named::ended(stage, container, before)
    })
}
