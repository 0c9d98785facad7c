//! `pause` and `resume`: all processes of a container stop where they are, and go on.

use cli::{Common, During, Failure, Stage};
use descriptor::Status;
use store::Container;

use crate::containers::{Names, named};
use crate::{events, groups};

/// Their arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,
}

/// Freezes each container.
pub(crate) fn pause(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    args.names.each(common, stage, |stage, container| {
        freeze(container)?;
        named::done(stage, container)
    })
}

/// Thaws each container.
pub(crate) fn resume(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    args.names.each(common, stage, |stage, container| {
        if !thaw(container)? {
            return Err(named::refusal(container, "it is not paused"));
        }
        named::done(stage, container)
    })
}

fn freeze(container: &Container) -> Result<(), Failure> {
    let what = || format!("container {}", container.name());
    let lock = container.lock().during(what)?;
    let mut state = container.settled(&lock).during(what)?;
    match state.now() {
        Status::Running => {}
        Status::Paused => return Err(named::refusal(container, "it is paused already")),
        _ => return Err(named::not_running(container)),
    }
    groups::of_running(container, &mut state)?.freeze().during(what)?;
    state.status = Status::Paused;
    container.set_state(&state).during(what)?;
    drop(lock);
    note(container, "pause");
    Ok(())
}

/// Lets a paused container go on; false for one that is not paused.
pub(crate) fn thaw(container: &Container) -> Result<bool, Failure> {
    let what = || format!("container {}", container.name());
    if container.state().is_ok_and(|state| state.status != Status::Paused) {
        return Ok(false);
    }
    // One that is gone meanwhile is not paused.
    let Ok(lock) = container.lock() else { return Ok(false) };
    let mut state = container.settled(&lock).during(what)?;
    if state.now() != Status::Paused {
        return Ok(false);
    }
    if let Some(group) = groups::noted(&state) {
        group.thaw().during(what)?;
    }
    state.status = Status::Running;
    container.set_state(&state).during(what)?;
    drop(lock);
    note(container, "unpause");
    Ok(true)
}

/// Notes what was done to a container.
pub(crate) fn note(container: &Container, action: &str) {
    if let Ok(doc) = container.create() {
        events::note(container, &doc, action, &[]);
    }
}
