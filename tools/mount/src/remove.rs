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
    let named = names.iter().map(|name| store.container(name).during(|| format!("removing {name:?}")));
    Ok(stage.for_each(named, |_, container| one(container, force)))
}

fn of_line(store: &Store, line: Line) -> Result<Container, Failure> {
    match line {
        Line::Container(line) => store.resolve_line(&line).during(|| format!("removing {:?}", line.name)),
        other => Err(Failure::usage(
            "--remove",
            format!("a line of the kind {}, not of a container", other.kind()),
        )),
    }
}

fn one(container: Container, force: bool) -> Result<(), Failure> {
    let name = container.name().to_string();
    overlay::remove(container, running(force)).during(|| format!("removing container {name:?}"))
}
