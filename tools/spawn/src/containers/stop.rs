//! `stop`: a container is asked to end, and killed where it does not.

use std::time::Duration;

use cli::{Common, During, Failure, Stage};
use runtime::convert::STOP_SIGNAL_ANNOTATION;
use store::{Container, CreateDoc};

use crate::command::{PATIENCE_SECONDS, SIGTERM, number, signal};
use crate::containers::wait::{Alive, recorded};
use crate::containers::{Names, named, pause};
use crate::events;

const SIGKILL: i32 = 9;
/// How long the kernel may take to end what it was told to kill.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    names: Names,
}

/// How a container is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Seconds until it is killed, -1 for never [default: what it was made with, else 10]
    #[arg(
        short = 't',
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    pub(crate) seconds: Option<i64>,

    /// The signal that asks it to end [default: what it was made with, its image's, else TERM]
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: Option<i32>,
}

/// Stops each container; one that does not run is stopped already.
pub(crate) fn stop(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    args.names.each(common, stage, |stage, container| {
        let before = named::line(container)?;
        one(container, &args.how)?;
        named::ended(stage, container, before)
    })
}

/// Stops a container; returns once its end is written down.
pub(crate) fn one(container: &Container, how: &How) -> Result<(), Failure> {
    let what = || format!("stopping container {}", container.name());
    let state = container.settle().during(what)?;
    let Some(alive) = Alive::of(&state) else { return Ok(()) };
    let doc = container.create().during(what)?;
    alive.signal(how.signal.map_or_else(|| asked(container, &doc), Ok)?)?;
    pause::thaw(container)?;
    let seconds = how.seconds.unwrap_or_else(|| doc.stop_timeout.unwrap_or(PATIENCE_SECONDS).into());
    let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
    if !alive.ended(patience)? {
        alive.signal(SIGKILL)?;
        if !alive.ended(Some(KILLED_WITHIN))? {
            return Err(Failure::new(descriptor::Exit::Other, what(), "it was killed and does not end"));
        }
    }
    recorded(container)?;
    events::note(container, &doc, "stop", &[]);
    Ok(())
}

/// The signal that asks a container to end.
fn asked(container: &Container, doc: &CreateDoc) -> Result<i32, Failure> {
    let config = container.document("config.json").during(|| "config.json".into())?;
    let annotation =
        config.as_ref().and_then(|config| config.get("annotations")?.get(STOP_SIGNAL_ANNOTATION)?.as_str());
    let named = doc.stop_signal.as_deref().or(annotation);
    Ok(named.and_then(number).unwrap_or(SIGTERM))
}
