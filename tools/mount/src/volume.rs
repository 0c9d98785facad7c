//! `--create-volume`: docker's `volume create`.

use cli::{During, Failure, Stage};
use store::Store;

/// Makes the named volumes, or one without a name, and prints their names; one that is there is there. The status is the
/// first failure's.
pub(crate) fn create(
    stage: &mut Stage,
    store: &Store,
    names: &[String],
    labels: &[(String, String)],
) -> Result<u8, Failure> {
    // What is printed is no line of the pipeline.
    stage.keep_errors_home();
    let labels = labels.iter().cloned().collect();
    if names.is_empty() {
        let volume = store.create_nameless_volume(&labels).during(|| "making a volume".into())?;
        return cli::answer(format!("{}\n", volume.name())).map(|()| 0);
    }
    Ok(stage.for_each(names.iter().map(Ok), |_, name: &String| {
        let volume = store.create_volume(name, &labels).during(|| format!("making volume {name:?}"))?;
        cli::answer(format!("{}\n", volume.name()))
    }))
}
