//! Which containers a verb is about, and how it says that it is done with one.

use std::io::IsTerminal;

use cli::{Common, During, Failure, Stage};
use descriptor::{ContainerLine, Exit, Line, Status};
use store::{Container, Error, Store};

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
        None => of_line(&store, stage.single(why).map_err(or_name)?),
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
            let lines = lines.map(|line| line.map_err(or_name));
            return Ok(stage.for_each(lines, |stage, line| act(stage, &of_line(&store, line)?)));
        }
        let named = self.names.iter().map(|name| find(&store, name));
        Ok(stage.for_each(named, |stage, container| act(stage, &container)))
    }
}

/// No line came: perhaps a name was to be typed.
fn or_name(failure: Failure) -> Failure {
    match failure.exit() == Exit::Upstream.code() {
        true => failure.with_hint("name a container, or give its line on stdin: oci-inspect NAME | ..."),
        false => failure,
    }
}

/// Refuses what needs a container that runs.
pub(crate) fn not_running(container: &Container) -> Failure {
    refusal(container, "it is not running").with_hint(format!("oci-spawn start {}", container.name()))
}

/// Refuses what a paused container does not do.
pub(crate) fn paused(container: &Container) -> Failure {
    refusal(container, "it is paused").with_hint(format!("oci-spawn resume {}", container.name()))
}

/// Refuses what does not go with a container's state.
pub(crate) fn refusal(container: &Container, why: &str) -> Failure {
    Failure::new(Exit::Conflict, format!("container {}", container.name()), why)
}

/// Says that a verb is done with a container: its name on a terminal, else its line.
pub(crate) fn done(stage: &Stage, container: &Container) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return print(container.name());
    }
    stage.emit(&Line::Container(line(container)?))
}

/// As [`done`], for a verb that may be the container's end: a one-off is gone by then, and its line is the one `before`.
pub(crate) fn ended(stage: &Stage, container: &Container, before: ContainerLine) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return print(container.name());
    }
    let line = match container.line() {
        Err(Error::NoContainer(_) | Error::OtherInstance { .. } | Error::Document { .. }) => {
            ContainerLine { status: Status::Stopped, mounted: false, ..before }
        }
        line => line.during(|| format!("container {}", container.name()))?,
    };
    stage.emit(&Line::Container(line))
}

/// The line of a container as it is now.
pub(crate) fn line(container: &Container) -> Result<ContainerLine, Failure> {
    container.line().during(|| format!("container {}", container.name()))
}

/// Prints a line of what the verb was asked for.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    cli::answer(format!("{text}\n"))
}
