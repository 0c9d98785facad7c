//! `--remove`: a sink.

use cli::{During, Failure, Stage};
use descriptor::Line;
use overlay::Running;
use store::{Container, Store};

/// What to do about a container that runs.
pub(crate) fn running(force: bool) -> Running {
    if force { Running::Kill } else { Running::Refuse }
}

/// Removes the named containers, or those of the lines on stdin; returns the exit status.
pub(crate) fn all(stage: &mut Stage, store: &Store, names: &[String], force: bool) -> Result<u8, Failure> {
    if names.is_empty() {
        let lines = stage.lines()?;
        return Ok(stage.for_each(lines, |_, line| one(of_line(store, line)?, force)));
    }
    let named =
        names.iter().map(|name| store.container(name).during(|| format!("removing container {name:?}")));
    Ok(stage.for_each(named, |_, container| one(container, force)))
}

fn of_line(store: &Store, line: Line) -> Result<Container, Failure> {
    let line = cli::container_line(line)?;
    store.resolve_line(&line).during(|| format!("removing container {:?}", line.name))
}

fn one(container: Container, force: bool) -> Result<(), Failure> {
    let name = container.name().to_string();
    overlay::remove(container, running(force)).during(|| format!("removing container {name:?}"))
}
