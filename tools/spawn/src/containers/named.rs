//! Which containers a verb is about, and how it says that it is done with one.

use std::io::{IsTerminal, Write};

use cli::{Common, During, Failure, Stage};
use descriptor::Line;
use store::{Container, Store};

/// The containers of a command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Names {
    /// Names, ids, or digits that only one id begins with; without any, the lines on stdin
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

/// The store of a command line.
pub(crate) fn open(common: &Common) -> Result<Store, Failure> {
    Store::open(common.store.as_deref()).during(|| "store".into())
}

/// The container of a name, an id or a unique beginning of one.
pub(crate) fn find(store: &Store, name: &str) -> Result<Container, Failure> {
    store.container(name).during(|| format!("container {name:?}"))
}

/// The container of a line.
pub(crate) fn of_line(store: &Store, line: Line) -> Result<Container, Failure> {
    let line = cli::container_line(line)?;
    store.resolve_line(&line).during(|| format!("container {:?}", line.name))
}

/// The only container: the named one, or that of the only line on stdin.
pub(crate) fn single(
    common: &Common,
    name: Option<&str>,
    why: &str,
    stage: &Stage,
) -> Result<Container, Failure> {
    let store = open(common)?;
    match name {
        Some(name) => find(&store, name),
        None => of_line(&store, stage.single(why)?),
    }
}

impl Names {
    /// Handles each container in order; the status is the first failure's.
    pub(crate) fn each(
        &self,
        common: &Common,
        stage: &mut Stage,
        mut act: impl FnMut(&mut Stage, &Container) -> Result<(), Failure>,
    ) -> Result<u8, Failure> {
        let store = open(common)?;
        if self.names.is_empty() {
            let lines = stage.lines()?;
            return Ok(stage.for_each(lines, |stage, line| act(stage, &of_line(&store, line)?)));
        }
        let named = self.names.iter().map(|name| find(&store, name));
        Ok(stage.for_each(named, |stage, container| act(stage, &container)))
    }
}

/// Says that a verb is done with a container: its name on a terminal, else its line.
pub(crate) fn done(stage: &Stage, container: &Container) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return print(container.name());
    }
    let line = container.line().during(|| format!("container {}", container.name()))?;
    stage.emit(&Line::Container(line))
}

/// Prints a line of what the verb was asked for.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(e) => Err(Failure::new(descriptor::Exit::Other, "stdout", e)),
        Ok(()) => Ok(()),
    }
}
