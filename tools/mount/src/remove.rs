//! `--remove`: a sink.

use cli::{During, Failure, Stage};
use descriptor::Line;
use overlay::Running;
use store::{Container, Store};

/// How containers are removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Kill what runs.
    pub(crate) force: bool,
    /// With the nameless volumes that were made for them.
    pub(crate) volumes: bool,
}

/// What to do about a container that runs.
pub(crate) fn running(force: bool) -> Running {
    if force { Running::Kill } else { Running::Refuse }
}

/// Removes the named containers, or those of the lines on stdin; returns the exit status.
pub(crate) fn all(stage: &mut Stage, store: &Store, names: &[String], how: How) -> Result<u8, Failure> {
    if names.is_empty() {
        let lines = stage.lines()?;
        return Ok(stage.for_each(lines, |_, line| one(of_line(store, line)?, how)));
    }
    let named =
        names.iter().map(|name| store.container(name).during(|| format!("removing container {name:?}")));
    Ok(stage.for_each(named, |_, container| one(container, how)))
}

fn of_line(store: &Store, line: Line) -> Result<Container, Failure> {
    let line = cli::container_line(line)?;
    store.resolve_line(&line).during(|| format!("removing container {:?}", line.name))
}

fn one(container: Container, how: How) -> Result<(), Failure> {
    let (store, id) = (container.store().clone(), container.id().to_string());
    let name = container.name().to_string();
    let what = || format!("removing container {name:?}");
    overlay::remove(container, running(how.force)).during(what)?;
    if how.volumes { store.remove_volumes_of(&id).during(what) } else { Ok(()) }
}
