//! `--rename`: another name for a container, running or not.

use cli::{During, Failure, Stage};
use descriptor::Line;
use store::Store;

/// Renames the named container, or that of the line on stdin, and passes its line on.
pub(crate) fn one(stage: &Stage, store: &Store, named: &[String], to: &str) -> Result<(), Failure> {
    let container = match named {
        [] => {
            let line = cli::container_line(stage.single("--rename takes a single line")?)?;
            store.resolve_line(&line).during(|| format!("container {:?}", line.name))?
        }
        [name] => store.container(name).during(|| format!("container {name:?}"))?,
        [_, second, ..] => {
            return Err(Failure::usage(
                "--rename",
                format!("one container at a time, not {second:?} as well"),
            ));
        }
    };
    let what = || format!("renaming container {:?}", container.name());
    let renamed = container.rename(to).during(what)?;
    stage.emit(&Line::Container(renamed.line().during(what)?))
}
