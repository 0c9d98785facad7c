//! `start` and `restart`: a container that was made, or has stopped, runs on its writable layer.

use cli::{Common, During, Failure, Stage};
use descriptor::{Exit, Status};
use store::Container;

use crate::changes::Changes;
use crate::containers::attach::{self, Keys};
use crate::containers::{Names, named, stop};
use crate::monitor::{self, Background, Choice, Input, Streams};
use crate::mounts::Taken;
use crate::{events, streams, wire};

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The exit status is the container's with -a and -i.\n\n\
    oci-spawn --root DIR start ID is the runtime's verb.")]
pub(crate) struct Args {
    /// Show its output from the beginning, and end with it
    #[arg(short, long)]
    attach: bool,

    /// The same, and give it this process's stdin
    #[arg(short, long)]
    interactive: bool,

    /// The keys that leave it to itself
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: Keys,

    #[command(flatten)]
    names: Names,
}

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    how: stop::How,
    #[command(flatten)]
    names: Names,
}

/// Starts each container in the background, or one with this process attached; one that runs is started already.
pub(crate) fn start(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    if args.attach || args.interactive {
        stage.keep_errors_home();
        return attached(common, args, stage);
    }
    args.names.each(common, stage, |stage, container| {
        one(container, stage)?;
        named::done(stage, container)
    })
}

/// Stops each container that runs, and starts it.
pub(crate) fn restart(common: &Common, args: &RestartArgs, stage: &mut Stage) -> Result<u8, Failure> {
    args.names.each(common, stage, |stage, container| {
        stays_for_its_start(container)?;
        stop::one(container, &args.how)?;
        one(container, stage)?;
        let doc = container.create().during(|| format!("container {}", container.name()))?;
        events::note(container, &doc, "restart", &[]);
        named::done(stage, container)
    })
}

/// Records that a one-off which is stopped now is to be there afterwards, as with docker.
fn stays_for_its_start(container: &Container) -> Result<(), Failure> {
    let what = || format!("container {}", container.name());
    let lock = container.lock().during(what)?;
    let mut state = container.settled(&lock).during(what)?;
    if state.is_alive() && !state.restarting {
        state.restarting = true;
        container.set_state(&state).during(what)?;
    }
    drop(lock);
    Ok(())
}

fn one(container: &Container, stage: &Stage) -> Result<(), Failure> {
    if is_alive(container)? {
        return Ok(());
    }
    let started = background(container, false).and_then(|run| monitor::detach(container, run, stage));
    match started {
        // Somebody else was quicker.
        Err(failure) if failure.exit() == Exit::Conflict.code() && is_alive(container)? => Ok(()),
        started => started.map(drop),
    }
}

fn attached(common: &Common, args: &Args, stage: &Stage) -> Result<u8, Failure> {
    let why = "who is attached to a container has its terminal and its status for itself";
    if args.names.names.len() > 1 {
        return Err(Failure::usage("command line", format!("several containers with -a or -i: {why}")));
    }
    let container = named::single(common, args.names.names.first().map(String::as_str), why, stage)?;
    let attachment =
        attach::Attachment { input: args.interactive, keys: args.detach_keys.clone(), signals: true };
    if is_alive(&container)? {
        return attach::join(&container, attachment, stage);
    }
    let failed = |e: sys::Error| Failure::new(Exit::Other, "attaching", e);
    let (own, theirs) = wire::pair().map_err(failed)?;
    attach::ask(&own).map_err(failed)?;
    let mut run = background(&container, args.interactive)?;
    run.first = Some(theirs);
    monitor::detach(&container, run, stage)?;
    attach::stay(&container, own, attachment, stage)
}

/// Whether it runs already. One that is paused does, but is not what a start promises (docker refuses it, too).
fn is_alive(container: &Container) -> Result<bool, Failure> {
    let what = || format!("container {}", container.name());
    let state = container.settle().during(what)?;
    match state.now() {
        Status::Paused => {
            Err(Failure::new(Exit::Conflict, what(), "it is paused")
                .with_hint("oci-spawn resume lets it go on"))
        }
        _ => Ok(state.is_alive()),
    }
}

/// The run that the container was made for.
fn background(container: &Container, input: bool) -> Result<Background, Failure> {
    let what = || format!("container {}", container.name());
    let doc = container.create().during(what)?;
    let config = container.document("config.json").during(what)?.unwrap_or_default();
    let state = container.settle().during(what)?;
    let terminal = state.tty || config["process"]["terminal"].as_bool().unwrap_or(false);
    let streams = if terminal {
        Streams::Terminal { size: None }
    } else {
        let stdin =
            if input || state.open_stdin { Input::Attached } else { Input::File(streams::nothing()?) };
        Streams::Three { stdin, stdout: None, stderr: None }
    };
    Ok(Background {
        once: false,
        console: None,
        pidfile: None,
        changes: Changes::none(terminal),
        mounts: Taken::default(),
        stop_timeout: None,
        streams,
        log: Choice::of(&doc.log, None, &[])?,
        first: None,
    })
}
